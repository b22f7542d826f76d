//! What `lbx list` shows: made by the daemon, printed by the client, in ipvsadm's layout or as JSON.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use crate::desired::{Protocol, Scheduler};

/// The state of a director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the daemon.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// NICs the program is attached to.
    pub interfaces: Vec<Interface>,
    /// Records the flow table has room for.
    pub flow_capacity: u64,
    /// Live records.
    pub flows: u64,
    /// Services, by VIP, port and protocol.
    pub services: Vec<Service>,
    /// Dropped packets by reason, all reasons.
    pub drops: BTreeMap<String, u64>,
}

/// A NIC the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, or `none` where the program has been detached by somebody.
    pub mode: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// VIP.
    pub vip: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// Its connections are estimated: not every flow has a record.
    pub estimated: bool,
    /// What it has carried.
    pub traffic: Traffic,
    /// Its real servers, in the order of the file, then those that drain.
    pub servers: Vec<Server>,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// RIP.
    pub address: IpAddr,
    /// Weight.
    pub weight: u16,
    /// Whether it takes part.
    pub state: State,
    /// Its MAC address, where known.
    pub mac: Option<String>,
    /// The NIC it is reached by, where known.
    pub interface: Option<String>,
    /// Established connections (UDP: flows).
    pub active: u64,
    /// Half-open and closing connections.
    pub inactive: u64,
    /// What it has carried.
    pub traffic: Traffic,
}

/// Whether a real server takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It gets connections as its weight says.
    Up,
    /// Weight 0, or no longer in the file: it keeps its connections and gets no new ones.
    Draining,
    /// Its MAC address is not known: it gets nothing.
    Unresolved,
}

/// Counters since the service was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// New connections scheduled; UDP: flows recorded.
    pub connections: u64,
    /// Packets sent on.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
}

impl From<lbx_common::counters::Traffic> for Traffic {
    fn from(traffic: lbx_common::counters::Traffic) -> Self {
        Self {
            connections: traffic.connections,
            packets: traffic.packets,
            bytes: traffic.bytes,
        }
    }
}

/// What a listing shows of each real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Forward, weight, connections: `ipvsadm -Ln`.
    Connections,
    /// Counters: `ipvsadm -Ln --stats`.
    Stats,
}

impl Report {
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
            "lbx Virtual Server version {} (size={})",
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
            for server in &service.servers {
                let what = match server.state {
                    State::Up => continue,
                    State::Draining => "draining: keeps its connections, gets no new ones",
                    State::Unresolved => "no MAC address: does it answer ARP? It gets no connections",
                };
                writeln!(f, "# {} {}: {what}", service.name, server.address)?;
            }
        }
        if self.services.iter().any(|service| service.estimated) {
            writeln!(
                f,
                "# (estimated): connections are counted from SYN, FIN and RST; no flow is recorded"
            )?;
        }
        for interface in self.interfaces.iter().filter(|interface| interface.mode != "native") {
            writeln!(f, "# {}: XDP mode {}", interface.name, interface.mode)?;
        }
        for (reason, packets) in self.drops.iter().filter(|(_, packets)| **packets > 0) {
            writeln!(f, "# dropped {packets}: {reason}")?;
        }
        Ok(())
    }
}

impl Service {
    fn write_rows(&self, f: &mut String, columns: Columns) -> fmt::Result {
        let protocol = self.protocol.to_string().to_uppercase();
        let address = format!("{}:{}", self.vip, self.port);
        match columns {
            Columns::Connections => {
                let flags = if self.estimated { " (estimated)" } else { "" };
                writeln!(f, "{protocol:<4} {address} {}{flags}", self.scheduler)?;
            }
            Columns::Stats => writeln!(f, "{}", self.traffic.row(&format!("{protocol:<4} {address}")))?,
        }
        for server in &self.servers {
            let address = format!("{}:{}", server.address, self.port);
            match columns {
                Columns::Connections => writeln!(
                    f,
                    "  -> {address:<28} {:<7} {:<6} {:<10} {:<10}",
                    "Route", server.weight, server.active, server.inactive
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
    use super::*;

    fn report() -> Report {
        let server = |last, active| Server {
            address: IpAddr::from([192, 168, 1, last]),
            weight: 1,
            state: State::Up,
            mac: None,
            interface: None,
            active,
            inactive: 0,
            traffic: Traffic {
                connections: 3,
                packets: 20,
                bytes: 1_286,
            },
        };
        Report {
            version: "0.1.0".into(),
            name: "lbx".into(),
            pid: 1,
            interfaces: vec![Interface {
                name: "eth0".into(),
                mode: "native".into(),
            }],
            flow_capacity: 1_048_576,
            flows: 0,
            services: vec![Service {
                name: "web".into(),
                vip: IpAddr::from([192, 168, 1, 160]),
                port: 80,
                protocol: Protocol::Tcp,
                scheduler: Scheduler::Rr,
                estimated: false,
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
            "lbx Virtual Server version 0.1.0 (size=1048576)\n\
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

    #[test]
    fn what_an_operator_should_know_stands_below() {
        let mut report = report();
        report.services[0].estimated = true;
        report.services[0].servers[1].state = State::Unresolved;
        report.drops.insert("truncated".into(), 3);
        let table = report.table(Columns::Connections);
        assert!(table.contains("TCP  192.168.1.160:80 rr (estimated)\n"), "{table}");
        assert!(table.contains("# web 192.168.1.190: no MAC address"), "{table}");
        assert!(table.ends_with("# dropped 3: truncated\n"), "{table}");
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
