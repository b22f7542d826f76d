//! How a service schedules, in JSON and in the words of ipvsadm.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use crate::desired::{Persistence, Scheduler, Service};

/// How a service schedules. Fields that a director of another version does not send are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Scheduler.
    pub scheduler: Scheduler,
    /// Its flags, by their names in IPVS.
    #[serde(default)]
    pub flags: Vec<String>,
    /// How clients persist.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled by itself.
    #[serde(default)]
    pub one_packet: bool,
}

impl From<&Service> for Scheduling {
    fn from(service: &Service) -> Self {
        Self {
            scheduler: service.scheduler,
            flags: service.scheduler_flags().into_iter().map(str::to_owned).collect(),
            persistence: service.persistence,
            one_packet: service.one_packet,
        }
    }
}

impl Scheduling {
    /// What follows the address of the service in `ipvsadm -Ln`. The mask is that of the VIP's family, and single clients
    /// have none.
    #[must_use]
    pub fn ipvsadm_text(&self, vip: IpAddr) -> String {
        let mut words = self.scheduler.to_string();
        // Writing into a String cannot fail.
        if !self.flags.is_empty() {
            let _ = write!(words, " ({})", self.flags.join(","));
        }
        if let Some(Persistence {
            timeout_seconds: timeout,
            prefix,
            ..
        }) = self.persistence
        {
            let _ = write!(words, " persistent {timeout}");
            let _ = match vip {
                IpAddr::V4(_) if prefix < 32 => write!(words, " mask {}", netmask(prefix)),
                IpAddr::V6(_) if prefix < 128 => write!(words, " mask {prefix}"),
                _ => Ok(()),
            };
        }
        if self.one_packet {
            words += " ops";
        }
        words
    }
}

/// The netmask of a prefix length below 32.
fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(!(u32::MAX >> prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(vip: IpAddr, flags: &[&str], persistence: Option<(u16, u8)>, one_packet: bool) -> String {
        let scheduling = Scheduling {
            scheduler: Scheduler::Sh,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            persistence: persistence.map(|(timeout, prefix)| Persistence {
                timeout_seconds: timeout,
                prefix,
                persist_while_draining: true,
            }),
            one_packet,
        };
        scheduling.ipvsadm_text(vip)
    }

    #[test]
    fn words_are_those_of_ipvsadm() {
        let ipv4 = IpAddr::from([192, 0, 2, 1]);
        let ipv6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(words(ipv4, &[], None, false), "sh");
        assert_eq!(
            words(ipv4, &["sh-fallback", "sh-port"], None, true),
            "sh (sh-fallback,sh-port) ops"
        );
        assert_eq!(words(ipv4, &[], Some((300, 32)), false), "sh persistent 300");
        assert_eq!(
            words(ipv4, &["sh-port"], Some((360, 24)), false),
            "sh (sh-port) persistent 360 mask 255.255.255.0"
        );
        assert_eq!(words(ipv4, &[], Some((1, 1)), false), "sh persistent 1 mask 128.0.0.0");
        assert_eq!(words(ipv6, &[], Some((300, 128)), false), "sh persistent 300");
        assert_eq!(words(ipv6, &[], Some((300, 64)), false), "sh persistent 300 mask 64");
    }
}
