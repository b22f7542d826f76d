use super::{
    PASSED, aim,
    dialers::{Deaf, Untrue},
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

#[tokio::test]
async fn open_or_closed_an_address_is_there() {
    let (listener, port) = servers::listener().await;
    assert_eq!(presence(&aim(port), &Direct).await, PASSED);
    drop(listener);
    assert_eq!(presence(&aim(port), &Direct).await, PASSED);
    assert_eq!(presence(&aim(port), &Untrue).await, Err(Failure::NotRewritten));
    let aim = hasty(port);
    let silence = Err(Failure::TimedOut(aim.timeout));
    assert_eq!(presence(&aim, &Deaf(Target::Vip)).await, silence);
}

#[tokio::test]
async fn the_vip_is_missing_if_only_the_rip_answers() {
    let aim = hasty(servers::closed_port().await);
    let silence = Failure::TimedOut(aim.timeout);
    let missing = Failure::VipMissing {
        vip: aim.vip,
        rip: aim.rip,
    };
    let found = diagnose(silence.clone(), &aim, &Deaf(Target::Vip)).await;
    assert_eq!(found, missing);
    // A server that hangs on an address that is there.
    assert_eq!(diagnose(silence.clone(), &aim, &Direct).await, silence);
    // A host that is off, or whose own address drops all.
    assert_eq!(diagnose(silence.clone(), &aim, &Deaf(Target::Rip)).await, silence);
    // Where nothing is rewritten nothing is known.
    assert_eq!(diagnose(silence.clone(), &aim, &Untrue).await, silence);
}

#[tokio::test]
async fn only_silence_about_the_vip_is_asked_about() {
    let aim = hasty(servers::closed_port().await);
    let deaf = Deaf(Target::Vip);
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
