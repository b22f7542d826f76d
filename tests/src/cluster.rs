//! The file a director is given.

use std::{fmt, net::Ipv4Addr};

use crate::lab::{VIP, rip};

/// A configuration of lbx; prints as YAML.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// NICs where clients arrive.
    pub interfaces: Vec<String>,
    /// How the program is attached: `auto`, `native` or `generic`.
    pub mode: &'static str,
    /// What clients connect to.
    pub services: Vec<Service>,
}

/// A service of the configuration.
#[derive(Clone, Debug)]
pub struct Service {
    /// What clients connect to.
    pub vip: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `rr`, `wrr` or `maglev`.
    pub scheduler: &'static str,
    /// Real servers and their weights.
    pub servers: Vec<(Ipv4Addr, u16)>,
}

impl Service {
    /// TCP port 80 of the lab's VIP on its first `count` real servers, all of weight 1.
    #[must_use]
    pub fn web(scheduler: &'static str, count: u8) -> Self {
        Self::weighted(scheduler, &vec![1; count.into()])
    }

    /// TCP port 80 of the lab's VIP on its first real servers, with these weights.
    #[must_use]
    pub fn weighted(scheduler: &'static str, weights: &[u16]) -> Self {
        Self {
            vip: VIP,
            port: 80,
            protocol: "tcp",
            scheduler,
            servers: (1..).map(rip).zip(weights.iter().copied()).collect(),
        }
    }

    /// The same on another port.
    #[must_use]
    pub fn on(self, protocol: &'static str, port: u16) -> Self {
        Self { protocol, port, ..self }
    }
}

impl From<Service> for Cluster {
    /// The service alone, for clients on eth0.
    fn from(service: Service) -> Self {
        Self {
            interfaces: vec!["eth0".to_owned()],
            mode: "auto",
            services: vec![service],
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interfaces.as_slice() {
            [interface] => writeln!(f, "interface: {interface}")?,
            several => writeln!(f, "interface: [{}]", several.join(", "))?,
        }
        if self.mode != "auto" {
            writeln!(f, "mode: {}", self.mode)?;
        }
        writeln!(f, "services:")?;
        for service in &self.services {
            writeln!(f, "  - vip: {}", service.vip)?;
            writeln!(f, "    port: {}", service.port)?;
            writeln!(f, "    protocol: {}", service.protocol)?;
            writeln!(f, "    scheduler: {}", service.scheduler)?;
            writeln!(f, "    realservers:")?;
            for (address, weight) in &service.servers {
                match weight {
                    1 => writeln!(f, "      - {address}")?,
                    _ => writeln!(f, "      - {{ address: {address}, weight: {weight} }}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_yaml() {
        let mut cluster = Cluster::from(Service::weighted("wrr", &[3, 1]));
        cluster.interfaces.push("eth1".to_owned());
        let expected = "\
interface: [eth0, eth1]
services:
  - vip: 192.168.1.160
    port: 80
    protocol: tcp
    scheduler: wrr
    realservers:
      - { address: 192.168.1.185, weight: 3 }
      - 192.168.1.190
";
        assert_eq!(cluster.to_string(), expected);
    }
}
