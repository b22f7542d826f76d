//! Schedulers, and what the hashing ones hash.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Chooses the real server of a new connection. The codes are what the service map holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Scheduler {
    /// Round robin: every usable real server in turn.
    #[default]
    Rr = 1,
    /// Weighted round robin: in turn, as often as the weight says, evenly interleaved.
    Wrr = 2,
    /// Consistent hashing of client address and port (Eisenbud et al., "Maglev", NSDI 2016): mh with mh-port and
    /// mh-fallback.
    Maglev = 3,
    /// The fewest connections.
    Lc = 4,
    /// The fewest connections for its weight.
    Wlc = 5,
    /// The shortest expected delay: active connections plus this one, for its weight.
    Sed = 6,
    /// Never queue: an idle one if there is any, else sed.
    Nq = 7,
    /// Hashing of the client's address.
    Sh = 8,
    /// Consistent hashing of the client's address.
    Mh = 9,
    /// Weighted failure_policy: all to the usable one of the highest weight.
    Fo = 10,
    /// Overflow: the highest weight until it has as many active connections, then the next.
    Ovf = 11,
    /// Hashing of the VIP.
    Dh = 12,
    /// Power of two choices: the less loaded of two taken at random.
    P2c = 13,
}

impl Scheduler {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::Rr,
        Self::Wrr,
        Self::Maglev,
        Self::Lc,
        Self::Wlc,
        Self::Sed,
        Self::Nq,
        Self::Sh,
        Self::Mh,
        Self::Fo,
        Self::Ovf,
        Self::Dh,
        Self::P2c,
    ];

    /// Its name in the configuration and in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Maglev => "maglev",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Dh => "dh",
            Self::P2c => "p2c",
        }
    }

    /// The scheduler of a code in the service map.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| *scheduler as u8 == code)
    }

    /// Whether new connections go where the hash says.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::Maglev | Self::Sh | Self::Mh | Self::Dh)
    }

    /// What it hashes without flags, as in IPVS. Where the scheduler chooses by itself, the hash is for what has no record.
    #[must_use]
    pub const fn default_hash_options(self) -> HashOptions {
        let plain = matches!(self, Self::Sh | Self::Mh | Self::Dh);
        HashOptions {
            include_port: !plain,
            fallback: !plain,
        }
    }

    /// The flags it takes, by the names they have in IPVS.
    #[must_use]
    pub const fn flag_names(self) -> Option<SchedulerFlagNames> {
        match self {
            Self::Sh => Some(SchedulerFlagNames {
                fallback: "sh-fallback",
                port: "sh-port",
            }),
            Self::Mh => Some(SchedulerFlagNames {
                fallback: "mh-fallback",
                port: "mh-port",
            }),
            _ => None,
        }
    }

    /// Whether a larger weight means more new connections.
    #[must_use]
    pub const fn uses_weights(self) -> bool {
        !matches!(self, Self::Rr | Self::Lc)
    }

    /// Whether it can schedule packets without a record (one-packet scheduling).
    #[must_use]
    pub const fn supports_one_packet(self) -> bool {
        self.hashes() || matches!(self, Self::Rr | Self::Wrr)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.name() == name)
            .ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

/// What a hashing scheduler (sh, mh, maglev) hashes, and whether it falls back to another real server. The
/// flags of IPVS: sh-port, mh-port, sh-fallback, mh-fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashOptions {
    /// The client's port besides its address.
    pub include_port: bool,
    /// Another real server takes over; otherwise new connections are dropped until it is back.
    pub fallback: bool,
}

/// Names of the flags that set the two fields of [`HashOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerFlagNames {
    /// Of [`HashOptions::fallback`].
    pub fallback: &'static str,
    /// Of [`HashOptions::include_port`].
    pub port: &'static str,
}

/// An unknown scheduler name.
#[derive(Debug, thiserror::Error)]
#[error("unknown scheduler {0:?}: lbx knows {known}", known = Scheduler::ALL.map(Scheduler::name).join(", "))]
pub struct UnknownScheduler(pub String);
