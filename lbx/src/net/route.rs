//! Routes: look-ups for an address, and host routes marked as ours.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia},
};

use super::{MAX_IN_FLIGHT, NetError, RouteNetlink, family, is_errno, is_ip, max_prefix_len};

/// The origin that the routes we add carry (rtm_protocol), so that undoing removes no route of others. Not taken in
/// include/uapi/linux/rtnetlink.h nor in iproute2's rt_protos. "L" in ASCII.
pub const LBX_ROUTE_PROTO: u8 = 0x4c;

/// How the kernel routes packets to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The address is this host's own.
    Local,
    /// It is on-link.
    OnLink {
        /// The NIC it is behind.
        ifindex: u32,
        /// The address that the kernel would send from.
        source: IpAddr,
    },
    /// It is behind a gateway.
    Via {
        /// The gateway; that of an IPv4 route may be IPv6 (RFC 8950).
        gateway: IpAddr,
        /// The NIC of the gateway.
        ifindex: u32,
    },
    /// No usable route: none, an unreachable, prohibited or blackholed one, or a broadcast or multicast address.
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
    pub added_by_lbx: bool,
}

impl TableRoute {
    /// Reads a route message; `None` if it is not about IP or not of the main table.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if !is_ip(header.address_family) || header.table != RouteHeader::RT_TABLE_MAIN {
            return None;
        }
        let mut route = Self {
            // The default route names none.
            destination: unspecified(header.address_family),
            prefix_len: header.destination_prefix_length,
            ifindex: None,
            added_by_lbx: u8::from(header.protocol) == LBX_ROUTE_PROTO,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => route.destination = ip_address(address)?,
                RouteAttribute::Oif(index) => route.ifindex = Some(*index),
                _ => {}
            }
        }
        Some(route)
    }

    /// Whether its prefix contains an address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let differing = match (self.destination, address) {
            (IpAddr::V4(ours), IpAddr::V4(address)) => (ours.to_bits() ^ address.to_bits()).leading_zeros(),
            (IpAddr::V6(ours), IpAddr::V6(address)) => (ours.to_bits() ^ address.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.prefix_len)
    }

    /// Whether it is the route to this one address by this NIC.
    #[must_use]
    pub fn is_host_route(&self, ifindex: u32, address: IpAddr) -> bool {
        self.prefix_len == max_prefix_len(address) && self.destination == address && self.ifindex == Some(ifindex)
    }
}

impl RouteNetlink {
    /// The present route to an address.
    ///
    /// # Errors
    /// The kernel refuses the request; that there is no route is no error.
    async fn route_to(&self, address: IpAddr) -> Result<Route, NetError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(address);
        request.header.destination_prefix_length = max_prefix_len(address);
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

