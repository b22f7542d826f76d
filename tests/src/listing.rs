//! What `lbx list` prints, read back: the format of `ipvsadm -Ln` and `ipvsadm -Ln --stats`, with notes on lines of their
//! own that begin with `#`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

/// A service as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// VIP and port.
    pub address: SocketAddr,
    /// Its scheduler, or the numbers of its own in a listing of statistics.
    pub rest: Vec<String>,
    /// Its real servers.
    pub servers: Vec<Server>,
}

/// A real server as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// RIP and port.
    pub address: SocketAddr,
    /// The columns after the address.
    pub columns: Vec<String>,
}

impl Server {
    fn number(&self, column: usize, name: &str) -> Result<u64> {
        let text = self.columns.get(column);
        let text = text.with_context(|| format!("{} has no column {name}: {:?}", self.address, self.columns))?;
        text.parse()
            .with_context(|| format!("column {name} of {}: {text:?}", self.address))
    }

    /// How packets get there (`Route`).
    ///
    /// # Errors
    /// There is no such column.
    pub fn forward(&self) -> Result<&str> {
        Ok(self.columns.first().context("no columns")?)
    }

    /// Weight.
    ///
    /// # Errors
    /// There is no such column.
    pub fn weight(&self) -> Result<u64> {
        self.number(1, "Weight")
    }

    /// ActiveConn.
    ///
    /// # Errors
    /// There is no such column.
    pub fn active(&self) -> Result<u64> {
        self.number(2, "ActiveConn")
    }

    /// InActConn.
    ///
    /// # Errors
    /// There is no such column.
    pub fn inactive(&self) -> Result<u64> {
        self.number(3, "InActConn")
    }

    /// Conns of a listing of statistics.
    ///
    /// # Errors
    /// There is no such column.
    pub fn connections(&self) -> Result<u64> {
        self.number(0, "Conns")
    }
}

/// Reads a listing, with or without statistics.
///
/// # Errors
/// A line is not as `ipvsadm` prints it.
pub fn parse(text: &str) -> Result<Vec<Service>> {
    let mut services: Vec<Service> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = |text: &str| text.parse().with_context(|| format!("address in {line:?}"));
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match words.as_slice() {
            [] | ["#", ..] | [_, "Virtual", "Server", ..] | ["Prot", ..] | ["->", "RemoteAddress:Port", ..] => {}
            ["->", rip, columns @ ..] => {
                let service = services
                    .last_mut()
                    .with_context(|| format!("{line:?} before any service"))?;
                service.servers.push(Server {
                    address: address(rip)?,
                    columns: owned(columns),
                });
            }
            [protocol @ ("TCP" | "UDP"), vip, rest @ ..] => services.push(Service {
                protocol: (*protocol).to_owned(),
                address: address(vip)?,
                rest: owned(rest),
                servers: Vec::new(),
            }),
            _ => bail!("{line:?} is no line of a listing:\n{text}"),
        }
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ipvsadm 1.31 printed it.
    const TABLE: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.9.0.100:80 rr
  -> 10.9.0.12:80                 Route   1      0          3         
# a note of lbx
";
    const STATISTICS: &str = "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.9.0.100:80                       7       47        0     3018        0
  -> 10.9.0.12:80                        3       20        0     1286        0
";

    #[test]
    fn reads_what_ipvsadm_prints() {
        let services = parse(TABLE).unwrap();
        let [service] = services.as_slice() else {
            panic!("{services:?}")
        };
        assert_eq!(
            (service.protocol.as_str(), service.rest.as_slice()),
            ("TCP", ["rr".to_owned()].as_slice())
        );
        assert_eq!(service.address, "10.9.0.100:80".parse().unwrap());
        let server = &service.servers[0];
        assert_eq!(server.forward().unwrap(), "Route");
        let numbers = [server.weight(), server.active(), server.inactive()].map(Result::unwrap);
        assert_eq!(numbers, [1, 0, 3]);
        let six = parse(
            &TABLE
                .replace("10.9.0.100", "[fd00::100]")
                .replace("10.9.0.12", "[fd00::12]"),
        )
        .unwrap();
        assert_eq!(six[0].servers[0].address, "[fd00::12]:80".parse().unwrap());
        assert_eq!(parse(STATISTICS).unwrap()[0].servers[0].connections().unwrap(), 3);
    }

    #[test]
    fn refuses_what_it_does_not() {
        assert!(parse("  -> 10.9.0.12:80  Route 1 0 0").is_err());
        assert!(parse("no director").is_err());
        assert!(parse("TCP  nowhere rr").is_err());
    }
}
