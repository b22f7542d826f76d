//! Why a packet for a VIP was dropped: array index, metric label and test expectation at once.

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
    /// The frame ends inside a header, or before the length its IP header claims.
    Truncated = "truncated",
    /// A header contradicts itself: IP header or total length, TCP data offset, UDP length.
    BadHeader = "bad_header",
    /// An IPv4 fragment: only the first of a packet carries ports.
    Fragment = "fragment",
    /// The service has no usable real server.
    NoBackend = "no_backend",
    /// The chosen real server is the one the frame came from.
    Loop = "loop",
    /// The NIC towards the real server cannot be redirected to.
    NoEgress = "no_egress",
    /// A table the service points to has no such entry.
    TableMismatch = "table_mismatch",
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

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
