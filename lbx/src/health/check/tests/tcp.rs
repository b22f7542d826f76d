use std::net::Ipv6Addr;

use tokio::{io::AsyncReadExt, net::TcpListener};

use super::{
    PASSED, aim_at, endpoint, hasty, probe, probe_through, servers,
    steering_stubs::{Deaf, Untrue, Witness},
};
use crate::{
    desired::{Check, CheckedAddress},
    health::{failure::ProbeFailure, probe::RequiredTraffic},
};

#[tokio::test]
async fn an_open_port_passes() {
    let (_listener, port) = servers::listener().await;
    assert_eq!(probe(&Check::Tcp, &endpoint(port)).await, PASSED);
}

#[tokio::test]
async fn ipv6_passes_too() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = aim_at(Ipv6Addr::LOCALHOST.into(), port);
    assert_eq!(probe(&Check::Tcp, &endpoint).await, PASSED);
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let port = servers::closed_port().await;
    assert_eq!(probe(&Check::Tcp, &endpoint(port)).await, Err(ProbeFailure::Refused));
}

#[tokio::test]
async fn silence_is_over_in_time() {
    let (_listener, port) = servers::listener().await;
    let endpoint = hasty(port);
    let outcome = probe_through(&Deaf(&[CheckedAddress::Vip]), &Check::Tcp, &endpoint).await;
    assert_eq!(outcome, Err(ProbeFailure::TimedOut(endpoint.timeout)));
}

#[tokio::test]
async fn nothing_said_by_somebody_else_counts() {
    let (listener, open) = servers::listener().await;
    let outcome = probe_through(&Untrue, &Check::Tcp, &endpoint(open)).await;
    assert_eq!(outcome, Err(ProbeFailure::NotSteered));
    drop(listener);
    let outcome = probe_through(&Untrue, &Check::Tcp, &endpoint(open)).await;
    assert_eq!(outcome, Err(ProbeFailure::NotSteered), "a refusal is an answer too");
}

#[tokio::test]
async fn a_probe_leaves_by_reset() {
    let (listener, port) = servers::listener().await;
    let witness = Witness::default();
    assert_eq!(probe_through(&witness, &Check::Tcp, &endpoint(port)).await, PASSED);
    let (mut stream, peer) = listener.accept().await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no TIME_WAIT");
    assert_eq!(*witness.0.lock().unwrap(), [(peer, RequiredTraffic::BothWays)]);
}
