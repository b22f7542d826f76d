//! Whether the real server's own address answers an ICMP echo request (RFC 792, RFC 4443 §4).
//!
//! Always the RIP: the director itself answers for the VIP. The kernel's own ping sockets are used where
//! `net.ipv4.ping_group_range` lets us, raw ones elsewhere.

use std::{
    io,
    net::{self, IpAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::socket::{SockProtocol, SockType};
use tokio::net::UdpSocket;

use super::socket::{self, Deadline};
use crate::health::{
    failure::ProbeFailure,
    probe::{Outcome, ProbeEndpoint, ProbeSuccess},
};

/// Length of an ICMP header in bytes, with the id and number of an echo.
const HEADER: usize = 8;

/// Every echo request has its own number, so that no answer is taken for another's.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Probes once.
///
/// # Errors
/// There is no answer.
pub async fn run(endpoint: &ProbeEndpoint) -> Outcome {
    let deadline = Deadline::starting_now(endpoint);
    let (socket, raw) = open(endpoint.rip)?;
    deadline
        .run_with_timeout(ProbeFailure::TimedOut, ask(&socket, raw, endpoint.rip))
        .await
}

/// A socket for echoes, and whether it is a raw one.
fn open(rip: IpAddr) -> Result<(UdpSocket, bool), ProbeFailure> {
    let protocol = match rip {
        IpAddr::V4(_) => SockProtocol::Icmp,
        IpAddr::V6(_) => SockProtocol::IcmpV6,
    };
    let (fd, raw) = match socket::new_nonblocking(rip, SockType::Datagram, Some(protocol)) {
        Ok(fd) => (fd, false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let fd = socket::new_nonblocking(rip, SockType::Raw, Some(protocol));
            (fd.map_err(ProbeFailure::from_local_error)?, true)
        }
        Err(error) => return Err(ProbeFailure::from_local_error(error)),
    };
    socket::enable_recverr(&fd, rip).map_err(ProbeFailure::from_local_error)?;
    // A connected one receives from this real server only.
    socket::start_connect(&fd, net::SocketAddr::new(rip, 0))?;
    // To send and receive is the same for all sockets of datagrams.
    let socket = UdpSocket::from_std(net::UdpSocket::from(fd)).map_err(ProbeFailure::from_local_error)?;
    Ok((socket, raw))
}

async fn ask(socket: &UdpSocket, raw: bool, rip: IpAddr) -> Outcome {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let request = request(rip, std::process::id(), number);
    socket.send(&request).await?;
    let mut buffer = [0; 256];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Raw sockets of IPv4 show the IP header (raw(7)).
        let skip = match rip {
            IpAddr::V4(_) if raw => usize::from(buffer[0] & 0xf) * 4,
            _ => 0,
        };
        if is_reply(buffer[..length].get(skip..).unwrap_or_default(), &request) {
            return Ok(ProbeSuccess::default());
        }
    }
}

/// An echo request. The kernel gives it the id of a ping socket, and the checksum but for raw IPv4.
fn request(rip: IpAddr, process: u32, number: u32) -> [u8; HEADER + 8] {
    let mut message = [0; HEADER + 8];
    message[0] = match rip {
        IpAddr::V4(_) => 8,
        IpAddr::V6(_) => 128,
    };
    // Id and number of the echo together.
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message[8..12].copy_from_slice(&process.to_be_bytes());
    message[12..16].copy_from_slice(&number.to_be_bytes());
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Whether a message answers a request: the id may have been changed by the kernel, the data may not.
fn is_reply(message: &[u8], request: &[u8]) -> bool {
    let kind = match request[0] {
        128 => 129,
        _ => 0,
    };
    message.first() == Some(&kind) && message.get(HEADER..) == Some(&request[HEADER..])
}

/// The internet checksum (RFC 1071) of a message of even length.
fn checksum(message: &[u8]) -> u16 {
    let words = message.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn requests_sum_to_nothing_and_differ() {
        let rip = Ipv4Addr::new(192, 0, 2, 1).into();
        let request = |number| super::request(rip, 4711, number);
        assert_eq!(checksum(&request(7)), 0);
        assert_eq!(checksum(&request(0xffff_ffff)), 0);
        assert_ne!(request(7)[HEADER..], request(8)[HEADER..]);
    }

    #[test]
    fn replies_are_known_by_their_data() {
        for (rip, kind) in [
            (IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), 129),
        ] {
            let request = super::request(rip, 1, 2);
            let mut reply = request;
            reply[0] = kind;
            reply[4] ^= 0xff;
            assert!(is_reply(&reply, &request));
            assert!(!is_reply(&request, &request), "what was sent is no answer");
            reply[15] ^= 1;
            assert!(!is_reply(&reply, &request));
            assert!(!is_reply(&reply[..5], &request));
        }
    }

    /// Over UDP on loopback, which needs no rights.
    #[tokio::test]
    async fn only_its_own_reply_passes() {
        let local = (Ipv4Addr::LOCALHOST, 0);
        let [ours, theirs] = [
            UdpSocket::bind(local).await.unwrap(),
            UdpSocket::bind(local).await.unwrap(),
        ];
        ours.connect(theirs.local_addr().unwrap()).await.unwrap();
        theirs.connect(ours.local_addr().unwrap()).await.unwrap();
        let real_server = async {
            let mut buffer = [0; 64];
            let length = theirs.recv(&mut buffer).await.unwrap();
            let reply = &mut buffer[..length];
            theirs.send(&[]).await.unwrap();
            theirs.send(reply).await.unwrap();
            reply[0] = 0;
            reply[15] ^= 1;
            theirs.send(reply).await.unwrap();
            tokio::task::yield_now().await;
            reply[15] ^= 1;
            theirs.send(reply).await.unwrap();
        };
        let rip = Ipv4Addr::LOCALHOST.into();
        let (outcome, ()) = tokio::join!(ask(&ours, false, rip), real_server);
        assert_eq!(outcome, Ok(ProbeSuccess::default()));
        let left = ours.try_recv(&mut [0; 64]).unwrap_err();
        assert_eq!(
            left.kind(),
            io::ErrorKind::WouldBlock,
            "all but the last were passed over"
        );
    }
}
