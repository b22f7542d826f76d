//! A report as ipvsadm prints it.

use std::fmt::{self, Write as _};

use super::report::{RealServer, ServerState, Service, StatusReport, Traffic};
use crate::{
    desired::{BracketedAddress, PortSet, Protocol},
    health::ProbeFailure,
};

/// What a listing shows of each real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Forward, weight, connections: `ipvsadm -Ln`.
    Connections,
    /// Counters: `ipvsadm -Ln --stats`.
    Stats,
}

impl StatusReport {
    /// The table as ipvsadm prints it, and below it what an operator should know.
    #[must_use]
    pub fn table(&self, columns: Columns) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write_table(&mut text, columns);
        text
    }

    fn write_table(&self, f: &mut String, columns: Columns) -> fmt::Result {
        writeln!(
            f,
            "IP Virtual Server version {} (size={})",
            self.version, self.flow_capacity
        )?;
        match columns {
            Columns::Connections => {
                writeln!(f, "Prot LocalAddress:Port Scheduler Flags")?;
                writeln!(
                    f,
                    "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"
                )?;
            }
            Columns::Stats => {
                writeln!(
                    f,
                    "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes"
                )?;
                writeln!(f, "  -> RemoteAddress:Port")?;
            }
        }
        for service in &self.services {
            service.write_rows(f, columns)?;
        }
        self.write_notes(f)
    }

    /// What the table has no column for; every line starts with `#`.
    fn write_notes(&self, f: &mut String) -> fmt::Result {
        for service in &self.services {
            if !service.has_quorum {
                writeln!(f, "# {}: quorum lost: too few real servers are up", service.name)?;
            }
            for warning in &service.warnings {
                writeln!(f, "# {}: {warning}", service.name)?;
            }
            if let Some(note) = service.estimate_note() {
                writeln!(f, "# {}: {note}", service.name)?;
            }
            for server in &service.servers {
                for note in server.notes() {
                    writeln!(f, "# {} {}: {note}", service.name, server.address)?;
                }
            }
        }
        for interface in self
            .interfaces
            .iter()
            .filter(|interface| interface.xdp_mode != "native")
        {
            writeln!(f, "# {}: XDP mode {}", interface.name, interface.xdp_mode)?;
        }
        for interface in &self.interfaces {
            for warning in &interface.warnings {
                writeln!(f, "# {}: {warning}", interface.name)?;
            }
        }
        for (reason, packets) in self.drops.iter().filter(|(_, packets)| **packets > 0) {
            writeln!(f, "# dropped {packets}: {reason}")?;
        }
        Ok(())
    }
}

impl RealServer {
    /// Whether it is unresolved for want of a route.
    fn is_unreachable(&self) -> bool {
        let silent = ProbeFailure::NoMac.to_string();
        self.reason.as_ref().is_some_and(|reason| *reason != silent)
    }

    /// What the table has no column for.
    fn notes(&self) -> Vec<String> {
        let state = match self.state {
            ServerState::Up => None,
            ServerState::Draining => Some(match self.drain_seconds_left {
                Some(seconds) => format!("draining: keeps its connections for {seconds} s more, gets no new ones"),
                None => "draining: keeps its connections, gets no new ones".to_owned(),
            }),
            ServerState::Unresolved if self.is_unreachable() => Some(format!(
                "not reachable: {}; it gets no connections",
                self.reason.as_deref().unwrap_or_default()
            )),
            ServerState::Unresolved if self.address.is_ipv6() => {
                Some("no MAC address: does it answer neighbour discovery? It gets no connections".to_owned())
            }
            ServerState::Unresolved => Some("no MAC address: does it answer ARP? It gets no connections".to_owned()),
            ServerState::Down => Some(format!("down: {}", self.reason.as_deref().unwrap_or("unknown"))),
            ServerState::Sorry => {
                Some("sorry server: gets new connections while no real server is available".to_owned())
            }
        };
        let weight = match self.effective_weight {
            Some(weight) if self.state == ServerState::Up && weight != self.weight => {
                Some(format!("effective weight {weight}"))
            }
            _ => None,
        };
        let cut = self.drain_seconds_left.filter(|_| self.state != ServerState::Draining);
        let cut = cut.map(|seconds| format!("draining: its connections are re-scheduled in {seconds} s"));
        state
            .into_iter()
            .chain(weight)
            .chain(cut)
            .chain(self.warnings.iter().cloned())
            .collect()
    }
}

