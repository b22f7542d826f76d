//! NICs.

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
        VlanProtocol, XdpAttached,
    },
};

use super::{NetError, RouteNetlink, is_errno};

/// The longest name a NIC can have (IFNAMSIZ less its terminator).
const NAME_MAX: usize = 15;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; all zero for `lo` and for what is not Ethernet.
    pub mac: [u8; 6],
    /// Administratively up (IFF_UP); says nothing of the carrier.
    pub up: bool,
    /// It has a carrier (IFF_LOWER_UP); without one the kernel forgets the neighbours behind it.
    pub carrier: bool,
    /// The largest packet in bytes, without the link-layer header.
    pub mtu: u32,
    /// The XDP program attached to it.
    pub xdp: Option<XdpAttachment>,
    /// Which VLAN it is, where it is a VLAN device.
    pub vlan: Option<VlanDevice>,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Index of the device it is a port of (IFLA_MASTER): a bridge, bond or VRF.
    pub master_ifindex: Option<u32>,
    /// The other end, where it is a veth device.
    pub peer: Option<Peer>,
}

/// The other end of a veth device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its own network namespace.
    pub index: u32,
    /// The id that this network namespace has for that one; none if it is this one.
    pub netns_id: Option<i32>,
}

/// Kinds of devices (IFLA_INFO_KIND) on which XDP needs more than a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// One end of a pair, most often that of a container.
    Veth,
    /// A bridge of Linux.
    Bridge,
    /// The datapath of Open vSwitch.
    OpenVswitch,
    /// A bond.
    Bond,
    /// A bond of the team driver.
    Team,
    /// Any other kind, and hardware.
    #[default]
    Other,
}

impl DeviceKind {
    fn from_info(info: &[LinkInfo]) -> Self {
        let kind = info.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        });
        match kind {
            Some(InfoKind::Veth) => Self::Veth,
            Some(InfoKind::Bridge) => Self::Bridge,
            Some(InfoKind::Bond) => Self::Bond,
            Some(InfoKind::Team) => Self::Team,
            Some(InfoKind::Other(name)) if name == "openvswitch" => Self::OpenVswitch,
            _ => Self::Other,
        }
    }

    /// Whether it takes all frames of its ports, so that a port has no traffic of its own.
    #[must_use]
    pub const fn takes_frames_of_ports(self) -> bool {
        matches!(self, Self::Bridge | Self::OpenVswitch | Self::Bond | Self::Team)
    }
}

/// What makes a link a VLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanDevice {
    /// Index of the device it is on, which may be a VLAN device itself; none where that is in another network namespace.
    pub lower_ifindex: Option<u32>,
    /// VLAN id.
    pub id: u16,
    /// Its tags are those of IEEE 802.1ad (TPID 0x88a8) instead of IEEE 802.1Q (0x8100).
    pub is_8021ad: bool,
}

impl VlanDevice {
    /// Reads what a link message says of a VLAN; `None` where the link is none.
    fn from_info(info: &[LinkInfo], lower: Option<u32>) -> Option<Self> {
        if !info.contains(&LinkInfo::Kind(InfoKind::Vlan)) {
            return None;
        }
        let mut vlan = Self {
            lower_ifindex: lower,
            id: 0,
            is_8021ad: false,
        };
        let data = info.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
            _ => None,
        })?;
        for attribute in data {
            match attribute {
                InfoVlan::Id(id) => vlan.id = *id,
                InfoVlan::Protocol(protocol) => vlan.is_8021ad = *protocol == VlanProtocol::Ieee8021Ad,
                _ => {}
            }
        }
        Some(vlan)
    }
}

/// An XDP program on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpAttachment {
    /// The driver runs it (native); otherwise the kernel does (generic).
    pub native: bool,
    /// Its id, as bpftool shows it.
    pub program_id: u32,
}

impl XdpAttachment {
    /// Reads what a link message says of XDP; `None` where no program is attached.
    fn from_attributes(attributes: &[LinkXdp]) -> Option<Self> {
        let mut xdp = Self::default();
        for attribute in attributes {
            match attribute {
                LinkXdp::Attached(attached) => {
                    xdp.native = matches!(attached, XdpAttached::Driver | XdpAttached::Hardware);
                }
                LinkXdp::ProgId(program) => xdp.program_id = *program,
                _ => {}
            }
        }
        (xdp.program_id != 0).then_some(xdp)
    }
}

impl Link {
    /// Reads a link message; `None` if it is about something else than the link itself, such as its part in a bridge.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        if header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let mut link = Self {
            index: header.index,
            name: String::new(),
            mac: [0; 6],
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            mtu: 0,
            xdp: None,
            vlan: None,
            kind: DeviceKind::Other,
            master_ifindex: None,
            peer: None,
        };
        let (mut lower, mut namespace, mut info) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Xdp(attributes) => link.xdp = XdpAttachment::from_attributes(attributes),
                LinkAttribute::Link(index) => lower = Some(*index),
                LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
                LinkAttribute::Controller(index) => link.master_ifindex = Some(*index),
                LinkAttribute::LinkInfo(attributes) => info = Some(attributes),
                _ => {}
            }
        }
        link.kind = info.map_or(DeviceKind::Other, |info| DeviceKind::from_info(info));
        link.vlan = info.and_then(|info| VlanDevice::from_info(info, lower.filter(|_| namespace.is_none())));
        link.peer = lower.filter(|_| link.kind == DeviceKind::Veth).map(|index| Peer {
            index,
            netns_id: namespace,
        });
        Some(link)
    }
}

