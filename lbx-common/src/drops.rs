//! Reasons for dropping a packet for a VIP: array index, metric label and test expectation at once.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// Why a packet for a VIP was dropped. The discriminant is the index in the drop counters.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant),+
        }

        impl DropReason {
            /// All of them, in the order of their indices.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in listings and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// One sentence for the operator.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii()),+
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame ends before the length its IP header claims.
    Truncated = "truncated",
    /// The IP version is not that of the EtherType.
    IpVersion = "ip_version",
    /// The IPv4 header is shorter than 20 bytes or longer than the packet.
    IpHeaderLength = "ip_header_length",
    /// The IPv6 extension headers run past the packet, or are more than lbx parses.
    ExtensionHeaders = "extension_headers",
    /// The source address cannot be a client's: multicast, broadcast, loopback, unspecified or the VIP itself.
    BadSource = "bad_source",
    /// The packet ends inside its TCP, UDP or ICMP header.
    ShortHeader = "short_header",
    /// The TCP data offset is below 20 bytes or beyond the packet.
    TcpOffset = "tcp_offset",
    /// The UDP length is below 8 bytes or beyond the packet.
    UdpLength = "udp_length",
    /// A first fragment too small to hold the transport header (RFC 1858).
    TinyFragment = "tiny_fragment",
    /// A fragment that would end beyond the maximum packet size.
    FragmentOverrun = "fragment_overrun",
    /// A fragment whose first fragment has not been seen: only the first carries ports.
    OrphanFragment = "orphan_fragment",
    /// An ICMP error that quotes too little of the packet it is about.
    IcmpQuote = "icmp_quote",
    /// The service has no usable real server.
    NoBackend = "no_backend",
    /// The chosen real server is the one the frame came from.
    Loop = "loop",
    /// Frames cannot be redirected to the real server's NIC.
    NoEgress = "no_egress",
    /// The frame has no headroom for the VLAN tags it needs.
    NoHeadroom = "no_headroom",
    /// A table the service points to has no such entry.
    TableMismatch = "table_mismatch",
    /// The service has no usable real server, and the client was told so: by a TCP RST or ICMP port unreachable.
    Rejected = "rejected",
    /// The same, but above the rate of a service's answers: dropped without one.
    RejectLimit = "reject_limit",
}

const _: () = assert!(DropReason::COUNT - DropReason::IN_DROPS <= crate::maps::MAX_MORE_DROPS as usize);

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// How many of them the map [`DROPS`](crate::maps::DROPS) counts: those that were there when the layout of the maps was made. The map
    /// [`MORE_DROPS`](crate::maps::MORE_DROPS) counts the others.
    pub const IN_DROPS: usize = 17;

    /// The reason of an index.
    #[must_use]
    #[inline(always)]
    pub const fn from_index(index: u32) -> Option<Self> {
        if index as usize >= Self::COUNT {
            return None;
        }
        // SAFETY: every discriminant below COUNT is a reason's.
        Some(unsafe { core::mem::transmute::<u32, Self>(index) })
    }

    /// Its index in the drop counters.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_names_are_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index() as usize, index);
            assert_eq!(DropReason::from_index(reason.index()), Some(*reason));
            assert!(!reason.description().is_empty());
            assert_eq!(
                DropReason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count(),
                1
            );
        }
    }
}
