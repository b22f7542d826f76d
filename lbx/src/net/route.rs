//! IPv4 routes: where an address leads, and host routes marked as ours.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia},
};

use super::{Net, NetError, is_errno};

/// The origin that the routes we add carry (rtm_protocol), so that undoing removes no route of others. Not taken in
/// include/uapi/linux/rtnetlink.h nor in iproute2's rt_protos. "L" in ASCII.
pub const ROUTE_PROTOCOL: u8 = 0x4c;

/// Where the kernel sends what is for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The address is this host's own.
    Local,
    /// It is a neighbour.
    OnLink {
        /// The NIC it is behind.
        ifindex: u32,
        /// The address that the kernel would send from.
        source: IpAddr,
    },
    /// It is behind a router.
    Via {
        /// The router; IPv4 may go by way of an IPv6 router (RFC 8950).
        gateway: IpAddr,
        /// The NIC that the router is behind.
        ifindex: u32,
    },
    /// Nowhere: no route, an unreachable, prohibited or blackholed one, or a broadcast or multicast address.
    None,
}

/// An entry of the main routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRoute {
    /// The first address it is for.
    pub destination: IpAddr,
    /// How many bits of the destination count.
    pub prefix_len: u8,
    /// The NIC, unless it has several or none.
    pub ifindex: Option<u32>,
    /// Whether an lbx added it.
    pub ours: bool,
}

impl TableRoute {
    /// Reads a route message; `None` if it is not about IPv4 or not of the main table.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if header.address_family != AddressFamily::Inet || header.table != RouteHeader::RT_TABLE_MAIN {
            return None;
        }
        let mut route = Self {
            destination: Ipv4Addr::UNSPECIFIED.into(),
            prefix_len: header.destination_prefix_length,
            ifindex: None,
            ours: u8::from(header.protocol) == ROUTE_PROTOCOL,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = (*address).into(),
                RouteAttribute::Oif(index) => route.ifindex = Some(*index),
                _ => {}
            }
        }
        Some(route)
    }

    /// Whether it is for an address, among others.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let (IpAddr::V4(destination), IpAddr::V4(address)) = (self.destination, address) else {
            return false;
        };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0);
        (destination.to_bits() ^ address.to_bits()) & mask == 0
    }

    /// Whether it is the route to this one address by this NIC.
    #[must_use]
    pub fn is_host_route(&self, ifindex: u32, address: IpAddr) -> bool {
        self.prefix_len == 32 && self.destination == address && self.ifindex == Some(ifindex)
    }
}

impl Net {
    /// Where the kernel would send a packet for this address now.
    ///
    /// # Errors
    /// The kernel refuses the request; that there is no route is no error.
    pub async fn route_to(&self, address: IpAddr) -> Result<Route, NetError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request
            .attributes
            .push(RouteAttribute::Destination(route_address(address)));
        match self.get(RouteNetlinkMessage::GetRoute(request)).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(message))) => Ok(route_of(&message)),
            Ok(_) => Ok(Route::None),
            Err(error) if is_no_route(&error) => Ok(Route::None),
            Err(error) => Err(NetError::refused(format!("find the route to {address}"))(error)),
        }
    }

    /// The routes of the main table that lead to one NIC.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn routes_by(&self, ifindex: u32) -> Result<Vec<TableRoute>, NetError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        request.attributes.push(RouteAttribute::Oif(ifindex));
        let messages = self
            .dump(RouteNetlinkMessage::GetRoute(request))
            .await
            .map_err(NetError::refused(format!(
                "list the routes by the interface with index {ifindex}"
            )))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => TableRoute::from_message(&message),
                _ => None,
            })
            .filter(|route| route.ifindex == Some(ifindex))
            .collect())
    }

    /// Whether the main table has a route to this one address by this NIC, whoever added it.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn has_host_route(&self, ifindex: u32, address: IpAddr) -> Result<bool, NetError> {
        let routes = self.routes_by(ifindex).await?;
        Ok(routes.iter().any(|route| route.is_host_route(ifindex, address)))
    }

    /// Adds `ADDRESS/32 dev NIC scope link` with our mark to the main table, unless it is there; says whether it was
    /// added.
    ///
    /// # Errors
    /// The kernel refuses: the NIC is down, another NIC has the route to this address (`EEXIST`), or CAP_NET_ADMIN is
    /// missing.
    pub async fn add_host_route(&self, ifindex: u32, address: IpAddr) -> Result<bool, NetError> {
        if self.has_host_route(ifindex, address).await? {
            return Ok(false);
        }
        let mut message = host_route(ifindex, address);
        message.header.scope = RouteScope::Link;
        let request = RouteNetlinkMessage::NewRoute(message);
        match self.change(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(true),
            Err(error) => {
                let mut action = format!("add the route to {address}/32 by the interface with index {ifindex}");
                if is_errno(&error, libc::EEXIST) {
                    action += &format!(", remove the one by another interface first (ip route show {address})");
                }
                Err(NetError::refused(action)(error))
            }
        }
    }

    /// Removes a host route with our mark; says whether there was one.
    ///
    /// # Errors
    /// The kernel refuses: CAP_NET_ADMIN is missing.
    pub async fn remove_host_route(&self, ifindex: u32, address: IpAddr) -> Result<bool, NetError> {
        let mut message = host_route(ifindex, address);
        // In a removal this stands for any scope (fib_table_delete, net/ipv4/fib_trie.c).
        message.header.scope = RouteScope::NoWhere;
        match self.change(RouteNetlinkMessage::DelRoute(message), 0).await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, libc::ESRCH) => Ok(false),
            Err(error) => Err(NetError::refused(format!(
                "remove the route to {address}/32 by the interface with index {ifindex}"
            ))(error)),
        }
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn host_route(ifindex: u32, address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(route_address(address)),
        RouteAttribute::Oif(ifindex),
    ];
    message
}

