use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::future::join_all;

use super::{PASSED, aim_at, probe};
use crate::{desired::Check, health::failure::ProbeFailure};

/// What a ping must come to when the address answers: passed, or that this process may not ping.
fn expected(outcome: &crate::health::probe::Outcome) -> crate::health::probe::Outcome {
    let forbidden = ProbeFailure::from(io::Error::from_raw_os_error(libc::EPERM));
    // root, or a group of net.ipv4.ping_group_range, may; who may not must be told so, and that is not the server's
    // fault.
    if nix::unistd::geteuid().is_root() || outcome.is_ok() {
        PASSED
    } else {
        Err(forbidden)
    }
}

#[tokio::test]
async fn loopback_answers() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let outcome = probe(&Check::Ping, &aim_at(ip, 0)).await;
        assert_eq!(outcome, expected(&outcome), "{ip}");
    }
}

#[tokio::test]
async fn many_at_once_are_told_apart() {
    let aims: Vec<_> = (1..=100)
        .map(|last| aim_at(Ipv4Addr::new(127, 0, 1, last).into(), 0))
        .collect();
    for outcome in join_all(aims.iter().map(|endpoint| probe(&Check::Ping, endpoint))).await {
        assert_eq!(outcome, expected(&outcome));
    }
}
