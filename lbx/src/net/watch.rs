//! Netlink events: changes of neighbours, links, addresses and routes.

use std::{io, net::IpAddr};

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::sync::mpsc;

use super::{InterfaceAddress, Link, Neighbour, NetError, TableRoute, is_errno};

/// How many events may wait for their reader. Beyond that they wait in the socket, and when that is full the kernel
/// drops them and says so: memory stays bounded, and the reader gets an [`NetEvent::Overrun`]. Putting as many VIPs on a NIC
/// as there may be makes an event for each.
const QUEUE: usize = 1 << 14;

/// What the socket may hold, in bytes, if net.core.rmem_max allows it.
const SOCKET_BUFFER: libc::c_int = 1 << 20;

/// Longer than any notification the kernel sends in one datagram.
const DATAGRAM_MAX: usize = 1 << 16;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A neighbour is new or changed: its MAC, or whether that is usable.
    Neighbour(Neighbour),
    /// A neighbour's entry is gone.
    NeighbourGone {
        /// The NIC it was behind.
        ifindex: u32,
        /// Its address.
        address: IpAddr,
    },
    /// A link is new or changed.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// The index it had.
        index: u32,
        /// The name it had.
        name: String,
    },
    /// An address is new or changed.
    Address(InterfaceAddress),
    /// An address is gone.
    AddressGone(InterfaceAddress),
    /// A route of the main table is new or changed.
    Route(TableRoute),
    /// A route of the main table is gone. The kernel sends no event for the IPv4 routes removed with a link that goes
    /// down.
    RouteGone(TableRoute),
    /// Events were lost: read everything anew.
    Overrun,
}

impl NetEvent {
    /// Reads a notification; `None` if it is about something else.
    fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => Neighbour::from_message(message).map(Self::Neighbour),
            RouteNetlinkMessage::DelNeighbour(message) => Neighbour::from_message(message)
                .map(|Neighbour { ifindex, address, .. }| Self::NeighbourGone { ifindex, address }),
            RouteNetlinkMessage::NewLink(message) => Link::from_message(message).map(Self::Link),
            RouteNetlinkMessage::DelLink(message) => {
                Link::from_message(message).map(|Link { index, name, .. }| Self::LinkGone { index, name })
            }
            RouteNetlinkMessage::NewAddress(message) => InterfaceAddress::from_message(message).map(Self::Address),
            RouteNetlinkMessage::DelAddress(message) => InterfaceAddress::from_message(message).map(Self::AddressGone),
            RouteNetlinkMessage::NewRoute(message) => TableRoute::from_message(message).map(Self::Route),
            RouteNetlinkMessage::DelRoute(message) => TableRoute::from_message(message).map(Self::RouteGone),
            _ => None,
        }
    }
}

/// Follows neighbours, links, addresses and routes in the calling thread's network namespace from now on:
/// what is read afterwards by [`super::RouteNetlink`] is followed without a gap. Ends when the receiver is dropped; a channel
/// that closes means that the socket has failed.
///
/// # Errors
/// The socket cannot be opened.
pub fn watch() -> Result<mpsc::Receiver<NetEvent>, NetError> {
    let socket = subscribe().map_err(|source| NetError::Socket {
        kind: "netlink",
        source,
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = follow(&socket, &sender).await {
            tracing::error!(%error, "netlink event socket failed: network changes are no longer followed");
        }
    });
    Ok(receiver)
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = <TokioSocket as AsyncSocket>::new(NETLINK_ROUTE)?;
    let inner = socket.socket_mut();
    inner.set_rx_buf_sz(SOCKET_BUFFER)?;
    inner.bind(&SocketAddr::new(0, 0))?;
    for group in [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv6Route,
    ] {
        inner.add_membership(group as u32)?;
    }
    Ok(socket)
}

async fn follow(socket: &TokioSocket, sender: &mpsc::Sender<NetEvent>) -> io::Result<()> {
    let mut datagram = Vec::with_capacity(DATAGRAM_MAX);
    loop {
        datagram.clear();
        let received = tokio::select! {
            received = socket.recv(&mut datagram) => received,
            () = sender.closed() => return Ok(()),
        };
        match received {
            Ok(()) => {}
            Err(error) if is_errno(&error, libc::ENOBUFS) => {
                discard_waiting(socket, &mut datagram)?;
                if sender.send(NetEvent::Overrun).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        for event in events(&datagram) {
            if sender.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Empties a socket that has lost events. Those still in it are older than what the owner reads upon the
/// [`NetEvent::Overrun`], and without the lost ones behind them they would bring an old state back for good.
fn discard_waiting(socket: &TokioSocket, datagram: &mut Vec<u8>) -> io::Result<()> {
    loop {
        datagram.clear();
        match socket.socket_ref().recv(datagram, 0) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_errno(&error, libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The events in a datagram. A message that cannot be read is skipped: one odd link must not hide the others.
fn events(datagram: &[u8]) -> Vec<NetEvent> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
        let length = buffer.length() as usize;
        match NetlinkMessage::deserialize(&rest[..length]) {
            Ok(NetlinkMessage {
                payload: NetlinkPayload::InnerMessage(message),
                ..
            }) => found.extend(NetEvent::from_message(&message)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "skipping a netlink message that cannot be read"),
        }
        // Messages start at multiples of four bytes (NLMSG_ALIGN).
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{
        AddressFamily,
        link::{LinkAttribute, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    };

    use super::*;

    fn encode(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn reads_every_message_of_a_datagram() {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = AddressFamily::Inet;
        neighbour.header.ifindex = 2;
        let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
        neighbour.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(address))];
        let mut link = LinkMessage::default();
        link.header.index = 5;
        link.attributes = vec![LinkAttribute::IfName("eth12".into())];

        let mut datagram = encode(RouteNetlinkMessage::DelLink(link));
        datagram.extend(encode(RouteNetlinkMessage::DelNeighbour(neighbour)));
        let expected = [
            NetEvent::LinkGone {
                index: 5,
                name: "eth12".into(),
            },
            NetEvent::NeighbourGone {
                ifindex: 2,
                address: address.into(),
            },
        ];
        assert_eq!(events(&datagram), expected);
    }

    #[test]
    fn a_truncated_datagram_ends_the_reading() {
        let datagram = encode(RouteNetlinkMessage::DelLink(LinkMessage::default()));
        assert_eq!(events(&datagram[..10]), []);
        assert_eq!(events(&datagram[..20]), []);
    }
}