/// The errors by which a look-up says that there is no way: none, and the unreachable, prohibit and blackhole types
/// (fib_props in net/ipv4/fib_semantics.c).
fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

fn route_of(message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Local => return Route::Local,
        RouteType::Unicast => {}
        _ => return Route::None,
    }
    let (mut ifindex, mut gateway, mut source) = (0, None, IpAddr::from(Ipv4Addr::UNSPECIFIED));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = (*address).into(),
            _ => {}
        }
    }
    match gateway {
        Some(gateway) => Route::Via { gateway, ifindex },
        None => Route::OnLink { ifindex, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn answer(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_route_covers_its_prefix() {
        let route = |destination, prefix_len| TableRoute {
            destination,
            prefix_len,
            ifindex: None,
            ours: false,
        };
        assert!(route(IpAddr::from([10, 0, 0, 0]), 24).covers(HOST));
        assert!(!route(IpAddr::from([10, 0, 1, 0]), 24).covers(HOST));
        assert!(route(HOST, 32).covers(HOST));
        assert!(route(Ipv4Addr::UNSPECIFIED.into(), 0).covers(HOST));
    }

    #[test]
    fn tells_the_ways_apart() {
        let source = Ipv4Addr::new(10, 0, 0, 1);
        let own = RouteAttribute::PrefSource(RouteAddress::Inet(source));
        let gateway = RouteAttribute::Gateway(route_address(HOST));
        let oif = RouteAttribute::Oif(3);

        assert_eq!(
            route_of(&answer(RouteType::Local, vec![RouteAttribute::Oif(1)])),
            Route::Local
        );
        assert_eq!(route_of(&answer(RouteType::Broadcast, vec![oif.clone()])), Route::None);
        assert_eq!(
            route_of(&answer(RouteType::Unicast, vec![oif.clone(), own.clone()])),
            Route::OnLink {
                ifindex: 3,
                source: source.into()
            }
        );
        assert_eq!(
            route_of(&answer(RouteType::Unicast, vec![gateway, oif, own])),
            Route::Via {
                gateway: HOST,
                ifindex: 3
            }
        );
    }

    #[test]
    fn knows_its_own_host_route() {
        let read = TableRoute::from_message(&host_route(1, HOST)).expect("an IPv4 route of the main table");
        assert!(read.ours && read.is_host_route(1, HOST));
        assert!(!read.is_host_route(2, HOST));
    }

    #[test]
    fn the_local_table_is_left_out() {
        let mut message = host_route(1, HOST);
        message.header.table = 255;
        assert_eq!(TableRoute::from_message(&message), None);
    }
}
