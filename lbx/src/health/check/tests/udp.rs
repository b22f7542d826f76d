use std::{net::Ipv4Addr, time::Duration};

use tokio::net::{TcpListener, UdpSocket};

use super::{
    PASSED, endpoint, hasty, probe, probe_through, servers,
    steering_stubs::{Deaf, Untrue, Witness},
};
use crate::{
    desired::{Check, CheckedAddress, Udp},
    health::{
        failure::ProbeFailure,
        probe::{ProbeEndpoint, RequiredTraffic},
    },
};

fn check(reply: Option<&str>) -> Check {
    Check::Udp(Udp {
        payload: b"ping".to_vec(),
        reply_prefix: reply.map(|reply| reply.as_bytes().to_vec()),
    })
}

#[tokio::test]
async fn the_beginning_of_the_answer_decides() {
    let port = servers::udp(|asked| {
        assert_eq!(asked, b"ping");
        vec![b"pong 1".to_vec()]
    })
    .await;
    let endpoint = endpoint(port);
    assert_eq!(probe(&check(Some("pong")), &endpoint).await, PASSED);
    assert_eq!(probe(&check(Some("")), &endpoint).await, PASSED);
    let wrong = Err(ProbeFailure::UnexpectedReply("\"pong 1\"".to_owned()));
    assert_eq!(probe(&check(Some("pong 12")), &endpoint).await, wrong);
    assert_eq!(probe(&check(Some("ping")), &endpoint).await, wrong);
}

#[tokio::test]
async fn a_long_wrong_answer_is_shown_in_part() {
    let port = servers::udp(|_| vec![vec![b'x'; 1000]]).await;
    let shown = format!("\"{}…\"", "x".repeat(32));
    let outcome = probe(&check(Some("y")), &endpoint(port)).await;
    assert_eq!(outcome, Err(ProbeFailure::UnexpectedReply(shown)));
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let endpoint = endpoint(servers::closed_port().await);
    assert_eq!(probe(&check(Some("pong")), &endpoint).await, Err(ProbeFailure::Refused));
    assert_eq!(probe(&check(None), &endpoint).await, Err(ProbeFailure::Refused));
}

#[tokio::test]
async fn silence_fails_where_an_answer_is_expected() {
    let endpoint = hasty(servers::udp(|_| vec![]).await);
    let outcome = probe(&check(Some("pong")), &endpoint).await;
    assert_eq!(outcome, Err(ProbeFailure::TimedOut(endpoint.timeout)));
}

#[tokio::test]
async fn an_answer_nobody_expects_passes_at_once() {
    let port = servers::udp(|_| vec![b"whatever".to_vec()]).await;
    let witness = Witness::default();
    assert_eq!(probe_through(&witness, &check(None), &endpoint(port)).await, PASSED);
    let asked: Vec<_> = witness
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|&(_, required)| required)
        .collect();
    assert_eq!(asked, [RequiredTraffic::BothWays]);
}

#[tokio::test]
async fn silence_passes_where_the_address_is_there() {
    let port = servers::udp(|_| vec![]).await;
    let endpoint = ProbeEndpoint {
        timeout: Duration::from_secs(1),
        ..endpoint(port)
    };
    let witness = Witness::default();
    assert_eq!(probe_through(&witness, &check(None), &endpoint).await, PASSED);
    let asked: Vec<_> = witness
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|&(_, required)| required)
        .collect();
    assert_eq!(
        asked,
        [RequiredTraffic::Sent, RequiredTraffic::BothWays],
        "first UDP, then TCP"
    );
    assert_eq!(
        probe_through(&Untrue, &check(None), &endpoint).await,
        Err(ProbeFailure::NotSteered)
    );
}

#[tokio::test]
async fn silence_fails_where_only_the_rip_is_there() {
    // Somebody on TCP too, who is not heard.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let endpoint = hasty(port);
    let missing = ProbeFailure::VipMissing {
        vip: endpoint.vip,
        rip: endpoint.rip,
    };
    let outcome = probe_through(&Deaf(&[CheckedAddress::Vip]), &check(None), &endpoint).await;
    assert_eq!(outcome, Err(missing));
    // A firewall that drops all of TCP: it says nothing of the VIP.
    let outcome = probe_through(
        &Deaf(&[CheckedAddress::Vip, CheckedAddress::Rip]),
        &check(None),
        &endpoint,
    )
    .await;
    assert_eq!(outcome, PASSED);
}
