//! Checks by HTTP: the request, and the answer it should have.

use std::ops::RangeInclusive;

use regex::bytes::Regex;

use super::{Fault, Faults, Field, Folder, Parts, limits, tls};
use crate::{
    config::{
        field::{Fields, Unique},
        node::Value,
        text::{self, is_printable, is_token, text},
        value,
    },
    desired::{ExpectedBody, Http},
};

pub(in crate::config) const HTTP: [&str; 7] = ["method", "path", "host", "headers", "status", "body", "weight"];
pub(in crate::config) const BODY: [&str; 3] = ["matches", "sha256", "md5"];

const METHODS: [&str; 4] = ["GET", "HEAD", "OPTIONS", "POST"];
/// Headers that follow from the rest of the check.
const OWN: [&str; 4] = ["Host", "Connection", "Content-Length", "Transfer-Encoding"];
/// Status codes that pass unless the file says otherwise.
const SUCCESS: (u16, u16) = (200, 299);

/// A check by HTTP.
pub(super) fn http(field: &Field<'_>) -> Result<Http, Faults> {
    field.mapping(&HTTP, request)
}

/// A check by HTTPS; a relative path of authorities begins at `folder`.
pub(super) fn https(field: &Field<'_>, folder: Folder<'_>) -> Result<Http, Faults> {
    let known = [&HTTP[..], &tls::TLS].concat();
    field.mapping(&known, |fields| {
        let (tls, request) = (tls::read(fields, folder), request(fields)).all()?;
        Ok(Http {
            tls: Some(tls),
            ..request
        })
    })
}

fn request(fields: &Fields<'_>) -> Result<Http, Faults> {
    let method = fields.read_or("method", "GET", |field| text::one_of(field, "method", &METHODS));
    let is_bodiless = method == Ok("HEAD");
    let refuse_bodiless = |field: &Field<'_>| match is_bodiless {
        true => Err(field.fault("needs a body, and the answer to HEAD has none: use GET")),
        false => Ok(()),
    };
    let body = fields.read_optional("body", |field| {
        (refuse_bodiless(field), body(field)).all().map(|((), body)| body)
    });
    let weight = fields.read_or("weight", false, |field| {
        let weight = value::boolean(field)?;
        if weight {
            refuse_bodiless(field)?;
        }
        Ok::<_, Fault>(weight)
    });
    let (method, path, host, headers, status, body, weight) = (
        method,
        fields.read_or("path", "/".to_owned(), path),
        fields.read_optional("host", host),
        fields.read_or("headers", Vec::new(), headers),
        fields.read_or("status", vec![SUCCESS], statuses),
        body,
        weight,
    )
        .all()?;
    Ok(Http {
        method: method.to_owned(),
        path,
        host,
        headers,
        expected_status: status,
        expected_body: body,
        tls: None,
        weight_in_body: weight,
    })
}

/// Path and query as they stand in a request (RFC 9112 section 3.2.1).
fn path(field: &Field<'_>) -> Result<String, Fault> {
    let good = |text: &str| text.starts_with('/') && is_printable(text) && !text.contains([' ', '#']);
    let kind = "that begin with /, of printable ASCII without space or #";
    text(field, "a path", limits::PATH, kind, good).map(str::to_owned)
}

/// Name or address, and a port if need be (RFC 9110 section 7.2).
fn host(field: &Field<'_>) -> Result<String, Fault> {
    let kind = "like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]";
    text(field, "a host", limits::HOST, kind, is_host).map(str::to_owned)
}

fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with(['+', '0']);
    let (name, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) => {
            return ipv6(address) && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => text
            .split_once(':')
            .map_or((text, None), |(name, port)| (name, Some(port))),
    };
    tls::is_name(name) && rest.is_none_or(is_port)
}

fn ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Further headers (RFC 9110 section 5).
fn headers(field: &Field<'_>) -> Result<Vec<(String, String)>, Faults> {
    let mut seen = Unique::default();
    field.entries(limits::HEADERS, "headers", |key, value| {
        (header_name(key, &mut seen), header_value(value)).all()
    })
}

fn header_name(key: &Field<'_>, seen: &mut Unique<String>) -> Result<String, Fault> {
    let what = "the name of a header";
    let name = text(key, what, limits::HEADER_NAME, "of letters, digits, - and _", is_token)?;
    if let Some(own) = OWN.iter().find(|own| own.eq_ignore_ascii_case(name)) {
        return Err(key.fault(match *own {
            "Host" => "give it as host, beside headers".to_owned(),
            own => format!("lbx sends {own} as the request needs it: leave it out"),
        }));
    }
    seen.insert(name.to_ascii_lowercase(), format_args!("{name:?}"), key)?;
    Ok(name.to_owned())
}

fn header_value(field: &Field<'_>) -> Result<String, Fault> {
    let good = |text: &str| is_printable(text) && text.trim() == text;
    let kind = "of printable ASCII without spaces at the ends";
    text(field, "the value of a header", limits::HEADER_VALUE, kind, good).map(str::to_owned)
}

/// A status code, a range, or a list of both.
fn statuses(field: &Field<'_>) -> Result<Vec<(u16, u16)>, Faults> {
    let status = |field: &Field<'_>| {
        value::range(
            field,
            "a status code",
            "a range of status codes",
            limits::STATUSES,
            "use 100 to 599, or a range like \"200-299\"",
        )
        .map(RangeInclusive::into_inner)
    };
    let Value::List(_) = field.value() else {
        return Ok(vec![status(field)?]);
    };
    let items = field.at_most(limits::STATUS_RANGES, "status codes", "list status codes")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: give at least one status code").into());
    }
    let mut ranges = items.read(|item| status(&item))?;
    // What means the same is the same, so that services share a check however they write it.
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges)
}

/// What the body must contain or be.
fn body(field: &Field<'_>) -> Result<ExpectedBody, Faults> {
    field.mapping(&BODY, |fields| {
        let body = match fields.only_one(&BODY, "what the body must contain or be")? {
            ("matches", field) => regex(&field).map(ExpectedBody::Regex),
            ("sha256", field) => digest(&field, "a SHA-256 digest").map(ExpectedBody::Sha256),
            (_, field) => digest(&field, "an MD5 digest").map(ExpectedBody::Md5),
        };
        Ok(body?)
    })
}

fn regex(field: &Field<'_>) -> Result<String, Fault> {
    let what = "a regular expression";
    let pattern = text(field, what, limits::REGEX, "of a regular expression", |_| true)?;
    match Regex::new(pattern) {
        Ok(_) => Ok(pattern.to_owned()),
        // The parser draws the pattern with a mark below; what is wrong is in the last line.
        Err(error) => {
            let error = error.to_string();
            let why = error.lines().next_back().unwrap_or_default();
            Err(field.is_not(what, why.trim_start_matches("error: ")))
        }
    }
}

fn digest<const N: usize>(field: &Field<'_>, what: &str) -> Result<[u8; N], Fault> {
    let bytes = text::hex(field, what, N..=N)?;
    let mut digest = [0; N];
    digest.copy_from_slice(&bytes);
    Ok(digest)
}
