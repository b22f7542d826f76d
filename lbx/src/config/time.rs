//! Times: how long something may take, and how often it happens.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::{error::Fault, field::Field, limits, node::Value};

/// Units by their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// A time in whole seconds: a plain number of them, or a number with s, m or h.
pub(super) fn seconds(field: &Field<'_>) -> Result<u16, Fault> {
    whole(field, "a timeout", limits::TIMES)
}

/// The same, where 0 means at once.
pub(super) fn seconds_or_none(field: &Field<'_>) -> Result<u16, Fault> {
    whole(field, "a time", 0..=*limits::TIMES.end())
}

fn whole(field: &Field<'_>, what: &str, range: RangeInclusive<u64>) -> Result<u16, Fault> {
    milliseconds(field.value(), &UNITS[1..])
        .map(|milliseconds| milliseconds / 1000)
        .filter(|seconds| range.contains(seconds))
        .and_then(|seconds| u16::try_from(seconds).ok())
        .ok_or_else(|| {
            let [start, end] = [range.start(), range.end()].map(|seconds| Shown(Duration::from_secs(*seconds)));
            field.is_not(
                what,
                format_args!("use {start} to {end}, in whole seconds or with s, m or h"),
            )
        })
}

/// A time that may be less than a second: a plain number of seconds, or a number with ms, s, m or h.
pub(super) fn duration(field: &Field<'_>, what: &str, range: RangeInclusive<Duration>) -> Result<Duration, Fault> {
    milliseconds(field.value(), &UNITS)
        .map(Duration::from_millis)
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| {
            let (start, end) = (Shown(*range.start()), Shown(*range.end()));
            field.is_not(
                what,
                format_args!("use {start} to {end}, in whole seconds or with ms, s, m or h"),
            )
        })
}

fn milliseconds(value: &Value, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = match value {
        Value::Integer(seconds) => (u64::try_from(*seconds).ok()?, "s"),
        Value::Text(text) => {
            let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            (digits.parse().ok()?, unit)
        }
        _ => return None,
    };
    let (_, length) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*length)
}

/// A time as the file may have it, in the longest unit that fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let fits = |length: &u64| milliseconds.is_multiple_of(u128::from(*length));
        let (unit, length) = UNITS
            .into_iter()
            .rev()
            .find(|(_, length)| milliseconds != 0 && fits(length))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", milliseconds / u128::from(length))
    }
}
