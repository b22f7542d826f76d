//! MAC addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Context as _, Error};

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everyone.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A locally administered address that shows whose it is: `02:00`, then the IPv4 address; `02:06`, then the end of the
    /// IPv6 address.
    #[must_use]
    pub fn of(address: impl Into<IpAddr>) -> Self {
        match address.into() {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Self([0x02, 0, a, b, c, d])
            }
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                Self([0x02, 0x06, a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let octets = text
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16))
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{text:?} is no MAC address"))?;
        let octets = octets
            .try_into()
            .map_err(|_| anyhow::anyhow!("{text:?} is no MAC address: six octets expected"))?;
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mac = Mac::of(Ipv4Addr::new(192, 168, 1, 160));
        assert_eq!(mac.to_string(), "02:00:c0:a8:01:a0");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert_eq!("2:0:C0:a8:1:A0".parse::<Mac>().unwrap(), mac);
        let mac = Mac::of(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0x1234, 0x160));
        assert_eq!(mac.to_string(), "02:06:12:34:01:60");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "02:00:c0:a8:01", "02:00:c0:a8:01:a0:00", "02:00:c0:a8:01:zz"] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
