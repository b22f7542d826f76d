//! `cargo xtask test`: every test there is, and one line that says how it went.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    build::{self, BuildOutput},
    build_ebpf,
    command::{self, Executable},
    paths,
    report::Report,
    root::RootAccess,
    runners,
    setup::{self, Purpose},
    steps::Steps,
};

/// What `test` is told.
#[derive(Args)]
pub struct Arguments {
    /// Only what needs neither root nor the BPF toolchain
    #[arg(long, conflicts_with = "filters")]
    fast: bool,
    /// Only tests of the lab whose names contain one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Runs the task; its last line is the sum, whatever happened.
pub fn task(arguments: &Arguments) -> ExitCode {
    let mut report = Report::default();
    let host_steps = if arguments.filters.is_empty() { 2 } else { 0 };
    let lab_steps = if arguments.fast {
        0
    } else {
        build::STEPS + 2 + LAYERS.len()
    };
    let mut steps = Steps::new(host_steps + lab_steps);
    if host_steps > 0 {
        report.runner(&mut steps, "testing without root", host_tests());
        report.runner(&mut steps, "testing the XDP program's code on the host", ebpf_tests());
    }
    if lab_steps > 0 {
        lab(&mut steps, &mut report, &arguments.filters);
    }
    report.finish()
}

/// The default members: unit, integration and documentation tests.
fn host_tests() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--no-fail-fast"]);
    cargo
}

fn ebpf_tests() -> Command {
    let mut cargo = command::cargo_bpf_on_host();
    cargo
        .args(["test", "--package", "lbx-ebpf", "--no-fail-fast", "--target-dir"])
        .arg(paths::bpf_host_target());
    cargo
}

/// Builds both programs as the caller, then runs the lab's tests as root.
fn lab(steps: &mut Steps, report: &mut Report, filters: &[String]) {
    let root = RootAccess::find();
    if let Err(error) = setup::ensure_installed(Purpose::Build) {
        let why = format!("build and lab: {error:#}");
        return if root.is_ok() {
            report.fail(&why)
        } else {
            report.skip(&why)
        };
    }
    let built = match build::build_all(steps, false) {
        Ok(built) => built,
        Err(error) => {
            report.fail(&format!("build: {error:#}"));
            return report.skip("lab: there is no lbx to test");
        }
    };
    let stress_xdp = match steps.run("building the stress tests' XDP program", build_ebpf::build_stress_xdp) {
        Ok(stress_xdp) => stress_xdp,
        Err(error) => return report.fail(&format!("build: {error:#}")),
    };
    let root = match root {
        Ok(root) => root,
        Err(reason) => return report.skip(&format!("lab: {reason:#}")),
    };
    if let Err(error) = setup::ensure_installed(Purpose::Lab) {
        return report.fail(&format!("lab: {error:#}"));
    }
    let runners = steps.run("building the lab", runners::build);
    let runners = match runners {
        Ok(runners) => runners,
        Err(error) => return report.fail(&format!("lab: {error:#}")),
    };
    run_layers(steps, report, filters, &runners, |runner, filter| {
        lab_tests(root, runner, &built, &stress_xdp, filter)
    });
}

/// Runs the runners, layer by layer.
fn run_layers(
    steps: &mut Steps,
    report: &mut Report,
    filters: &[String],
    runners: &[Executable],
    command: impl Fn(&Executable, Option<&String>) -> Command,
) {
    // Not every runner takes more than one filter.
    let filters = if filters.is_empty() {
        vec![None]
    } else {
        filters.iter().map(Some).collect()
    };
    let mut found = vec![false; filters.len()];
    for (what, belongs) in LAYERS {
        steps.run(what, || {
            for (filter, found) in filters.iter().zip(&mut found) {
                let before = report.tally;
                for runner in runners.iter().filter(|runner| belongs(&runner.name())) {
                    println!("\n     Running {} as root", runner.name());
                    report.count(&runner.name(), &mut command(runner, *filter));
                }
                *found |= report.tally != before;
            }
        });
    }
    for (filter, found) in filters.into_iter().zip(found) {
        if let Some(filter) = filter
            && !found
        {
            report.fail(&format!("no test of the lab has {filter:?} in its name"));
        }
    }
}

/// A layer of the lab's tests, and the names of its runners.
type Layer = (&'static str, fn(&str) -> bool);

/// What runs as root, the quickest to fail first.
const LAYERS: [Layer; 2] = [
    ("testing in the lab", |runner| !is_stress(runner)),
    ("testing under stress", is_stress),
];

fn is_stress(runner: &str) -> bool {
    runner == "stress"
}

/// One runner of the lab, as cargo would run it but with root's rights.
fn lab_tests(
    root: RootAccess,
    runner: &Executable,
    built: &BuildOutput,
    stress_xdp: &Path,
    filter: Option<&String>,
) -> Command {
    let mut command = root.command(&runner.path, &runners::variables(built, stress_xdp));
    command.args(filter).current_dir(runners::package());
    command
}
