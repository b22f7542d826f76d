//! The kinds of packets, told apart by their flags.

use lbx_common::flow::FlowEvent;

pub const OPEN: FlowEvent = FlowEvent::of_tcp_flags(0x02);
pub const ODD: FlowEvent = FlowEvent::of_tcp_flags(0x12);
pub const DATA: FlowEvent = FlowEvent::of_tcp_flags(0x10);
pub const FINISH: FlowEvent = FlowEvent::of_tcp_flags(0x11);
pub const RESET: FlowEvent = FlowEvent::of_tcp_flags(0x14);
pub const DATAGRAM: FlowEvent = FlowEvent::DATAGRAM;
