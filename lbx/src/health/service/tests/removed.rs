//! Real servers that are out of the file and still have flows.

use super::*;

#[test]
fn a_real_server_out_of_the_file_is_checked_and_counts_for_no_quorum() {
    let mut play = Play::new(failure_policy(2, 0));
    play.look();
    play.remove(3);
    assert_eq!(play.events([]), []);
    assert!(play.failed_removed().is_empty());
    assert_eq!(play.events([(3, refused())]), [is_down(3)]);
    assert_eq!(play.failed_removed(), [rip(3)].into());
    assert_eq!(play.quorum(), Some(true));
    assert_eq!(play.events([(3, refused())]), [], "once");
    let up = HealthEventKind::ServerUp {
        server: rip(3),
        weight: 0,
    };
    assert_eq!(play.events([(3, UP)]), [up]);
    assert_eq!(play.events([(2, refused())]), [is_down(2), lost(1, 2, false)]);
}

#[test]
fn a_real_server_out_of_the_file_has_no_slow_start() {
    let mut play = Play::new(FailurePolicy {
        slow_start_seconds: 30,
        ..FailurePolicy::default()
    });
    play.after([(3, refused())]);
    play.after([(3, UP)]);
    assert!(play.services.is_slow_start_active());
    play.remove(3);
    play.look();
    assert!(!play.services.is_slow_start_active());
}

#[test]
fn a_service_with_another_identity_goes_on() {
    let mut play = Play::new(FailurePolicy::default());
    play.remove(3);
    assert_eq!(play.events([(3, refused())]), [is_down(3)]);
    let former = play.file.services[0].virtual_service;
    let id = VirtualService { port: 443, ..former };
    play.service().virtual_service = id;
    play.removed = [(id, rip(3))].into();
    play.services.rename(&[(id, former)].into());
    assert_eq!(play.events([]), []);
    assert_eq!(play.failed_removed(), [rip(3)].into());
}
