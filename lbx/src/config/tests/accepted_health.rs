//! What checks may say, and what it means.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use super::{read, sample_with};
use crate::{
    config::parse,
    desired::{
        Check, CheckedAddress, Damping, Dns, Exec, ExpectedBody, HealthConfig, Http, InitialState, NotifyCommand,
        NotifyTarget, Service, Tls, Udp,
    },
};

/// The sample with one more field in its service.
fn service(field: &str) -> Service {
    let text = sample_with("port: 80\n", &format!("port: 80\n    {field}\n"));
    read(&text).unwrap().services.swap_remove(0)
}

fn health(written: &str) -> HealthConfig {
    let health = service(&format!("health: {written}")).health.unwrap();
    HealthConfig::clone(&health)
}

fn plain(check: Check) -> HealthConfig {
    HealthConfig {
        check,
        target: CheckedAddress::Vip,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        initial: InitialState::FirstProbe,
        jitter_percent: 10,
        damping: None,
    }
}

fn get() -> Http {
    Http {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: None,
        headers: Vec::new(),
        expected_status: vec![(200, 299)],
        expected_body: None,
        tls: None,
        weight_in_body: false,
    }
}

#[test]
fn defaults_of_every_check() {
    let ping = HealthConfig {
        target: CheckedAddress::Rip,
        ..plain(Check::Ping)
    };
    let tls = Tls {
        server_name: None,
        verify: true,
        ca_file: None,
    };
    let dns = Dns {
        name: ".".to_owned(),
        record_type: "SOA".to_owned(),
        rcode: "NOERROR".to_owned(),
        answer: None,
    };
    let udp = Udp {
        payload: Vec::new(),
        reply_prefix: None,
    };
    for (name, expected) in [
        ("tcp", plain(Check::Tcp)),
        ("ping", ping),
        ("http", plain(Check::Http(get()))),
        (
            "https",
            plain(Check::Http(Http {
                tls: Some(tls),
                ..get()
            })),
        ),
        ("dns", plain(Check::Dns(dns))),
        ("udp", plain(Check::Udp(udp))),
    ] {
        assert_eq!(health(name), expected, "{name}");
        assert_eq!(health(&format!("{{{name}: {{}}}}")), expected, "{name}");
    }
}

#[test]
fn what_every_check_may_say() {
    let written = "{tcp: {}, target: rip, port: 8080, interval: 1m, timeout: 1500ms, rise: 1, fall: 255, \
        initial: down, jitter: 0, damping: {failures: 5, within: 2m, hold: 10}}";
    let expected = HealthConfig {
        check: Check::Tcp,
        target: CheckedAddress::Rip,
        port: Some(8080),
        interval: Duration::from_secs(60),
        timeout: Duration::from_millis(1500),
        rise: 1,
        fall: 255,
        initial: InitialState::Down,
        jitter_percent: 0,
        damping: Some(Damping {
            failures: 5,
            period: Duration::from_secs(120),
            hold_time: Duration::from_secs(10),
        }),
    };
    assert_eq!(health(written), expected);
    let minute = Duration::from_secs(60);
    let damping = Damping {
        failures: 3,
        period: minute,
        hold_time: minute,
    };
    assert_eq!(health("{tcp: {}, damping: {}}").damping, Some(damping));
}

#[test]
fn times_of_probes() {
    let times = |written: &str| {
        let HealthConfig { interval, timeout, .. } = health(&format!("{{tcp: {{}}, {written}}}"));
        (interval.as_millis(), timeout.as_millis())
    };
    for (written, expected) in [
        ("interval: 10", (10_000, 1000)),
        ("interval: 1", (1000, 1000)),
        // Without a timeout of its own a probe has as long as there is.
        ("interval: 250ms", (250, 250)),
        ("interval: 100ms, timeout: 10ms", (100, 10)),
        ("interval: 1h, timeout: 60m", (3_600_000, 3_600_000)),
        ("timeout: 2000ms", (2000, 2000)),
    ] {
        assert_eq!(times(written), expected, "{written}");
    }
}

#[test]
fn requests_and_answers() {
    let http = |written: &str| match health(&format!("{{http: {written}}}")).check {
        Check::Http(http) => http,
        other => panic!("{other}"),
    };
    let expected = Http {
        method: "POST".to_owned(),
        path: "/a?b=c%20d".to_owned(),
        host: Some("example.org:8080".to_owned()),
        headers: vec![
            ("X-B".to_owned(), "c, d".to_owned()),
            ("Accept".to_owned(), String::new()),
        ],
        expected_status: vec![(200, 200), (300, 399)],
        expected_body: Some(ExpectedBody::Regex("^ok$".to_owned())),
        tls: None,
        weight_in_body: true,
    };
    assert_eq!(
        http(
            "{method: POST, path: \"/a?b=c%20d\", host: \"example.org:8080\", headers: {X-B: \"c, d\", Accept: \"\"}, \
             status: [300-399, 200, 200], body: {matches: ^ok$}, weight: true}"
        ),
        expected
    );
    for (written, status) in [("204", (204, 204)), ("100-599", (100, 599)), ("[404, 404]", (404, 404))] {
        assert_eq!(
            http(&format!("{{status: {written}}}")).expected_status,
            [status],
            "{written}"
        );
    }
    for host in [
        "localhost",
        "a_b.example",
        "192.0.2.1",
        "192.0.2.1:1",
        "[2001:db8::1]",
        "[::1]:65535",
    ] {
        assert_eq!(http(&format!("{{host: \"{host}\"}}")).host.as_deref(), Some(host));
    }
    let digits = "00112233445566778899aabbccddeeFF";
    let digest = u128::from_str_radix(digits, 16).unwrap().to_be_bytes();
    assert_eq!(
        http(&format!("{{body: {{md5: \"{digits}\"}}}}")).expected_body,
        Some(ExpectedBody::Md5(digest))
    );
    let mut twice = [0; 32];
    twice[..16].copy_from_slice(&digest);
    twice[16..].copy_from_slice(&digest);
    let sha256 = format!("{{body: {{sha256: \"{digits}{digits}\"}}}}");
    assert_eq!(http(&sha256).expected_body, Some(ExpectedBody::Sha256(twice)));
}

