//! Why a probe failed.

use std::{fmt, io, net::IpAddr, time::Duration};

/// Why a probe failed. The text of each is what operators see: in the log, in listings and in notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFailure {
    /// No probe has ended yet.
    NotProbed,
    /// The real server's MAC address is not known.
    NoMac,
    /// The port is closed: TCP reset or ICMP port unreachable.
    Refused,
    /// No answer within the timeout.
    TimedOut(Duration),
    /// The connection was made or the command started, but the answer was not complete within the timeout.
    IncompleteReply(Duration),
    /// The real server answers on its own address, and not on the VIP.
    VipMissing {
        /// The VIP.
        vip: IpAddr,
        /// The RIP.
        rip: IpAddr,
    },
    /// A datagram was answered from the real server's own address: clients of the VIP ignore such replies.
    AnsweredFromRip {
        /// The VIP.
        vip: IpAddr,
        /// The RIP.
        rip: IpAddr,
    },
    /// The answer did not come from the VIP: another program changes the probes, so the result counts for nothing.
    NotSteered,
    /// The connection was closed before the answer was complete.
    ConnectionClosed,
    /// No route, or an ICMP error of a router or firewall.
    Unreachable(String),
    /// TLS failed.
    Tls(String),
    /// The reply is not of the protocol.
    MalformedReply(String),
    /// HTTP status.
    UnexpectedHttpStatus(u16),
    /// The body is not what it should be.
    UnexpectedBody(String),
    /// DNS response code.
    Rcode(String),
    /// The answer is not what it should be.
    UnexpectedReply(String),
    /// The command failed.
    CommandFailed {
        /// Its exit status.
        code: i32,
        /// The end of its standard error; may be empty.
        stderr: String,
    },
    /// The command was killed by this signal.
    CommandKilled(i32),
    /// The director cannot start the command or make a socket: not the real server's fault.
    CannotProbe(String),
}

impl ProbeFailure {
    /// Whether there was no answer at all: then the RIP is probed to find out why.
    #[must_use]
    pub const fn is_unresponsive(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Unreachable(_))
    }

    /// Whether it says nothing of the real server's state: the director could not send the probe, or it was changed on its way.
    #[must_use]
    pub const fn is_inconclusive(&self) -> bool {
        matches!(self, Self::NotProbed | Self::NotSteered | Self::CannotProbe(_))
    }

    /// Whether the peer sent something: then it is verified that the peer was the VIP.
    #[must_use]
    pub const fn has_reply(&self) -> bool {
        match self {
            Self::Refused
            | Self::IncompleteReply(_)
            | Self::ConnectionClosed
            | Self::Tls(_)
            | Self::MalformedReply(_)
            | Self::UnexpectedHttpStatus(_)
            | Self::UnexpectedBody(_)
            | Self::Rcode(_)
            | Self::UnexpectedReply(_) => true,
            Self::NotProbed
            | Self::NoMac
            | Self::TimedOut(_)
            | Self::VipMissing { .. }
            | Self::AnsweredFromRip { .. }
            | Self::NotSteered
            | Self::Unreachable(_)
            | Self::CommandFailed { .. }
            | Self::CommandKilled(_)
            | Self::CannotProbe(_) => false,
        }
    }
}

impl ProbeFailure {
    /// The failure for an error of a call that sends nothing: socket(2), bind(2), setsockopt(2) and the like.
    #[must_use]
    pub fn from_local_error(error: impl Into<io::Error>) -> Self {
        Self::CannotProbe(error.into().to_string())
    }
}

/// The failure for an error of a socket that is connected to the real server, or connects. It is the real server's or the
/// network's unless only this host can cause it: the kernel turns ICMP errors into many numbers (`icmp_err_convert` in
/// net/ipv4/icmp.c, `icmpv6_err_convert` in net/ipv6/icmp.c), and clients get the same ICMP errors.
impl From<io::Error> for ProbeFailure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => return Self::Refused,
            // Timed out: the peer of an established connection no longer acknowledges.
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::TimedOut => return Self::ConnectionClosed,
            _ => {}
        }
        match error.raw_os_error() {
            Some(code) if is_local(code) => Self::CannotProbe(error.to_string()),
            Some(_) => Self::Unreachable(error.to_string()),
            None => Self::MalformedReply(error.to_string()),
        }
    }
}

