//! Shared by the kernel programs and user space: map keys and values, hashes, drop reasons, names and sizes of maps.
//!
//! Everything here is `no_std`, has a fixed layout (`repr(C)`, explicit padding, no `bool` or Rust `enum` inside a map
//! value) and says its byte order once, beside the field. Sizes and alignments are asserted next to each type: a change
//! that moves a byte must also raise [`maps::ABI`].
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![no_std]

pub mod address;
pub mod backend;
pub mod checksum;
pub mod counters;
pub mod drops;
pub mod flow;
pub mod flow_event;
pub mod fragment;
pub mod hash;
pub mod host_packets;
pub mod load;
pub mod lookup;
pub mod lost_frames;
pub mod maps;
pub mod nic;
pub mod rate_limit;
pub mod ring;
pub mod routed_replies;
pub mod service;
pub mod session;
pub mod slot;
pub mod trace;
pub mod unaligned;

/// Marks map types as plain data for aya. Only types without padding bytes the compiler may leave unset belong here.
#[cfg(feature = "user")]
macro_rules! plain_data {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: repr(C), Copy, 'static, explicit padding, valid for every bit pattern.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

#[cfg(feature = "user")]
plain_data!(
    backend::Backend,
    counters::Traffic,
    fragment::FirstFragment,
    fragment::FragmentKey,
    host_packets::HostPackets,
    lost_frames::LostFrameKind,
    maps::AdoptionInfo,
    nic::Nic,
    routed_replies::RoutedReplies,
    service::Service,
    session::Session,
    session::SessionKey,
    session::Steering,
    trace::TraceFilter,
);
