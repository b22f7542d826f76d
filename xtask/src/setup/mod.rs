//! `cargo xtask setup`: what is missing is installed, or named where it cannot be.

mod install;
mod needs;

use anyhow::{Result, bail};
use clap::Args;
pub use needs::Purpose;
use needs::{NEEDS, Need, Source};

use crate::{command, toolchain};

/// What `setup` is told.
#[derive(Args)]
pub struct Arguments {
    /// Only say what is there and what is not; fails when something is missing
    #[arg(long)]
    check: bool,
}

/// Runs the task.
///
/// # Errors
/// When something is missing and cannot be installed, or with `--check` at all.
pub fn task(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        return check();
    }
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.purpose != Purpose::Vm && !need.is_met())
        .collect();
    provide(&missing)?;
    println!("everything lbx needs is there");
    Ok(())
}

/// Installs what a task cannot do without; quick and silent when all is there.
///
/// # Errors
/// When something is missing and cannot be installed.
pub fn ensure_installed(part: Purpose) -> Result<()> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.purpose == part && !need.optional && !need.is_met())
        .collect();
    provide(&missing)
}

fn provide(missing: &[&Need]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if command::find("apt-get").is_some() {
        return install::install_all(missing);
    }
    bail!(
        "{} missing, and there is no apt here to install it\n{}",
        names(missing),
        manual_setup()
    );
}

fn check() -> Result<()> {
    let mut missing = Vec::new();
    for need in NEEDS {
        let state = if need.is_met() {
            "there".to_owned()
        } else if need.purpose == Purpose::Vm {
            format!("missing ({}; `cargo xtask vm` installs it)", origin(need.source))
        } else {
            missing.push(need);
            let optional = if need.optional { "optional, " } else { "" };
            format!("missing ({optional}{})", origin(need.source))
        };
        println!("{:6} {:18} {state}", need.purpose.name(), need.label);
    }
    if missing.is_empty() {
        return Ok(());
    }
    if command::find("apt-get").is_none() {
        println!("\n{}", manual_setup());
    }
    bail!("{} missing: `cargo xtask setup` installs what it can", names(&missing));
}

fn origin(source: Source) -> String {
    match source {
        Source::Apt(package) => format!("Debian package {package}"),
        Source::Crate(name) => format!("crate {name}"),
        Source::Rustup(component, package) => format!("rustup component {component} or Debian package {package}"),
        Source::Python(name) => format!("Python package {name}"),
    }
}

/// The way that works on every distribution, and how much of it is there.
fn manual_setup() -> String {
    let state = |there: bool| if there { "there" } else { "missing" };
    let of = |part: Purpose| -> String {
        let programs = NEEDS.iter().filter(|need| need.purpose == part).map(|need| need.label);
        programs.collect::<Vec<_>>().join(" ")
    };
    format!(
        "To build lbx, install with rustup and cargo:\n  \
           rustup toolchain install nightly --component rust-src    ({})\n  \
           cargo install bpf-linker --version {}                ({})\n\
         To run its lab, install these programs with your distribution's package manager:\n  {}\n\
         To lint: rustup component add clippy rustfmt; cargo install cargo-deny\n\
         `cargo xtask vm` needs Debian or a distribution of its packages",
        state(toolchain::has_nightly_rust_src()),
        toolchain::LINKER_VERSION,
        state(toolchain::linker().is_some()),
        of(Purpose::Lab),
    )
}

fn names(needs: &[&Need]) -> String {
    let names: Vec<&str> = needs.iter().map(|need| need.label).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}
