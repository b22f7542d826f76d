use std::time::{Duration, Instant};

use super::{
    PASSED, aim,
    dialers::{Deaf, Untrue, Word, Words},
    hasty, servers,
};
use crate::{
    desired::Target,
    health::{
        check::{diagnose, presence},
        failure::Failure,
        probe::{Aim, Direct},
    },
};

fn missing(aim: &Aim) -> Failure {
    Failure::VipMissing {
        vip: aim.vip,
        rip: aim.rip,
    }
}

#[tokio::test]
async fn open_or_closed_an_address_is_there() {
    let (listener, port) = servers::listener().await;
    assert_eq!(presence(&aim(port), &Direct).await, PASSED);
    drop(listener);
    assert_eq!(presence(&aim(port), &Direct).await, PASSED);
    assert_eq!(presence(&aim(port), &Untrue).await, Err(Failure::NotRewritten));
    // The RIP is not waited for.
    let aim = aim(port);
    let begun = Instant::now();
    assert_eq!(presence(&aim, &Deaf(&[Target::Rip])).await, PASSED);
    assert!(begun.elapsed() < aim.timeout / 2);
}

#[tokio::test]
async fn an_address_is_not_there_if_only_the_rip_answers() {
    let aim = hasty(servers::closed_port().await);
    let missing = Err(missing(&aim));
    assert_eq!(presence(&aim, &Deaf(&[Target::Vip])).await, missing);
    // A firewall lets neither through: TCP says nothing.
    let begun = Instant::now();
    assert_eq!(presence(&aim, &Deaf(&[Target::Vip, Target::Rip])).await, PASSED);
    assert!(begun.elapsed() < aim.timeout * 2, "both were asked at once");
}

#[tokio::test]
async fn presence_by_what_the_two_addresses_say() {
    fn silent() -> Result<(), Failure> {
        Err(Failure::TimedOut(Duration::from_secs(1)))
    }
    fn prohibited() -> Result<(), Failure> {
        Err(Failure::Unreachable("Permission denied".to_owned()))
    }
    fn blind() -> Result<(), Failure> {
        Err(Failure::Local("too many open files".to_owned()))
    }
    fn answers() -> Result<(), Failure> {
        Ok(())
    }
    let aim = aim(servers::closed_port().await);
    let missing = Err(missing(&aim));
    let cannot = Err(Failure::Local("too many open files".to_owned()));
    for (vip, rip, outcome) in [
        (answers as Word, answers as Word, PASSED),
        (answers, silent, PASSED),
        (answers, blind, PASSED),
        (silent, answers, missing.clone()),
        (prohibited, answers, missing),
        (silent, silent, PASSED),
        (silent, prohibited, PASSED),
        (prohibited, prohibited, PASSED),
        (silent, blind, cannot.clone()),
        (blind, answers, cannot.clone()),
        (blind, silent, cannot),
    ] {
        assert_eq!(presence(&aim, &Words { vip, rip }).await, outcome);
    }
}

#[tokio::test]
async fn the_vip_is_missing_if_only_the_rip_answers() {
    let aim = hasty(servers::closed_port().await);
    let silence = Failure::TimedOut(aim.timeout);
    let missing = missing(&aim);
    let found = diagnose(silence.clone(), &aim, &Deaf(&[Target::Vip])).await;
    assert_eq!(found, missing);
    // A server that hangs on an address that is there.
    assert_eq!(diagnose(silence.clone(), &aim, &Direct).await, silence);
    // A host that is off, or whose own address drops all.
    assert_eq!(diagnose(silence.clone(), &aim, &Deaf(&[Target::Rip])).await, silence);
    // Where nothing is rewritten nothing is known.
    assert_eq!(diagnose(silence.clone(), &aim, &Untrue).await, silence);
}

#[tokio::test]
async fn only_silence_about_the_vip_is_asked_about() {
    let aim = hasty(servers::closed_port().await);
    let deaf = Deaf(&[Target::Vip]);
    assert_eq!(diagnose(Failure::Refused, &aim, &deaf).await, Failure::Refused);
    let slow = Failure::Slow(aim.timeout);
    assert_eq!(diagnose(slow.clone(), &aim, &deaf).await, slow);
    let straight = Aim {
        target: Target::Rip,
        ..aim
    };
    let silence = Failure::TimedOut(aim.timeout);
    assert_eq!(diagnose(silence.clone(), &straight, &deaf).await, silence);
}
