//! Signals: the meaning of a packet for the state of its flow.

/// The meaning of a packet for the state of its flow: its TCP flags, or one of two bits that TCP uses for no flag. It is
/// tested bit by bit instead of converted to an enum: the verifier would follow each variant through the rest of the program.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent(u8);

/// TCP flag FIN (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag RST.
pub const RST: u8 = 0x04;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

impl FlowEvent {
    /// UDP.
    pub const DATAGRAM: Self = Self(0x80);
    /// Not of the flow but related to it: an ICMP error, a fragment without ports. It never changes a record.
    pub const RELATED: Self = Self(0x40);

    /// Reads the TCP flags byte (RFC 9293 section 3.1).
    #[inline(always)]
    #[must_use]
    pub const fn of_tcp_flags(flags: u8) -> Self {
        Self(flags & (FIN | SYN | RST | ACK))
    }

    /// As one byte, for the trace.
    #[inline(always)]
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The signal of a byte.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// TCP SYN without ACK and without RST: opens a connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens_connection(self) -> bool {
        self.0 & (SYN | ACK | RST) == SYN
    }

    /// TCP SYN with ACK and without RST: the server's answer to a SYN.
    #[inline(always)]
    #[must_use]
    pub const fn accepts_connection(self) -> bool {
        self.0 & (SYN | ACK | RST) == SYN | ACK
    }

    /// TCP RST.
    #[inline(always)]
    #[must_use]
    pub const fn is_rst(self) -> bool {
        self.0 & RST != 0
    }

    /// TCP FIN without SYN and RST.
    #[inline(always)]
    #[must_use]
    pub const fn is_fin(self) -> bool {
        self.0 & (SYN | RST | FIN) == FIN
    }

    /// TCP FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn closes_connection(self) -> bool {
        self.is_rst() || self.is_fin()
    }

    /// A TCP packet that neither opens nor ends.
    #[inline(always)]
    #[must_use]
    pub const fn continues_connection(self) -> bool {
        self.0 & !ACK == 0
    }

    /// The names of its TCP flags, in the order in which a connection sees them.
    pub fn tcp_flags(self) -> impl Iterator<Item = &'static str> {
        let named = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
        named
            .into_iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| name)
    }

    /// UDP.
    #[inline(always)]
    #[must_use]
    pub const fn is_datagram(self) -> bool {
        self.0 == Self::DATAGRAM.0
    }

    /// See [`FlowEvent::RELATED`].
    #[inline(always)]
    #[must_use]
    pub const fn is_related(self) -> bool {
        self.0 == Self::RELATED.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_of_exactly_one_kind() {
        for flags in 0..=u8::MAX {
            let signal = FlowEvent::of_tcp_flags(flags);
            let kinds = [
                signal.opens_connection(),
                signal.is_rst(),
                signal.is_fin(),
                signal.continues_connection(),
            ];
            let odd = signal.0 & (SYN | ACK | RST) == SYN | ACK;
            assert_eq!(
                kinds.iter().filter(|&&kind| kind).count(),
                usize::from(!odd),
                "{flags:#x}"
            );
            assert!(!signal.is_datagram() && !signal.is_related());
        }
        assert!(FlowEvent::of_tcp_flags(SYN).opens_connection() && FlowEvent::of_tcp_flags(RST | ACK).is_rst());
        assert!(FlowEvent::of_tcp_flags(FIN | ACK).is_fin() && FlowEvent::of_tcp_flags(ACK).continues_connection());
    }
}
