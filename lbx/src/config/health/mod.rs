//! How real servers are checked: what is asked, how often, and what counts.
//!
//! - `http`, `tls`, `datagram`: what the checks of that kind may say; `exec` is in `command`, beside `notify`.

pub(super) mod datagram;
pub(super) mod http;
pub(super) mod tls;

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use super::{
    command,
    error::Fault,
    field::{Field, Fields},
    limits,
    node::Value,
    text, time, value,
};
use crate::{
    desired::{Check, Damping, Health, Initial, Ports, Target},
    health::check,
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
    seen: HashSet<Arc<Health>>,
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
    pub(super) fn read(&mut self, field: &Field<'_>) -> Result<Option<Arc<Health>>, Fault> {
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

    fn health(&self, field: &Field<'_>) -> Result<Health, Fault> {
        if let Value::Text(_) = field.value() {
            let words: Vec<_> = CHECKS.into_iter().chain([NONE]).collect();
            let name = text::one_of(field, "check", &words)?;
            return common(
                self.check(name, &field.implied(name))?,
                &field.implied(name).fields(&COMMON)?,
            );
        }
        let fields = field.fields(&[&CHECKS[..], &COMMON].concat())?;
        let (name, check) = fields.only_one(&CHECKS, "what is asked")?;
        common(self.check(name, &check)?, &fields)
    }

    fn check(&self, name: &str, field: &Field<'_>) -> Result<Check, Fault> {
        let check = self.written(name, field)?;
        // Those who probe know more than the form: which record types and response codes there are, for one.
        check::validate(&check).map_err(|error| field.fault(error.to_string()))?;
        Ok(check)
    }

    fn written(&self, name: &str, field: &Field<'_>) -> Result<Check, Fault> {
        Ok(match name {
            "http" => Check::Http(http::http(field)?),
            "https" => Check::Http(http::https(field, self.folder)?),
            "dns" => Check::Dns(datagram::dns(field)?),
            "udp" => Check::Udp(datagram::udp(field)?),
            "exec" => Check::Exec(command::exec(field)?),
            bare => {
                field.no_fields()?;
                if bare == "tcp" { Check::Tcp } else { Check::Ping }
            }
        })
    }
}

/// A check with what all of them may say.
fn common(check: Check, fields: &Fields<'_>) -> Result<Health, Fault> {
    let (interval, timeout) = interval_and_timeout(fields)?;
    let probes = |name, default| match fields.optional(name)? {
        Some(field) => value::number(&field, "a number of probes", limits::PROBES),
        None => Ok(default),
    };
    Ok(Health {
        target: target(&check, fields)?,
        port: port(&check, fields)?,
        interval,
        timeout,
        rise: probes("rise", RISE)?,
        fall: probes("fall", FALL)?,
        initial: match fields.optional("initial")? {
            Some(field) => value::choice(&field, "beginning")?,
            None => Initial::default(),
        },
        jitter: match fields.optional("jitter")? {
            Some(field) => value::number(&field, "a percentage of the interval", limits::JITTER)?,
            None => JITTER,
        },
        damping: fields.optional("damping")?.as_ref().map(damping).transpose()?,
        check,
    })
}

/// A probe has ended when the next begins: those of a real server that does not answer would pile up.
fn interval_and_timeout(fields: &Fields<'_>) -> Result<(Duration, Duration), Fault> {
    let interval = match fields.optional("interval")? {
        Some(field) => time::duration(&field, "an interval", limits::INTERVALS)?,
        None => INTERVAL,
    };
    let Some(field) = fields.optional("timeout")? else {
        return Ok((interval, TIMEOUT.min(interval)));
    };
    let longest = *limits::INTERVALS.end();
    let timeout = time::duration(&field, "a timeout", limits::SHORTEST_TIMEOUT..=longest)?;
    if timeout > interval {
        return Err(field.fault(format!(
            "{} is longer than the interval, {}: a probe must end before the next begins",
            time::Shown(timeout),
            time::Shown(interval)
        )));
    }
    Ok((interval, timeout))
}

fn target(check: &Check, fields: &Fields<'_>) -> Result<Target, Fault> {
    let Some(field) = fields.optional("target")? else {
        return Ok(match check {
            Check::Ping => Target::Rip,
            _ => Target::default(),
        });
    };
    match check {
        Check::Ping => Err(field.fault("ping asks the real server's own address: leave target out")),
        Check::Exec(_) => Err(field.fault("a command is told both addresses and asks as it likes: leave target out")),
        _ => value::choice(&field, "target"),
    }
}

fn port(check: &Check, fields: &Fields<'_>) -> Result<Option<u16>, Fault> {
    match (fields.optional("port")?, check) {
        (None, _) => Ok(None),
        (Some(field), Check::Ping) => Err(field.fault("ping asks no port: leave it out")),
        (Some(field), _) => value::number(&field, "a port", limits::PORTS).map(Some),
    }
}

fn damping(field: &Field<'_>) -> Result<Damping, Fault> {
    let fields = field.fields(&DAMPING)?;
    let time = |name| match fields.optional(name)? {
        Some(field) => time::duration(&field, "a time of damping", limits::DAMPING),
        None => Ok(FLAPPING),
    };
    Ok(Damping {
        failures: match fields.optional("failures")? {
            Some(field) => value::number(&field, "a number of failures", limits::PROBES)?,
            None => FAILURES,
        },
        within: time("within")?,
        hold: time("hold")?,
    })
}

/// A check asks one port: of a service that has several the file must say which.
pub(super) fn refuse_unstated_port(health: &Health, field: &Field<'_>, name: &str, ports: &Ports) -> Result<(), Fault> {
    if health.port.is_some() || health.check == Check::Ping || (ports.count() == 1 && *ports != Ports::All) {
        return Ok(());
    }
    let which = match ports {
        Ports::All => "all ports".to_owned(),
        ports => format!("the ports {ports}"),
    };
    Err(field.fault(format!(
        "needs port: service {name:?} has {which}, and one must be asked"
    )))
}
