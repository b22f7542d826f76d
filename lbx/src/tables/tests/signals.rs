//! The kinds of packets, told apart by their flags.

use lbx_common::flow::Signal;

pub const OPEN: Signal = Signal::of_tcp_flags(0x02);
pub const ODD: Signal = Signal::of_tcp_flags(0x12);
pub const DATA: Signal = Signal::of_tcp_flags(0x10);
pub const FINISH: Signal = Signal::of_tcp_flags(0x11);
pub const RESET: Signal = Signal::of_tcp_flags(0x14);
pub const DATAGRAM: Signal = Signal::DATAGRAM;
