//! What is counted for the daemon to report: packets that do not go the way of the program.

use lbx_common::{address::Address, host_packets::HostPackets, lost_frames::LostFrameKind};

use super::{HOST_PACKETS, LOST_FRAMES, ROUTED_REPLIES};
use crate::atomic;

/// Counts a packet that a device passes to the host's stack, and keeps it as the last one of the device.
#[inline(always)]
pub fn add_host_packet(device: u32, packet: &HostPackets) {
    match HOST_PACKETS.get_ptr_mut(device) {
        Some(counted) => {
            // SAFETY: a value of the map, which lives as long as the program runs; another CPU may keep another packet as the last.
            unsafe {
                atomic::fetch_add(&raw mut (*counted).packets, 1);
                (*counted).last_vip = packet.last_vip;
                (*counted).last_protocol = packet.last_protocol;
                (*counted).last_port = packet.last_port;
            }
        }
        None => drop(HOST_PACKETS.insert(device, packet, 0)),
    }
}

/// Counts a lost frame, atomically: a tracepoint may interrupt another.
#[inline(always)]
pub fn add_lost_frame(kind: &LostFrameKind) {
    match LOST_FRAMES.get_ptr_mut(kind) {
        Some(count) => {
            atomic::fetch_add(count, 1);
        }
        // Where another CPU is sooner, a frame is not counted.
        None => drop(LOST_FRAMES.insert(kind, 1, 0)),
    }
}

/// Counts a reply from a VIP to a client that arrived on a segment, and keeps it as the last one of its family.
#[inline(always)]
pub fn add_routed_reply(family: u32, segment: u64, vip: Address, client: Address) {
    if let Some(replies) = ROUTED_REPLIES.get_ptr_mut(family) {
        // SAFETY: a per-CPU element; XDP programs do not interrupt each other on a CPU.
        let replies = unsafe { &mut *replies };
        replies.packets += 1;
        replies.segment = segment;
        replies.vip = vip;
        replies.client = client;
    }
}