/// Whether connect(2), send(2) and recv(2) return this only for reasons of this host: no files, memory or ports (`EAGAIN`
/// for UDP), or a packet that its own netfilter dropped (`EPERM`).
const fn is_local(code: i32) -> bool {
    matches!(
        code,
        libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EADDRNOTAVAIL
            | libc::EADDRINUSE
            | libc::EAGAIN
            | libc::EPERM
    )
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("not probed yet"),
            Self::NoMac => f.write_str("MAC address not resolved"),
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(after) => write!(f, "timed out after {after:?}"),
            Self::IncompleteReply(after) => write!(f, "no complete answer after {after:?}"),
            Self::VipMissing { vip, rip } => {
                write!(
                    f,
                    "VIP not configured on the real server: {rip} answers, {vip} does not"
                )
            }
            Self::AnsweredFromRip { vip, rip } => write!(
                f,
                "answers from {rip}, not from the VIP {vip}: bind the server to the VIP, or answer with IP_PKTINFO"
            ),
            Self::NotSteered => f.write_str(
                "probe not rewritten on the director (tc or nftables?): the answer did not come from the VIP",
            ),
            Self::ConnectionClosed => f.write_str("connection closed before the answer was complete"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::MalformedReply(why) => write!(f, "no proper answer: {why}"),
            Self::UnexpectedHttpStatus(status) => write!(f, "wrong status {status}"),
            Self::UnexpectedBody(why) => write!(f, "wrong body: {why}"),
            Self::Rcode(rcode) => write!(f, "wrong response code {rcode}"),
            Self::UnexpectedReply(why) => write!(f, "wrong answer: {why}"),
            Self::CommandFailed { code, stderr } if stderr.is_empty() => write!(f, "command ended with status {code}"),
            Self::CommandFailed { code, stderr } => write!(f, "command ended with status {code}: {stderr}"),
            Self::CommandKilled(signal) => write!(f, "command killed by signal {signal}"),
            Self::CannotProbe(why) => write!(f, "cannot probe: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_network_count_as_failures() {
        let failure_of = |code| ProbeFailure::from(io::Error::from_raw_os_error(code));
        // All that ICMP errors and routes become.
        for code in [
            libc::EACCES,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::EMSGSIZE,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::ENONET,
            libc::ENOPROTOOPT,
            libc::EOPNOTSUPP,
            libc::EPROTO,
        ] {
            let failure = failure_of(code);
            assert!(matches!(failure, ProbeFailure::Unreachable(_)), "{failure:?}");
            assert!(failure.is_unresponsive() && !failure.is_inconclusive());
        }
        assert_eq!(failure_of(libc::ECONNREFUSED), ProbeFailure::Refused);
        for code in [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ETIMEDOUT] {
            assert_eq!(failure_of(code), ProbeFailure::ConnectionClosed, "{code}");
        }
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::EADDRINUSE,
            libc::EAGAIN,
            libc::EPERM,
        ] {
            assert!(failure_of(code).is_inconclusive(), "{code}");
        }
        let nonsense = io::Error::new(io::ErrorKind::InvalidData, "nonsense");
        assert_eq!(
            ProbeFailure::from(nonsense),
            ProbeFailure::MalformedReply("nonsense".to_owned())
        );
    }

    #[test]
    fn errors_before_the_probe_are_inconclusive() {
        for code in [libc::EACCES, libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::ETIMEDOUT] {
            assert!(
                ProbeFailure::from_local_error(io::Error::from_raw_os_error(code)).is_inconclusive(),
                "{code}"
            );
        }
    }
}