impl Service {
    /// How its connections are counted, where that is not by their records.
    fn estimate_note(&self) -> Option<&'static str> {
        self.connections_estimated.then_some(match self.protocol {
            Protocol::Tcp => "connections estimated from SYN, FIN and RST: flows are hashed, not recorded",
            Protocol::Udp => "connections not counted: flows are hashed, not recorded",
        })
    }

    /// Its ports as a table shows them; as in ipvsadm 0 stands for all.
    fn ports(&self) -> String {
        if self.ports.is_empty() {
            return self.port.to_string();
        }
        PortSet::Ranges(self.ports.clone()).to_string()
    }

    fn write_rows(&self, f: &mut String, columns: Columns) -> fmt::Result {
        let protocol = self.protocol.to_string().to_uppercase();
        let address = format!("{}:{}", BracketedAddress(self.vip), self.ports());
        match columns {
            Columns::Connections => {
                let words = self.scheduling.ipvsadm_text(self.vip);
                writeln!(f, "{protocol:<4} {address} {words}")?;
            }
            Columns::Stats => writeln!(f, "{}", self.traffic.row(&format!("{protocol:<4} {address}")))?,
        }
        for server in &self.servers {
            let address = format!("{}:{}", BracketedAddress(server.address), self.port);
            match columns {
                Columns::Connections => writeln!(
                    f,
                    "  -> {address:<28} {:<7} {:<6} {:<10} {:<10}",
                    "Route", server.weight, server.active_connections, server.inactive_connections
                )?,
                Columns::Stats => writeln!(f, "{}", server.traffic.row(&format!("  -> {address}")))?,
            }
        }
        Ok(())
    }
}

impl Traffic {
    /// A row of ipvsadm's `--stats`. Nothing comes back through a director of direct server return.
    fn row(&self, what: &str) -> String {
        format!(
            "{what:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
            scaled(self.connections),
            scaled(self.packets),
            0,
            scaled(self.bytes),
            0
        )
    }
}

