//! `lbx check`: validates the configuration and touches nothing.

mod health;

use std::{fmt::Write as _, net::IpAddr, path::Path};

use clap::Args;

use super::{GlobalOptions, print};
use crate::{
    config,
    control::scheduling::Scheduling,
    dataplane::memory::{self, MapMemory},
    desired::{BracketedAddress, DesiredState, RealServer, Service, Timeouts},
    exit::{ExitError, ExitStatus, WithExitStatus},
    tables::{MapParameters, NextHop, Tables, plan::PlanError},
};

/// Bytes of a table below which it has no line of its own.
const SMALL: u64 = 8 << 10;

/// Arguments of `lbx check`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Reads and validates the file, and says what it describes.
pub fn run(global: &GlobalOptions, _arguments: Arguments) -> Result<(), ExitError> {
    let Some(file) = &global.config else {
        let error = anyhow::anyhow!("no configuration to check: name it with --config FILE");
        return Err(ExitError::new(ExitStatus::Usage, error));
    };
    let desired = config::load(file).with_exit_status(ExitStatus::Config)?;
    fits(&desired).with_exit_status(ExitStatus::Config)?;
    print(&summary(file, &desired, memory::cpus()))?;
    for missing in health::missing_programs(&desired) {
        tracing::warn!("{missing}");
    }
    Ok(())
}

/// Whether the tables have room for all of it once every real server has answered.
fn fits(desired: &DesiredState) -> Result<(), PlanError> {
    let layout = MapParameters {
        slot_capacity: desired.tables.slots,
        port_bucket_count: desired.tables.ports,
        ..MapParameters::default()
    };
    let hop = NextHop {
        mac: [0; 6],
        ifindex: 0,
        vlan_tags: [0; 2],
        source: [0; 6],
    };
    let servers = desired.services.iter().flat_map(Service::server_addresses);
    let hops = servers.map(|server| (server, hop)).collect();
    Tables::new(&layout).plan(desired, &hops, 0).map(drop)
}

/// What a file describes, for a person to compare with what was meant, and what its tables take on a host of so many CPUs.
fn summary(file: &Path, desired: &DesiredState, cpus: u64) -> String {
    let services = desired.services.len();
    let servers: usize = desired.services.iter().map(|service| service.servers.len()).sum();
    let mut text = format!(
        "{}: valid, {}, {}\n\ninterface  {}\nmode       {}\ntimeouts   {}\n\n",
        file.display(),
        count(services, "service"),
        count(servers, "real server"),
        desired.interfaces.join(", "),
        desired.mode,
        timeouts(&desired.timeouts),
    );
    let rows: Vec<_> = desired.services.iter().flat_map(rows).collect();
    table(
        &mut text,
        ["SERVICE", "ADDRESS", "SCHEDULER", "REAL SERVER", "WEIGHT"],
        &rows,
    );
    text.push('\n');
    table(&mut text, ["SERVICE", "HEALTH", "ON FAILURE"], &health::rows(desired));
    let _ = write!(text, "\nprobes     {}\n\n", health::load(desired));
    let rows = memory_rows(&memory::map_memory(&desired.tables, cpus), cpus);
    table(&mut text, ["TABLE", "ENTRIES", "BYTES", "MEMORY"], &rows);
    text
}

/// A line per real server, and one for the sorry server; what its service is stands in the first.
fn rows(service: &Service) -> Vec<[String; 5]> {
    let id = service.virtual_service;
    let mut head = [
        service.name.clone(),
        format!("{}:{}/{}", BracketedAddress(id.vip), service.ports, id.protocol),
        scheduling(service),
    ];
    let servers = service
        .servers
        .iter()
        .map(|server| (server.address, weight(server)))
        .chain(service.sorry_server.map(|address| (address, "sorry server".to_owned())));
    let row = |(address, weight): (IpAddr, String)| {
        let [name, virtual_service, scheduler] = std::mem::take(&mut head);
        [name, virtual_service, scheduler, address.to_string(), weight]
    };
    servers.map(row).collect()
}

