//! Checks by single datagrams: DNS questions, and whatever else the file gives.

use std::ops::RangeInclusive;

use super::{Fault, Faults, Field, Parts, limits};
use crate::{
    config::{
        field::Fields,
        node::Value,
        text::{self, is_printable, text},
    },
    desired::{Dns, Udp},
    health::check::dns,
};

pub(in crate::config) const DNS: [&str; 4] = ["name", "type", "rcode", "answer"];
pub(in crate::config) const UDP: [&str; 2] = ["payload", "reply"];
pub(in crate::config) const BYTES: [&str; 1] = ["hex"];

/// A DNS question.
pub(super) fn question(field: &Field<'_>) -> Result<Dns, Faults> {
    let data = |field: &Field<'_>| {
        let kind = "of printable ASCII";
        text(field, "the data of an answer", limits::DNS_ANSWER, kind, is_printable).map(str::to_owned)
    };
    field.mapping(&DNS, |fields| {
        let (name, kind, rcode, answer) = (
            fields.read_or("name", ".".to_owned(), domain),
            word(fields, "type", "a record type", "SOA", dns::is_record_type),
            word(fields, "rcode", "a response code", "NOERROR", dns::is_rcode),
            fields.read_optional("answer", data),
        )
            .all()?;
        Ok(Dns {
            name,
            record_type: kind,
            rcode,
            answer,
        })
    })
}

/// A domain name, made absolute (RFC 1035 section 2.3.4).
fn domain(field: &Field<'_>) -> Result<String, Fault> {
    let is_label = |label: &str| (1..=63).contains(&label.len());
    let is_domain = |text: &str| {
        let labels = text.strip_suffix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"';
        text == "." || (labels.len() <= 253 && text.bytes().all(plain) && labels.split('.').all(is_label))
    };
    let kind = "like example.org, labels of at most 63 between dots";
    let name = text(field, "a domain name", limits::DOMAIN, kind, is_domain)?;
    Ok(if name.ends_with('.') {
        name.to_owned()
    } else {
        format!("{name}.")
    })
}

/// The name of a record type or a response code that is `known`.
fn word(fields: &Fields<'_>, name: &str, what: &str, default: &str, known: fn(&str) -> bool) -> Result<String, Fault> {
    let Some(field) = fields.optional(name)? else {
        return Ok(default.to_owned());
    };
    let good = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    let kind = format!("of capital letters and digits, like {default}");
    match text(&field, what, limits::DNS_WORD, &kind, good)? {
        word if known(word) => Ok(word.to_owned()),
        _ => Err(field.is_not(what, "use one that IANA has a name for")),
    }
}

/// A datagram and the answer it should have.
pub(super) fn udp(field: &Field<'_>) -> Result<Udp, Faults> {
    field.mapping(&UDP, |fields| {
        let (payload, reply) = (
            fields.read_or("payload", Vec::new(), |field| {
                bytes(field, "a payload", limits::DATAGRAM)
            }),
            fields.read_optional("reply", |field| bytes(field, "a reply", 1..=*limits::DATAGRAM.end())),
        )
            .all()?;
        Ok(Udp {
            payload,
            reply_prefix: reply,
        })
    })
}

/// Bytes as text, or in hexadecimal.
fn bytes(field: &Field<'_>, what: &str, lengths: RangeInclusive<usize>) -> Result<Vec<u8>, Faults> {
    match field.value() {
        Value::Mapping(_) => field.mapping(&BYTES, |fields| {
            let hex = fields.required("hex", "give bytes of two hexadecimal digits each")?;
            Ok(text::hex(&hex, what, lengths)?)
        }),
        _ => Ok(text(field, what, lengths, "of text, or { hex: \"00ff\" }", |_| true)?
            .as_bytes()
            .to_vec()),
    }
}