/// A number as ipvsadm prints it: from 1e8 on in K, from 1e9 in M, 1e11 in G, 1e14 in T.
fn scaled(number: u64) -> String {
    match number {
        0..100_000_000 => number.to_string(),
        100_000_000..1_000_000_000 => format!("{}K", number / 1_000),
        1_000_000_000..100_000_000_000 => format!("{}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{}G", number / 1_000_000_000),
        _ => format!("{}T", number / 1_000_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use super::*;
    use crate::{
        control::{
            report::{Interface, RealServer},
            scheduling::Scheduling,
        },
        desired::{Persistence, Scheduler},
    };

    fn report() -> StatusReport {
        let server = |last, active| RealServer {
            address: IpAddr::from([192, 168, 1, last]),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            quic_id: None,
            state: ServerState::Up,
            reason: None,
            drain_seconds_left: None,
            effective_weight: None,
            warnings: Vec::new(),
            mac: None,
            interface: None,
            active_connections: active,
            inactive_connections: 0,
            traffic: Traffic {
                connections: 3,
                packets: 20,
                bytes: 1_286,
            },
        };
        StatusReport {
            version: "0.1.0".into(),
            name: "lbx".into(),
            pid: 1,
            interfaces: vec![Interface {
                name: "eth0".into(),
                xdp_mode: "native".into(),
                warnings: Vec::new(),
            }],
            flow_capacity: 1_048_576,
            flow_records: 0,
            services: vec![Service {
                name: "web".into(),
                vip: IpAddr::from([192, 168, 1, 160]),
                port: 80,
                ports: vec![80..=80],
                protocol: Protocol::Tcp,
                scheduling: Scheduling {
                    scheduler: Scheduler::Rr,
                    flags: Vec::new(),
                    persistence: None,
                    one_packet: false,
                },
                slots: None,
                sorry_server: None,
                quic: false,
                health_check: None,
                has_quorum: true,
                warnings: Vec::new(),
                connections_estimated: false,
                traffic: Traffic {
                    connections: 7,
                    packets: 47,
                    bytes: 3_018,
                },
                servers: vec![server(185, 1), server(190, 0)],
            }],
            drops: BTreeMap::new(),
        }
    }

    #[test]
    fn connections_look_like_ipvsadm() {
        assert_eq!(
            report().table(Columns::Connections),
            "IP Virtual Server version 0.1.0 (size=1048576)\n\
             Prot LocalAddress:Port Scheduler Flags\n\
             \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
             TCP  192.168.1.160:80 rr\n\
             \x20 -> 192.168.1.185:80             Route   1      1          0         \n\
             \x20 -> 192.168.1.190:80             Route   1      0          0         \n"
        );
    }

    #[test]
    fn counters_look_like_ipvsadm() {
        let table = report().table(Columns::Stats);
        let rows: Vec<_> = table.lines().skip(3).collect();
        assert_eq!(
            rows,
            [
                "TCP  192.168.1.160:80                    7       47        0     3018        0",
                "  -> 192.168.1.185:80                    3       20        0     1286        0",
                "  -> 192.168.1.190:80                    3       20        0     1286        0",
            ]
        );
    }

    /// The rows of a service with its first real server.
    fn rows(change: impl FnOnce(&mut Service)) -> Vec<String> {
        let mut report = report();
        change(&mut report.services[0]);
        let table = report.table(Columns::Connections);
        table
            .lines()
            .skip(3)
            .take(2)
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn several_ports_and_how_they_are_scheduled() {
        let several = rows(|service| {
            service.ports = vec![80..=80, 443..=443, 8000..=8099];
            service.scheduling.scheduler = Scheduler::Sh;
            service.scheduling.flags = vec!["sh-port".to_owned()];
            service.scheduling.persistence = Some(Persistence {
                timeout_seconds: 300,
                prefix: 24,
                persist_while_draining: true,
            });
        });
        assert_eq!(
            several,
            [
                "TCP  192.168.1.160:80,443,8000-8099 sh (sh-port) persistent 300 mask 255.255.255.0",
                "  -> 192.168.1.185:80             Route   1      1          0",
            ]
        );
        let all = rows(|service| {
            (service.port, service.ports) = (0, Vec::new());
            service.protocol = Protocol::Udp;
            service.scheduling.one_packet = true;
        });
        assert_eq!(
            all,
            [
                "UDP  192.168.1.160:0 rr ops",
                "  -> 192.168.1.185:0              Route   1      1          0",
            ]
        );
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let ipv6 = rows(|service| {
            service.vip = "2001:db8::160".parse().unwrap();
            service.servers[0].address = "2001:db8::185".parse().unwrap();
        });
        assert_eq!(
            ipv6,
            [
                "TCP  [2001:db8::160]:80 rr",
                "  -> [2001:db8::185]:80           Route   1      1          0",
            ]
        );
    }

    #[test]
    fn json_keeps_what_it_had_and_reads_what_had_less() {
        let report = report();
        let mut json = serde_json::to_value(&report).unwrap();
        let service = json["services"][0].as_object_mut().unwrap();
        assert_eq!(service["scheduler"], "rr");
        assert_eq!(service["ports"], serde_json::json!([{ "start": 80, "end": 80 }]));
        let added = [
            "ports",
            "flags",
            "persistence",
            "one_packet",
            "slots",
            "sorry_server",
            "quic",
            "health_check",
            "has_quorum",
        ];
        assert!(added.iter().all(|field| service.remove(*field).is_some()));
        let server = service["servers"][0].as_object_mut().unwrap();
        assert!(
            [
                "upper_threshold",
                "lower_threshold",
                "quic_id",
                "reason",
                "drain_seconds_left",
                "effective_weight",
                "warnings"
            ]
            .iter()
            .all(|field| server.remove(*field).is_some())
        );
        assert!(
            json["interfaces"][0]
                .as_object_mut()
                .unwrap()
                .remove("warnings")
                .is_some()
        );
        let before: StatusReport = serde_json::from_value(json).unwrap();
        assert_eq!(before.table(Columns::Connections), report.table(Columns::Connections));
    }

    #[test]
    fn what_an_operator_should_know_stands_below() {
        let mut report = report();
        report.services[0].connections_estimated = true;
        report.services[0].servers[1].state = ServerState::Unresolved;
        report.services[0].servers[0].state = ServerState::Down;
        report.services[0].servers[0].reason = Some("connection refused".into());
        report.services[0].servers[0].warnings = vec!["answers ARP for the VIP".into()];
        report.services[0].has_quorum = false;
        report.interfaces[0].warnings = vec!["replies are dropped".into()];
        report.drops.insert("truncated".into(), 3);
        let table = report.table(Columns::Connections);
        assert!(table.contains("TCP  192.168.1.160:80 rr\n"), "{table}");
        let estimated = "# web: connections estimated from SYN, FIN and RST: flows are hashed, not recorded\n";
        assert!(table.contains(estimated), "{table}");
        assert!(table.contains("# web 192.168.1.190: no MAC address"), "{table}");
        assert!(table.contains("# web: quorum lost"), "{table}");
        let notes = "# web 192.168.1.185: down: connection refused\n# web 192.168.1.185: answers ARP for the VIP\n";
        assert!(table.contains(notes), "{table}");
        assert!(
            table.ends_with("# eth0: replies are dropped\n# dropped 3: truncated\n"),
            "{table}"
        );
    }

    #[test]
    fn the_time_left_of_a_drain_stands_below() {
        let mut report = report();
        report.services[0].servers[0].state = ServerState::Draining;
        report.services[0].servers[0].drain_seconds_left = Some(573);
        report.services[0].servers[1].state = ServerState::Down;
        report.services[0].servers[1].reason = Some("connection refused".into());
        report.services[0].servers[1].drain_seconds_left = Some(20);
        let table = report.table(Columns::Connections);
        let notes = "\
# web 192.168.1.185: draining: keeps its connections for 573 s more, gets no new ones
# web 192.168.1.190: down: connection refused
# web 192.168.1.190: draining: its connections are re-scheduled in 20 s
";
        assert!(table.ends_with(notes), "{table}");
    }

    #[test]
    fn large_numbers_are_scaled_as_ipvsadm_does() {
        assert_eq!(scaled(99_999_999), "99999999");
        assert_eq!(scaled(100_000_000), "100000K");
        assert_eq!(scaled(1_000_000_000), "1000M");
        assert_eq!(scaled(100_000_000_000), "100G");
        assert_eq!(scaled(100_000_000_000_000), "100T");
    }
}
