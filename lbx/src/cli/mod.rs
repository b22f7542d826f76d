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

use clap::{Args, Parser, Subcommand};

use crate::{
    control::client::ClientError,
    exit::{Exit, Failure},
};

/// Layer-4 load balancing by direct server return on XDP.
///
/// Without a subcommand lbx is the director: it loads the configuration, attaches its XDP program and balances until it
/// is stopped. SIGHUP reloads the configuration.
#[derive(Debug, Parser)]
#[command(name = "lbx", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Name of this director or real server: names its pins, state and socket, so that several run on one host
    #[arg(long, value_name = "NAME", default_value = "lbx", value_parser = parse_name, global = true)]
    pub name: String,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `lbx=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "LBX_LOG", global = true)]
    pub log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validates the configuration and touches nothing
    Check(check::Arguments),
    /// Lists services, real servers and their connections, as `ipvsadm -Ln` does
    List(list::Arguments),
    /// Tells the decisions of the running director, packet by packet
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

/// Parses the command line, runs what it asks for and says what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(&cli.global.log);
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, error }) => {
            eprintln!("lbx: {error:#}");
            exit.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
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

/// Writes to standard output; whether anybody still reads it. That nobody does (`lbx check | head`) is no failure.
fn print(text: &str) -> Result<bool, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Failure, error)),
    }
}

/// The exit status of a director that does not answer.
fn control_failure(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::NotRunning { .. } => Exit::Running,
        ClientError::NotPermitted { .. } => Exit::Privilege,
        _ => Exit::Failure,
    };
    Failure::new(exit, error)
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
