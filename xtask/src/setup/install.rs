//! Installing with apt, rustup and cargo.

use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

use super::{
    manual_setup,
    needs::{LINKER_NEEDS, Need, PYTHON_NEEDS, Source},
};
use crate::{command, paths, root::RootAccess, steps::Steps, toolchain};

const LLVM: &str = "/usr/lib/llvm-22";

/// What has to be installed, by who installs it.
#[derive(Default)]
struct Plan {
    packages: Vec<&'static str>,
    components: Vec<&'static str>,
    crates: Vec<&'static str>,
    python: Vec<&'static str>,
}

/// Installs what these needs name.
///
/// # Errors
/// When an installer fails or needs root's rights and cannot have them.
pub fn install_all(missing: &[&Need]) -> Result<()> {
    let plan = plan(missing);
    let mut steps = Steps::new(
        usize::from(!plan.packages.is_empty())
            + usize::from(!plan.components.is_empty())
            + plan.crates.len()
            + plan.python.len(),
    );
    if !plan.packages.is_empty() {
        let list = plan.packages.join(" ");
        steps
            .run(&format!("installing {list}"), || packages(&plan.packages))
            .map_err(|error| {
                anyhow!(
                    "cannot install {list}: {error:#}\nThere is another way.\n{}",
                    manual_setup()
                )
            })?;
    }
    if !plan.components.is_empty() {
        let list = plan.components.join(" ");
        steps
            .run(&format!("adding {list}"), || components(&plan.components))
            .with_context(|| {
                format!("install {list} for the stable toolchain, with rustup or your distribution's packages")
            })?;
    }
    for name in plan.crates {
        steps.run(&format!("building {name}"), || tool(name))?;
    }
    for name in plan.python {
        steps.run(&format!("installing {name} into target/tools"), || python(name))?;
    }
    Ok(())
}

fn plan(missing: &[&Need]) -> Plan {
    let mut plan = Plan::default();
    let rustup = command::find("rustup").is_some();
    let add = |plan: &mut Plan, need: &Need| match need.source {
        Source::Apt(package) => plan.packages.push(package),
        Source::Crate(name) => plan.crates.push(name),
        Source::Rustup(component, _) if rustup => plan.components.push(component),
        Source::Rustup(_, package) => plan.packages.push(package),
        Source::Python(name) => plan.python.push(name),
    };
    for need in missing {
        add(&mut plan, need);
    }
    if plan.crates.contains(&"bpf-linker") {
        for need in LINKER_NEEDS.iter().filter(|need| !need.is_met()) {
            add(&mut plan, need);
        }
    }
    if !plan.python.is_empty() {
        for need in PYTHON_NEEDS.iter().filter(|need| !need.is_met()) {
            add(&mut plan, need);
        }
    }
    plan.packages.sort_unstable();
    plan.packages.dedup();
    plan
}

fn packages(packages: &[&str]) -> Result<()> {
    let root = RootAccess::find()?;
    let apt = || root.command("apt-get", &[("DEBIAN_FRONTEND", "noninteractive".into())]);
    command::run(apt().arg("update").arg("--quiet"))?;
    // Never at the price of something the machine already has, such as another rustc.
    command::run(
        apt()
            .args(["install", "--quiet", "--yes", "--no-install-recommends", "--no-remove"])
            .args(packages),
    )?;
    if packages.contains(&"nginx-light") {
        eprintln!("nginx-light may have started a web server on this host; the lab does not need it:");
        eprintln!("`systemctl disable --now nginx` stops it");
    }
    Ok(())
}

fn components(components: &[&str]) -> Result<()> {
    command::run(
        Command::new("rustup")
            .args(["component", "add"])
            .args(components)
            .current_dir(paths::root()),
    )
}

/// Builds a crate's program into target/tools, from the versions its authors locked.
fn tool(name: &str) -> Result<()> {
    let mut command = command::cargo();
    command
        .args(["install", "--locked", "--root"])
        .arg(paths::tools())
        .arg(name);
    if name == "bpf-linker" {
        // The LLVM of Debian's compiler: an older one does not read its output.
        command.args([
            "--version",
            toolchain::LINKER_VERSION,
            "--no-default-features",
            "--features",
            "llvm-22",
        ]);
        command.env("LLVM_PREFIX", LLVM);
    }
    command::run(&mut command)
}

/// Installs a package of the Python Package Index into an environment of this clone's own.
fn python(name: &str) -> Result<()> {
    let environment = toolchain::python_environment();
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let requirement = match name {
        "virtme-ng" => format!("{name}=={}", toolchain::VIRTME_NG_VERSION),
        _ => name.to_owned(),
    };
    command::run(
        Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(requirement),
    )
}
