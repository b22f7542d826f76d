//! What a service may say of what follows when real servers fail, and what `defaults` say for it.

use std::{sync::Arc, time::Duration};

use super::{SAMPLE, read, sample_with, with};
use crate::desired::{FailurePolicy, OnEmpty, OnFailure, Service};

#[test]
fn quorum_and_the_rest() {
    let wrr = |field: &str| {
        let text = sample_with("scheduler: rr", &format!("scheduler: wrr\n    {field}"));
        let text = with(&text, "weight: 1", "weight: 4");
        read(&text).unwrap().services.swap_remove(0)
    };
    let (on_failure, none) = (OnFailure::Rehash, FailurePolicy::default());
    for (field, expected) in [
        ("quorum: 5", FailurePolicy { quorum: 5, ..none }),
        (
            "quorum: {weight: 3, hysteresis: 2}",
            FailurePolicy {
                quorum: 3,
                hysteresis: 2,
                ..none
            },
        ),
        ("quorum: {weight: 3}", FailurePolicy { quorum: 3, ..none }),
        (
            "slow_start: 1m",
            FailurePolicy {
                slow_start_seconds: 60,
                ..none
            },
        ),
        ("slow_start: 0", none),
        ("on_failure: rehash", FailurePolicy { on_failure, ..none }),
        (
            "on_failure: keep",
            FailurePolicy {
                on_failure: OnFailure::Keep,
                ..none
            },
        ),
        (
            "on_failure: drop",
            FailurePolicy {
                on_failure: OnFailure::Drop,
                ..none
            },
        ),
        ("on_empty: reject", none),
        (
            "on_empty: drop",
            FailurePolicy {
                on_empty: OnEmpty::Drop,
                ..none
            },
        ),
        // The checks may make them weigh more than the file says.
        (
            "quorum: 100\n    health: {http: {weight: true}}",
            FailurePolicy { quorum: 100, ..none },
        ),
    ] {
        assert_eq!(wrr(field).failure_policy, expected, "{field}");
    }
    assert!(!wrr("local: false").local_access);
}

#[test]
fn defaults_and_who_says_otherwise() {
    let text = "\
interface: eth0
defaults:
  health: {tcp: {}, interval: 5s}
  on_failure: keep
  on_empty: drop
  slow_start: 30s
  notify: /bin/told
  local: false
services:
  - {vip: 192.0.2.1, port: 80, scheduler: wrr, realservers: [192.0.2.9]}
  - {vip: 192.0.2.1, port: 81, realservers: [192.0.2.9], health: {interval: 5, tcp: {}}}
  - vip: 192.0.2.1
    port: 82-83
    scheduler: wrr
    health: none
    on_failure: drop
    on_empty: reject
    slow_start: 0
    notify: none
    local: true
    realservers: [192.0.2.9]
";
    let services = read(text).unwrap().services;
    let health = services[0].health.clone().unwrap();
    assert_eq!((health.check.name(), health.interval), ("tcp", Duration::from_secs(5)));
    assert!(services[0].notify.is_some() && !services[0].local_access);
    let kept = FailurePolicy {
        on_failure: OnFailure::Keep,
        on_empty: OnEmpty::Drop,
        slow_start_seconds: 30,
        ..FailurePolicy::default()
    };
    assert_eq!(services[0].failure_policy, kept);
    // What is equal is one, and rr has no weights that could rise.
    assert!(Arc::ptr_eq(&health, services[1].health.as_ref().unwrap()));
    assert_eq!(
        services[1].failure_policy,
        FailurePolicy {
            slow_start_seconds: 0,
            ..kept
        }
    );
    let own = FailurePolicy {
        on_failure: OnFailure::Drop,
        ..FailurePolicy::default()
    };
    let Service {
        health,
        failure_policy,
        notify,
        local_access: local,
        ..
    } = &services[2];
    assert_eq!((health, *failure_policy, notify, *local), (&None, own, &None, true));
}

#[test]
fn drain_timeouts() {
    let seconds = |timeouts: &str, defaults: &str, service: &str| {
        let text = format!(
            "interface: eth0\n{timeouts}{defaults}services:\n  - {{vip: 192.0.2.1, port: 80, realservers: [192.0.2.9]{service}}}\n  \
             - {{vip: 192.0.2.1, port: 80, protocol: udp, realservers: [192.0.2.9]{service}}}\n"
        );
        let services = read(&text).unwrap().services;
        [services[0].drain_timeout_seconds, services[1].drain_timeout_seconds]
    };
    // UDP flows that never pause would stay for ever.
    assert_eq!(seconds("", "", ""), [None, Some(600)]);
    assert_eq!(seconds("timeouts: {udp: 30s}\n", "", ""), [None, Some(60)]);
    assert_eq!(seconds("timeouts: {udp: 16h}\n", "", ""), [None, Some(115_200)]);
    assert_eq!(
        seconds("timeouts: {udp: 30s}\n", "defaults: {on_failure: keep}\n", ""),
        [None, Some(60)]
    );
    for (value, expected) in [
        ("90", Some(90)),
        ("5m", Some(300)),
        ("16h", Some(57_600)),
        ("none", None),
    ] {
        let (defaults, service) = (
            format!("defaults: {{drain_timeout: {value}}}\n"),
            format!(", drain_timeout: {value}"),
        );
        assert_eq!(seconds("", &defaults, ""), [expected; 2], "{value}");
        assert_eq!(
            seconds("", "defaults: {drain_timeout: 7}\n", &service),
            [expected; 2],
            "{value}"
        );
    }
}

#[test]
fn ports_that_need_none_stated() {
    for (port, health) in [
        ("80", "tcp"),
        ("[80]", "tcp"),
        ("80-80", "tcp"),
        ("all", "ping"),
        ("80-81", "ping"),
        ("all", "{tcp: {}, port: 80}"),
        ("[443, 80]", "{exec: {command: /bin/check}, port: 22}"),
    ] {
        let text = with(SAMPLE, "port: 80\n", &format!("port: {port}\n    health: {health}\n"));
        assert!(read(&text).is_ok(), "{port}, {health}");
    }
}
