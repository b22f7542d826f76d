//! What errors of an HTTP connection mean, whether they come with the head or within the body.

use std::{error::Error as _, io};

use super::tls;
use crate::health::failure::ProbeFailure;

/// The failure that an error of the HTTP connection stands for.
pub fn connection_failure(error: hyper::Error) -> ProbeFailure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return tls::tls_failure(io);
        }
        source = cause.source();
    }
    if error.is_parse() || error.is_user() {
        ProbeFailure::MalformedReply(error.to_string())
    } else {
        ProbeFailure::ConnectionClosed
    }
}
