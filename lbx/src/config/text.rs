//! Single values that are text: names, words, bytes.

use std::ops::RangeInclusive;

use super::{error::Fault, field::Field, limits, node::Value};

/// A text of so many bytes that is as it should be; `kind` says how, after the number of bytes.
pub(super) fn text<'a>(
    field: &Field<'a>,
    what: &str,
    lengths: RangeInclusive<usize>,
    kind: &str,
    good: impl Fn(&str) -> bool,
) -> Result<&'a str, Fault> {
    match field.value() {
        Value::Text(text) if lengths.contains(&text.len()) && good(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            Err(field.is_not(what, "to use it as one, put it in quotes"))
        }
        _ => {
            let (start, end) = lengths.into_inner();
            Err(field.is_not(what, format_args!("use {start} to {end} bytes {kind}")))
        }
    }
}

/// Name of a network interface, as the kernel allows it (dev_valid_name, net/core/dev.c).
pub(super) fn interface(field: &Field<'_>) -> Result<String, Fault> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    name(
        field,
        "an interface name",
        limits::INTERFACE_NAME,
        "'/', ':' or white space",
        bad,
    )
}

/// Name of a service.
pub(super) fn service_name(field: &Field<'_>) -> Result<String, Fault> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    name(field, "a service name", limits::SERVICE_NAME, "white space", bad)
}

fn name(field: &Field<'_>, what: &str, max: usize, without: &str, bad: fn(char) -> bool) -> Result<String, Fault> {
    let good = |text: &str| !text.contains(bad) && text != "." && text != "..";
    text(field, what, 1..=max, &format!("without {without}"), good).map(str::to_owned)
}

/// One of a few words.
pub(super) fn one_of<'w>(field: &Field<'_>, what: &str, words: &[&'w str]) -> Result<&'w str, Fault> {
    let expected = || format!("use {}", or_list(words));
    match field.value() {
        Value::Text(text) => words
            .iter()
            .find(|word| *word == text)
            .copied()
            .ok_or_else(|| field.fault(format!("unknown {what} {}: {}", field.value(), expected()))),
        _ => Err(field.is_not(format_args!("a {what}"), expected())),
    }
}

/// A token: a method or the name of a header (RFC 9110 section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(of_token)
}

/// ASCII that can be seen, spaces included.
pub(super) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Bytes written in hexadecimal, two digits each.
pub(super) fn hex(field: &Field<'_>, what: &str, lengths: RangeInclusive<usize>) -> Result<Vec<u8>, Fault> {
    let (start, end) = (lengths.start(), lengths.end());
    let refusal = || {
        let number = if start == end {
            start.to_string()
        } else {
            format!("{start} to {end}")
        };
        field.is_not(what, format_args!("use {number} bytes of two hexadecimal digits each"))
    };
    let digits = match field.value() {
        Value::Text(text) => text,
        Value::Integer(_) | Value::Float(_) => return Err(field.is_not(what, "to use it as one, put it in quotes")),
        _ => return Err(refusal()),
    };
    let (pairs, []) = digits.as_bytes().as_chunks() else {
        return Err(refusal());
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect();
    bytes.filter(|bytes| lengths.contains(&bytes.len())).ok_or_else(refusal)
}

/// Names of which one is to be taken.
pub(super) fn or_list(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        names => names.concat(),
    }
}
