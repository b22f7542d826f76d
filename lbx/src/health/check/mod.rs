//! What each kind of check asks, and what it takes for an answer.
//!
//! - [`tcp`], [`http`] (with [`http_error`], [`tls`] and [`body`]), [`dns`], [`udp`]: through a [`ProbeSteering`], so to the VIP on the real
//!   server unless the check is aimed at the RIP
//! - [`ping`]: always the RIP; [`exec`]: whatever its command asks
//! - [`reach`]: whether an address is there at all, and what silence means
//! - [`socket`]: how all of them make their sockets, wait, and leave nothing behind
//!
//! A probe that is dropped half-way closes its sockets and kills its command.

pub mod body;
mod certificate;
pub mod dns;
pub mod exec;
pub mod http;
pub mod http_error;
pub mod ping;
pub mod reach;
pub mod socket;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod udp;

use std::path::PathBuf;

use thiserror::Error;

pub use self::reach::{check_vip_present, diagnose};
use super::probe::{Outcome, ProbeEndpoint, ProbeSteering};
use crate::desired::{Check, Exec, Udp};

/// Why a check cannot be made as it is written.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The regular expression for the body.
    #[error("bad regular expression: {0}")]
    Regex(String),
    /// The request's method.
    #[error("bad HTTP method {0:?}")]
    InvalidHttpMethod(String),
    /// The request's path.
    #[error("bad path {0:?}: must begin with / and be of printable ASCII without spaces")]
    InvalidHttpPath(String),
    /// A header of the request, `Host` among them.
    #[error("bad HTTP header {name:?}: {value:?}: a name is letters, digits, - and _, a value printable ASCII")]
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The answer to HEAD has no body.
    #[error("the answer to HEAD has no body to look at")]
    HeadHasNoBody,
    /// The name to verify.
    #[error("bad server name {0:?}: must be a host name or an address")]
    ServerName(String),
    /// The file of authorities.
    #[error("cannot read CA certificates from {}: {why}", file.display())]
    UnreadableCaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no authorities.
    #[error(
        "no trusted CA certificates on this host: install ca-certificates, set authorities to a PEM file, or set verify: false"
    )]
    NoSystemCas,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The name to ask for.
    #[error("bad DNS name {0:?}")]
    InvalidDnsName(String),
    /// The record type.
    #[error("unknown DNS record type {0:?}")]
    UnknownRecordType(String),
    /// The response code.
    #[error("unknown DNS response code {0:?}")]
    Rcode(String),
    /// There is no program.
    #[error("the command is empty: name a program")]
    NoCommand,
}

/// A check with everything made that is the same for each of its probes.
#[derive(Debug)]
pub struct PreparedCheck(Kind);

#[derive(Debug)]
enum Kind {
    Tcp,
    Http(Box<http::PreparedHttpCheck>),
    Dns(dns::PreparedDnsCheck),
    Udp(Udp),
    Exec(Exec),
    Ping,
}

/// Whether a check can be made as it is written. Reads no file: [`PreparedCheck::new`] may still fail for the authorities.
///
/// # Errors
/// What is wrong with it.
pub fn validate(check: &Check) -> Result<(), CheckError> {
    match check {
        Check::Http(http) => http::validate(http),
        Check::Dns(dns) => dns::PreparedDnsCheck::new(dns).map(drop),
        Check::Exec(exec) => exec::validate(exec),
        Check::Tcp | Check::Udp(_) | Check::Ping => Ok(()),
    }
}

impl PreparedCheck {
    /// Makes what all probes of a check have in common. Reads the authorities of an HTTPS check.
    ///
    /// # Errors
    /// What is wrong with the check, or with the authorities.
    pub fn new(check: &Check) -> Result<Self, CheckError> {
        validate(check)?;
        Ok(Self(match check {
            Check::Tcp => Kind::Tcp,
            Check::Http(http) => Kind::Http(Box::new(http::PreparedHttpCheck::new(http)?)),
            Check::Dns(dns) => Kind::Dns(dns::PreparedDnsCheck::new(dns)?),
            Check::Udp(udp) => Kind::Udp(udp.clone()),
            Check::Exec(exec) => Kind::Exec(exec.clone()),
            Check::Ping => Kind::Ping,
        }))
    }
}

/// Probes once. Takes no longer than `endpoint.timeout`, but for a moment to reap a command.
///
/// # Errors
/// Why it failed.
pub async fn run(check: &PreparedCheck, endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    match &check.0 {
        Kind::Tcp => tcp::run(endpoint, steering).await,
        Kind::Http(request) => http::run(request, endpoint, steering).await,
        Kind::Dns(question) => dns::run(question, endpoint, steering).await,
        Kind::Udp(udp) => udp::run(udp, endpoint, steering).await,
        Kind::Exec(exec) => exec::run(exec, endpoint).await,
        Kind::Ping => ping::run(endpoint).await,
    }
}
