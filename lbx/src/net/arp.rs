//! ARP as frames (RFC 826).

use std::net::Ipv4Addr;

use super::AddressBinding;

/// Length of an ARP frame for IPv4 over Ethernet in bytes, without padding and checksum.
pub const FRAME_LEN: usize = 42;

const BROADCAST: [u8; 6] = [0xff; 6];

/// Ethernet's type, and ARP's hardware Ethernet, protocol IPv4 and their lengths.
const HEADER: [u8; 8] = [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4];

/// An ARP request (broadcast) for `target_ip`.
#[must_use]
pub fn request(sender_mac: [u8; 6], sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    // Ethernet: destination, source.
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&sender_mac);
    frame[12..20].copy_from_slice(&HEADER);
    // Operation: request.
    frame[20..22].copy_from_slice(&[0x00, 0x01]);
    frame[22..28].copy_from_slice(&sender_mac);
    frame[28..32].copy_from_slice(&sender_ip.octets());
    // The target's MAC is unknown: zero.
    frame[38..42].copy_from_slice(&target_ip.octets());
    frame
}

/// An ARP request for `target_ip` to the host that had it last (RFC 1122 section 2.3.2.1): no other host receives it.
#[must_use]
pub fn unicast_request(
    sender_mac: [u8; 6],
    sender_ip: Ipv4Addr,
    target_mac: [u8; 6],
    target_ip: Ipv4Addr,
) -> [u8; FRAME_LEN] {
    let mut frame = request(sender_mac, sender_ip, target_ip);
    frame[0..6].copy_from_slice(&target_mac);
    frame
}

/// The sender's own address and MAC address in an ARP frame for IPv4 over Ethernet, request or reply; nothing where it has
/// no address yet (RFC 5227 section 2.1.1).
#[must_use]
pub fn binding(frame: &[u8]) -> Option<AddressBinding> {
    if frame.len() < FRAME_LEN || frame[12..20] != HEADER {
        return None;
    }
    let mac = frame[22..28].try_into().ok()?;
    let address: [u8; 4] = frame[28..32].try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (!address.is_unspecified()).then_some(AddressBinding {
        address: address.into(),
        mac,
    })
}

/// An ARP announcement that `ip` is at `mac` (RFC 5227 section 2.3): a request whose sender and
/// target are the same address. Neighbours that have an entry for it take the new MAC.
#[must_use]
pub fn announcement(mac: [u8; 6], ip: Ipv4Addr) -> [u8; FRAME_LEN] {
    request(mac, ip, ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x01];

    #[test]
    fn request_is_broadcast() {
        let frame = request(MAC, Ipv4Addr::new(192, 168, 1, 180), Ipv4Addr::new(192, 168, 1, 185));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 192, 168, 1, 180,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 168, 1, 185,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn a_unicast_request_differs_in_its_destination_alone() {
        let [own, target] = [Ipv4Addr::new(192, 168, 1, 180), Ipv4Addr::new(192, 168, 1, 185)];
        let target_mac = [2, 0, 0, 0, 0, 9];
        let unicast = unicast_request(MAC, own, target_mac, target);
        assert_eq!(unicast[..6], target_mac);
        assert_eq!(unicast[6..], request(MAC, own, target)[6..]);
    }

    #[test]
    fn requests_and_announcements_bind_the_senders_address() {
        let [own, other] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let stated = Some(AddressBinding {
            address: own.into(),
            mac: MAC,
        });
        assert_eq!(binding(&request(MAC, own, other)), stated);
        assert_eq!(binding(&announcement(MAC, own)), stated);
        assert_eq!(binding(&request(MAC, Ipv4Addr::UNSPECIFIED, other)), None);
    }

    #[test]
    fn other_frames_bind_nothing() {
        let mut frame = announcement(MAC, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(binding(&frame[..41]), None);
        frame[13] = 0;
        assert_eq!(binding(&frame), None);
    }

    #[test]
    fn announcement_names_the_address_twice() {
        let frame = announcement(MAC, Ipv4Addr::new(192, 168, 1, 160));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x00, 0x5e, 0x10, 0x00, 0x01, 192, 168, 1, 160,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 168, 1, 160,
        ];
        assert_eq!(frame, expected);
    }
}
