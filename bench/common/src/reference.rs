//! The reference program: its name, its maps and their types.

/// The program.
pub const PROGRAM: &str = "reference";
/// [`ServiceKey4`] → [`Service`], hash.
pub const SERVICES4: &str = "SERVICES4";
/// [`ServiceKey6`] → [`Service`], hash.
pub const SERVICES6: &str = "SERVICES6";
/// [`FlowKey4`] → backend index (`u32`), LRU hash.
pub const FLOWS4: &str = "FLOWS4";
/// [`FlowKey6`] → backend index (`u32`), LRU hash.
pub const FLOWS6: &str = "FLOWS6";
/// Backend indices (`u32`) in the order of the services' rings, array.
pub const RINGS: &str = "RINGS";
/// [`Backend`], array.
pub const BACKENDS: &str = "BACKENDS";
/// [`Traffic`] by service number, per-CPU array.
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// [`Traffic`] by backend index, per-CPU array.
pub const BACKEND_STATS: &str = "BACKEND_STATS";
/// Number of flow lookups without an entry, per-CPU array of one `u64`.
pub const MISSES: &str = "MISSES";

/// An IPv4 VIP, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ServiceKey4 {
    /// The VIP.
    pub vip: u32,
    /// See [`port_key`].
    pub port_key: u32,
}

/// An IPv6 VIP, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ServiceKey6 {
    /// The VIP.
    pub vip: [u32; 4],
    /// See [`port_key`].
    pub port_key: u32,
}

/// A port, as in the packet, and an IP protocol number as one word: the kernel's hash reads keys word by word, and the processor
/// would stall on a word that was written in parts.
#[inline(always)]
#[must_use]
pub const fn port_key(port: u16, protocol: u8) -> u32 {
    (port as u32) << 16 | protocol as u32
}

/// A service.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its number; replaces VIP and protocol in the keys of flows.
    pub number: u32,
    /// First entry of its ring.
    pub ring_base: u32,
    /// Number of its ring entries.
    pub ring_len: u32,
}

/// A flow over IPv4. Twelve bytes, three words: the kernel's hash (jhash2) is faster with three than with the four needed for
/// VIP and protocol.
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

/// Traffic of a service or backend.
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