/// How a service schedules: in the words of ipvsadm, and in those of the file where ipvsadm has none.
fn scheduling(service: &Service) -> String {
    let mut words = vec![Scheduling::from(service).ipvsadm_text(service.virtual_service.vip)];
    words.extend(service.slots.map(|slots| format!("slots {slots}")));
    if service
        .persistence
        .is_some_and(|persistence| !persistence.persist_while_draining)
    {
        words.push("drain_persistence false".to_owned());
    }
    if service.quic {
        words.push("quic".to_owned());
    }
    words.join(", ")
}

/// The weight of a real server, and what limits and names it.
fn weight(server: &RealServer) -> String {
    let mut words = vec![match server.weight {
        0 => "0 (drains)".to_owned(),
        weight => weight.to_string(),
    }];
    for (what, value) in [("upper", server.upper_threshold), ("lower", server.lower_threshold)] {
        if value != 0 {
            words.push(format!("{what} {value}"));
        }
    }
    words.extend(server.quic_id.map(|id| format!("quic_id {id}")));
    words.join(", ")
}

/// A line per table of some size, one for all the small ones, and the sum.
fn memory_rows(usage: &[MapMemory], cpus: u64) -> Vec<[String; 4]> {
    let row = |name: &str, entries: String, bytes: u64| [name.to_owned(), entries, bytes.to_string(), binary(bytes)];
    let (large, small): (Vec<&MapMemory>, Vec<&MapMemory>) = usage.iter().partition(|usage| usage.bytes >= SMALL);
    let mut rows: Vec<_> = large
        .iter()
        .map(|usage| row(usage.map, usage.capacity.to_string(), usage.bytes))
        .collect();
    rows.push(row(
        "others",
        String::new(),
        small.iter().map(|usage| usage.bytes).sum(),
    ));
    let mut sum = row("all", String::new(), usage.iter().map(|usage| usage.bytes).sum());
    sum[3] = format!("about {}, with the counters of {}", sum[3], count(cpus as usize, "CPU"));
    rows.push(sum);
    rows
}

/// Bytes in MiB, or in KiB where they are fewer.
fn binary(bytes: u64) -> String {
    let (unit, name) = if bytes < 1 << 20 {
        (1 << 10, "KiB")
    } else {
        (1 << 20, "MiB")
    };
    format!("{:.1} {name}", bytes as f64 / f64::from(unit))
}