impl RouteNetlink {
    /// All links of this network namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn links(&self) -> Result<Vec<Link>, NetError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetLink(request()))
            .await
            .map_err(NetError::refused("list the network interfaces"))?;
        Ok(messages.into_iter().filter_map(link_of).collect())
    }

    /// The link of a name or an alternative name.
    ///
    /// # Errors
    /// The kernel refuses the request; that there is no such link is no error.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, NetError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Ok(None);
        }
        let mut message = request();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.link(message, format!("look up the network interface {name}"))
            .await
    }

    /// The link of an index.
    ///
    /// # Errors
    /// The kernel refuses the request; that there is no such link is no error.
    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetError> {
        // Index 0 would be a request for nothing in particular.
        if index == 0 {
            return Ok(None);
        }
        let mut message = request();
        message.header.index = index;
        self.link(message, format!("look up the network interface with index {index}"))
            .await
    }

    /// The other end of a veth device, in whatever network namespace; none if it cannot be seen from here.
    ///
    /// # Errors
    /// The kernel refuses the request for another reason.
    pub async fn peer(&self, peer: Peer) -> Result<Option<Link>, NetError> {
        let mut message = request();
        message.header.index = peer.index;
        message.attributes.extend(peer.netns_id.map(LinkAttribute::IfNetnsId));
        match self.get(RouteNetlinkMessage::GetLink(message)).await {
            Ok(answer) => Ok(answer.and_then(link_of)),
            // No such device or namespace id, or no capability there.
            Err(error)
                if [libc::ENODEV, libc::EINVAL, libc::EPERM, libc::EACCES]
                    .iter()
                    .any(|&code| is_errno(&error, code)) =>
            {
                Ok(None)
            }
            Err(error) => Err(NetError::refused("look up the other end of a veth device")(error)),
        }
    }

    async fn link(&self, message: LinkMessage, action: String) -> Result<Option<Link>, NetError> {
        match self.get(RouteNetlinkMessage::GetLink(message)).await {
            Ok(answer) => Ok(answer.and_then(link_of)),
            Err(error) if is_errno(&error, libc::ENODEV) => Ok(None),
            Err(error) => Err(NetError::refused(action)(error)),
        }
    }
}

fn request() -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn link_of(message: RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Link::from_message(&message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up;
        message.attributes = attributes;
        message
    }

    #[test]
    fn reads_an_ethernet_nic() {
        let read = Link::from_message(&message(vec![
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Xdp(vec![LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(9)]),
        ]));
        let expected = Link {
            index: 7,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            carrier: false,
            mtu: 1500,
            xdp: Some(XdpAttachment {
                native: true,
                program_id: 9,
            }),
            vlan: None,
            kind: DeviceKind::Other,
            master_ifindex: None,
            peer: None,
        };
        assert_eq!(read, Some(expected));
    }

    #[test]
    fn reads_a_vlan_device() {
        let vlan = |attributes: Vec<LinkAttribute>| {
            let data = InfoData::Vlan(vec![InfoVlan::Id(10), InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)]);
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]);
            Link::from_message(&message([vec![info], attributes].concat())).and_then(|link| link.vlan)
        };
        let expected = |lower| {
            Some(VlanDevice {
                lower_ifindex: lower,
                id: 10,
                is_8021ad: true,
            })
        };
        assert_eq!(vlan(vec![LinkAttribute::Link(3)]), expected(Some(3)));
        // The index is one of another network namespace.
        let elsewhere = vec![LinkAttribute::Link(3), LinkAttribute::LinkNetNsId(0)];
        assert_eq!(vlan(elsewhere), expected(None));
        let veth = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
        let read = Link::from_message(&message(vec![veth, LinkAttribute::Link(3)]));
        assert_eq!(read.and_then(|link| link.vlan), None);
    }

    #[test]
    fn no_program_is_none() {
        let read = Link::from_message(&message(vec![LinkAttribute::Xdp(vec![LinkXdp::Attached(
            XdpAttached::None,
        )])]));
        assert_eq!(read.and_then(|link| link.xdp), None);
    }

    #[test]
    fn a_long_hardware_address_is_none() {
        let read = Link::from_message(&message(vec![LinkAttribute::Address(vec![1; 20])]));
        assert_eq!(read.map(|link| link.mac), Some([0; 6]));
    }

    #[test]
    fn leaving_a_bridge_is_not_about_the_link() {
        let mut message = message(vec![]);
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(Link::from_message(&message), None);
    }
}
