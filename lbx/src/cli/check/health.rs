//! What `lbx check` says of health: what is asked, how often, and what follows.

use std::{collections::BTreeSet, fs, io, os::unix::fs::PermissionsExt};

use crate::{
    config::Shown,
    desired::{
        Check, CheckedAddress, DesiredState, FailurePolicy, HealthConfig, InitialState, NotifyTarget, OnEmpty, Service,
    },
    health::probe_plan::ProbePlan,
};

/// A row per service: its name, how its real servers are checked, and what follows when they fail.
pub(super) fn rows(desired: &DesiredState) -> Vec<[String; 3]> {
    let row = |service: &Service| {
        let health = service.health.as_deref();
        [
            service.name.clone(),
            health.map_or_else(|| "none".to_owned(), asked),
            follows(service),
        ]
    };
    desired.services.iter().map(row).collect()
}

/// How much probing it is all together; services that agree in a check share it.
pub(super) fn load(desired: &DesiredState) -> String {
    let probe_plan = ProbePlan::of(desired);
    let probe_targets = probe_plan.servers_by_target();
    let rate: f64 = probe_targets
        .keys()
        .map(|probe_target| probe_target.health.interval.as_secs_f64().recip())
        .fold(0.0, |sum, rate| sum + rate);
    // Not more digits than one reads.
    format!(
        "{}, {} a second",
        super::count(probe_targets.len(), "check"),
        (rate * 10.0).round() / 10.0
    )
}

/// A check in words.
fn asked(health: &HealthConfig) -> String {
    let mut words = vec![what(health)];
    words.push(format!("every {}", Shown(health.interval)));
    words.push(format!("timeout {}", Shown(health.timeout)));
    words.push(format!("rise {}", health.rise));
    words.push(format!("fall {}", health.fall));
    match health.initial {
        InitialState::FirstProbe => {}
        InitialState::Up => words.push("initial up".to_owned()),
        InitialState::Down => words.push("initial down".to_owned()),
    }
    if let Some(damping) = &health.damping {
        let (within, hold) = (Shown(damping.period), Shown(damping.hold_time));
        words.push(format!("damping {} in {within} hold {hold}", damping.failures));
    }
    words.join(", ")
}

fn what(health: &HealthConfig) -> String {
    let detail = match &health.check {
        Check::Http(http) => format!(" {} {}", http.method, http.path),
        Check::Dns(dns) => format!(" {} {}", dns.record_type, dns.name),
        Check::Exec(exec) => return format!("exec {}", exec.command.join(" ")),
        Check::Ping => return "ping to the RIP".to_owned(),
        Check::Tcp | Check::Udp(_) => String::new(),
    };
    let address = match health.target {
        CheckedAddress::Vip => "on the VIP",
        CheckedAddress::Rip => "on the RIP",
    };
    let port = health.port.map(|port| format!(", port {port}")).unwrap_or_default();
    format!("{}{detail} {address}{port}", health.check)
}

/// The consequences of a failed real server, and the notify command.
fn follows(service: &Service) -> String {
    let FailurePolicy {
        on_failure,
        quorum,
        hysteresis,
        slow_start_seconds: slow_start,
        on_empty,
    } = service.failure_policy;
    let mut words = vec![on_failure.to_string()];
    if on_empty != OnEmpty::default() {
        words.push(format!("on_empty {on_empty}"));
    }
    match (quorum, hysteresis) {
        (0, _) => {}
        (quorum, 0) => words.push(format!("quorum {quorum}")),
        (quorum, hysteresis) => words.push(format!("quorum {quorum} hysteresis {hysteresis}")),
    }
    if slow_start != 0 {
        words.push(format!("slow_start {slow_start}s"));
    }
    match &service.notify {
        None => {}
        Some(NotifyTarget::Command(notify)) => words.push(format!("notify {}", notify.command.join(" "))),
        Some(NotifyTarget::Socket(path)) => words.push(format!("notify socket {}", path.display())),
    }
    if !service.local_access {
        words.push("local false".to_owned());
    }
    words.join(", ")
}

/// The programs that cannot be run here, with the reason: the file may be meant for another host.
pub(super) fn missing_programs(desired: &DesiredState) -> Vec<String> {
    let programs: BTreeSet<&String> = desired
        .services
        .iter()
        .flat_map(|service| {
            let exec = service.health.as_deref().and_then(|health| match &health.check {
                Check::Exec(exec) => exec.command.first(),
                _ => None,
            });
            let notify = service.notify.as_ref().and_then(NotifyTarget::command);
            let notify = notify.and_then(|notify| notify.command.first());
            exec.into_iter().chain(notify)
        })
        .collect();
    let missing = |program: &String| {
        let error = runnable(program).err()?;
        Some(format!("{program}: cannot be run on this host: {error}"))
    };
    programs.into_iter().filter_map(missing).collect()
}

