//! Others that answer ARP for a VIP: a real server that does so takes clients' connections past the director.
//!
//! Every second a few VIPs are asked for on the segments where clients are, and whatever is heard there is looked at. (IPv6
//! needs no such look: a host answers neighbour discovery for addresses of the NIC it is asked on alone, and the VIP is
//! on `lo`.)

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use lbx_common::nic::CLIENTS;

use super::{Director, topology::Topology};
use crate::{
    net::{ArpBinding, ArpListener, NetError, SegmentSocket},
    tables::event::mac,
};

/// VIPs asked for in a second.
const AT_ONCE: usize = 8;
/// Others that are believed to have one VIP: a storm of lies must not fill memory and log.
const AT_MOST: usize = 8;
/// How long a claim is believed after it was last heard, besides the time in which all VIPs are asked for once.
const BELIEVED: Duration = Duration::from_secs(10);

/// What is heard of VIPs that others have.
#[derive(Debug, Default)]
pub struct Claims {
    ears: BTreeMap<u32, (ArpListener, SegmentSocket)>,
    heard: BTreeMap<ArpBinding, Instant>,
    /// Where the next round of questions begins.
    next: usize,
}

impl Claims {
    /// Listens on the segments where clients are, and no others.
    ///
    /// # Errors
    /// A socket cannot be had.
    pub fn follow(&mut self, topology: &Topology) -> Result<(), NetError> {
        let clients = topology
            .segments
            .values()
            .filter(|segment| segment.roles & CLIENTS != 0);
        let wanted: Vec<u32> = clients.map(|segment| segment.device.index).collect();
        self.ears.retain(|ifindex, _| wanted.contains(ifindex));
        for ifindex in wanted {
            if let Entry::Vacant(place) = self.ears.entry(ifindex) {
                place.insert((ArpListener::open(ifindex)?, SegmentSocket::open(ifindex)?));
            }
        }
        Ok(())
    }

    /// Takes in what was heard of these VIPs, and asks for some. Returns who is new.
    pub fn second(
        &mut self,
        vips: &[IpAddr],
        own: &[[u8; 6]],
        source: impl Fn(u32) -> Option<Source>,
    ) -> Vec<ArpBinding> {
        let now = Instant::now();
        let mut new = Vec::new();
        let heard: Vec<ArpBinding> = self.ears.values().flat_map(|(listener, _)| listener.read()).collect();
        for claim in heard {
            let others = vips.binary_search(&claim.address).is_ok() && !own.contains(&claim.mac);
            let known = self.heard.contains_key(&claim);
            if others && (known || self.of(claim.address).count() < AT_MOST) {
                self.heard.insert(claim, now);
                new.extend((!known).then_some(claim));
            }
        }
        let round = Duration::from_secs(vips.len().div_ceil(AT_ONCE) as u64);
        self.heard
            .retain(|claim, &mut at| now - at < BELIEVED + round && vips.binary_search(&claim.address).is_ok());
        self.ask(vips, source);
        new
    }

    fn ask(&mut self, vips: &[IpAddr], source: impl Fn(u32) -> Option<Source>) {
        let due = vips.iter().cycle().skip(self.next).take(AT_ONCE.min(vips.len()));
        for &vip in due.filter(|vip| vip.is_ipv4()) {
            for (&ifindex, (_, mouth)) in &self.ears {
                if let Some(Source { mac, address }) = source(ifindex) {
                    // A NIC that is down is told of elsewhere.
                    let _unheard = mouth.solicit(mac, address, vip);
                }
            }
        }
        self.next = (self.next + AT_ONCE) % vips.len().max(1);
    }

    /// The MAC addresses at which others claim to have a VIP.
    pub fn of(&self, vip: IpAddr) -> impl Iterator<Item = [u8; 6]> {
        let from = ArpBinding {
            address: vip,
            mac: [0; 6],
        };
        let claims = self.heard.range(from..).map(|(claim, _)| claim);
        claims
            .take_while(move |claim| claim.address == vip)
            .map(|claim| claim.mac)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// MAC address of the device.
    pub mac: [u8; 6],
    /// An address of this host on it.
    pub address: IpAddr,
}

impl Director {
    /// Looks after the VIPs for another second.
    pub(super) fn look_after_vips(&mut self) {
        // It is but a warning that cannot be had then.
        if let Err(error) = self.claims.follow(&self.topology) {
            tracing::debug!("cannot hear who else has a VIP: {:#}", anyhow::Error::from(error));
        }
        let vips: Vec<IpAddr> = self.tables.vips().into_iter().collect();
        let own: Vec<[u8; 6]> = self.topology.devices().map(|device| device.mac).collect();
        let topology = &self.topology;
        let source = |ifindex| {
            let mac = topology.device(ifindex)?.mac;
            let way = topology
                .ways
                .values()
                .find(|way| way.ifindex == ifindex && way.source.is_ipv4());
            // Where no real server is, nobody needs to know who asks (RFC 5227 section 2.1.1).
            let address = way.map_or(IpAddr::from([0; 4]), |way| way.source);
            Some(Source { mac, address })
        };
        for ArpBinding {
            address: vip,
            mac: theirs,
        } in self.claims.second(&vips, &own, source)
        {
            let theirs_too = |member: &&crate::tables::service::Member| member.next_hop.mac == theirs;
            let members = self
                .tables
                .services
                .values()
                .flat_map(|service| service.members.values());
            let who = members.filter(theirs_too).map(|member| member.address).next();
            let theirs = mac(theirs);
            match who {
                Some(server) => tracing::warn!(
                    %vip, %server, mac = theirs,
                    "ARP for the VIP is answered by this real server: clients may go past the director; see `lbx realserver`"
                ),
                None => {
                    tracing::warn!(%vip, mac = theirs, "another host answers ARP for the VIP: clients may go there")
                }
            }
        }
    }
}
