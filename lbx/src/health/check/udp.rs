//! Whether a datagram is answered as expected, or at least not refused.
//!
//! Where no answer is expected, silence cannot pass alone: a real server without the VIP is silent too. So after half of
//! the timeout without an ICMP error the address must still be as much [there](presence) as the RIP is: it accepts or
//! refuses a TCP connection to the same port. A real server whose firewall drops that on both passes with or without the
//! VIP, and so does one that hangs, until its MAC address is lost: who wants to know better needs an expected
//! `reply`. Linux sends no more than one ICMP error a second to the same host after a short burst
//! (`net.ipv4.icmp_ratelimit`), so that a closed port may be found one probe late.

use std::time::Duration;

use tokio::{net::UdpSocket, time::timeout};

use super::{reach::presence, socket::Session};
use crate::{
    desired::Udp,
    health::{
        failure::Failure,
        probe::{Aim, Dialer, Evidence, Outcome, Passed},
    },
};

/// Bytes of a wrong answer that are shown.
const SHOWN: usize = 32;

/// Probes once.
///
/// # Errors
/// Why the answer is none.
pub async fn run(udp: &Udp, aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    let (session, socket) = Session::udp(aim, dialer)?;
    let deadline = session.deadline;
    let Some(reply) = &udp.reply else {
        let quiet = aim.timeout / 2;
        let (outcome, evidence) = match deadline.bound(Failure::TimedOut, unrefused(&socket, udp, quiet)).await {
            Ok(evidence) => (Ok(Passed::default()), evidence),
            Err(failure) => (Err(failure), Evidence::BothWays),
        };
        let passed = session.close(socket, outcome, evidence)?;
        if evidence == Evidence::Sent {
            let rest = aim.timeout.saturating_sub(quiet);
            presence(&Aim { timeout: rest, ..*aim }, dialer).await?;
        }
        return Ok(passed);
    };
    let outcome = deadline
        .bound(Failure::TimedOut, answered(&socket, &udp.payload, reply))
        .await;
    session.close(socket, outcome, Evidence::BothWays)
}

/// Sends, and waits whether anybody objects.
async fn unrefused(socket: &UdpSocket, udp: &Udp, quiet: Duration) -> Result<Evidence, Failure> {
    socket.send(&udp.payload).await?;
    match timeout(quiet, socket.recv(&mut [0; 1])).await {
        Ok(Ok(_)) => Ok(Evidence::BothWays),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Ok(Evidence::Sent),
    }
}

async fn answered(socket: &UdpSocket, payload: &[u8], reply: &[u8]) -> Outcome {
    socket.send(payload).await?;
    // The kernel cuts off what nobody looks at.
    let mut buffer = vec![0; reply.len().max(SHOWN + 1)];
    let length = socket.recv(&mut buffer).await?;
    let answer = &buffer[..length];
    if answer.starts_with(reply) {
        return Ok(Passed::default());
    }
    let more = if length > SHOWN { "…" } else { "" };
    let shown = answer[..length.min(SHOWN)].escape_ascii();
    Err(Failure::Answer(format!("\"{shown}{more}\"")))
}
