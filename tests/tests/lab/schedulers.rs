//! Who gets which connection.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{tally, who_answers},
    cluster::Service,
    servers::TcpServer,
};

use crate::setup::{Site, WEB, expect_turns, web};

crate::harness::tests!(Lbx:
    rr_alternates_between_two,
    rr_takes_three_in_turn,
    wrr_gives_three_to_one,
    wrr_interleaves,
    maglev_sends_a_port_to_the_same_server,
    maglev_spreads_evenly,
    maglev_spreads_by_weight,
);

fn rr_alternates_between_two() -> Result<()> {
    expect_turns(&web(Service::web("rr", 2))?.pages(12)?, 2)
}

fn rr_takes_three_in_turn() -> Result<()> {
    expect_turns(&web(Service::web("rr", 3))?.pages(12)?, 3)
}

fn wrr_gives_three_to_one() -> Result<()> {
    let answers = web(Service::weighted("wrr", &[3, 1]))?.pages(40)?;
    let expected = [("rs1".to_owned(), 30), ("rs2".to_owned(), 10)];
    ensure!(tally(&answers) == expected.into(), "{answers:?}");
    for window in answers.windows(4) {
        let lighter = window.iter().filter(|server| *server == "rs2").count();
        ensure!(lighter == 1, "not one in four: {answers:?}");
    }
    Ok(())
}

fn wrr_interleaves() -> Result<()> {
    let answers = web(Service::weighted("wrr", &[3, 2]))?.pages(20)?;
    let expected = [("rs1".to_owned(), 12), ("rs2".to_owned(), 8)];
    ensure!(tally(&answers) == expected.into(), "{answers:?}");
    let clumped = answers
        .windows(3)
        .any(|window| window.iter().all(|server| *server == window[0]));
    ensure!(!clumped, "three in a row: {answers:?}");
    Ok(())
}

fn banners(service: Service) -> Result<Site<TcpServer>> {
    Site::start(service, |host| TcpServer::start(host, 80))
}

fn maglev_sends_a_port_to_the_same_server() -> Result<()> {
    let site = banners(Service::web("maglev", 3))?;
    let ports: Vec<u16> = (20_000..20_100).collect();
    let first = who_answers(site.client(), WEB, &ports)?;
    ensure!(
        tally(first.values()).len() == 3,
        "not every server has a port: {first:?}"
    );
    for _ in 0..4 {
        let again = who_answers(site.client(), WEB, &ports)?;
        let moved: Vec<_> = first
            .iter()
            .filter(|(port, server)| again.get(port) != Some(server))
            .collect();
        ensure!(moved.is_empty(), "moved: {moved:?}");
    }
    Ok(())
}

fn maglev_spreads_evenly() -> Result<()> {
    expect_spread(&[1, 1])
}

fn maglev_spreads_by_weight() -> Result<()> {
    expect_spread(&[3, 1])
}

/// That 10,000 ports of a client are spread as the weights say, within two percentage points.
fn expect_spread(weights: &[u16]) -> Result<()> {
    const TOLERANCE: f64 = 0.02;
    let site = banners(Service::weighted("maglev", weights))?;
    let ports: Vec<u16> = (20_000..30_000).collect();
    let counts: BTreeMap<_, _> = tally(who_answers(site.client(), WEB, &ports)?.values());
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    for (number, weight) in weights.iter().enumerate() {
        let count = counts.get(&format!("rs{}", number + 1)).copied().unwrap_or_default();
        let (share, due) = (count as f64 / ports.len() as f64, f64::from(*weight) / sum);
        ensure!(
            (share - due).abs() <= TOLERANCE,
            "{share} of rs{} for {due}: {counts:?}",
            number + 1
        );
    }
    Ok(())
}
