//! Whether an address is there at all, and what silence means.

use std::pin::pin;

use futures_util::future::{Either, select};

use super::tcp;
use crate::{
    desired::Target,
    health::{
        failure::Failure,
        probe::{Aim, Dialer, Outcome, Passed},
    },
};

/// Whether the address that `aim` asks is there as much as the RIP is: for further VIPs of a real server whose service is
/// checked elsewhere. A TCP connection to its port is made or refused; or neither there nor on the RIP, as behind a
/// firewall that lets only a service on UDP through, and then TCP says nothing of the VIP. Both are asked at once, and the
/// RIP is not waited for when the VIP has answered.
///
/// # Errors
/// [`Failure::VipMissing`] where only the RIP answers; what says nothing of the real server.
pub async fn presence(aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    let straight = straight(aim);
    let (asked, rip) = (pin!(answers(aim, dialer)), pin!(answers(&straight, dialer)));
    let (asked, rip) = match select(asked, rip).await {
        Either::Left((Err(silence), rip)) if !silence.is_blind() => (Err(silence), rip.await),
        Either::Left((decided, _)) => return decided,
        Either::Right((rip, asked)) => (asked.await, rip),
    };
    match (asked, rip) {
        (Err(silence), rip) if !silence.is_blind() => match rip {
            Ok(_) => Err(missing(aim)),
            Err(blind) if blind.is_blind() => Err(blind),
            Err(_) => Ok(Passed::default()),
        },
        (decided, _) => decided,
    }
}

/// Whether a TCP connection is made or refused.
async fn answers(aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    match tcp::run(aim, dialer).await {
        Err(Failure::Refused) => Ok(Passed::default()),
        outcome => outcome,
    }
}

/// The same question to the RIP.
fn straight(aim: &Aim) -> Aim {
    Aim {
        target: Target::Rip,
        ..*aim
    }
}

const fn missing(aim: &Aim) -> Failure {
    Failure::VipMissing {
        vip: aim.vip,
        rip: aim.rip,
    }
}

/// The reason for a failed probe, once the real server has been asked what it means if nobody answered. The VIP is
/// missing if the RIP answers TCP on the port and the VIP does not; both are asked alike and at once, so that a host
/// that drops what it does not serve, or a server that hangs, is not taken for one without the VIP.
pub async fn diagnose(failure: Failure, aim: &Aim, dialer: &dyn Dialer) -> Failure {
    if !failure.is_silence() || aim.target == Target::Rip {
        return failure;
    }
    let straight = straight(aim);
    match tokio::join!(answers(aim, dialer), answers(&straight, dialer)) {
        (Err(silence), Ok(_)) if silence.is_silence() => missing(aim),
        _ => failure,
    }
}
