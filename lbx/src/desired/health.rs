//! Health checks of real servers, and what happens when they fail.

use std::{collections::BTreeMap, fmt, num::NonZeroU8, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// How the real servers of a service are checked. Services that agree in it share the checks of the servers they share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HealthConfig {
    /// The check.
    pub check: Check,
    /// The address that is checked.
    pub target: CheckedAddress,
    /// The port that is checked; none: the first of the service.
    pub port: Option<u16>,
    /// Time from the beginning of one probe to that of the next.
    pub interval: Duration,
    /// Time after which a probe without an answer has failed.
    pub timeout: Duration,
    /// Probes in a row that must pass before a real server that is down is up.
    pub rise: u32,
    /// Probes in a row that must fail before a real server that is up is down.
    pub fall: u32,
    /// What a real server is taken for before it has been probed.
    pub initial: InitialState,
    /// Most that a probe is early or late, by chance, in hundredths of the interval.
    pub jitter_percent: u8,
    /// Keeps a flapping real server down.
    pub damping: Option<Damping>,
}

/// The address of a real server that is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckedAddress {
    /// The VIP, on this real server: what clients use.
    #[default]
    Vip,
    /// The real server's own address: passes even if the VIP is missing there.
    Rip,
}

/// What a real server is taken for before it has been probed. One that a former daemon has left goes on as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialState {
    /// Down until its first probe, which alone decides.
    #[default]
    #[serde(rename = "first")]
    FirstProbe,
    /// Up, until `fall` probes have failed.
    Up,
    /// Down, until `rise` probes have passed.
    Down,
}

/// A real server that fails this often within this time stays down until it has been well for `hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Damping {
    /// Failures (from up to down).
    pub failures: u32,
    /// Within this time.
    pub period: Duration,
    /// How long its probes must pass without a break then.
    pub hold_time: Duration,
}

/// The kind of a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// A TCP connection can be made.
    Tcp,
    /// An HTTP request is answered as expected; with `tls` over HTTPS.
    Http(Http),
    /// A DNS question is answered as expected, over UDP.
    Dns(Dns),
    /// A datagram is answered as expected, or at least not refused.
    Udp(Udp),
    /// A command exits with 0. It gets the addresses as its environment.
    Exec(Exec),
    /// An ICMP echo request to the real server's own address is answered.
    Ping,
}

impl Check {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(Http { tls: None, .. }) => "http",
            Self::Http(_) => "https",
            Self::Dns(_) => "dns",
            Self::Udp(_) => "udp",
            Self::Exec(_) => "exec",
            Self::Ping => "ping",
        }
    }

    /// Whether it reports the real server's weight.
    #[must_use]
    pub const fn reports_weight(&self) -> bool {
        match self {
            Self::Http(http) => http.weight_in_body,
            Self::Exec(exec) => exec.weight_from_exit_code,
            _ => false,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An HTTP/1.1 request and the answer it should have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Http {
    /// `GET`, `HEAD`, `OPTIONS` or `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host` header, and the server name for TLS unless that has its own; none: the address that is checked.
    pub host: Option<String>,
    /// Further headers, in the order of the file.
    pub headers: Vec<(String, String)>,
    /// Status codes that pass, in ranges, both ends included.
    pub expected_status: Vec<(u16, u16)>,
    /// What the body must contain or be.
    pub expected_body: Option<ExpectedBody>,
    /// Over TLS.
    pub tls: Option<Tls>,
    /// The body holds the real server's weight.
    pub weight_in_body: bool,
}

/// What the body of an answer must contain or be. No more than [`ExpectedBody::MAX_BODY_BYTES`] is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExpectedBody {
    /// A regular expression (syntax of the crate `regex`) found somewhere in it.
    Regex(String),
    /// The SHA-256 of all of it.
    Sha256([u8; 32]),
    /// The MD5 of all of it, as keepalived's `genhash` prints it.
    Md5([u8; 16]),
}

impl ExpectedBody {
    /// Bytes of a body that are read at most.
    pub const MAX_BODY_BYTES: usize = 1 << 20;
}

/// TLS of a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tls {
    /// Server name to ask for (SNI) and to verify; none: the `Host`, or the address.
    pub server_name: Option<String>,
    /// Whether the certificate must be trusted and be of that name.
    pub verify: bool,
    /// PEM file with the authorities that are trusted; none: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// A DNS question and the answer it should have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dns {
    /// Name asked for, absolute.
    pub name: String,
    /// Record type, such as `A` or `SOA`.
    pub record_type: String,
    /// Response code that passes, such as `NOERROR`.
    pub rcode: String,
    /// Text that the data of one answer must be, such as an address; none: any answer, even none.
    pub answer: Option<String>,
}