    /// The present routes to addresses.
    ///
    /// # Errors
    /// The kernel refuses a request; that there is no route is no error.
    pub async fn routes_to(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Route>, NetError> {
        let asking = addresses
            .into_iter()
            .map(|address| async move { Ok((address, self.route_to(address).await?)) });
        stream::iter(asking).buffered(MAX_IN_FLIGHT).try_collect().await
    }

    /// The IPv4 routes of the main table that lead to one NIC.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn routes_via(&self, ifindex: u32) -> Result<Vec<TableRoute>, NetError> {
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

    /// Adds `ADDRESS/32 dev NIC scope link` with our mark to the main table, unless it is there; says whether it was
    /// added.
    ///
    /// # Errors
    /// The kernel refuses: the NIC is down, another NIC has the route to this address (`EEXIST`), or CAP_NET_ADMIN is
    /// missing.
    pub async fn add_host_route(&self, ifindex: u32, address: Ipv4Addr) -> Result<bool, NetError> {
        let mut message = host_route(ifindex, address);
        message.header.scope = RouteScope::Link;
        let request = RouteNetlinkMessage::NewRoute(message);
        match self.change(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(true),
            Err(error) => {
                let mut action = format!("add the route to {address}/32 by the interface with index {ifindex}");
                if is_errno(&error, libc::EEXIST) {
                    let mut routes = self.routes_via(ifindex).await?.into_iter();
                    if routes.any(|route| route.is_host_route(ifindex, address.into())) {
                        return Ok(false);
                    }
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
    pub async fn remove_host_route(&self, ifindex: u32, address: Ipv4Addr) -> Result<bool, NetError> {
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

fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn unspecified(family: AddressFamily) -> IpAddr {
    match family {
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn host_route(ifindex: u32, address: Ipv4Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(LBX_ROUTE_PROTO);
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(address)),
        RouteAttribute::Oif(ifindex),
    ];
    message
}

/// The errors of a look-up without a route: none, and the unreachable, prohibit and blackhole types
/// (fib_props in net/ipv4/fib_semantics.c, ip6_rt_type_to_error in net/ipv6/route.c).
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
    let (mut ifindex, mut gateway, mut source) = (0, None, unspecified(message.header.address_family));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = *index,
            RouteAttribute::Gateway(address) => gateway = ip_address(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::PrefSource(address) => source = ip_address(address).unwrap_or(source),
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

    const HOST4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const HOST: IpAddr = IpAddr::V4(HOST4);
    const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

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
            added_by_lbx: false,
        };
        assert!(route(IpAddr::from([10, 0, 0, 0]), 24).covers(HOST));
        assert!(!route(IpAddr::from([10, 0, 1, 0]), 24).covers(HOST));
        assert!(route(HOST, 32).covers(HOST));
        assert!(route(Ipv4Addr::UNSPECIFIED.into(), 0).covers(HOST));
        let network6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
        assert!(route(network6, 64).covers(HOST6));
        assert!(!route(network6, 127).covers(HOST6));
        assert!(route(HOST6, 128).covers(HOST6));
        assert!(route(Ipv6Addr::UNSPECIFIED.into(), 0).covers(HOST6));
        assert!(!route(Ipv6Addr::UNSPECIFIED.into(), 0).covers(HOST));
    }

    #[test]
    fn distinguishes_local_on_link_and_gateway_routes() {
        let source = IpAddr::from([10, 0, 0, 1]);
        let own = RouteAttribute::PrefSource(route_address(source));
        let gateway = RouteAttribute::Gateway(route_address(HOST));
        let oif = RouteAttribute::Oif(3);

        assert_eq!(
            route_of(&answer(RouteType::Local, vec![RouteAttribute::Oif(1)])),
            Route::Local
        );
        assert_eq!(route_of(&answer(RouteType::Broadcast, vec![oif.clone()])), Route::None);
        assert_eq!(
            route_of(&answer(RouteType::Unicast, vec![oif.clone(), own.clone()])),
            Route::OnLink { ifindex: 3, source }
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
    fn recognises_a_host_route_added_by_lbx() {
        let read = TableRoute::from_message(&host_route(1, HOST4)).expect("a route of the main table");
        assert!(read.added_by_lbx && read.is_host_route(1, HOST));
        assert!(!read.is_host_route(2, HOST));
    }

    #[test]
    fn reads_ipv6_routes() {
        let mut message = host_route(1, HOST4);
        message.header.address_family = AddressFamily::Inet6;
        message.header.destination_prefix_length = 128;
        message.attributes[0] = RouteAttribute::Destination(route_address(HOST6));
        let read = TableRoute::from_message(&message).expect("a route of the main table");
        assert!(read.is_host_route(1, HOST6));
        // A default route has no destination, and is of its family all the same.
        message.header.destination_prefix_length = 0;
        message.attributes.remove(0);
        let read = TableRoute::from_message(&message).expect("a route of the main table");
        assert!(read.covers(HOST6) && !read.covers(HOST));
        let gateway = RouteAttribute::Gateway(route_address(HOST6));
        let mut message = answer(RouteType::Unicast, vec![gateway, RouteAttribute::Oif(3)]);
        message.header.address_family = AddressFamily::Inet6;
        let expected = Route::Via {
            gateway: HOST6,
            ifindex: 3,
        };
        assert_eq!(route_of(&message), expected);
    }

    #[test]
    fn the_local_table_is_left_out() {
        let mut message = host_route(1, HOST4);
        message.header.table = 255;
        assert_eq!(TableRoute::from_message(&message), None);
    }
}
