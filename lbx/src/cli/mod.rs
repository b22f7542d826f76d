//! The command line: a file per subcommand.

mod check;
mod director;
mod list;
mod realserver;
mod trace;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};

use crate::{
    control::{DEFAULT_NAME, client::ClientError},
    exit::{ExitError, ExitStatus},
};

/// Layer-4 load balancing by direct server return on XDP.
///
/// Without a subcommand lbx is the director: it loads the configuration, attaches its XDP program and balances until it
/// is stopped. SIGHUP reloads the configuration.
#[derive(Debug, Parser)]
#[command(name = "lbx", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
pub struct GlobalOptions {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Name of this director or real server: names its pins, state and socket, so that several run on one host
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, value_parser = parse_name, global = true)]
    pub name: String,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `lbx=debug,info`
    #[arg(
        long = "log",
        value_name = "FILTER",
        default_value = "info",
        env = "LBX_LOG",
        global = true
    )]
    pub log_filter: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validates the configuration and touches nothing
    Check(check::Arguments),
    /// Lists services, real servers and their connections, as `ipvsadm -Ln` does
    List(list::Arguments),
    /// Prints the decisions of the running director, packet by packet
    Trace(trace::Arguments),
    /// Makes this host a real server: VIPs on lo, host routes, ARP kept quiet
    Realserver(realserver::Arguments),
}

/// A name becomes part of paths and of bpffs entries, where dots are not allowed.
fn parse_name(name: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
        return Err("use 1 to 64 letters, digits, - and _".into());
    }
    Ok(name.to_owned())
}

/// Options of [`GlobalOptions`] that a subcommand does not use: not in its help, and refused.
const UNUSED: [(&[&str], &str); 4] = [
    (&["check"], "name"),
    (&["list"], "config"),
    (&["trace"], "config"),
    (&["realserver", "check"], "name"),
];

/// The command line as clap knows it.
fn command() -> clap::Command {
    UNUSED.iter().fold(Cli::command(), |command, (subcommand, option)| {
        hide(command, subcommand, option)
    })
}

/// Hides a global option in a subcommand: an argument of its own takes the place of the global one of this name.
fn hide(command: clap::Command, subcommand: &[&'static str], option: &'static str) -> clap::Command {
    let Some((first, rest)) = subcommand.split_first() else {
        // -c is the only short one.
        let short = (option == "config").then_some('c');
        return command.arg(Arg::new(option).long(option).short(short).hide(true));
    };
    command.mut_subcommand(first, |inner| hide(inner, rest, option))
}

/// Parses a command line.
///
/// # Errors
/// It is wrong, or asks for help.
fn parse(words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    if let Some((subcommand, option)) = unused(&matches) {
        let message = format!("--{option} is not used by `lbx {}`", subcommand.join(" "));
        let mut command = &mut command;
        for name in subcommand {
            command = command
                .find_subcommand_mut(name)
                .expect("the subcommand that was parsed");
        }
        return Err(command.error(ErrorKind::UnknownArgument, message));
    }
    Cli::from_arg_matches(&matches)
}

/// An option that was given and is not used, with its subcommand.
fn unused(matches: &ArgMatches) -> Option<(&'static [&'static str], &'static str)> {
    UNUSED.into_iter().find(|(subcommand, option)| {
        let given = |matches: &ArgMatches| matches.value_source(option) == Some(ValueSource::CommandLine);
        let mut matches = matches;
        let mut is_given = given(matches);
        for name in *subcommand {
            match matches.subcommand() {
                Some((own, inner)) if own == *name => matches = inner,
                _ => return false,
            }
            // A position before the last subcommand is that of the global option.
            is_given |= given(matches);
        }
        is_given && matches.subcommand().is_none()
    })
}

/// Parses the command line, runs what it asks for and reports what went wrong.
pub fn main() -> ExitCode {
    let cli = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    init_log(&cli.global.log_filter);
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ExitError {
            exit_status: exit,
            error,
        }) => {
            for line in format!("{error:#}").lines() {
                eprintln!("lbx: {line}");
            }
            exit.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), ExitError> {
    let Cli { global, command } = cli;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        match command {
            None => director::run(&global).await,
            Some(Command::List(arguments)) => list::run(&global, arguments).await,
            Some(Command::Trace(arguments)) => trace::run(&global, arguments).await,
            Some(Command::Check(arguments)) => check::run(&global, arguments),
            Some(Command::Realserver(arguments)) => realserver::run(&global, arguments).await,
        }
    })
}

/// Writes to standard output; false if its reader has gone, which is no failure (`lbx check | head`).
fn print(text: &str) -> Result<bool, ExitError> {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(ExitError::new(ExitStatus::Failure, error)),
    }
}

/// The exit status of a director that does not answer.
fn control_failure(error: ClientError) -> ExitError {
    let exit = match &error {
        ClientError::NotRunning { .. } => ExitStatus::Running,
        ClientError::NotPermitted { .. } => ExitStatus::Privilege,
        _ => ExitStatus::Failure,
    };
    ExitError::new(exit, error)
}

fn init_log(filter: &str) {
    use tracing_subscriber::EnvFilter;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(subcommand: &str) -> String {
        let words = ["lbx"].into_iter().chain(subcommand.split(' ')).chain(["--help"]);
        parse(words).unwrap_err().to_string()
    }

    #[test]
    fn help_shows_the_options_that_are_used() {
        for (subcommand, used, unused) in [
            ("check", "--config", Some("--name")),
            ("list", "--name", Some("--config")),
            ("trace", "--name", Some("--config")),
            ("realserver", "--config", None),
            ("realserver check", "--config", Some("--name")),
        ] {
            let help = help_of(subcommand);
            assert!(help.contains(used), "{subcommand}: {help}");
            assert!(help.contains("--log"), "{subcommand}: {help}");
            assert!(
                unused.is_none_or(|unused| !help.contains(unused)),
                "{subcommand}: {help}"
            );
        }
    }

    #[test]
    fn an_option_that_is_not_used_is_refused_in_either_position() {
        for (words, subcommand) in [
            ("lbx list --config lb.yaml", "list"),
            ("lbx --config lb.yaml list", "list"),
            ("lbx list -c lb.yaml", "list"),
            ("lbx -c lb.yaml trace", "trace"),
            ("lbx check --name web", "check"),
            ("lbx realserver check --name web", "realserver check"),
            ("lbx realserver --name web check", "realserver check"),
            ("lbx --name web realserver check", "realserver check"),
        ] {
            let error = parse(words.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("is not used by `lbx {subcommand}`")),
                "{words}: {text}"
            );
            assert!(text.contains(&format!("Usage: lbx {subcommand} ")), "{words}: {text}");
        }
    }

    #[test]
    fn options_that_are_used_are_taken_in_either_position() {
        for words in [
            ["lbx", "check", "--config", "lb.yaml"],
            ["lbx", "--config", "lb.yaml", "check"],
            ["lbx", "-c", "lb.yaml", "realserver"],
        ] {
            let cli = parse(words).unwrap();
            assert_eq!(cli.global.config.as_deref(), Some("lb.yaml".as_ref()), "{words:?}");
        }
        let cli = parse(["lbx", "list", "--name", "web"]).unwrap();
        assert_eq!(cli.global.name, "web");
        assert_eq!(parse(["lbx", "list"]).unwrap().global.name, DEFAULT_NAME);
    }
}
