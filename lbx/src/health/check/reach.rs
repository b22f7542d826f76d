//! Whether an address is there at all, and what silence means.

use std::pin::pin;

use futures_util::future::{Either, select};

use super::tcp;
use crate::{
    desired::CheckedAddress,
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess},
    },
};

/// Whether the address that `endpoint` asks is there as much as the RIP is: for further VIPs of a real server whose service is
/// checked elsewhere. A TCP connection to its port is made or refused; or neither there nor on the RIP, as behind a
/// firewall that lets only a service on UDP through, and then TCP says nothing of the VIP. Both are asked at once, and the
/// RIP is not waited for when the VIP has answered.
///
/// # Errors
/// [`ProbeFailure::VipMissing`] where only the RIP answers; what says nothing of the real server.
pub async fn check_vip_present(endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    let straight = straight(endpoint);
    let (asked, rip) = (pin!(answers(endpoint, steering)), pin!(answers(&straight, steering)));
    let (asked, rip) = match select(asked, rip).await {
        Either::Left((Err(silence), rip)) if !silence.is_inconclusive() => (Err(silence), rip.await),
        Either::Left((decided, _)) => return decided,
        Either::Right((rip, asked)) => (asked.await, rip),
    };
    match (asked, rip) {
        (Err(silence), rip) if !silence.is_inconclusive() => match rip {
            Ok(_) => Err(missing(endpoint)),
            Err(blind) if blind.is_inconclusive() => Err(blind),
            Err(_) => Ok(ProbeSuccess::default()),
        },
        (decided, _) => decided,
    }
}

/// Whether a TCP connection is made or refused.
async fn answers(endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    match tcp::run(endpoint, steering).await {
        Err(ProbeFailure::Refused) => Ok(ProbeSuccess::default()),
        outcome => outcome,
    }
}

/// The same question to the RIP.
fn straight(endpoint: &ProbeEndpoint) -> ProbeEndpoint {
    ProbeEndpoint {
        target: CheckedAddress::Rip,
        ..*endpoint
    }
}

const fn missing(endpoint: &ProbeEndpoint) -> ProbeFailure {
    ProbeFailure::VipMissing {
        vip: endpoint.vip,
        rip: endpoint.rip,
    }
}

/// The reason for a failed probe, after a probe of the RIP if there was no answer. The VIP is
/// missing if the RIP answers TCP on the port and the VIP does not; both are asked alike and at once, so that a host
/// that drops what it does not serve, or a server that hangs, is not taken for one without the VIP.
pub async fn diagnose(failure: ProbeFailure, endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> ProbeFailure {
    if !failure.is_unresponsive() || endpoint.target == CheckedAddress::Rip {
        return failure;
    }
    let straight = straight(endpoint);
    match tokio::join!(answers(endpoint, steering), answers(&straight, steering)) {
        (Err(silence), Ok(_)) if silence.is_unresponsive() => missing(endpoint),
        _ => failure,
    }
}
