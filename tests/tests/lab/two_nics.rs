//! Clients on one segment, real servers on another: frames leave by another NIC than they came in by.

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{CLIENT, DIP, Lab, six},
    nginx::Nginx,
    payload,
};

use crate::setup::{PAGE, PAGE6, Site, expect_turns, on_segment_2, serve_big};

crate::harness::tests!(Lbx:
    real_servers_on_the_second_segment_over_ipv4,
    real_servers_on_the_second_segment_over_ipv6,
);

fn real_servers_on_the_second_segment_over_ipv4() -> Result<()> {
    expect_redirected(PAGE, |service| service)
}

fn real_servers_on_the_second_segment_over_ipv6() -> Result<()> {
    expect_redirected(PAGE6, Service::over_ipv6)
}

/// The client has a NIC on the second segment too, by which answers reach its first address: nobody forwards.
fn lab() -> Result<Lab> {
    let gateway = on_segment_2(10);
    let lab = Lab::builder()
        .host("client", &[CLIENT, gateway])
        .host("director", &[DIP, on_segment_2(2)])
        .host("rs1", &[on_segment_2(185)])
        .host("rs2", &[on_segment_2(190)])
        .build()?;
    for host in lab.real_servers() {
        host.ip(&format!("route add {CLIENT}/32 via {gateway}"))?;
        host.ip(&format!("route add {}/128 via {}", six(CLIENT), six(gateway)))?;
    }
    Ok(lab)
}

fn expect_redirected(page: &str, family: impl Fn(Service) -> Service) -> Result<()> {
    for scheduler in ["rr", "maglev"] {
        let mut service = Service::web(scheduler, 2);
        service.servers[0].address = on_segment_2(185).into();
        service.servers[1].address = on_segment_2(190).into();
        let cluster = Cluster::from(family(service));
        let site = Site::start_in(lab()?, &cluster, Nginx::start)?;
        if scheduler == "rr" {
            expect_turns(&site.pages_of(page, 8)?, 2)?;
        }
        let sent = serve_big(&site.servers, 10)?;
        let to = site.lab.directory().join("down");
        site.client().download(&format!("{page}big"), &to)?;
        ensure!(payload::digest(&to)? == sent, "the download differs");
        site.director.expect_no_drops()?;
    }
    Ok(())
}
