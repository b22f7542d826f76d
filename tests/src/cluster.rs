//! The file a director is given.

use std::{fmt, net::IpAddr};

use crate::lab::{VIP, rip, six};

/// A configuration of lbx; prints as YAML.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// NICs where clients arrive.
    pub interfaces: Vec<String>,
    /// How the program is attached: `auto`, `native` or `generic`.
    pub mode: &'static str,
    /// How long a route that is gone is kept, where that is not the default.
    pub network_grace: Option<&'static str>,
    /// Idle timeouts other than the default, in seconds, by their names in the file.
    pub timeouts: Vec<(&'static str, u16)>,
    /// What services have that do not say otherwise, by the names in the file.
    pub defaults: Vec<(&'static str, String)>,
    /// What clients connect to.
    pub services: Vec<Service>,
}

/// A service of the configuration.
#[derive(Clone, Debug)]
pub struct Service {
    /// What clients connect to.
    pub vip: IpAddr,
    /// The port, or the first of them.
    pub port: u16,
    /// All of them as the file has them, where `port` is not the only one.
    pub ports: Option<&'static str>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `rr`, `wlc`, `maglev`, ….
    pub scheduler: &'static str,
    /// Whatever else it has, by the names in the file.
    pub options: Vec<(&'static str, String)>,
    /// Real servers.
    pub servers: Vec<RealServer>,
}

/// A real server of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Its own address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u16,
    /// Connections at which it gets no more, and below which it gets new ones again; 0: no limit.
    pub thresholds: [u32; 2],
}

impl RealServer {
    /// A real server of a weight, without thresholds.
    #[must_use]
    pub fn new(address: impl Into<IpAddr>, weight: u16) -> Self {
        Self {
            address: address.into(),
            weight,
            thresholds: [0; 2],
        }
    }
}

impl fmt::Display for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            weight,
            thresholds,
        } = self;
        match (weight, thresholds) {
            (1, [0, 0]) => write!(f, "{address}"),
            (_, [0, 0]) => write!(f, "{{ address: {address}, weight: {weight} }}"),
            (_, [upper, lower]) => write!(
                f,
                "{{ address: {address}, weight: {weight}, upper: {upper}, lower: {lower} }}"
            ),
        }
    }
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
            vip: VIP.into(),
            port: 80,
            ports: None,
            protocol: "tcp",
            scheduler,
            options: Vec::new(),
            servers: (1..)
                .map(rip)
                .zip(weights)
                .map(|(address, weight)| RealServer::new(address, *weight))
                .collect(),
        }
    }

    /// The same over IPv6.
    #[must_use]
    pub fn over_ipv6(mut self) -> Self {
        let translate = |address: &mut IpAddr| {
            if let IpAddr::V4(old) = address {
                *address = six(*old).into();
            }
        };
        translate(&mut self.vip);
        for server in &mut self.servers {
            translate(&mut server.address);
        }
        self
    }

    /// The same with another field of the file.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: impl fmt::Display) -> Self {
        self.options.push((field, value.to_string()));
        self
    }

    /// The same with thresholds for its n-th real server, from 1.
    ///
    /// # Panics
    /// There is no such server.
    #[must_use]
    pub fn limit(mut self, number: usize, upper: u32, lower: u32) -> Self {
        self.servers[number - 1].thresholds = [upper, lower];
        self
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
            network_grace: None,
            timeouts: Vec::new(),
            defaults: Vec::new(),
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
        if let Some(grace) = self.network_grace {
            writeln!(f, "network_grace: {grace}")?;
        }
        if !self.timeouts.is_empty() {
            writeln!(f, "timeouts:")?;
        }
        for (name, seconds) in &self.timeouts {
            writeln!(f, "  {name}: {seconds}")?;
        }
        if !self.defaults.is_empty() {
            writeln!(f, "defaults:")?;
        }
        for (name, value) in &self.defaults {
            writeln!(f, "  {name}: {value}")?;
        }
        writeln!(f, "services:")?;
        for service in &self.services {
            writeln!(f, "  - vip: {}", service.vip)?;
            match service.ports {
                Some(ports) => writeln!(f, "    port: {ports}")?,
                None => writeln!(f, "    port: {}", service.port)?,
            }
            writeln!(f, "    protocol: {}", service.protocol)?;
            writeln!(f, "    scheduler: {}", service.scheduler)?;
            for (field, value) in &service.options {
                writeln!(f, "    {field}: {value}")?;
            }
            writeln!(f, "    realservers:")?;
            for server in &service.servers {
                writeln!(f, "      - {server}")?;
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

    #[test]
    fn prints_what_else_a_service_has() {
        let service = Service::web("rr", 2).over_ipv6().with("persistence", 3).limit(1, 2, 1);
        let cluster = Cluster {
            timeouts: vec![("udp", 4)],
            defaults: vec![("health", "tcp".to_owned())],
            ..service.into()
        };
        let expected = "\
interface: eth0
timeouts:
  udp: 4
defaults:
  health: tcp
services:
  - vip: fd00:1::160
    port: 80
    protocol: tcp
    scheduler: rr
    persistence: 3
    realservers:
      - { address: fd00:1::185, weight: 1, upper: 2, lower: 1 }
      - fd00:1::190
";
        assert_eq!(cluster.to_string(), expected);
    }
}
