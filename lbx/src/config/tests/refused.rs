//! Refusals, word for word: files, syntax, fields, and what may not be there twice, too often or not at all.

use std::path::{Path, PathBuf};

use super::{SAMPLE, assert_refused, assert_texts_refused};
use crate::config::load;

/// A file in the temporary directory, gone at the end of the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("lbx-config-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let missing = load(Path::new("/nonexistent/lb.yaml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/nonexistent/lb.yaml: cannot be read: No such file or directory (os error 2)"
    );
    let directory = load(Path::new("/")).unwrap_err();
    assert_eq!(directory.to_string(), "/: cannot be read: Is a directory (os error 21)");
    let file = TemporaryFile::new("not-utf8.yaml", b"interface: eth0\nmode: \xe4\xff\n");
    assert_eq!(
        load(&file.0).unwrap_err().to_string(),
        format!("{}:2:7: not UTF-8: save the file as UTF-8", file.0.display())
    );
    let endless = load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(endless.to_string(), "/dev/zero: larger than 64 MiB");
}

#[test]
fn documents() {
    let refusals = [
        (
            "",
            "lb.yaml:1:1: the file is empty: it needs at least interface and services",
        ),
        (
            "# all gone\n",
            "lb.yaml:2:1: the file is empty: it needs at least interface and services",
        ),
        (
            "null",
            "lb.yaml:1:1: the file is empty: it needs at least interface and services",
        ),
        (
            "[eth0]",
            "lb.yaml:1:1: a list is not a mapping: use the fields interface, mode, network_grace, timeouts, tables, defaults, services",
        ),
        (
            "web",
            "lb.yaml:1:1: \"web\" is not a mapping: use the fields interface, mode, network_grace, timeouts, tables, defaults, services",
        ),
    ];
    assert_texts_refused(refusals.map(|(text, expected)| (text.to_owned(), expected)));
}

#[test]
fn syntax() {
    assert_refused(&[
        (
            "port: 80",
            "port: 80: tcp",
            "lb.yaml:7:13: not valid YAML: mapping values are not allowed in this context",
        ),
        (
            "mode: auto",
            "mode: \"auto",
            "lb.yaml:2:7: not valid YAML: unclosed quote",
        ),
        (
            "mode: auto",
            "\tmode: auto",
            "lb.yaml:1:12: not valid YAML: while scanning a plain scalar, found a tab",
        ),
        (
            "port: 80",
            "port: *http",
            "lb.yaml:7:11: not valid YAML: the alias has no anchor above it",
        ),
        (
            "port: 80",
            "port: !http 80",
            "lb.yaml:7:17: not valid YAML: unsupported tag `!http`",
        ),
        (
            "services:",
            "---\nservices:",
            "lb.yaml:5:1: not valid YAML: a second document begins here, and one is all there may be",
        ),
    ]);
}

#[test]
fn fields() {
    assert_refused(&[
        (
            "interface: eth0\n",
            "",
            "lb.yaml:1:1: interface: is missing: name the NIC where clients arrive, or a list of them",
        ),
        (
            "interface: eth0",
            "interfaces: eth0",
            "lb.yaml:1:1: interfaces: unknown field: known here are interface, mode, network_grace, timeouts, tables, defaults, services",
        ),
        (
            "services:",
            "3: x\nservices:",
            "lb.yaml:4:1: 3 is not a field name: known here are interface, mode, network_grace, timeouts, tables, defaults, services",
        ),
        (
            "services:",
            "\"a b\": x\nservices:",
            "lb.yaml:4:1: \"a b\": unknown field: known here are interface, mode, network_grace, timeouts, tables, defaults, services",
        ),
        (
            "services:",
            "mode: native\nservices:",
            "lb.yaml:4:1: mode: given twice: it is already on line 2",
        ),
        (
            "established",
            "establish",
            "lb.yaml:3:12: timeouts.establish: unknown field: known here are half_open, established, closing, closed, udp",
        ),
        (
            "{established: 15m}",
            "15m",
            "lb.yaml:3:11: timeouts: \"15m\" is not a mapping: use the fields half_open, established, closing, closed, udp",
        ),
        (
            "mode: auto",
            "mode:",
            "lb.yaml:2:5: mode: is empty: give it a value or leave it out",
        ),
        (
            "    port: 80\n",
            "",
            "lb.yaml:5:5: services[0].port: is missing: give the port that clients connect to",
        ),
        (
            "port: 80",
            "port:",
            "lb.yaml:7:9: services[0].port: is empty: give the port that clients connect to",
        ),
        (
            "- name: web\n    vip: 192.168.1.160",
            "- name: web",
            "lb.yaml:5:5: services[0].vip: is missing: give the address that clients connect to",
        ),
        (
            "scheduler: rr",
            "schedulr: rr",
            "lb.yaml:9:5: services[0].schedulr: unknown field: known here are name, vip, port, protocol, scheduler, flags, slots, persistence, drain_persistence, one_packet, sorry_server, quic, health, on_failure, on_empty, drain_timeout, quorum, slow_start, notify, local, realservers",
        ),
        (
            "scheduler: rr",
            "port: 81",
            "lb.yaml:9:5: services[0].port: given twice: it is already on line 7",
        ),
        (
            "- 192.168.1.185",
            "- {weight: 1}",
            "lb.yaml:11:9: services[0].realservers[0].address: is missing: give the real server's own address",
        ),
        (
            "- 192.168.1.185",
            "- {address: 192.168.1.185, wieght: 1}",
            "lb.yaml:11:34: services[0].realservers[0].wieght: unknown field: known here are address, weight, upper, lower, quic_id",
        ),
        (
            "- 192.168.1.185",
            "-",
            "lb.yaml:11:8: services[0].realservers[0]: is empty: give it a value or leave it out",
        ),
        (
            "- 192.168.1.185",
            "- [192.168.1.185]",
            "lb.yaml:11:9: services[0].realservers[0]: a list is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "realservers:\n      - 192.168.1.185\n      - ",
            "realservers: ",
            "lb.yaml:10:18: services[0].realservers: a mapping is not a list: use a list of real servers",
        ),
        (
            "realservers:\n      - 192.168.1.185\n      - {address: 192.168.1.190, weight: 1}",
            "realservers: 192.168.1.185",
            "lb.yaml:10:18: services[0].realservers: \"192.168.1.185\" is not a list: use a list of real servers",
        ),
    ]);
}

