//! ARP as frames (RFC 826).

use std::net::Ipv4Addr;

/// Length of an ARP frame for IPv4 over Ethernet in bytes, without padding and checksum.
pub const FRAME_LEN: usize = 42;

const BROADCAST: [u8; 6] = [0xff; 6];

/// An ARP request (broadcast) for `target_ip`.
#[must_use]
pub fn request(sender_mac: [u8; 6], sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    // Ethernet: destination, source, type ARP.
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&sender_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    // ARP: hardware Ethernet, protocol IPv4, their lengths, operation request.
    frame[14..22].copy_from_slice(&[0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01]);
    frame[22..28].copy_from_slice(&sender_mac);
    frame[28..32].copy_from_slice(&sender_ip.octets());
    // The target's MAC is unknown: zero.
    frame[38..42].copy_from_slice(&target_ip.octets());
    frame
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