/// A datagram and the answer it should have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Udp {
    /// What is sent.
    pub payload: Vec<u8>,
    /// What the answer must begin with; none: no answer is needed, but an ICMP error fails.
    pub reply_prefix: Option<Vec<u8>>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exec {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Its environment, besides the variables lbx sets.
    pub environment: BTreeMap<String, String>,
    /// Exit codes 2 to 255 set the weight to code less 2 and pass, as keepalived's `misc_dynamic`; else they fail.
    pub weight_from_exit_code: bool,
}

/// What happens when real servers fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailurePolicy {
    /// What happens to the flows of one that fails.
    pub on_failure: OnFailure,
    /// Sum of the weights of those that are up from which on the service is; 0 or 1: one is enough.
    pub quorum: u32,
    /// How much more it takes to be up again, and less to be down (keepalived's `hysteresis`).
    pub hysteresis: u32,
    /// Seconds in which the weight of one that comes up rises to its own; 0: at once.
    pub slow_start_seconds: u16,
    /// What happens to packets that no real server may get.
    pub on_empty: OnEmpty,
}

/// What happens to packets that no real server may get: all are down, have weight 0 or as many connections as they may have, or
/// the one that the client hashes to is down and the scheduler has no fallback. Packets of flows that a failed real server
/// [keeps](OnFailure::Keep) or that wait for it ([`OnFailure::Drop`]) are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// The client is answered: by a TCP RST, or by ICMP port unreachable for UDP.
    #[default]
    Reject,
    /// They are dropped: the client waits.
    Drop,
}

impl fmt::Display for OnEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        })
    }
}

/// What happens to the flows of a real server that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are re-scheduled at once; the new real server resets them, so the client notices.
    #[default]
    Rehash,
    /// They stay, and new ones go to other real servers: as weight 0 (keepalived's `inhibit_on_failure`).
    Keep,
    /// Their packets are dropped until it is up; new ones go to other real servers.
    Drop,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rehash => "rehash",
            Self::Keep => "keep",
            Self::Drop => "drop",
        })
    }
}

/// What is notified of health changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyTarget {
    /// A command that is run.
    Command(NotifyCommand),
    /// The path of a Unix datagram socket or a FIFO that another program reads.
    Socket(PathBuf),
}

impl NotifyTarget {
    /// The command, if it is one.
    #[must_use]
    pub const fn command(&self) -> Option<&NotifyCommand> {
        match self {
            Self::Command(command) => Some(command),
            Self::Socket(_) => None,
        }
    }
}

/// A command notified of health changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyCommand {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// After which it is killed.
    pub timeout: Duration,
}

/// The state of a real server by its health checks. In the configuration it is always [`ServerState::Up`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    /// It gets connections as its weight says.
    #[default]
    Up,
    /// It came up not long ago: its weight is reduced to these hundredths. Matters to schedulers that use weights.
    SlowStart(NonZeroU8),
    /// It keeps its flows and gets no new ones, as with weight 0: its service is below quorum, and the sorry server gets new
    /// connections.
    Draining,
    /// Its checks fail.
    Down(OnFailure),
}
