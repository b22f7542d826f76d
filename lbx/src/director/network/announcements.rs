//! Announcements of VIPs: on every segment where clients are, with the MAC address of the NIC there, so that switches and
//! hosts that know another director's learn this one's.
//!
//! What is announced is what is new: a VIP, a NIC, another MAC address. It is paced, for switches limit what they learn, and
//! goes on where a NIC's queue was full.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use super::topology::Topology;
use crate::net::NetError;

/// Announcements of a new VIP, at least a second apart: a switch may miss the first (RFC 5227 section 2.3 asks for two,
/// RFC 4861 section 7.2.6 for up to three).
pub const SENDS_PER_VIP: u8 = 3;
/// Announcements in a second, on all segments together.
pub const MAX_PER_SECOND: usize = 1_000;

/// What has been announced, and what is due.
#[derive(Debug, Default)]
pub struct Announcements {
    /// Devices and their MAC addresses.
    devices: BTreeMap<u32, [u8; 6]>,
    vips: BTreeSet<IpAddr>,
    due: VecDeque<Announcement>,
}

/// A VIP that is to be announced on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The device.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The VIP.
    pub vip: IpAddr,
    /// How often it is still to be sent.
    left: u8,
}

/// The devices where VIPs are announced, with their MAC addresses.
#[must_use]
pub fn client_device_macs(topology: &Topology) -> BTreeMap<u32, [u8; 6]> {
    topology
        .client_devices()
        .map(|device| (device.index, device.mac))
        .collect()
}

impl Announcements {
    /// Takes what is to be announced from now on; what is new in it becomes due.
    pub fn set(&mut self, devices: BTreeMap<u32, [u8; 6]>, vips: BTreeSet<IpAddr>) {
        if self.devices == devices && self.vips == vips {
            return;
        }
        self.due
            .retain(|due| devices.get(&due.ifindex) == Some(&due.mac) && vips.contains(&due.vip));
        for (&ifindex, &mac) in &devices {
            let is_known = self.devices.get(&ifindex) == Some(&mac);
            for &vip in vips.iter().filter(|vip| !is_known || !self.vips.contains(vip)) {
                self.due.push_back(Announcement {
                    ifindex,
                    mac,
                    vip,
                    left: SENDS_PER_VIP,
                });
            }
        }
        (self.devices, self.vips) = (devices, vips);
    }

    /// Has a VIP announced again: it was not on the NIC for a while, and others may have had it.
    pub fn renew(&mut self, vip: IpAddr) {
        if self.vips.remove(&vip) {
            self.due.retain(|due| due.vip != vip);
        }
    }

    /// Sends what is due in this second. Where a queue is full the rest waits for the next one; another error is the result, and
    /// does not stop the others.
    ///
    /// # Errors
    /// The first failure to send.
    pub fn send(&mut self, mut send: impl FnMut(&Announcement) -> Result<(), NetError>) -> Result<(), NetError> {
        let mut first = Ok(());
        for _ in 0..self.due.len().min(MAX_PER_SECOND) {
            let Some(mut announcement) = self.due.pop_front() else {
                break;
            };
            match send(&announcement) {
                Err(error) if is_full(&error) => {
                    self.due.push_front(announcement);
                    break;
                }
                Err(error) => first = first.and(Err(error)),
                Ok(()) => {}
            }
            announcement.left -= 1;
            if announcement.left > 0 {
                self.due.push_back(announcement);
            }
        }
        first
    }
}

fn is_full(error: &NetError) -> bool {
    matches!(error.errno(), Some(libc::EAGAIN | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn vips(count: u16) -> BTreeSet<IpAddr> {
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        (0..count).map(address).collect()
    }

    fn failure(errno: i32) -> NetError {
        NetError::RequestRefused {
            action: "send".to_owned(),
            source: io::Error::from_raw_os_error(errno),
        }
    }

    /// Sends for so many seconds: how often each VIP was announced on each device.
    fn sent(announcements: &mut Announcements, seconds: usize) -> BTreeMap<(u32, IpAddr), usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..seconds {
            let mut in_second = BTreeSet::new();
            announcements
                .send(|announcement| {
                    let key = (announcement.ifindex, announcement.vip);
                    assert!(in_second.insert(key), "twice in a second");
                    *counts.entry(key).or_default() += 1;
                    Ok(())
                })
                .unwrap();
            assert!(in_second.len() <= MAX_PER_SECOND);
        }
        counts
    }

    #[test]
    fn every_vip_is_announced_three_times_on_every_device() {
        let mut announcements = Announcements::default();
        announcements.set([(1, MAC), (2, MAC)].into(), vips(700));
        let counts = sent(&mut announcements, 5);
        assert_eq!(counts.len(), 1_400);
        assert!(counts.values().all(|&count| count == 3), "{counts:?}");
        assert!(sent(&mut announcements, 3).is_empty());
    }

    #[test]
    fn only_what_is_new_is_announced() {
        let mut announcements = Announcements::default();
        announcements.set([(1, MAC)].into(), vips(2));
        sent(&mut announcements, 3);
        announcements.set([(1, MAC)].into(), vips(2));
        assert!(sent(&mut announcements, 3).is_empty(), "a reload that changes nothing");
        announcements.set([(1, MAC)].into(), vips(3));
        assert_eq!(sent(&mut announcements, 3).len(), 1, "one more VIP");
        announcements.set([(1, [2; 6])].into(), vips(3));
        assert_eq!(sent(&mut announcements, 3).len(), 3, "another MAC address");
        announcements.set([(1, [2; 6]), (2, MAC)].into(), vips(3));
        assert_eq!(sent(&mut announcements, 3).len(), 3, "one more device");
        announcements.renew(vips(1).pop_first().unwrap());
        announcements.set([(1, [2; 6]), (2, MAC)].into(), vips(3));
        assert_eq!(sent(&mut announcements, 3).len(), 2, "a VIP that was gone, on both");
        announcements.set([(2, MAC)].into(), vips(1));
        assert!(sent(&mut announcements, 3).is_empty(), "what goes is not announced");
    }

    #[test]
    fn a_full_queue_delays_and_another_error_does_not() {
        let mut announcements = Announcements::default();
        announcements.set([(1, MAC), (2, MAC)].into(), vips(10));
        let mut count = 0;
        let full = announcements.send(|_| {
            count += 1;
            if count > 4 { Err(failure(libc::ENOBUFS)) } else { Ok(()) }
        });
        assert!(full.is_ok());
        let counts = sent(&mut announcements, 4);
        assert_eq!(counts.values().sum::<usize>(), 60 - 4, "nothing is lost");
        announcements.set([(1, MAC), (2, [3; 6])].into(), vips(10));
        let down = announcements.send(|_| Err(failure(libc::ENETDOWN)));
        assert!(down.is_err());
        assert_eq!(sent(&mut announcements, 3).values().sum::<usize>(), 20);
    }
}
