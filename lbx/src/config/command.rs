//! Commands that lbx runs: health checks by command, and notifications, which may go to a socket instead.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    error::{Fault, Faults, Parts},
    field::{Field, Fields, Unique},
    limits,
    node::Value,
    text::{is_printable, text},
    time,
};
use crate::desired::{Exec, NotifyCommand, NotifyTarget};

pub(super) const EXEC: [&str; 3] = ["command", "environment", "weight"];
pub(super) const NOTIFY: [&str; 3] = ["command", "timeout", "socket"];

/// What the names of variables that lbx sets itself begin with.
const OWN: &str = "LBX_";
/// Time for a notify command, unless the file says otherwise.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// A check by command.
pub(super) fn exec(field: &Field<'_>) -> Result<Exec, Faults> {
    field.mapping(&EXEC, |fields| {
        let (command, environment, weight) = (
            required_command(fields),
            fields.read_or("environment", BTreeMap::new(), environment),
            super::value::boolean_or(fields, "weight", false),
        )
            .all()?;
        Ok(Exec {
            command,
            environment,
            weight_from_exit_code: weight,
        })
    })
}

/// What gets notifications; none: there are no notifications.
pub(super) fn notify(field: &Field<'_>) -> Result<Option<NotifyTarget>, Faults> {
    let target = match field.value() {
        value if value.is_text("none") => return Ok(None),
        Value::Mapping(_) => field.mapping(&NOTIFY, notify_target)?,
        _ => NotifyTarget::Command(NotifyCommand {
            command: command(field)?,
            timeout: NOTIFY_TIMEOUT,
        }),
    };
    Ok(Some(target))
}

/// A command with its timeout, or a socket.
fn notify_target(fields: &Fields<'_>) -> Result<NotifyTarget, Faults> {
    let (kind, target) = fields.only_one(&["command", "socket"], "what is notified")?;
    if kind == "socket" {
        let timeout = match fields.optional("timeout")? {
            Some(timeout) => Err(timeout.fault("is that of a command: a socket is never waited for, leave it out")),
            None => Ok(()),
        };
        let (path, ()) = (socket_path(&target), timeout).all()?;
        return Ok(NotifyTarget::Socket(path));
    }
    let timeout = fields.read_or("timeout", NOTIFY_TIMEOUT, |field| {
        time::duration(field, "a time for a command", limits::NOTIFY)
    });
    let (command, timeout) = (command(&target), timeout).all()?;
    Ok(NotifyTarget::Command(NotifyCommand { command, timeout }))
}

fn socket_path(field: &Field<'_>) -> Result<PathBuf, Fault> {
    let absolute = |text: &str| text.starts_with('/') && !text.contains(char::is_control);
    let kind = "that begin with /, the whole path of a Unix datagram socket or a FIFO";
    text(field, "the path of a socket", limits::SOCKET_PATH, kind, absolute).map(PathBuf::from)
}

fn required_command(fields: &Fields<'_>) -> Result<Vec<String>, Faults> {
    let expected = "give a program, or a list of a program and its arguments";
    fields.required("command", expected).and_then(|field| command(&field))
}

/// A program, or a list of a program and its arguments.
fn command(field: &Field<'_>) -> Result<Vec<String>, Faults> {
    let Value::List(_) = field.value() else {
        let program = program(field)?;
        if program.contains(char::is_whitespace) {
            return Err(field
                .fault(format!(
                    "{} has white space: it is not run by a shell, so give a list of the program and its arguments",
                    field.value()
                ))
                .into());
        }
        return Ok(vec![program]);
    };
    let expected = "list the program and its arguments";
    let items = field.at_most(limits::ARGUMENTS, "words in a command", expected)?;
    if items.is_empty() {
        return Err(field.fault(format!("the list is empty: {expected}")).into());
    }
    let mut words = std::iter::once(program as fn(&Field<'_>) -> _).chain(std::iter::repeat(argument as _));
    items.read(|item| words.next().unwrap_or(argument)(&item))
}

fn program(field: &Field<'_>) -> Result<String, Fault> {
    let absolute = |text: &str| text.starts_with('/') && !text.contains(char::is_control);
    let kind = "that begin with /, the whole path of a program";
    text(field, "the path of a program", limits::FILE_NAME, kind, absolute).map(str::to_owned)
}

fn argument(field: &Field<'_>) -> Result<String, Fault> {
    let good = |text: &str| !text.contains('\0');
    text(field, "an argument", limits::ARGUMENT, "without a zero byte", good).map(str::to_owned)
}

fn environment(field: &Field<'_>) -> Result<BTreeMap<String, String>, Faults> {
    let mut seen = Unique::default();
    let variables = field.entries(limits::VARIABLES, "variables", |key, value| {
        (variable(key, &mut seen), argument(value)).all()
    })?;
    Ok(variables.into_iter().collect())
}

fn variable(key: &Field<'_>, seen: &mut Unique<String>) -> Result<String, Fault> {
    let name = text(
        key,
        "the name of a variable",
        limits::VARIABLE,
        "without =, white space or a control character",
        |text| is_printable(text) && !text.contains(['=', ' ']),
    )?;
    if name.starts_with(OWN) {
        return Err(key.fault(format!("names that begin with {OWN} are lbx's own: choose another")));
    }
    seen.insert(name.to_owned(), format_args!("{name:?}"), key)?;
    Ok(name.to_owned())
}
