//! Whether a datagram is answered as expected, or at least not refused.
//!
//! Where no answer is expected, silence cannot pass alone: a real server without the VIP is silent too. So after half of
//! the timeout without an ICMP error the address must still be as much [there](check_vip_present) as the RIP is: it accepts or
//! refuses a TCP connection to the same port. A real server whose firewall drops that on both passes with or without the
//! VIP, and so does one that hangs, until its MAC address is lost: who wants to know better needs an expected
//! `reply`. Linux sends no more than one ICMP error a second to the same host after a short burst
//! (`net.ipv4.icmp_ratelimit`), so that a closed port may be found one probe late.

use std::time::Duration;

use tokio::{net::UdpSocket, time::timeout};

use super::{reach::check_vip_present, socket::Session};
use crate::{
    desired::Udp,
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess, RequiredTraffic},
    },
};

/// Bytes of a wrong answer that are shown.
const SHOWN: usize = 32;

/// Probes once.
///
/// # Errors
/// Why the answer is none.
pub async fn run(udp: &Udp, endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    let (session, socket) = Session::udp(endpoint, steering)?;
    let deadline = session.deadline;
    let Some(reply) = &udp.reply_prefix else {
        let quiet = endpoint.timeout / 2;
        let (outcome, required) = match deadline
            .run_with_timeout(ProbeFailure::TimedOut, unrefused(&socket, udp, quiet))
            .await
        {
            Ok(required) => (Ok(ProbeSuccess::default()), required),
            Err(failure) => (Err(failure), RequiredTraffic::BothWays),
        };
        let passed = session.close(socket, outcome, required)?;
        if required == RequiredTraffic::Sent {
            let rest = endpoint.timeout.saturating_sub(quiet);
            check_vip_present(
                &ProbeEndpoint {
                    timeout: rest,
                    ..*endpoint
                },
                steering,
            )
            .await?;
        }
        return Ok(passed);
    };
    let outcome = deadline
        .run_with_timeout(ProbeFailure::TimedOut, answered(&socket, &udp.payload, reply))
        .await;
    session.close(socket, outcome, RequiredTraffic::BothWays)
}

/// Sends, and waits for an ICMP error.
async fn unrefused(socket: &UdpSocket, udp: &Udp, quiet: Duration) -> Result<RequiredTraffic, ProbeFailure> {
    socket.send(&udp.payload).await?;
    match timeout(quiet, socket.recv(&mut [0; 1])).await {
        Ok(Ok(_)) => Ok(RequiredTraffic::BothWays),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Ok(RequiredTraffic::Sent),
    }
}

async fn answered(socket: &UdpSocket, payload: &[u8], reply: &[u8]) -> Outcome {
    socket.send(payload).await?;
    // The kernel truncates what does not fit.
    let mut buffer = vec![0; reply.len().max(SHOWN + 1)];
    let length = socket.recv(&mut buffer).await?;
    let answer = &buffer[..length];
    if answer.starts_with(reply) {
        return Ok(ProbeSuccess::default());
    }
    let more = if length > SHOWN { "…" } else { "" };
    let shown = answer[..length.min(SHOWN)].escape_ascii();
    Err(ProbeFailure::UnexpectedReply(format!("\"{shown}{more}\"")))
}
