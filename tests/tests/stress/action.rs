//! What an XDP program returns (enum xdp_action in linux/bpf.h).

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
