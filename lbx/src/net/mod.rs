//! The network as the kernel sees it: over route netlink, and ARP and neighbour discovery over a packet socket.
//!
//! - [`link`]: NICs by name and index; [`ethtool`]: their driver, queues and offload features; [`mod@xdp_refusal`]: why a
//!   native program is refused; [`xdp_drivers`]: what drivers need for one;
//! - [`address`]: addresses, and VIPs marked as ours;
//! - [`route`]: route look-ups, and host routes marked as ours;
//! - [`neighbour`]: the neighbour table, and entries marked as ours;
//! - [`mod@watch`]: change events;
//! - [`arp`], [`ndp`]: frames that solicit or announce an address;
//! - [`binding`]: receives them: which host states that it has which address;
//! - [`segment`]: the socket that sends such frames;
//! - [`namespace`]: identity of the network namespace; [`mod@living_namespaces`]: those there are;
//! - [`sysctl`]: the kernel's settings; [`netfilter`]: rules of nftables and iptables, as their programs print them.
//!
//! Sockets belong to the network namespace of the thread that opens them.

pub mod address;
pub mod arp;
pub mod binding;
pub mod ethtool;
pub mod link;
pub mod living_namespaces;
pub mod namespace;
pub mod ndp;
pub mod neighbour;
pub mod netfilter;
pub mod route;
pub mod segment;
pub mod sysctl;
pub mod watch;
pub mod xdp_drivers;
pub mod xdp_refusal;

use std::{io, net::IpAddr, time::Duration};

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel;

pub use self::{
    address::{AddVipOutcome, InterfaceAddress, LBX_ADDRESS_PROTO},
    binding::{AddressBinding, BindingListener, ResolutionProtocol},
    link::{DeviceKind, Link, Peer, VlanDevice, XdpAttachment},
    namespace::{namespace_cookie, namespace_id},
    neighbour::{Keeper, Neighbour},
    route::{LBX_ROUTE_PROTO, Route, TableRoute},
    segment::SegmentSocket,
    watch::{NetEvent, watch},
    xdp_refusal::native_attach_error,
};

/// How long the kernel may take for one answer. It answers within a system call, so this only ends a wait for an answer
/// that could not be decoded.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a dump is read anew when the table changed while it was read.
const DUMP_ATTEMPTS: u32 = 8;

/// How many requests are sent before the first is answered, where there are many: enough to keep the kernel busy, few
/// enough for a socket's buffer.
const MAX_IN_FLIGHT: usize = 64;

/// An error of a network operation.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A socket cannot be opened.
    #[error("cannot open a {kind} socket")]
    Socket {
        /// Netlink, packet or UDP; packet sockets need CAP_NET_RAW.
        kind: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("cannot {action}")]
    RequestRefused {
        /// The request, naming its object.
        action: String,
        /// The kernel's reason; `EPERM` means that CAP_NET_ADMIN is missing.
        source: io::Error,
    },
}

impl NetError {
    fn refused(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::RequestRefused { action, source }
    }

    /// The errno behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::RequestRefused { source, .. } => source.raw_os_error(),
        }
    }
}

/// A connection to route netlink. Clones share it.
#[derive(Clone, Debug)]
pub struct RouteNetlink {
    handle: rtnetlink::Handle,
}

impl RouteNetlink {
    /// Connects to route netlink in the calling thread's network namespace and serves the connection on the current
    /// tokio runtime (without one it panics, as everything of tokio does).
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> Result<Self, NetError> {
        // Strict checking (Linux 4.20) makes the kernel honour the filters of a dump instead of ignoring them: it saves time, and
        // answers are filtered again.
        let (mut connection, handle, _unsolicited) =
            kernel::with_option_or(rtnetlink::new_connection_with_strict_check, rtnetlink::new_connection).map_err(
                |source| NetError::Socket {
                    kind: "netlink",
                    source,
                },
            )?;
        // The end of a dump says whether the table changed meanwhile.
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Sends a change and waits for the acknowledgement.
    async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).await.map(drop)
    }

    /// Requests one object.
    async fn get(&self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        Ok(self.exchange(message, 0).await?.messages.pop())
    }

    /// Reads a table; anew when it changed while it was read.
    async fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            let answer = self.exchange(message.clone(), NLM_F_DUMP).await?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(io::Error::other("the table keeps changing while it is read"))
    }

    async fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Answer> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let mut responses = handle
            .request(request)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the netlink connection has ended"))?;
        let collect = async {
            let mut answer = Answer::default();
            while let Some(NetlinkMessage { header, payload, .. }) = responses.next().await {
                answer.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => answer.messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    _ => {}
                }
            }
            Ok(answer)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, collect).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer from the kernel that can be decoded",
            ))
        })
    }
}

/// The kernel's answer to one request.
#[derive(Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    /// The table changed while it was dumped: something may be missing or double.
    interrupted: bool,
}

/// The family of an address.
fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn is_ip(family: AddressFamily) -> bool {
    matches!(family, AddressFamily::Inet | AddressFamily::Inet6)
}

/// Bits of an address: the length of the prefix that means it alone.
#[must_use]
pub const fn max_prefix_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether a request failed with this errno.
fn is_errno(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}
