//! The reference program: what it is called, its maps and their types.

/// The program.
pub const PROGRAM: &str = "reference";
/// [`ServiceKey4`] → [`Service`], hash.
pub const SERVICES4: &str = "SERVICES4";
/// [`ServiceKey6`] → [`Service`], hash.
pub const SERVICES6: &str = "SERVICES6";
/// [`FlowKey4`] → backend's place (`u32`), LRU hash.
pub const FLOWS4: &str = "FLOWS4";
/// [`FlowKey6`] → backend's place (`u32`), LRU hash.
pub const FLOWS6: &str = "FLOWS6";
/// Backends' places (`u32`) in the order of the services' rings, array.
pub const RINGS: &str = "RINGS";
/// [`Backend`], array.
pub const BACKENDS: &str = "BACKENDS";
/// [`Traffic`] by service number, per-CPU array.
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// [`Traffic`] by backend's place, per-CPU array.
pub const BACKEND_STATS: &str = "BACKEND_STATS";
/// How often a flow had no entry, per-CPU array of one `u64`.
pub const MISSES: &str = "MISSES";

/// An IPv4 VIP, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ServiceKey4 {
    /// The VIP.
    pub vip: u32,
    /// See [`door`].
    pub door: u32,
}

/// An IPv6 VIP, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ServiceKey6 {
    /// The VIP.
    pub vip: [u32; 4],
    /// See [`door`].
    pub door: u32,
}

/// A port, as in the packet, and an IP protocol number as one word: the kernel's hash reads keys by words, and the processor
/// would wait where one was written in parts.
#[inline(always)]
#[must_use]
pub const fn door(port: u16, protocol: u8) -> u32 {
    (port as u32) << 16 | protocol as u32
}

/// A service.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its number; stands for VIP and protocol in the keys of flows.
    pub number: u32,
    /// First entry of its ring.
    pub ring_base: u32,
    /// Entries of its ring.
    pub ring_len: u32,
}

/// A flow over IPv4. Twelve bytes, three words: the kernel's hash (jhash2) is quicker with three than with the four that VIP and
/// protocol would make.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowKey4 {
    /// Client's address.
    pub client: u32,
    /// Client's port, VIP port.
    pub ports: u32,
    /// Number of the service.
    pub service: u32,
}

/// A flow over IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowKey6 {
    /// Client's address.
    pub client: [u32; 4],
    /// Client's port, VIP port.
    pub ports: u32,
    /// Number of the service.
    pub service: u32,
}

/// A backend: the first twelve bytes of frames to it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Bytes 0–7.
    pub head: u64,
    /// Bytes 8–11.
    pub tail: u32,
    /// Always zero.
    pub pad: u32,
}

/// What a service or backend has carried.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

const _: () = assert!(size_of::<ServiceKey4>() == 8 && size_of::<ServiceKey6>() == 20);
const _: () = assert!(size_of::<FlowKey4>() == 12 && size_of::<FlowKey6>() == 24);
const _: () = assert!(size_of::<Service>() == 12 && size_of::<Backend>() == 16 && size_of::<Traffic>() == 16);

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
plain_data!(ServiceKey4, ServiceKey6, Service, Backend, Traffic);
