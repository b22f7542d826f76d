//! Every check against a server on loopback that does as told: each passes, and fails for the right reason.

mod dns;
mod exec;
mod http;
mod ping;
mod reach;
mod servers;
mod steering_stubs;
mod tcp;
mod tls;
mod udp;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{PreparedCheck, run};
use crate::{
    desired::{Check, CheckedAddress},
    health::probe::{NoSteering, Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess},
};

/// What passes without a word about the weight.
const PASSED: Outcome = Ok(ProbeSuccess { weight: None });

/// Asks a port of the loopback address.
fn endpoint(port: u16) -> ProbeEndpoint {
    aim_at(Ipv4Addr::LOCALHOST.into(), port)
}

fn aim_at(ip: IpAddr, port: u16) -> ProbeEndpoint {
    ProbeEndpoint {
        rip: ip,
        vip: Ipv4Addr::new(192, 0, 2, 1).into(),
        target: CheckedAddress::Vip,
        port,
        source: ip,
        mac: [2, 0, 0, 0, 0, 1],
        timeout: Duration::from_secs(5),
    }
}

/// The same, with little patience: for what will not be answered.
fn hasty(port: u16) -> ProbeEndpoint {
    ProbeEndpoint {
        timeout: Duration::from_millis(300),
        ..endpoint(port)
    }
}

async fn probe(check: &Check, endpoint: &ProbeEndpoint) -> Outcome {
    probe_through(&NoSteering, check, endpoint).await
}

async fn probe_through(steering: &dyn ProbeSteering, check: &Check, endpoint: &ProbeEndpoint) -> Outcome {
    let prepared = PreparedCheck::new(check).expect("a check that can be made");
    run(&prepared, endpoint, steering).await
}

/// Probes may be run on whatever thread.
#[test]
fn probes_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let prepared = PreparedCheck::new(&Check::Tcp).unwrap();
    let endpoint = endpoint(1);
    drop(send(run(&prepared, &endpoint, &NoSteering)));
}
