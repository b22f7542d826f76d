//! Why a probe has failed, in an operator's words.

use std::{fmt, io, net::IpAddr, time::Duration};

/// Why a probe has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing has been asked yet.
    NotProbed,
    /// The real server's MAC address is not known.
    NoMac,
    /// The port is closed: TCP reset or ICMP port unreachable.
    Refused,
    /// Nothing came in time.
    TimedOut(Duration),
    /// Somebody is there, and was not done in time: the connection was made, or the command started.
    Slow(Duration),
    /// The real server answers on its own address, and not on the VIP.
    VipMissing {
        /// The VIP.
        vip: IpAddr,
        /// The RIP.
        rip: IpAddr,
    },
    /// An answer came, but not by way of the VIP: another program is in the way of the probes, and nothing is known.
    NotRewritten,
    /// The connection was lost half-way.
    Closed,
    /// The kernel or a router says that there is no way.
    Unreachable(String),
    /// TLS failed.
    Tls(String),
    /// What came is not of the protocol.
    Garbled(String),
    /// HTTP status.
    Status(u16),
    /// The body is not what it should be.
    Body(String),
    /// DNS response code.
    Rcode(String),
    /// The answer is not what it should be.
    Answer(String),
    /// The command failed.
    Exit {
        /// Its exit status.
        code: i32,
        /// The end of what it wrote to its standard error; may be empty.
        said: String,
    },
    /// The command was killed by this signal.
    Killed(i32),
    /// The command cannot be started, or no socket be had here: not the real server's fault.
    Local(String),
}

impl Failure {
    /// Whether nobody has answered at all: then it is worth asking whether the real server is there.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Unreachable(_))
    }

    /// Whether it says nothing of the real server: the director could not ask, or not the way it should.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        matches!(self, Self::NotProbed | Self::NotRewritten | Self::Local(_))
    }

    /// Whether the peer has said something: then it matters who the peer was.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        match self {
            Self::Refused
            | Self::Slow(_)
            | Self::Closed
            | Self::Tls(_)
            | Self::Garbled(_)
            | Self::Status(_)
            | Self::Body(_)
            | Self::Rcode(_)
            | Self::Answer(_) => true,
            Self::NotProbed
            | Self::NoMac
            | Self::TimedOut(_)
            | Self::VipMissing { .. }
            | Self::NotRewritten
            | Self::Unreachable(_)
            | Self::Exit { .. }
            | Self::Killed(_)
            | Self::Local(_) => false,
        }
    }
}

impl Failure {
    /// What an error of this machine's own means, where nobody else has been asked yet: of socket(2), bind(2), setsockopt(2)
    /// and the like.
    #[must_use]
    pub fn here(error: impl Into<io::Error>) -> Self {
        Self::Local(error.into().to_string())
    }
}

/// What an error of a socket means that talks to the real server, or begins to. It is the real server's or the network's
/// unless it can only have come about here: the kernel turns ICMP errors into many numbers (`icmp_err_convert` in
/// net/ipv4/icmp.c, `icmpv6_err_convert` in net/ipv6/icmp.c), and whoever is behind one of them gets no clients either.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => return Self::Refused,
            // Timed out: a connection that was made, and nobody is at the other end any more.
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::TimedOut => return Self::Closed,
            _ => {}
        }
        match error.raw_os_error() {
            Some(code) if is_local(code) => Self::Local(error.to_string()),
            Some(_) => Self::Unreachable(error.to_string()),
            None => Self::Garbled(error.to_string()),
        }
    }
}

/// Whether connect(2), send(2) and recv(2) say this only of this machine: no files, memory or ports (`EAGAIN` for UDP), or a
/// packet that its own netfilter has dropped (`EPERM`).
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("not probed yet"),
            Self::NoMac => f.write_str("MAC address not resolved"),
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(after) => write!(f, "timed out after {after:?}"),
            Self::Slow(after) => write!(f, "no complete answer after {after:?}"),
            Self::VipMissing { vip, rip } => {
                write!(
                    f,
                    "VIP not configured on the real server: {rip} answers, {vip} does not"
                )
            }
            Self::NotRewritten => f.write_str("probe not rewritten: the answer did not come from the VIP"),
            Self::Closed => f.write_str("connection closed before the answer was complete"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Garbled(why) => write!(f, "no proper answer: {why}"),
            Self::Status(status) => write!(f, "wrong status {status}"),
            Self::Body(why) => write!(f, "wrong body: {why}"),
            Self::Rcode(rcode) => write!(f, "wrong response code {rcode}"),
            Self::Answer(why) => write!(f, "wrong answer: {why}"),
            Self::Exit { code, said } if said.is_empty() => write!(f, "command ended with status {code}"),
            Self::Exit { code, said } => write!(f, "command ended with status {code}: {said}"),
            Self::Killed(signal) => write!(f, "command killed by signal {signal}"),
            Self::Local(why) => write!(f, "cannot probe: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_network_says_is_not_our_own_fault() {
        let meant = |code| Failure::from(io::Error::from_raw_os_error(code));
        // All that ICMP errors become, and what routes say.
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
            let failure = meant(code);
            assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
            assert!(failure.is_silence() && !failure.is_blind());
        }
        assert_eq!(meant(libc::ECONNREFUSED), Failure::Refused);
        for code in [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ETIMEDOUT] {
            assert_eq!(meant(code), Failure::Closed, "{code}");
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
            assert!(meant(code).is_blind(), "{code}");
        }
        let nonsense = io::Error::new(io::ErrorKind::InvalidData, "nonsense");
        assert_eq!(Failure::from(nonsense), Failure::Garbled("nonsense".to_owned()));
    }

    #[test]
    fn without_a_socket_nothing_is_known() {
        for code in [libc::EACCES, libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::ETIMEDOUT] {
            assert!(Failure::here(io::Error::from_raw_os_error(code)).is_blind(), "{code}");
        }
    }
}
