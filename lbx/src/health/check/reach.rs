//! Whether an address is there at all, and what silence means.

use super::tcp;
use crate::{
    desired::Target,
    health::{
        failure::Failure,
        probe::{Aim, Dialer, Outcome, Passed},
    },
};

/// Whether the address that `aim` asks is there: a TCP connection to its port is made or refused. For further VIPs of a
/// real server whose service is checked elsewhere.
///
/// # Errors
/// Nobody answers, or not from that address.
pub async fn presence(aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    match tcp::run(aim, dialer).await {
        Err(Failure::Refused) => Ok(Passed::default()),
        outcome => outcome,
    }
}

/// The reason for a failed probe, once the real server has been asked what it means if nobody answered. The VIP is
/// missing if the RIP answers TCP on the port and the VIP does not; both are asked alike and at once, so that a host
/// that drops what it does not serve, or a server that hangs, is not taken for one without the VIP.
pub async fn diagnose(failure: Failure, aim: &Aim, dialer: &dyn Dialer) -> Failure {
    if !failure.is_silence() || aim.target == Target::Rip {
        return failure;
    }
    let straight = Aim {
        target: Target::Rip,
        ..*aim
    };
    match tokio::join!(presence(aim, dialer), presence(&straight, dialer)) {
        (Err(silence), Ok(_)) if silence.is_silence() => Failure::VipMissing {
            vip: aim.vip,
            rip: aim.rip,
        },
        _ => failure,
    }
}