#[test]
fn tls_and_its_authorities() {
    let folder = std::env::temp_dir().join(format!("lbx-authorities-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.pem"), "# mine\n-----BEGIN CERTIFICATE-----\n").unwrap();
    fs::write(folder.join("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let tls = |name: &str| {
        let by = format!("port: 80\n    health: {{https: {{server_name: a.example, authorities: {name}}}}}\n");
        let desired = parse(&sample_with("port: 80\n", &by), &folder.join("lb.yaml"));
        desired.map(|mut desired| desired.services.swap_remove(0).health.unwrap().check.clone())
    };
    let expected = |authorities: PathBuf| {
        let tls = Tls {
            server_name: Some("a.example".to_owned()),
            verify: true,
            ca_file: Some(authorities),
        };
        Check::Http(Http {
            tls: Some(tls),
            ..get()
        })
    };
    let absolute = folder.join("ca.pem");
    assert_eq!(tls("ca.pem"), Ok(expected(absolute.clone())));
    assert_eq!(tls(absolute.to_str().unwrap()), Ok(expected(absolute)));
    let error = tls("key.pem").unwrap_err().to_string();
    let file = folder.join("key.pem");
    assert!(
        error.ends_with(&format!("{}: holds no certificate: name a PEM file", file.display())),
        "{error}"
    );
    let off = health("{https: {verify: false, server_name: \"2001:db8::1\"}}").check;
    let Check::Http(Http { tls: Some(off), .. }) = off else {
        panic!("{off}");
    };
    assert_eq!((off.server_name.as_deref(), off.verify), (Some("2001:db8::1"), false));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn datagrams() {
    let written = "{dns: {name: example.org, type: AAAA, rcode: NXDOMAIN, answer: \"2001:db8::1\"}}";
    let dns = Dns {
        name: "example.org.".to_owned(),
        record_type: "AAAA".to_owned(),
        rcode: "NXDOMAIN".to_owned(),
        answer: Some("2001:db8::1".to_owned()),
    };
    assert_eq!(health(written).check, Check::Dns(dns));
    for name in [".", "a.", "_sip._tcp.example.org."] {
        let Check::Dns(dns) = health(&format!("{{dns: {{name: {name}}}}}")).check else {
            panic!("{name}");
        };
        assert_eq!(dns.name, name);
    }
    let udp = |payload: &[u8], reply: &[u8]| {
        Check::Udp(Udp {
            payload: payload.to_vec(),
            reply_prefix: Some(reply.to_vec()),
        })
    };
    assert_eq!(
        health("{udp: {payload: {hex: \"00fF\"}, reply: \"pö\\n\"}}").check,
        udp(&[0, 255], "pö\n".as_bytes())
    );
    assert_eq!(
        health("{udp: {payload: \"\", reply: {hex: \"7f\"}}}").check,
        udp(&[], &[0x7f])
    );
}

#[test]
fn commands() {
    let exec = |command: &[&str], environment: &[(&str, &str)], weight| {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Check::Exec(Exec {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: environment.iter().map(owned).collect::<BTreeMap<_, _>>(),
            weight_from_exit_code: weight,
        })
    };
    for (written, expected) in [
        ("{command: /bin/check}", exec(&["/bin/check"], &[], false)),
        ("{command: [/bin/a check]}", exec(&["/bin/a check"], &[], false)),
        (
            "{command: [/bin/check, -a, \"\"], environment: {B: c d, E: \"\"}, weight: true}",
            exec(&["/bin/check", "-a", ""], &[("B", "c d"), ("E", "")], true),
        ),
    ] {
        assert_eq!(health(&format!("{{exec: {written}}}")).check, expected, "{written}");
    }
    let notify = |words: &[&str], seconds| {
        Some(NotifyTarget::Command(NotifyCommand {
            command: words.iter().map(|&word| word.to_owned()).collect(),
            timeout: Duration::from_secs(seconds),
        }))
    };
    for (written, expected) in [
        ("/bin/told", notify(&["/bin/told"], 10)),
        ("[/bin/told, all]", notify(&["/bin/told", "all"], 10)),
        ("{command: /bin/told, timeout: 1m}", notify(&["/bin/told"], 60)),
        ("{command: [/bin/told, all]}", notify(&["/bin/told", "all"], 10)),
        (
            "{socket: /run/bgp/lbx.sock}",
            Some(NotifyTarget::Socket("/run/bgp/lbx.sock".into())),
        ),
        ("none", None),
    ] {
        assert_eq!(service(&format!("notify: {written}")).notify, expected, "{written}");
    }
}
