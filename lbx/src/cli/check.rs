//! `lbx check`: validates the configuration and touches nothing.

use std::{fmt::Write as _, path::Path};

use clap::Args;

use super::{Global, print};
use crate::{
    config,
    desired::{Desired, RealServer, Service, Timeouts},
    exit::{Exit, Failure, OrExit},
    tables::{Hop, Layout, Tables, plan::PlanError},
};

/// Arguments of `lbx check`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Reads and validates the file, and says what it describes.
pub fn run(global: &Global, _arguments: Arguments) -> Result<(), Failure> {
    let Some(file) = &global.config else {
        let error = anyhow::anyhow!("no configuration to check: name it with --config FILE");
        return Err(Failure::new(Exit::Usage, error));
    };
    let desired = config::load(file).or_exit(Exit::Config)?;
    fits(&desired).or_exit(Exit::Config)?;
    print(&summary(file, &desired))?;
    Ok(())
}

/// Whether the tables have room for all of it once every real server has answered.
fn fits(desired: &Desired) -> Result<(), PlanError> {
    let layout = Layout {
        slots: desired.tables.slots,
        ports: desired.tables.ports,
        ..Layout::default()
    };
    let hop = Hop {
        mac: [0; 6],
        ifindex: 0,
        vlan: [0; 2],
        source: [0; 6],
    };
    let servers = desired.services.iter().flat_map(|service| &service.servers);
    let hops = servers.map(|server| (server.address, hop)).collect();
    Tables::new(&layout).plan(desired, &hops, 0).map(drop)
}

const HEADER: [&str; 5] = ["SERVICE", "ADDRESS", "SCHEDULER", "REAL SERVER", "WEIGHT"];
/// Columns that are padded: all but the last.
const COLUMNS: usize = HEADER.len() - 1;

/// What a file describes, for a person to compare with what was meant.
fn summary(file: &Path, desired: &Desired) -> String {
    let services = desired.services.len();
    let servers: usize = desired.services.iter().map(|service| service.servers.len()).sum();
    let rows: Vec<_> = desired.services.iter().flat_map(rows).collect();
    let mut text = format!(
        "{}: valid, {}, {}\n\ninterface  {}\nmode       {}\ntimeouts   {}\n\n",
        file.display(),
        count(services, "service"),
        count(servers, "real server"),
        desired.interfaces.join(", "),
        desired.mode,
        timeouts(&desired.timeouts),
    );
    table(&mut text, &rows);
    text
}

/// A line per real server; what its service is stands in the first.
fn rows(service: &Service) -> Vec<[String; HEADER.len()]> {
    let mut head = [
        service.name.clone(),
        service.virtual_service.to_string(),
        service.scheduler.to_string(),
    ];
    let row = |RealServer { address, weight, .. }: &RealServer| {
        let [name, virtual_service, scheduler] = std::mem::take(&mut head);
        let weight = match weight {
            0 => "0 (drains)".to_owned(),
            weight => weight.to_string(),
        };
        [name, virtual_service, scheduler, address.to_string(), weight]
    };
    service.servers.iter().map(row).collect()
}

fn table(text: &mut String, rows: &[[String; HEADER.len()]]) {
    let header = HEADER.map(str::to_owned);
    let mut widths = [0; COLUMNS];
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String does not fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        text.push_str(&row[COLUMNS]);
        text.push('\n');
    }
}

fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts {
        half_open,
        established,
        closing,
        closed,
        udp,
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

    fn global(config: Option<&str>) -> Global {
        Global {
            config: config.map(Into::into),
            name: "lbx".to_owned(),
            log: "info".to_owned(),
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
    realservers: [192.168.1.185, {address: 192.168.1.190, weight: 0}]
  - {vip: 192.168.1.160, port: 53, protocol: udp, scheduler: maglev, realservers: [192.168.1.185]}
";
        let file = Path::new("lb.yaml");
        let desired = config::parse(text, file).unwrap();
        assert_eq!(
            summary(file, &desired),
            "\
lb.yaml: valid, 2 services, 3 real servers

interface  eth0, eth1
mode       auto
timeouts   half_open 60s, established 3600s, closing 120s, closed 10s, udp 300s

SERVICE               ADDRESS               SCHEDULER  REAL SERVER    WEIGHT
web                   192.168.1.160:80/tcp  rr         192.168.1.185  1
                                                       192.168.1.190  0 (drains)
192.168.1.160:53/udp  192.168.1.160:53/udp  maglev     192.168.1.185  1
"
        );
    }

    #[test]
    fn needs_a_file() {
        let failure = run(&global(None), Arguments {}).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.error.to_string(),
            "no configuration to check: name it with --config FILE"
        );
    }

    #[test]
    fn a_wrong_file_is_a_configuration_error() {
        let failure = run(&global(Some("/does/not/exist.yaml")), Arguments {}).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
    }
}
