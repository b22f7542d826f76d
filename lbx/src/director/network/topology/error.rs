//! Why the network is not as the configuration needs it.

use std::net::IpAddr;

use crate::{director::network::segment::SegmentError, net::NetError};

/// The network is not as the configuration needs it.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No such NIC.
    #[error("interface {name} does not exist; this host has {known}")]
    InterfaceMissing {
        /// Its name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A NIC is administratively down.
    #[error("interface {name} is down: bring it up with `ip link set {name} up`")]
    InterfaceDown {
        /// Its name.
        name: String,
    },
    /// Not Ethernet.
    #[error("interface {name} has no MAC address: direct server return needs Ethernet")]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// A port of a bridge or bond, which has no traffic of its own.
    #[error("interface {name} is a port of {controller}, which takes its frames: use `interface: {controller}`")]
    BridgeOrBondPort {
        /// Its name.
        name: String,
        /// The bridge or bond.
        controller: String,
    },
    /// A port of Open vSwitch. Its controller is the datapath (`netdev_link` in net/openvswitch/vport-netdev.c), which no bridge
    /// is named by.
    #[error(
        "interface {name} is a port of Open vSwitch, which takes its frames: use the internal port of its bridge, of which `ovs-vsctl port-to-br {name}` prints the name"
    )]
    OpenVswitchPort {
        /// Its name.
        name: String,
    },
    /// A VLAN device that XDP cannot serve.
    #[error("interface {name} cannot be served: {why}")]
    UnsupportedVlan {
        /// Its name.
        name: String,
        /// Why.
        why: SegmentError,
    },
    /// A RIP is the director's own address.
    #[error(
        "real server {server} of service {service} is an address of this host: the director cannot be its own real server"
    )]
    ServerIsLocal {
        /// RIP.
        server: IpAddr,
        /// Name of a service that lists it.
        service: String,
    },
    /// A RIP that means another host on every link.
    #[error(
        "real server {server} of service {service} has a link-local address, which does not say by which interface: give it a global or unique local one"
    )]
    LinkLocal {
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
    /// What clients may send does not fit through the NIC that leads to a RIP.
    #[error(
        "real server {server} of service {service} is behind {name} with MTU {mtu}, but clients' packets come in by {ingress} with MTU {ingress_mtu}: lbx does not fragment packets, so give {name} an MTU of {ingress_mtu}"
    )]
    SmallMtu {
        /// RIP.
        server: IpAddr,
        /// Name of a service that lists it.
        service: String,
        /// The NIC that leads to it.
        name: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// A NIC where clients arrive.
        ingress: String,
        /// The MTU of that in bytes.
        ingress_mtu: u32,
    },
    /// A service of all ports has an address that others use.
    #[error(
        "service {service} takes every port of {vip}, which {name} has and lbx did not add: this host could no longer be reached there, by ssh for instance; give the service an address of its own"
    )]
    AllPortsOnHostAddress {
        /// Name of the service.
        service: String,
        /// Its VIP.
        vip: IpAddr,
        /// The NIC with that address.
        name: String,
    },
    /// The kernel would not say.
    #[error("the network cannot be read")]
    Net(#[from] NetError),
}

impl TopologyError {
    /// The reason alone, where the real server is named beside it.
    #[must_use]
    pub fn reason_without_server(&self) -> String {
        match self {
            Self::NotOnLink { why, .. } => why.clone(),
            Self::ServerIsLocal { .. } => "it is an address of this host".to_owned(),
            Self::LinkLocal { .. } => "it is a link-local address".to_owned(),
            Self::SmallMtu {
                name, mtu, ingress_mtu, ..
            } => {
                format!("it is behind {name} with MTU {mtu}, and clients' packets have up to {ingress_mtu}")
            }
            error => error.to_string(),
        }
    }
}
