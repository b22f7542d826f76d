//! Where everything is: which NICs take part in which role, and by which of them each real server is reached.

use std::{collections::BTreeMap, net::IpAddr};

use lbx_common::nic::{CLIENTS, SERVERS};

use crate::{
    desired::Desired,
    net::{Link, Net, NetError, Route},
};

/// The network as the desired state needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Every NIC the program is attached to, by index.
    pub nics: BTreeMap<u32, NicRole>,
    /// The NIC the VIPs are put on: the first of `interface`.
    pub primary: u32,
    /// The way to each real server.
    pub ways: BTreeMap<IpAddr, Way>,
}

/// A NIC and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicRole {
    /// The NIC.
    pub link: Link,
    /// [`CLIENTS`], [`SERVERS`].
    pub roles: u16,
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By this NIC.
    pub ifindex: u32,
    /// From this address (DIP): what it is asked for its MAC address from.
    pub source: IpAddr,
}

/// The network is not as the configuration needs it.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No such NIC.
    #[error("interface {name} does not exist; this host has {known}")]
    Missing {
        /// Its name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A NIC is administratively down.
    #[error("interface {name} is down: bring it up with `ip link set {name} up`")]
    Down {
        /// Its name.
        name: String,
    },
    /// Not Ethernet.
    #[error("interface {name} has no MAC address: direct server return needs Ethernet")]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// A RIP is the director's own address.
    #[error(
        "real server {server} of service {service} is an address of this host: the director cannot be its own real server"
    )]
    Local {
        /// RIP.
        server: IpAddr,
        /// Name of a service that lists it.
        service: String,
    },
    /// A RIP is behind a router, or nowhere.
    #[error(
        "real server {server} of service {service} is not on-link ({why}): direct server return needs it on a network segment of this host"
    )]
    NotOnLink {
        /// RIP.
        server: IpAddr,
        /// Name of a service that lists it.
        service: String,
        /// What the routing table says.
        why: String,
    },
    /// The kernel would not say.
    #[error("the network cannot be read")]
    Net(#[from] NetError),
}

impl Topology {
    /// Finds out. `draining` are real servers that the file no longer names: they come along if they can.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub async fn resolve(net: &Net, desired: &Desired, draining: &[IpAddr]) -> Result<Self, TopologyError> {
        let links = net.links().await?;
        let mut nics = BTreeMap::new();
        let mut primary = None;
        for name in &desired.interfaces {
            let link = client_nic(&links, name)?;
            primary.get_or_insert(link.index);
            nics.insert(
                link.index,
                NicRole {
                    link: link.clone(),
                    roles: CLIENTS,
                },
            );
        }
        let mut topology = Self {
            nics,
            // The configuration names at least one interface.
            primary: primary.unwrap_or_default(),
            ways: BTreeMap::new(),
        };
        for service in &desired.services {
            for server in &service.servers {
                if !topology.ways.contains_key(&server.address) {
                    let route = net.route_to(server.address).await?;
                    let way = way(&links, server.address, &service.name, route)?;
                    topology.add(&links, server.address, way)?;
                }
            }
        }
        for &server in draining {
            let route = net.route_to(server).await?;
            if let Ok(way) = way(&links, server, "", route) {
                topology.add(&links, server, way)?;
            }
        }
        Ok(topology)
    }

    /// Adds a real server, and its NIC if that is not there yet.
    fn add(&mut self, links: &[Link], server: IpAddr, way: Way) -> Result<(), TopologyError> {
        let Some(link) = links.iter().find(|link| link.index == way.ifindex) else {
            // It has gone since the links were read; the event of that leads back here.
            return Ok(());
        };
        usable(link)?;
        self.ways.insert(server, way);
        let nic = self.nics.entry(way.ifindex).or_insert_with(|| NicRole {
            link: link.clone(),
            roles: 0,
        });
        nic.roles |= SERVERS;
        Ok(())
    }
}

fn client_nic<'l>(links: &'l [Link], name: &str) -> Result<&'l Link, TopologyError> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        let known: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
        return Err(TopologyError::Missing {
            name: name.to_owned(),
            known: known.join(", "),
        });
    };
    usable(link)?;
    Ok(link)
}

fn usable(link: &Link) -> Result<(), TopologyError> {
    let name = || link.name.clone();
    if link.mac == [0; 6] {
        Err(TopologyError::NotEthernet { name: name() })
    } else if !link.up {
        Err(TopologyError::Down { name: name() })
    } else {
        Ok(())
    }
}

fn way(links: &[Link], server: IpAddr, service: &str, route: Route) -> Result<Way, TopologyError> {
    let name = |ifindex| {
        let link = links.iter().find(|link| link.index == ifindex);
        link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
    };
    let service = service.to_owned();
    match route {
        Route::OnLink { ifindex, source } => Ok(Way { ifindex, source }),
        Route::Local => Err(TopologyError::Local { server, service }),
        Route::Via { gateway, ifindex } => Err(TopologyError::NotOnLink {
            server,
            service,
            why: format!("it is behind router {gateway} on {}", name(ifindex)),
        }),
        Route::None => Err(TopologyError::NotOnLink {
            server,
            service,
            why: "there is no route to it".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 185));

    fn link(index: u32, name: &str, up: bool) -> Link {
        Link {
            index,
            name: name.into(),
            mac: [2, 0, 0, 0, 0, index as u8],
            up,
            carrier: up,
            mtu: 1_500,
            xdp: None,
            vlan: None,
        }
    }

    #[test]
    fn a_missing_interface_is_told_from_one_that_is_down() {
        let links = [link(2, "eth0", false)];
        let text = |result: Result<&Link, TopologyError>| result.unwrap_err().to_string();
        assert_eq!(
            text(client_nic(&links, "eth1")),
            "interface eth1 does not exist; this host has eth0"
        );
        assert_eq!(
            text(client_nic(&links, "eth0")),
            "interface eth0 is down: bring it up with `ip link set eth0 up`"
        );
    }

    #[test]
    fn a_real_server_behind_a_router_is_refused() {
        let links = [link(2, "eth0", true)];
        let route = Route::Via {
            gateway: IpAddr::from([192, 168, 1, 1]),
            ifindex: 2,
        };
        assert_eq!(
            way(&links, SERVER, "web", route).unwrap_err().to_string(),
            "real server 192.168.1.185 of service web is not on-link (it is behind router 192.168.1.1 on eth0): direct \
             server return needs it on a network segment of this host"
        );
        assert!(way(&links, SERVER, "web", Route::Local).is_err());
        assert!(way(&links, SERVER, "web", Route::None).is_err());
    }
}
