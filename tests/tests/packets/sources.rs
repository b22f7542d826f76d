//! Source addresses: those that can be no client's are dropped on a service, all others are clients'.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_common::drops::DropReason::BadSource;
use lbx_tests::lab::{DIP, VIP};

use crate::{
    cluster::{NO_VIP, SECOND_VIP, SECOND_VIP6, VIP6, balanced, flow, tcp, tcp6, udp, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

const TLS: VirtualService = tcp(VIP, 443);
const DNS: VirtualService = udp(VIP, 53);
const TLS6: VirtualService = tcp6(443);
const DNS6: VirtualService = udp6(53);

fn cluster() -> Vec<Service> {
    let of = |id, scheduler| balanced(id, scheduler, &[(1, 1), (2, 1)]);
    vec![
        of(TLS, Scheduler::Maglev),
        of(DNS, Scheduler::Rr),
        of(TLS6, Scheduler::Maglev),
        of(DNS6, Scheduler::Rr),
        of(tcp(SECOND_VIP, 443), Scheduler::Maglev),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [impossible(), possible()].into_iter().flatten().collect()
}

fn addresses(texts: &[&str]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().context("an address")).collect()
}

fn services_for(address: IpAddr) -> (VirtualService, VirtualService) {
    if address.is_ipv4() { (TLS, DNS) } else { (TLS6, DNS6) }
}

fn impossible() -> Vec<Fixture> {
    let dropped = |says, texts: &'static [&str]| {
        story_of(says, cluster, move |director| {
            addresses(texts)?
                .into_iter()
                .try_for_each(|address| is_dropped(director, address))
        })
    };
    vec![
        dropped("this host, on this network", &["0.0.0.0", "0.0.0.1", "0.255.255.255"]),
        dropped("loopback", &["127.0.0.0", "127.0.0.1", "127.255.255.255"]),
        dropped("multicast", &["224.0.0.1", "232.1.2.3", "239.255.255.255"]),
        dropped("what is reserved", &["240.0.0.1", "254.255.255.255"]),
        dropped("broadcast", &["255.255.255.255"]),
        dropped("no address of IPv6", &["::"]),
        dropped("loopback of IPv6", &["::1"]),
        dropped("multicast of IPv6", &["ff00::", "ff02::1", "ff0e::1234", "ffff::1"]),
        dropped(
            "an address of IPv4 in IPv6",
            &["::ffff:192.0.2.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"],
        ),
        story_of("the VIP itself", cluster, |director| {
            is_dropped(director, VIP.into())?;
            is_dropped(director, VIP6.into())
        }),
        story_of(
            "the VIP itself, from the port it goes to (a land attack)",
            cluster,
            land,
        ),
        story_of("within a connection too", cluster, within),
    ]
}

fn is_dropped(director: &Director, client: IpAddr) -> Result<()> {
    let (tls, dns) = services_for(client);
    let (tls, dns) = (flow(tls, 40_000).from(client), flow(dns, 40_000).from(client));
    for frame in [tls.syn(), tls.data(), tls.rst(), dns.datagram()] {
        director.drops(&frame, BadSource)?;
    }
    director.has_records(0)?;
    // Elsewhere it is the stack that judges.
    director.passes(&dns.to_port(8_080).datagram()).or_else(|error| {
        // IPv6 itself has no such address, so that it is dropped as soon as a VIP is meant.
        if is_mapped(client) { Ok(()) } else { Err(error) }
    })
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn land(director: &mut Director) -> Result<()> {
    for service in [TLS, TLS6] {
        let land = flow(service, service.port).from(service.vip);
        director.drops(&land.syn(), BadSource)?;
        director.drops(&land.ack(), BadSource)?;
    }
    Ok(())
}

fn within(director: &mut Director) -> Result<()> {
    let flow = flow(TLS, 40_000);
    director.opens(flow, To::Owner)?;
    director.drops(&flow.from([127, 0, 0, 1]).data(), BadSource)?;
    director.sends(flow, &flow.data(), To::Owner, Continues)
}

fn possible() -> Vec<Fixture> {
    let sent = |says, texts: &'static [&str]| {
        story_of(says, cluster, move |director| {
            let mut clients = addresses(texts)?.into_iter();
            clients.try_for_each(|client| is_sent(director, client))
        })
    };
    vec![
        sent(
            "the first and last addresses of hosts",
            &["1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255"],
        ),
        sent(
            "private and link-local addresses",
            &["10.0.0.1", "172.16.0.1", "169.254.1.1", "100.64.0.1"],
        ),
        sent(
            "addresses of IPv6 next to those that are none",
            &["::2", "::1:0:0:1", "feff::1", "::fffe:c000:201", "0:0:0:1::1"],
        ),
        sent(
            "link-local and local addresses of IPv6",
            &["fe80::1", "fd00::1", "64:ff9b::c000:201"],
        ),
        story_of("another VIP, and the director", cluster, |director| {
            for client in [IpAddr::V4(SECOND_VIP), DIP.into(), NO_VIP.into(), SECOND_VIP6.into()] {
                is_sent(director, client)?;
            }
            Ok(())
        }),
    ]
}

fn is_sent(director: &Director, client: IpAddr) -> Result<()> {
    let (tls, dns) = services_for(client);
    let tls = flow(tls, 40_000).from(client);
    director.sends(tls, &tls.syn(), To::Owner, Opens)?;
    let dns = flow(dns, 40_000).from(client);
    let number = director.choice(dns, &dns.datagram())?;
    director.sends(dns, &dns.datagram(), To::Rs(number), Continues)
}
