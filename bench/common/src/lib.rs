//! Shared by the bench's BPF programs and its host side: names of programs, maps and load-time constants, map types, and the
//! derivation of addresses and ports from a flow's number.
//!
//! Map types are `repr(C)` without padding the compiler could leave unset; addresses and ports in them are as in the packet.
#![no_std]

pub mod flow;
pub mod reference;

/// Program that rebuilds the packet for its next flow and calls the program in [`SLOT`].
pub const PROLOGUE: &str = "prologue";
/// Program that sends the packet back unchanged: its time is subtracted.
pub const BARE: &str = "bare";
/// Program that checks bounds, swaps the MAC addresses and sends the packet back.
pub const FLOOR: &str = "floor";
/// Program array of one entry: the program under test.
pub const SLOT: &str = "SLOT";
/// Array of one `u64`: packets so far.
pub const COUNTER: &str = "COUNTER";

/// Load-time constant, `u32`: number of flows.
pub const FLOWS: &str = "FLOWS";
/// Load-time constant, `u32`: number of services they are spread over.
pub const SERVICES: &str = "SERVICES";
/// Load-time constant, `u8`: 1: flows in sequence; 0: at random.
pub const IN_TURN: &str = "IN_TURN";
/// Load-time constant, `u8`: version of IP, 4 or 6.
pub const IP_VERSION: &str = "IP_VERSION";
/// Load-time constant, `u8`: offset of the IP header, 14 or 18.
pub const IP_AT: &str = "IP_AT";
/// Load-time constant, `[u64; 2]`: the frame's first 16 bytes, as in the packet.
pub const HEAD: &str = "HEAD";
/// Load-time constant, `u64`: the first VIP's last eight bytes (IPv6) or four (IPv4, in the low half), as in the packet.
pub const VIP: &str = "VIP";
