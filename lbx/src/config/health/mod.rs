//! How real servers are checked: what is asked, how often, and what counts.
//!
//! - `http`, `tls`, `datagram`: what the checks of that kind may say; `exec` is in `command`, beside `notify`.

pub(super) mod datagram;
pub(super) mod http;
pub(super) mod tls;

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use super::{
    command,
    error::{Fault, Faults, Parts},
    field::{Field, Fields},
    limits,
    node::Value,
    text, time, value,
};
use crate::{
    desired::{Check, CheckedAddress, Damping, HealthConfig, InitialState, PortSet},
    health::check::validate,
};

/// The kinds of checks.
pub(super) const CHECKS: [&str; 7] = ["tcp", "http", "https", "dns", "udp", "exec", "ping"];
/// What every check may say besides.
pub(super) const COMMON: [&str; 9] = [
    "target", "port", "interval", "timeout", "rise", "fall", "initial", "jitter", "damping",
];
pub(super) const DAMPING: [&str; 3] = ["failures", "within", "hold"];
/// The word for no check.
const NONE: &str = "none";

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u32 = 2;
const FALL: u32 = 3;
const JITTER: u8 = 10;
const FAILURES: u32 = 3;
const FLAPPING: Duration = Duration::from_secs(60);

/// Where relative paths begin: the folder of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'f>(pub(super) &'f Path);

/// Reads checks, and lets those that are equal be one.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    folder: Folder<'f>,
    seen: HashSet<Arc<HealthConfig>>,
}

impl<'f> Reader<'f> {
    /// For a configuration in this folder.
    pub(super) fn new(folder: &'f Path) -> Self {
        Self {
            folder: Folder(folder),
            seen: HashSet::new(),
        }
    }

    /// What a `health` field says; none: nothing is checked.
    pub(super) fn read(&mut self, field: &Field<'_>) -> Result<Option<Arc<HealthConfig>>, Faults> {
        if field.value().is_text(NONE) {
            return Ok(None);
        }
        let health = self.health(field)?;
        if let Some(seen) = self.seen.get(&health) {
            return Ok(Some(Arc::clone(seen)));
        }
        let health = Arc::new(health);
        self.seen.insert(Arc::clone(&health));
        Ok(Some(health))
    }

    fn health(&self, field: &Field<'_>) -> Result<HealthConfig, Faults> {
        if let Value::Text(_) = field.value() {
            let words: Vec<_> = CHECKS.into_iter().chain([NONE]).collect();
            let name = text::one_of(field, "check", &words)?;
            let implied = field.implied(name);
            return implied.mapping(&COMMON, |fields| common(self.check(name, &implied), fields));
        }
        field.mapping(&[&CHECKS[..], &COMMON].concat(), |fields| {
            let check = fields.only_one(&CHECKS, "what is asked");
            common(check.and_then(|(name, check)| self.check(name, &check)), fields)
        })
    }

    fn check(&self, name: &str, field: &Field<'_>) -> Result<Check, Faults> {
        let check = match name {
            "http" => Check::Http(http::http(field)?),
            "https" => Check::Http(http::https(field, self.folder)?),
            "dns" => Check::Dns(datagram::question(field)?),
            "udp" => Check::Udp(datagram::udp(field)?),
            "exec" => Check::Exec(command::exec(field)?),
            bare => {
                field.no_fields()?;
                if bare == "tcp" { Check::Tcp } else { Check::Ping }
            }
        };
        // What is left is what the libraries that carry it out are stricter about than the words above.
        validate(&check).map_err(|error| field.fault(error.to_string()))?;
        Ok(check)
    }
}

