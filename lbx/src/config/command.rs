//! Commands that lbx runs: health checks by command, and those that are told what happens.

use std::{collections::BTreeMap, time::Duration};

use super::{
    error::Fault,
    field::Field,
    limits,
    node::Value,
    text::{is_printable, text},
    time,
};
use crate::desired::{Exec, Notify};

pub(super) const EXEC: [&str; 3] = ["command", "environment", "weight"];
pub(super) const NOTIFY: [&str; 2] = ["command", "timeout"];

/// What the names of variables that lbx sets itself begin with.
const OWN: &str = "LBX_";
/// Time for a command that is told what happens, unless the file says otherwise.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// A check by command.
pub(super) fn exec(field: &Field<'_>) -> Result<Exec, Fault> {
    let fields = field.fields(&EXEC)?;
    Ok(Exec {
        command: command(&fields.required("command", "give a program, or a list of a program and its arguments")?)?,
        environment: match fields.optional("environment")? {
            Some(field) => environment(&field)?,
            None => BTreeMap::new(),
        },
        weight: super::value::boolean_or(&fields, "weight", false)?,
    })
}

/// Who is told what happens; none: nobody.
pub(super) fn notify(field: &Field<'_>) -> Result<Option<Notify>, Fault> {
    let (written, timeout) = match field.value() {
        value if value.is_text("none") => return Ok(None),
        Value::Mapping(_) => {
            let fields = field.fields(&NOTIFY)?;
            let command = fields.required("command", "give a program, or a list of a program and its arguments")?;
            (command, fields.optional("timeout")?)
        }
        _ => (field.clone(), None),
    };
    Ok(Some(Notify {
        command: command(&written)?,
        timeout: match timeout {
            Some(timeout) => time::duration(&timeout, "a time for a command", limits::NOTIFY)?,
            None => NOTIFY_TIMEOUT,
        },
    }))
}

/// A program, or a list of a program and its arguments.
fn command(field: &Field<'_>) -> Result<Vec<String>, Fault> {
    let Value::List(_) = field.value() else {
        let program = program(field)?;
        if program.contains(char::is_whitespace) {
            return Err(field.fault(format!(
                "{} has white space: no shell splits it, so give a list of the program and its arguments",
                field.value()
            )));
        }
        return Ok(vec![program]);
    };
    let expected = "list the program and its arguments";
    let items = field.at_most(limits::ARGUMENTS, "words in a command", expected)?;
    let Some((first, arguments)) = items.split_first() else {
        return Err(field.fault(format!("the list is empty: {expected}")));
    };
    let arguments = arguments.iter().map(argument);
    std::iter::once(program(first)).chain(arguments).collect()
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

fn environment(field: &Field<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let mut variables = BTreeMap::new();
    for (key, value) in field.entries(limits::VARIABLES, "variables")? {
        let name = text(
            &key,
            "the name of a variable",
            limits::VARIABLE,
            "without =, white space or a control character",
            |text| is_printable(text) && !text.contains(['=', ' ']),
        )?;
        if name.starts_with(OWN) {
            return Err(key.fault(format!("names that begin with {OWN} are lbx's own: choose another")));
        }
        if variables.insert(name.to_owned(), argument(&value)?).is_some() {
            return Err(key.fault("given twice: leave one out"));
        }
    }
    Ok(variables)
}
