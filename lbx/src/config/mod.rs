//! `lb.yaml`: as written, with the place of every value, validated into the desired state.