/// A check with what all of them may say.
fn common(check: Result<Check, Faults>, fields: &Fields<'_>) -> Result<HealthConfig, Faults> {
    let probes = |field: &Field<'_>| value::number(field, "a number of probes", limits::PROBES);
    let (target, port) = (target(check.as_ref().ok(), fields), port(check.as_ref().ok(), fields));
    let ((check, target, port), (interval, timeout), (rise, fall), initial, jitter, damping) = (
        (check, target, port).all(),
        interval_and_timeout(fields),
        (
            fields.read_or("rise", RISE, probes),
            fields.read_or("fall", FALL, probes),
        )
            .all(),
        fields.read_or("initial", InitialState::default(), |field| {
            value::choice(field, "beginning")
        }),
        fields.read_or("jitter", JITTER, |field| {
            value::number(field, "a percentage of the interval", limits::JITTER)
        }),
        fields.read_optional("damping", damping),
    )
        .all()?;
    Ok(HealthConfig {
        target,
        port,
        interval,
        timeout,
        rise,
        fall,
        initial,
        jitter_percent: jitter,
        damping,
        check,
    })
}

/// A probe has ended when the next begins: those of a real server that does not answer would pile up.
fn interval_and_timeout(fields: &Fields<'_>) -> Result<(Duration, Duration), Faults> {
    let longest = *limits::INTERVALS.end();
    let (interval, timeout) = (
        fields.read_or("interval", INTERVAL, |field| {
            time::duration(field, "an interval", limits::INTERVALS)
        }),
        fields.read_optional("timeout", |field| {
            let timeout = time::duration(field, "a timeout", limits::SHORTEST_TIMEOUT..=longest)?;
            Ok::<_, Fault>((timeout, field.clone()))
        }),
    )
        .all()?;
    match timeout {
        None => Ok((interval, TIMEOUT.min(interval))),
        Some((timeout, field)) if timeout > interval => Err(field
            .fault(format!(
                "{} is longer than the interval, {}: a probe must end before the next begins",
                time::Shown(timeout),
                time::Shown(interval)
            ))
            .into()),
        Some((timeout, _)) => Ok((interval, timeout)),
    }
}

/// The address that is probed.
fn target(check: Option<&Check>, fields: &Fields<'_>) -> Result<CheckedAddress, Faults> {
    let default = match check {
        Some(Check::Ping) => CheckedAddress::Rip,
        _ => CheckedAddress::default(),
    };
    fields.read_or("target", default, |field| match check {
        Some(Check::Ping) => Err(field.fault("ping always probes the RIP: leave target out")),
        Some(Check::Exec(_)) => {
            Err(field.fault("exec checks have no target, the command gets VIP and RIP: leave target out"))
        }
        _ => value::choice(field, "target"),
    })
}

fn port(check: Option<&Check>, fields: &Fields<'_>) -> Result<Option<u16>, Faults> {
    fields.read_optional("port", |field| match check {
        Some(Check::Ping) => Err(field.fault("ping has no port: leave it out")),
        _ => value::number(field, "a port", limits::PORTS),
    })
}

fn damping(field: &Field<'_>) -> Result<Damping, Faults> {
    let time = |field: &Field<'_>| time::duration(field, "a time of damping", limits::DAMPING);
    field.mapping(&DAMPING, |fields| {
        let (failures, within, hold) = (
            fields.read_or("failures", FAILURES, |field| {
                value::number(field, "a number of failures", limits::PROBES)
            }),
            fields.read_or("within", FLAPPING, time),
            fields.read_or("hold", FLAPPING, time),
        )
            .all()?;
        Ok(Damping {
            failures,
            period: within,
            hold_time: hold,
        })
    })
}

/// A check asks one port: of a service that has several the file must say which.
pub(super) fn refuse_unstated_port(
    health: &HealthConfig,
    field: &Field<'_>,
    name: &str,
    ports: &PortSet,
) -> Result<(), Fault> {
    if health.port.is_some()
        || health.check == Check::Ping
        || (ports.table_entry_count() == 1 && *ports != PortSet::All)
    {
        return Ok(());
    }
    let which = match ports {
        PortSet::All => "all ports".to_owned(),
        ports => format!("the ports {ports}"),
    };
    Err(field.fault(format!(
        "needs port: service {name:?} has {which}, and a check probes one"
    )))
}