#[test]
fn given_twice() {
    let more = |service: &str| format!("{SAMPLE}  - {{{service}, realservers: [192.168.1.185]}}\n");
    assert_texts_refused([
        (
            more("vip: 192.168.1.160, port: 80"),
            "lb.yaml:13:32: services[1].port: 192.168.1.160:80/tcp is already services[0].port (line 7)",
        ),
        (
            more("name: web, vip: 192.168.1.161, port: 80"),
            "lb.yaml:13:12: services[1].name: \"web\" is already services[0].name (line 5)",
        ),
        (
            more("name: '192.168.1.161:80/tcp', vip: 192.168.1.160, port: 81")
                + "  - {vip: 192.168.1.161, port: 80, realservers: [192.168.1.185]}\n",
            "lb.yaml:14:5: services[2]: \"192.168.1.161:80/tcp\" is already services[1].name (line 13)",
        ),
        (
            "interface: eth0\nservices:\n  - &web {vip: 10.0.0.1, port: 80, realservers: [10.0.0.2]}\n  - *web\n"
                .to_owned(),
            "lb.yaml:4:5: services[1].port: 10.0.0.1:80/tcp is already services[0].port (line 3)",
        ),
    ]);
    assert_refused(&[(
        "192.168.1.190",
        "192.168.1.185",
        "lb.yaml:12:19: services[0].realservers[1].address: 192.168.1.185 is already services[0].realservers[0] (line 11)",
    )]);
}

#[test]
fn too_few_or_too_many() {
    let head = "interface: eth0\nservices:";
    let list = |count: usize, item: &dyn Fn(usize) -> String| -> String { (0..count).map(item).collect() };
    let servers = |count| list(count, &|i| format!("\n    - 10.1.{}.{}", i >> 8, i & 255));
    let services = |count, servers: &str| {
        list(count, &|i| {
            format!(
                "\n  - vip: 10.0.{}.{}\n    port: 80\n    realservers:{servers}",
                i >> 8,
                i & 255
            )
        })
    };
    assert_texts_refused([
        (
            format!("{head} []"),
            "lb.yaml:2:11: services: no services: give at least one, so that a file cut short never takes all down",
        ),
        (
            head.to_owned(),
            "lb.yaml:2:9: services: is empty: list what clients connect to",
        ),
        (
            format!("{head}{}", services(1, " []")),
            "lb.yaml:5:18: services[0].realservers: no real servers: to drain one, keep it with weight 0",
        ),
        (
            format!("{head}{}", services(16_384, " [10.1.0.1]")),
            "lb.yaml:3:3: services: 16384 services: lbx holds 16383 at most",
        ),
        (
            format!("{head}{}", services(1, &servers(4097))),
            "lb.yaml:6:7: services[0].realservers: 4097 real servers: lbx holds 4096 at most",
        ),
        (
            format!("{head}{}", services(17, &servers(4096))),
            "lb.yaml:65587:5: services[16]: too many real servers: lbx holds 65536 at most in all services together",
        ),
        (
            format!(
                "interface: [{}]{}",
                list(33, &|i| format!("eth{i},")),
                services(1, " [10.1.0.1]").replacen('\n', "\nservices:\n", 1)
            ),
            "lb.yaml:1:12: interface: 33 interfaces: lbx holds 32 at most",
        ),
    ]);
}
