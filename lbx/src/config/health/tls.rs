//! TLS of a check.

use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{Fault, Faults, Field, Folder, Parts, limits};
use crate::{
    config::{field::Fields, text::text, value},
    desired::Tls,
};

pub(in crate::config) const TLS: [&str; 3] = ["server_name", "verify", "authorities"];

/// What a certificate in a PEM file begins with (RFC 7468 section 5).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The fields of TLS among those of a check.
pub(super) fn read(fields: &Fields<'_>, folder: Folder<'_>) -> Result<Tls, Faults> {
    let verify = value::boolean_or(fields, "verify", true);
    let is_unverified = verify == Ok(false);
    let (server_name, verify, authorities) = (
        fields.read_optional("server_name", server_name),
        verify,
        fields.read_optional("authorities", |field| match is_unverified {
            true => Err(field.fault("needs verify: true: leave one of them out")),
            false => authorities(field, folder),
        }),
    )
        .all()?;
    Ok(Tls {
        server_name,
        verify,
        ca_file: authorities,
    })
}

fn server_name(field: &Field<'_>) -> Result<String, Fault> {
    let kind = "like example.org or 192.0.2.1, without a port";
    let is_server = |text: &str| is_name(text) || text.parse::<IpAddr>().is_ok();
    text(field, "a server name", limits::HOST, kind, is_server).map(str::to_owned)
}

fn authorities(field: &Field<'_>, folder: Folder<'_>) -> Result<PathBuf, Fault> {
    let good = |text: &str| !text.contains(char::is_control);
    let kind = "without control characters";
    let file = folder
        .0
        .join(text(field, "a file name", limits::FILE_NAME, kind, good)?);
    match certificates(&file) {
        Ok(()) => Ok(file),
        Err(why) => Err(field.fault(format!("{}: {why}: name a PEM file", file.display()))),
    }
}

/// Whether a file can be read and holds certificates; if not, why.
fn certificates(file: &Path) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(limits::AUTHORITIES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > limits::AUTHORITIES => {
            Err(format!("larger than {} MiB", limits::AUTHORITIES >> 20))
        }
        Ok(_) if !bytes.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) => {
            Err("holds no certificate".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// Whether this may be the name of a host: labels of letters, digits, - and _ (RFC 1123 section 2.1). An IPv4 address
/// looks like one.
pub(super) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