/// Left-aligned columns; the last is as long as it is.
fn table<const N: usize>(text: &mut String, header: [&str; N], rows: &[[String; N]]) {
    let header = header.map(str::to_owned);
    let all = || std::iter::once(&header).chain(rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in all() {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts {
        half_open_seconds: half_open,
        established_seconds: established,
        closing_seconds: closing,
        closed_seconds: closed,
        udp_seconds: udp,
    } = timeouts;
    format!("half_open {half_open}s, established {established}s, closing {closing}s, closed {closed}s, udp {udp}s")
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(config: Option<&str>) -> GlobalOptions {
        GlobalOptions {
            config: config.map(Into::into),
            name: "lbx".to_owned(),
            log_filter: "info".to_owned(),
        }
    }

    #[test]
    fn says_what_the_file_describes() {
        let text = "
interface: [eth0, eth1]
timeouts: {established: 1h}
services:
  - name: web
    vip: 192.168.1.160
    port: 80
    health: tcp
    realservers: [192.168.1.185, {address: 192.168.1.190, weight: 0}]
  - {vip: 192.168.1.160, port: 53, protocol: udp, scheduler: maglev, realservers: [192.168.1.185]}
";
        let (services, tables) = summary_of(text);
        assert_eq!(
            services,
            "\
lb.yaml: valid, 2 services, 3 real servers

interface  eth0, eth1
mode       auto
timeouts   half_open 60s, established 3600s, closing 120s, closed 10s, udp 300s

SERVICE               ADDRESS               SCHEDULER  REAL SERVER    WEIGHT
web                   192.168.1.160:80/tcp  rr         192.168.1.185  1
                                                       192.168.1.190  0 (drains)
192.168.1.160:53/udp  192.168.1.160:53/udp  maglev     192.168.1.185  1

SERVICE               HEALTH                                                ON FAILURE
web                   tcp on the VIP, every 2s, timeout 1s, rise 2, fall 3  rehash
192.168.1.160:53/udp  none                                                  rehash

probes     2 checks, 1 a second

"
        );
        assert!(
            tables.contains("\nSLOTS          8388608  67108864   64.0 MiB\n"),
            "{tables}"
        );
    }

    #[test]
    fn says_what_services_do_besides() {
        let text = "
interface: eth0
tables: {flows: 1024, flows6: 1024, slots: 16384, ports: 1024, fragments: 1024}
services:
  - name: quic
    vip: 2001:db8::160
    port: [443, 8000-8099]
    protocol: udp
    scheduler: mh
    flags: [mh-port]
    slots: 1021
    persistence: {mask: 64}
    drain_persistence: false
    sorry_server: 2001:db8::99
    quic: true
    realservers: [{address: 2001:db8::185, upper: 100, lower: 80, quic_id: 7}]
  - {name: dns, vip: 192.0.2.1, port: all, protocol: udp, one_packet: true, realservers: [192.0.2.2]}
";
        let (services, tables) = summary_of(text);
        assert_eq!(
            services.split_once("\n\nSERVICE").unwrap().1,
            "  ADDRESS                            SCHEDULER                                                                       REAL SERVER    WEIGHT
quic     [2001:db8::160]:443,8000-8099/udp  mh (mh-port) persistent 300 mask 64, slots 1021, drain_persistence false, quic  2001:db8::185  1, upper 100, lower 80, quic_id 7
                                                                                                                            2001:db8::99   sorry server
dns      192.0.2.1:all/udp                  rr ops                                                                          192.0.2.2      1

SERVICE  HEALTH  ON FAILURE
quic     none    rehash
dns      none    rehash

probes     0 checks, 0 a second

"
        );
        assert_eq!(
            tables,
            "\
TABLE          ENTRIES  BYTES     MEMORY
VIPS           16384    2097152   2.0 MiB
PORTS          1024     65536     64.0 KiB
SERVICES       16384    1048576   1.0 MiB
SLOTS          16384    131072    128.0 KiB
RINGS          262144   2097152   2.0 MiB
CURSORS        16384    131072    128.0 KiB
BACKENDS       262144   16777216  16.0 MiB
LOADS          65536    1048576   1.0 MiB
FLOWS4         1024     16384     16.0 KiB
FLOWS6         1024     32768     32.0 KiB
FRAGMENTS      1024     114688    112.0 KiB
QUIC_IDS       65536    1048576   1.0 MiB
SERVICE_STATS  16384    1179648   1.1 MiB
BACKEND_STATS  65536    4718592   4.5 MiB
SESSIONS       65536    10485760  10.0 MiB
LOCAL_PORTS    1        16384     16.0 KiB
REJECT_LIMITS  16384    131072    128.0 KiB
LOST_FRAMES    256      24576     24.0 KiB
HOST_PACKETS   256      26624     26.0 KiB
others                  3224      3.1 KiB
all                     41194648  about 39.3 MiB, with the counters of 2 CPUs
"
        );
    }

    /// The summary of a text on two CPUs, the tables apart.
    fn summary_of(text: &str) -> (String, String) {
        let file = Path::new("lb.yaml");
        let desired = config::parse(text, file).unwrap();
        fits(&desired).unwrap();
        let summary = summary(file, &desired, 2);
        let at = summary.find("TABLE ").unwrap();
        let (services, tables) = summary.split_at(at);
        (services.to_owned(), tables.to_owned())
    }

    #[test]
    fn needs_a_file() {
        let failure = run(&global(None), Arguments {}).unwrap_err();
        assert_eq!(failure.exit_status, ExitStatus::Usage);
        assert_eq!(
            failure.error.to_string(),
            "no configuration to check: name it with --config FILE"
        );
    }

    #[test]
    fn a_wrong_file_is_a_configuration_error() {
        let failure = run(&global(Some("/does/not/exist.yaml")), Arguments {}).unwrap_err();
        assert_eq!(failure.exit_status, ExitStatus::Config);
    }
}
