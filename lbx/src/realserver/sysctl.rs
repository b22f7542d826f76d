//! The ARP sysctls of NICs: `/proc/sys/net/ipv4/conf/NIC/…`, of the calling thread's network namespace.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::RealServerError;
use crate::net::sysctl;

/// Where the kernel shows them. `conf/all` is no NIC: see [`super::rules::effective_sysctl_value`].
const CONF: &str = "/proc/sys/net/ipv4/conf";
const CONF6: &str = "/proc/sys/net/ipv6/conf";

/// A sysctl of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// For which of its addresses the host answers ARP.
    ArpIgnore,
    /// Which of its addresses the host asks ARP from.
    ArpAnnounce,
    /// Whether a packet must come in by the NIC that leads back to its source; only looked at.
    RpFilter,
}

impl Key {
    /// Its file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// A NIC, or `all`.
    pub nic_or_all: String,
    /// Which sysctl.
    pub key: Key,
    /// The value.
    pub value: i32,
}

impl fmt::Display for Setting {
    /// As sysctl(8) takes it: a dot within a NIC's name is written as a slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conf = self.nic_or_all.replace('.', "/");
        write!(f, "net.ipv4.conf.{conf}.{}={}", self.key, self.value)
    }
}

/// The values of one NIC, or of `all`.
pub type Values = BTreeMap<Key, i32>;

/// Reads the values of a NIC or of `all`; `None` if it has none, as a NIC without IPv4.
///
/// # Errors
/// A file cannot be read or holds no number.
pub fn read(conf: &str) -> Result<Option<Values>, RealServerError> {
    let mut values = Values::new();
    for key in [Key::ArpIgnore, Key::ArpAnnounce, Key::RpFilter] {
        match read_one(conf, key)? {
            Some(value) => values.insert(key, value),
            None => return Ok(None),
        };
    }
    Ok(Some(values))
}

/// Whether a NIC takes IPv6 addresses: not where IPv6 is switched off, or unknown to the kernel.
///
/// # Errors
/// The file cannot be read or holds no number.
pub fn ipv6_on(nic: &str) -> Result<bool, RealServerError> {
    let path = [CONF6, nic, "disable_ipv6"].iter().collect();
    Ok(read_number(path)? == Some(0))
}

/// Reads one value; `None` if the NIC is gone.
///
/// # Errors
/// The file cannot be read or holds no number.
pub fn read_one(conf: &str, key: Key) -> Result<Option<i32>, RealServerError> {
    read_number(path(conf, key))
}

fn read_number(path: PathBuf) -> Result<Option<i32>, RealServerError> {
    sysctl::read_number(&path).map_err(|source| RealServerError::File {
        action: "read",
        path,
        source,
    })
}

/// Writes a value; says whether the NIC was there.
///
/// # Errors
/// The file cannot be written: root or CAP_NET_ADMIN is missing, or /proc/sys is mounted read-only, as in containers.
pub fn write(setting: &Setting) -> Result<bool, RealServerError> {
    let path = path(&setting.nic_or_all, setting.key);
    match fs::write(&path, setting.value.to_string()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(RealServerError::File {
            action: "write",
            path,
            source,
        }),
    }
}

fn path(conf: &str, key: Key) -> PathBuf {
    [CONF, conf, key.name()].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_is_written_as_sysctl_takes_it() {
        let setting = Setting {
            nic_or_all: "eth0.100".into(),
            key: Key::ArpIgnore,
            value: 1,
        };
        assert_eq!(setting.to_string(), "net.ipv4.conf.eth0/100.arp_ignore=1");
        let expected = PathBuf::from("/proc/sys/net/ipv4/conf/eth0.100/arp_ignore");
        assert_eq!(path(&setting.nic_or_all, setting.key), expected);
    }

    #[test]
    fn a_nic_that_is_gone_has_no_values() {
        assert_eq!(read("no-such-nic").unwrap(), None);
    }
}