fn runnable(program: &str) -> io::Result<()> {
    let metadata = fs::metadata(program)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it is no executable file",
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn desired(text: &str) -> DesiredState {
        config::parse(text, Path::new("lb.yaml")).unwrap()
    }

    #[test]
    fn says_what_is_asked_and_what_follows() {
        let service = |port: u16, fields: &str| {
            format!(
                "  - {{vip: 192.0.2.1, port: {port}, scheduler: wrr, realservers: [192.0.2.8, 192.0.2.9], {fields}}}\n"
            )
        };
        for (fields, expected) in [
            ("local: true", ["none", "rehash"]),
            (
                "health: tcp, on_failure: keep",
                ["tcp on the VIP, every 2s, timeout 1s, rise 2, fall 3", "keep"],
            ),
            (
                "health: {http: {path: /a, method: HEAD}, target: rip, port: 8080, interval: 500ms}, quorum: 2",
                [
                    "http HEAD /a on the RIP, port 8080, every 500ms, timeout 500ms, rise 2, fall 3",
                    "rehash, quorum 2",
                ],
            ),
            (
                "health: {https: {}, initial: up, damping: {within: 2m}}, local: false",
                [
                    "https GET / on the VIP, every 2s, timeout 1s, rise 2, fall 3, initial up, damping 3 in 2m hold 1m",
                    "rehash, local false",
                ],
            ),
            (
                "health: {dns: {name: a.example, type: A}, initial: down}, quorum: {weight: 1}, slow_start: 1m",
                [
                    "dns A a.example. on the VIP, every 2s, timeout 1s, rise 2, fall 3, initial down",
                    "rehash, quorum 1, slow_start 60s",
                ],
            ),
            (
                "health: udp, notify: {socket: /run/told}",
                [
                    "udp on the VIP, every 2s, timeout 1s, rise 2, fall 3",
                    "rehash, notify socket /run/told",
                ],
            ),
            (
                "health: udp, notify: [/bin/told, all]",
                [
                    "udp on the VIP, every 2s, timeout 1s, rise 2, fall 3",
                    "rehash, notify /bin/told all",
                ],
            ),
            (
                "health: {exec: {command: [/bin/check, -a]}, interval: 1m}, on_failure: drop",
                ["exec /bin/check -a, every 1m, timeout 1s, rise 2, fall 3", "drop"],
            ),
            ("on_empty: reject", ["none", "rehash"]),
            ("on_empty: drop, quorum: 1", ["none", "rehash, on_empty drop, quorum 1"]),
            (
                "health: ping",
                ["ping to the RIP, every 2s, timeout 1s, rise 2, fall 3", "rehash"],
            ),
        ] {
            let text = format!("interface: eth0\nservices:\n{}", service(80, fields));
            let [row] = rows(&desired(&text)).try_into().unwrap();
            assert_eq!(row, ["192.0.2.1:80/tcp", expected[0], expected[1]], "{fields}");
        }
    }

    #[test]
    fn counts_what_services_share_once() {
        let of = |checks: &[(&str, u16)]| {
            let service = |(health, port): &(&str, u16)| {
                format!("  - {{vip: 192.0.2.1, port: {port}, realservers: [192.0.2.8, 192.0.2.9], health: {health}}}\n")
            };
            let services: String = checks.iter().map(service).collect();
            load(&desired(&format!("interface: eth0\nservices:\n{services}")))
        };
        assert_eq!(of(&[("none", 80)]), "0 checks, 0 a second");
        assert_eq!(of(&[("tcp", 80)]), "2 checks, 1 a second");
        assert_eq!(of(&[("{tcp: {}, interval: 300ms}", 80)]), "2 checks, 6.7 a second");
        assert_eq!(of(&[("tcp", 80), ("tcp", 81)]), "4 checks, 2 a second");
        let on_80 = "{tcp: {}, port: 80}";
        assert_eq!(of(&[(on_80, 80), (on_80, 81)]), "2 checks, 1 a second");
    }

    #[test]
    fn tells_of_programs_that_are_not_there() {
        let text = "
interface: eth0
defaults: {notify: /no/such/program}
services:
  - {vip: 192.0.2.1, port: 80, realservers: [192.0.2.9], health: {exec: {command: /bin/sh}}}
  - {vip: 192.0.2.1, port: 81, realservers: [192.0.2.9], health: {exec: {command: /etc}}}
";
        assert_eq!(
            missing_programs(&desired(text)),
            [
                "/etc: cannot be run on this host: it is no executable file",
                "/no/such/program: cannot be run on this host: No such file or directory (os error 2)"
            ]
        );
    }
}
