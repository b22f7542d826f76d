//! Single values: numbers, addresses, masks, choices.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use serde::{
    Deserialize,
    de::{IntoDeserializer, StdError, value::StrDeserializer},
};

use super::{
    error::{Fault, Faults},
    field::{Field, Fields},
    limits,
    node::Value,
    text::or_list,
};

/// A weight; 0 drains.
pub(super) fn weight(field: &Field<'_>) -> Result<u16, Fault> {
    number(field, "a weight", limits::WEIGHTS)
}

/// A threshold of connections; 0: none.
pub(super) fn threshold(field: &Field<'_>) -> Result<u32, Fault> {
    number(field, "a number of connections", limits::THRESHOLDS)
}

/// A server id in QUIC connection ids.
pub(super) fn quic_id(field: &Field<'_>) -> Result<u16, Fault> {
    number(field, "a server id", limits::QUIC_IDS)
}

/// A plain number in a range.
pub(super) fn number<T>(field: &Field<'_>, what: &str, range: RangeInclusive<T>) -> Result<T, Fault>
where
    T: Copy + PartialOrd + fmt::Display + TryFrom<i128>,
{
    let (start, end) = (range.start(), range.end());
    let Value::Integer(value) = field.value() else {
        return Err(field.is_not(what, format_args!("use a plain number from {start} to {end}")));
    };
    T::try_from(*value)
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| field.is_not(what, format_args!("use {start} to {end}")))
}

/// A number, or a first and a last one with `-` between them.
pub(super) fn range(
    field: &Field<'_>,
    what: &str,
    range_of: &str,
    limits: RangeInclusive<u16>,
    expected: &str,
) -> Result<RangeInclusive<u16>, Fault> {
    let number = |number| u16::try_from(number).ok().filter(|number| limits.contains(number));
    let ends = match field.value() {
        Value::Integer(value) => number(*value).map(|value| (value, value)),
        Value::Text(text) => text
            .split_once('-')
            .and_then(|(first, last)| Some((digits(first).and_then(number)?, digits(last).and_then(number)?))),
        _ => None,
    };
    match ends {
        Some((first, last)) if first > last => Err(field.is_not(range_of, format_args!("write it as {last}-{first}"))),
        Some((first, last)) => Ok(first..=last),
        None => Err(field.is_not(what, expected)),
    }
}

/// A number in digits alone, none of them a zero that leads: that might be meant as octal.
fn digits(text: &str) -> Option<i128> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// A prime in a range that begins and ends with one.
pub(super) fn prime(field: &Field<'_>, what: &str, range: RangeInclusive<u32>) -> Result<u32, Fault> {
    let value = number(field, what, range.clone())?;
    nearest(field, "a prime", value, range, is_prime)
}

/// A power of two in a range that begins and ends with one.
pub(super) fn power_of_two(field: &Field<'_>, what: &str, range: RangeInclusive<u32>) -> Result<u32, Fault> {
    let value = number(field, what, range.clone())?;
    nearest(field, "a power of two", value, range, u32::is_power_of_two)
}

/// The value, if it is what it should be; a refusal names the nearest that are, which the ends of the range must be.
fn nearest(
    field: &Field<'_>,
    what: &str,
    value: u32,
    range: RangeInclusive<u32>,
    is: fn(u32) -> bool,
) -> Result<u32, Fault> {
    if is(value) {
        return Ok(value);
    }
    let (start, end) = range.into_inner();
    let below = (start..value).rev().find(|&value| is(value)).unwrap_or(start);
    let above = (value..=end).find(|&value| is(value)).unwrap_or(end);
    Err(field.is_not(what, format_args!("the nearest are {below} and {above}")))
}

fn is_prime(value: u32) -> bool {
    let value = u64::from(value);
    value > 1 && (2..).take_while(|n| n * n <= value).all(|n| !value.is_multiple_of(n))
}

/// Yes or no.
pub(super) fn boolean(field: &Field<'_>) -> Result<bool, Fault> {
    match field.value() {
        Value::Bool(value) => Ok(*value),
        _ => Err(field.is_not("a boolean", "use true or false")),
    }
}

/// The same of a field that may be left out.
pub(super) fn boolean_or(fields: &Fields<'_>, name: &str, default: bool) -> Result<bool, Faults> {
    fields.read_or(name, default, boolean)
}

/// An address that one host can have; `role` says for what, with its article.
pub(super) fn address(field: &Field<'_>, role: &str) -> Result<IpAddr, Fault> {
    let refusal = || {
        field.is_not(
            "an IP address",
            "write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        )
    };
    let Value::Text(text) = field.value() else {
        return Err(refusal());
    };
    let address: IpAddr = text.parse().map_err(|_| refusal())?;
    match reserved(address) {
        Some(class) => Err(field.fault(format!("{address} cannot be {role}: it is {class}"))),
        None => Ok(address),
    }
}

/// The prefix lengths of networks of clients, by the family of the VIP. The longest means single clients.
pub(super) const fn prefixes(vip: IpAddr) -> RangeInclusive<u8> {
    match vip {
        IpAddr::V4(_) => limits::PREFIXES4,
        IpAddr::V6(_) => limits::PREFIXES6,
    }
}

/// How many leading bits of a client's address count: a prefix length, or for IPv4 a netmask.
pub(super) fn mask(field: &Field<'_>, vip: IpAddr) -> Result<u8, Fault> {
    let range = prefixes(vip);
    let (what, netmask) = match vip {
        IpAddr::V4(_) => ("an IPv4 mask", ", or a netmask like 255.255.255.0"),
        IpAddr::V6(_) => ("an IPv6 mask", ""),
    };
    let bits = match field.value() {
        Value::Integer(bits) => u8::try_from(*bits).ok(),
        Value::Text(text) if vip.is_ipv4() => text.parse().ok().and_then(prefix_length),
        _ => None,
    };
    bits.filter(|bits| range.contains(bits)).ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        field.is_not(what, format_args!("use a prefix length from {start} to {end}{netmask}"))
    })
}

/// The prefix length of a netmask, if its ones come first.
fn prefix_length(netmask: Ipv4Addr) -> Option<u8> {
    let bits = netmask.to_bits();
    let length = bits.leading_ones();
    (bits.count_ones() == length).then_some(length as u8)
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

/// The choice of a field called like what it chooses.
pub(super) fn choice_or_default<T>(fields: &Fields<'_>, name: &str) -> Result<T, Faults>
where
    T: Default + for<'de> Deserialize<'de>,
{
    fields.read_or(name, T::default(), |field| choice(field, name))
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
