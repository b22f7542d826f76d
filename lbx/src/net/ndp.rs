//! Neighbour discovery as frames (RFC 4861): what ARP is for IPv4.

use std::net::Ipv6Addr;

use super::AddressBinding;

/// Length of a frame with one link-layer address option, in bytes, without checksum.
pub const FRAME_LEN: usize = ETHERNET + IP + MESSAGE;

const ETHERNET: usize = 14;
const IP: usize = 40;
/// Type, code, checksum, flags, target, and an option of eight bytes.
const MESSAGE: usize = 24 + OPTION;
/// An option with a MAC address.
const OPTION: usize = 8;

/// Next header of ICMPv6 (RFC 4443 section 2.1).
const ICMPV6: u8 = 58;
/// Receivers refuse anything that a router may have forwarded (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Overrides what a neighbour has cached (RFC 4861 section 4.4).
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A neighbour solicitation for `target`, to its solicited-node group (RFC 4861 section 7.2.2).
#[must_use]
pub fn solicitation(mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME_LEN] {
    let [.., x, y, z] = target.octets();
    // The solicited-node group (RFC 4291 section 2.7.1).
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    frame(mac, source, group, SOLICITATION, 0, target, SOURCE_LINK_LAYER_ADDRESS)
}

/// A neighbour solicitation for `target` to the host that had it last, as in Neighbor Unreachability Detection (RFC 4861
/// section 7.3.3): no other host receives it.
#[must_use]
pub fn unicast_solicitation(mac: [u8; 6], source: Ipv6Addr, target_mac: [u8; 6], target: Ipv6Addr) -> [u8; FRAME_LEN] {
    let mut frame = frame(mac, source, target, SOLICITATION, 0, target, SOURCE_LINK_LAYER_ADDRESS);
    frame[0..6].copy_from_slice(&target_mac);
    frame
}

/// What the sender of an advertisement or solicitation states: the address that an advertisement is for, or that a
/// solicitation comes from, and its MAC address. An advertisement in answer to a unicast solicitation may leave the option
/// out (RFC 4861 section 4.4): then it is the frame's source.
#[must_use]
pub fn binding(frame: &[u8]) -> Option<AddressBinding> {
    let (ethernet, rest) = frame.split_at_checked(ETHERNET)?;
    let (ip, rest) = rest.split_at_checked(IP)?;
    let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let message = rest
        .get(..length)
        .filter(|_| length >= MESSAGE - OPTION && length.is_multiple_of(OPTION))?;
    let sound = ethernet[12..14] == [0x86, 0xdd]
        && ip[6..8] == [ICMPV6, HOP_LIMIT]
        && message[1] == 0
        && checksum(&ip[8..40], message) == 0;
    if !sound {
        return None;
    }
    let (address, option): ([u8; 16], u8) = match message[0] {
        ADVERTISEMENT => (message[8..24].try_into().ok()?, TARGET_LINK_LAYER_ADDRESS),
        SOLICITATION => (ip[8..24].try_into().ok()?, SOURCE_LINK_LAYER_ADDRESS),
        _ => return None,
    };
    let stated = link_layer_address(&message[MESSAGE - OPTION..], option);
    let address = Ipv6Addr::from(address);
    let mac = match stated {
        Some(mac) => mac,
        None if message[0] == ADVERTISEMENT => ethernet[6..12].try_into().ok()?,
        None => return None,
    };
    (!address.is_unspecified()).then_some(AddressBinding {
        address: address.into(),
        mac,
    })
}

/// The MAC address in an option of this type (RFC 4861 section 4.6.1).
fn link_layer_address(mut options: &[u8], kind: u8) -> Option<[u8; 6]> {
    loop {
        let length = OPTION * usize::from(*options.get(1)?);
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if option[0] == kind && length == OPTION {
            return option[2..].try_into().ok();
        }
        options = &options[length..];
    }
}

/// An unsolicited neighbour advertisement that `address` is at `mac` (RFC 4861 section 7.2.6). Neighbours
/// that have an entry for it take the new MAC address.
#[must_use]
pub fn unsolicited_advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; FRAME_LEN] {
    let option = TARGET_LINK_LAYER_ADDRESS;
    frame(mac, address, ALL_NODES, ADVERTISEMENT, OVERRIDE, address, option)
}

