use std::time::{Duration, Instant};

use super::{
    PASSED, endpoint, hasty, servers,
    steering_stubs::{Deaf, Untrue, Word, Words},
};
use crate::{
    desired::CheckedAddress,
    health::{
        check::{check_vip_present, diagnose},
        failure::ProbeFailure,
        probe::{NoSteering, ProbeEndpoint},
    },
};

fn missing(endpoint: &ProbeEndpoint) -> ProbeFailure {
    ProbeFailure::VipMissing {
        vip: endpoint.vip,
        rip: endpoint.rip,
    }
}

#[tokio::test]
async fn open_or_closed_an_address_is_there() {
    let (listener, port) = servers::listener().await;
    assert_eq!(check_vip_present(&endpoint(port), &NoSteering).await, PASSED);
    drop(listener);
    assert_eq!(check_vip_present(&endpoint(port), &NoSteering).await, PASSED);
    assert_eq!(
        check_vip_present(&endpoint(port), &Untrue).await,
        Err(ProbeFailure::NotSteered)
    );
    // The RIP is not waited for.
    let endpoint = endpoint(port);
    let begun = Instant::now();
    assert_eq!(
        check_vip_present(&endpoint, &Deaf(&[CheckedAddress::Rip])).await,
        PASSED
    );
    assert!(begun.elapsed() < endpoint.timeout / 2);
}

#[tokio::test]
async fn an_address_is_not_there_if_only_the_rip_answers() {
    let endpoint = hasty(servers::closed_port().await);
    let missing = Err(missing(&endpoint));
    assert_eq!(
        check_vip_present(&endpoint, &Deaf(&[CheckedAddress::Vip])).await,
        missing
    );
    // A firewall lets neither through: TCP says nothing.
    let begun = Instant::now();
    assert_eq!(
        check_vip_present(&endpoint, &Deaf(&[CheckedAddress::Vip, CheckedAddress::Rip])).await,
        PASSED
    );
    assert!(begun.elapsed() < endpoint.timeout * 2, "both were asked at once");
}

#[tokio::test]
async fn presence_by_what_the_two_addresses_say() {
    fn silent() -> Result<(), ProbeFailure> {
        Err(ProbeFailure::TimedOut(Duration::from_secs(1)))
    }
    fn prohibited() -> Result<(), ProbeFailure> {
        Err(ProbeFailure::Unreachable("Permission denied".to_owned()))
    }
    fn cannot_probe() -> Result<(), ProbeFailure> {
        Err(ProbeFailure::CannotProbe("too many open files".to_owned()))
    }
    fn answers() -> Result<(), ProbeFailure> {
        Ok(())
    }
    let endpoint = endpoint(servers::closed_port().await);
    let missing = Err(missing(&endpoint));
    let cannot = Err(ProbeFailure::CannotProbe("too many open files".to_owned()));
    for (vip, rip, outcome) in [
        (answers as Word, answers as Word, PASSED),
        (answers, silent, PASSED),
        (answers, cannot_probe, PASSED),
        (silent, answers, missing.clone()),
        (prohibited, answers, missing),
        (silent, silent, PASSED),
        (silent, prohibited, PASSED),
        (prohibited, prohibited, PASSED),
        (silent, cannot_probe, cannot.clone()),
        (cannot_probe, answers, cannot.clone()),
        (cannot_probe, silent, cannot),
    ] {
        assert_eq!(check_vip_present(&endpoint, &Words { vip, rip }).await, outcome);
    }
}

#[tokio::test]
async fn the_vip_is_missing_if_only_the_rip_answers() {
    let endpoint = hasty(servers::closed_port().await);
    let silence = ProbeFailure::TimedOut(endpoint.timeout);
    let missing = missing(&endpoint);
    let found = diagnose(silence.clone(), &endpoint, &Deaf(&[CheckedAddress::Vip])).await;
    assert_eq!(found, missing);
    // A server that hangs on an address that is there.
    assert_eq!(diagnose(silence.clone(), &endpoint, &NoSteering).await, silence);
    // A host that is off, or whose own address drops all.
    assert_eq!(
        diagnose(silence.clone(), &endpoint, &Deaf(&[CheckedAddress::Rip])).await,
        silence
    );
    // Where nothing is rewritten nothing is known.
    assert_eq!(diagnose(silence.clone(), &endpoint, &Untrue).await, silence);
}

#[tokio::test]
async fn only_silence_about_the_vip_is_asked_about() {
    let endpoint = hasty(servers::closed_port().await);
    let deaf = Deaf(&[CheckedAddress::Vip]);
    assert_eq!(
        diagnose(ProbeFailure::Refused, &endpoint, &deaf).await,
        ProbeFailure::Refused
    );
    let slow = ProbeFailure::IncompleteReply(endpoint.timeout);
    assert_eq!(diagnose(slow.clone(), &endpoint, &deaf).await, slow);
    let straight = ProbeEndpoint {
        target: CheckedAddress::Rip,
        ..endpoint
    };
    let silence = ProbeFailure::TimedOut(endpoint.timeout);
    assert_eq!(diagnose(silence.clone(), &straight, &deaf).await, silence);
}
