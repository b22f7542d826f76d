//! `lb.yaml`: as written, with the place of every value, validated into the desired state.
//!
//! - `node`: the file as written, a tree of values with their places;
//! - `field`: a value with the path that leads to it, and every refusal made from it;
//! - `value`: single values: weights, addresses, masks, choices; `time`: times; `text`: names and other text;
//! - `ports`: what a service's `port` may say, and who has which port;
//! - `service`: one service: which fields it has, and which go together; `real_server`: its real servers;
//! - `health`: how real servers are checked; `command`: commands that lbx runs;
//! - `failure_policy`: health checks of services and the consequences of failures, by themselves or by `defaults`;
//! - `file`: the whole file, and what services must not have in common;
//! - `limits`: how much there may be of anything;
//! - [`ConfigError`]: file, line, column, field, what is wrong and what was expected.
//!
//! All faults are reported, in the order of the file; nothing is guessed and nothing unknown is passed over. Fields that
//! depend on others are compared only where all of them could be read, so that one mistake is one line.

mod command;
mod error;
mod failure_policy;
mod field;
mod file;
mod health;
mod limits;
mod node;
mod ports;
mod real_server;
mod service;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;

use std::{fs::File, io::Read, path::Path};

pub use error::{ConfigError, Fault, Position};
pub(crate) use time::Shown;
pub(crate) use value::reserved;

use crate::desired::DesiredState;

/// Reads and validates a configuration file.
///
/// # Errors
/// The file cannot be read, or what it says is wrong.
pub fn load(path: &Path) -> Result<DesiredState, ConfigError> {
    let refuse = |place, message| {
        let field = String::new();
        ConfigError::new(
            path,
            Fault {
                position: place,
                field,
                message,
            },
        )
    };
    let bytes = read(path).map_err(|error| refuse(None, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limits::FILE {
        return Err(refuse(None, format!("larger than {} MiB", limits::FILE >> 20)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let place = Position::after(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
        refuse(Some(place), "not UTF-8: save the file as UTF-8".to_owned())
    })?;
    parse(text, path)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Validates the text of a configuration; `file` is what errors name.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(text: &str, file: &Path) -> Result<DesiredState, ConfigError> {
    let root = node::parse(text).map_err(|fault| ConfigError::new(file, fault))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    file::desired(&field::Field::root(&root), folder).map_err(|faults| ConfigError::new(file, faults))
}
