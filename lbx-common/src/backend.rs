//! A backend: a real server inside a service, ready to be written into an Ethernet header.

/// Nothing lives here.
pub const FREE: u8 = 0;
/// Packets may be sent to it (also while it drains).
pub const UP: u8 = 1;
/// Failed or cut: records that name it count as not found.
pub const DEAD: u8 = 2;

/// Value of the backend table: one cache line, so that a packet touches one.
///
/// `head` changes in one store, so that no packet sees half a MAC address.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// MAC address of the real server in bytes 0–5 (as on the wire), state in byte 6, zero in byte 7.
    pub head: [u8; 8],
    /// MAC address of the NIC that sends to it in bytes 0–5 (as on the wire), zero in 6–7.
    pub source: [u8; 8],
    /// Index of the NIC that sends to it.
    pub ifindex: u32,
    /// Its place in the backend counters.
    pub counter: u32,
    /// RIP as an IPv6 address (IPv4: mapped, RFC 4291 section 2.5.5.2), network byte order. For the daemon alone.
    pub address: [u8; 16],
    /// Weight, for the daemon alone: the program sees its effect in slots and rings.
    pub weight: u32,
    /// Always zero.
    pub pad: [u32; 5],
}

const _: () = assert!(size_of::<Backend>() == 64 && align_of::<Backend>() == 64);

impl Backend {
    /// A free place.
    pub const NONE: Self = Self {
        head: [0; 8],
        source: [0; 8],
        ifindex: 0,
        counter: 0,
        address: [0; 16],
        weight: 0,
        pad: [0; 5],
    };

    /// The first word: MAC address and state together.
    #[must_use]
    pub const fn head(mac: [u8; 6], state: u8) -> [u8; 8] {
        [mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], state, 0]
    }

    /// MAC address of the real server.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.head;
        [a, b, c, d, e, f]
    }

    /// MAC address of the NIC that sends to it.
    #[must_use]
    pub const fn source_mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.source;
        [a, b, c, d, e, f]
    }

    /// [`FREE`], [`UP`] or [`DEAD`].
    #[must_use]
    pub const fn state(&self) -> u8 {
        self.head[6]
    }
}