/// A message about `target` to a multicast group (or another address whose MAC address the caller puts in), with the sender's
/// MAC address as its option.
fn frame(
    mac: [u8; 6],
    source: Ipv6Addr,
    group: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    let (ethernet, rest) = frame.split_at_mut(ETHERNET);
    let (ip, message) = rest.split_at_mut(IP);
    let [.., a, b, c, d] = group.octets();
    // A group's MAC address ends like the group (RFC 2464 section 7).
    ethernet[0..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    ethernet[6..12].copy_from_slice(&mac);
    ethernet[12..14].copy_from_slice(&[0x86, 0xdd]);

    ip[0] = 0x60;
    ip[5] = MESSAGE as u8;
    ip[6] = ICMPV6;
    ip[7] = HOP_LIMIT;
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(&group.octets());

    message[0] = kind;
    message[4] = flags;
    message[8..24].copy_from_slice(&target.octets());
    // The option's length is in units of eight bytes.
    message[24..26].copy_from_slice(&[option, 1]);
    message[26..32].copy_from_slice(&mac);
    let checksum = checksum(&ip[8..40], message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The Internet checksum over addresses, length, next header (RFC 8200 section 8.1) and message.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        let (pairs, _) = bytes.as_chunks::<2>();
        pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum()
    };
    let sum = words(addresses) + message.len() as u32 + u32::from(ICMPV6) + words(message);
    // Two folds suffice: the first leaves at most one carry.
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x01];
    const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x00ab, 0xcdef);

    /// Over a message with its right checksum the sum is all ones (RFC 1071).
    fn sound(frame: &[u8; FRAME_LEN]) -> bool {
        checksum(&frame[22..54], &frame[54..]) == 0
    }

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target() {
        let frame = solicitation(MAC, SOURCE, TARGET);
        #[rustfmt::skip]
        let head = [
            0x33, 0x33, 0xff, 0xab, 0xcd, 0xef, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
        ];
        assert_eq!(frame[..22], head);
        assert_eq!(frame[22..38], SOURCE.octets());
        let group: Ipv6Addr = "ff02::1:ffab:cdef".parse().unwrap();
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[58..62], [0; 4]);
        assert_eq!(frame[62..78], TARGET.octets());
        assert_eq!(frame[78..], [1, 1, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);
        assert!(sound(&frame));
    }

    #[test]
    fn an_announcement_overrides_at_all_nodes() {
        let frame = unsolicited_advertisement(MAC, TARGET);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame[22..38], TARGET.octets());
        assert_eq!(frame[38..54], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0], "override, not solicited");
        assert_eq!(frame[62..78], TARGET.octets());
        assert_eq!(frame[78..], [2, 1, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);
        assert!(sound(&frame));
    }

    #[test]
    fn a_unicast_solicitation_goes_to_its_target() {
        let target_mac = [2, 0, 0, 0, 0, 9];
        let frame = unicast_solicitation(MAC, SOURCE, target_mac, TARGET);
        assert_eq!(frame[..6], target_mac);
        assert_eq!(frame[38..54], TARGET.octets());
        assert_eq!(frame[62..78], TARGET.octets());
        assert!(sound(&frame));
    }

    #[test]
    fn messages_bind_an_address() {
        let stated = |address: Ipv6Addr, mac| {
            Some(AddressBinding {
                address: address.into(),
                mac,
            })
        };
        let advertisement = unsolicited_advertisement(MAC, TARGET);
        assert_eq!(binding(&advertisement), stated(TARGET, MAC));
        assert_eq!(binding(&solicitation(MAC, SOURCE, TARGET)), stated(SOURCE, MAC));
        assert_eq!(binding(&solicitation(MAC, Ipv6Addr::UNSPECIFIED, TARGET)), None);
        // The answer to a unicast solicitation, as Linux sends it: without the option.
        let mut short = advertisement;
        short[19] = 24;
        short[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        short[56..58].copy_from_slice(&[0; 2]);
        let sum = checksum(&short[22..54], &short[54..78]);
        short[56..58].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(binding(&short[..78]), stated(TARGET, [2, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn damaged_and_routed_messages_bind_nothing() {
        let advertisement = unsolicited_advertisement(MAC, TARGET);
        for at in [12, 20, 21, 54, 55, 60, 78, 85] {
            let mut damaged = advertisement;
            damaged[at] ^= 1;
            assert_eq!(binding(&damaged), None, "byte {at}");
        }
        assert_eq!(binding(&advertisement[..85]), None);
        assert_eq!(binding(&[]), None);
    }

    #[test]
    fn the_checksum_of_a_known_message() {
        // From RFC 1071's example words 0001 f203 f4f5 f6f7: their folded sum is ddf2. Length and next header add 8 + 58.
        let message = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[], &message), !(0xddf2 + 8 + 58));
    }
}
