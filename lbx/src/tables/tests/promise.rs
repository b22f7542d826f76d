//! The promise: an established connection that is active within the idle timeout never moves to another backend, unless its
//! backend failed or its service was removed. A UDP flow may expect the same from its record on, and where
//! slots schedule from its first packet on.

use proptest::prelude::*;

use super::{
    history::{cases, history, schedulers},
    model::Model,
};

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn established_connections_stay_where_they_are(schedulers in schedulers(), history in history()) {
        let mut model = Model::new(schedulers);
        for step in &history {
            model.step(step);
        }
    }
}
