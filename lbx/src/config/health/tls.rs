//! TLS of a check.

use std::{fs::File, io::Read, net::IpAddr, path::Path};

use super::{Fault, Folder, limits};
use crate::{
    config::{field::Fields, text::text, value},
    desired::Tls,
};

pub(in crate::config) const TLS: [&str; 3] = ["server_name", "verify", "authorities"];

/// What a certificate in a PEM file begins with (RFC 7468 section 5).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The fields of TLS among those of a check.
pub(super) fn read(fields: &Fields<'_>, folder: Folder<'_>) -> Result<Tls, Fault> {
    let verify = value::boolean_or(fields, "verify", true)?;
    let authorities = fields.optional("authorities")?;
    if let (Some(field), false) = (&authorities, verify) {
        return Err(field.fault("needs verify: true: leave one of them out"));
    }
    Ok(Tls {
        server_name: match fields.optional("server_name")? {
            Some(field) => {
                let kind = "like example.org or 192.0.2.1, without a port";
                let is_server = |text: &str| is_name(text) || text.parse::<IpAddr>().is_ok();
                Some(text(&field, "a server name", limits::HOST, kind, is_server)?.to_owned())
            }
            None => None,
        },
        verify,
        authorities: match authorities {
            Some(field) => {
                let good = |text: &str| !text.contains(char::is_control);
                let name = text(
                    &field,
                    "a file name",
                    limits::FILE_NAME,
                    "without control characters",
                    good,
                )?;
                let file = folder.0.join(name);
                certificates(&file)
                    .map_err(|why| field.fault(format!("{}: {why}: name a PEM file", file.display())))?;
                Some(file)
            }
            None => None,
        },
    })
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
