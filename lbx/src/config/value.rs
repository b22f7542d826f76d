//! Single values: numbers, times, addresses, names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use serde::{
    Deserialize,
    de::{IntoDeserializer, StdError, value::StrDeserializer},
};

use super::{error::Fault, field::Field, node::Value};

/// Longest interface name in bytes (IFNAMSIZ less the terminating zero, linux/if.h).
const MAX_INTERFACE_NAME: usize = 15;
/// Longest service name in bytes: listings have columns.
const MAX_NAME: usize = 64;
/// Idle timeouts in seconds, 1 s to 16 h: they are kept in a u16 of seconds.
const TIMEOUT: RangeInclusive<u64> = 1..=16 * 3600;

/// A port; 0 would be all ports.
pub(super) fn port(field: &Field<'_>) -> Result<u16, Fault> {
    if matches!(field.value(), Value::Integer(0)) {
        return Err(field.fault("port 0 (all ports) needs persistence, which this version has not: use 1 to 65535"));
    }
    number(field, "a port", 1..=u16::MAX)
}

/// A weight; 0 drains.
pub(super) fn weight(field: &Field<'_>) -> Result<u16, Fault> {
    number(field, "a weight", 0..=u16::MAX)
}

fn number(field: &Field<'_>, what: &str, range: RangeInclusive<u16>) -> Result<u16, Fault> {
    let (start, end) = (range.start(), range.end());
    let Value::Integer(value) = field.value() else {
        return Err(field.is_not(what, format_args!("use a plain number from {start} to {end}")));
    };
    u16::try_from(*value)
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| field.is_not(what, format_args!("use {start} to {end}")))
}

/// A time in whole seconds: a plain number of them, or a number with s, m or h.
pub(super) fn seconds(field: &Field<'_>) -> Result<u16, Fault> {
    let seconds = match field.value() {
        Value::Integer(seconds) => u64::try_from(*seconds).ok(),
        Value::Text(text) => parse_seconds(text),
        _ => None,
    };
    seconds
        .filter(|seconds| TIMEOUT.contains(seconds))
        .and_then(|seconds| u16::try_from(seconds).ok())
        .ok_or_else(|| field.is_not("a timeout", "use 1s to 16h, in whole seconds or with s, m or h"))
}

fn parse_seconds(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds)
}

/// An IPv4 address that one host can have; `role` says for what, with its article.
pub(super) fn address(field: &Field<'_>, role: &str) -> Result<Ipv4Addr, Fault> {
    let expected = "write it like 192.0.2.1, without port or prefix length";
    let Value::Text(text) = field.value() else {
        return Err(field.is_not("an IPv4 address", expected));
    };
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(field.fault(format!("{text} is an IPv6 address: IPv6 is not supported yet")));
    }
    let address: Ipv4Addr = text.parse().map_err(|_| field.is_not("an IPv4 address", expected))?;
    match reserved(address.into()) {
        Some(class) => Err(field.fault(format!("{address} cannot be {role}: it is {class}"))),
        None => Ok(address),
    }
}

/// Why an address cannot be that of one host, for others on its network to reach (RFC 1122 section 3.2.1.3, RFC 1112
/// section 4, RFC 4291 section 2.4).
pub(crate) fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => reserved4(address),
        IpAddr::V6(address) => reserved6(address),
    }
}

fn reserved6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("the loopback address"),
        [0, 0, 0, 0, 0, 0xffff, ..] => Some("an IPv4 address in the form of IPv6: write it as IPv4"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address, which means another host on every link"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        _ => None,
    }
}

fn reserved4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("in 0.0.0.0/8, which means this network"),
        [127, ..] => Some("a loopback address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        [240..=255, ..] => Some("in 240.0.0.0/4, which is reserved (class E)"),
        _ => None,
    }
}

/// Name of a network interface, as the kernel allows it (dev_valid_name, net/core/dev.c).
pub(super) fn interface(field: &Field<'_>) -> Result<String, Fault> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    name(
        field,
        "an interface name",
        MAX_INTERFACE_NAME,
        "'/', ':' or white space",
        bad,
    )
}

/// Name of a service.
pub(super) fn service_name(field: &Field<'_>) -> Result<String, Fault> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    name(field, "a service name", MAX_NAME, "white space", bad)
}

fn name(field: &Field<'_>, what: &str, max: usize, without: &str, bad: fn(char) -> bool) -> Result<String, Fault> {
    match field.value() {
        Value::Text(text) if (1..=max).contains(&text.len()) && !text.contains(bad) && text != "." && text != ".." => {
            Ok(text.clone())
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            Err(field.is_not(what, "to use it as one, put it in quotes"))
        }
        _ => Err(field.is_not(what, format_args!("use 1 to {max} bytes without {without}"))),
    }
}

/// One of the names that serde knows for `T`; `what` says what the names are of.
pub(super) fn choice<T: for<'de> Deserialize<'de>>(field: &Field<'_>, what: &str) -> Result<T, Fault> {
    let name = match field.value() {
        Value::Text(text) => text,
        // No name has no characters, so that the refusal lists the known ones.
        _ => "",
    };
    let deserializer: StrDeserializer<'_, Unknown> = name.into_deserializer();
    T::deserialize(deserializer).map_err(|Unknown(known)| {
        let expected = format!("use {}", or_list(known));
        match field.value() {
            Value::Text(_) => field.fault(format!("unknown {what} {}: {expected}", field.value())),
            _ => field.is_not(format_args!("a {what}"), expected),
        }
    })
}

/// The names that would have been right.
#[derive(Debug)]
struct Unknown(&'static [&'static str]);

impl serde::de::Error for Unknown {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

impl StdError for Unknown {}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&or_list(self.0))
    }
}

fn or_list(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        names => names.concat(),
    }
}
