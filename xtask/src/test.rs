//! `cargo xtask test`: every test there is, and one line that says how it went.

use std::{
    env,
    ffi::OsString,
    io,
    path::Path,
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    build::{self, BuildOutput},
    build_ebpf,
    command::{self, Executable},
    paths,
    root::RootAccess,
    setup::{self, Purpose},
    steps::Steps,
    tally::{Tally, TestResults, TestSeconds},
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

/// Tests that are named at the end as the slowest.
const SLOWEST: usize = 10;

/// What has been seen so far.
#[derive(Default)]
struct Report {
    tally: Tally,
    /// Why something was skipped or failed outside a test.
    notes: Vec<String>,
    /// The slowest tests of every runner.
    slowest: Vec<TestSeconds>,
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
    report.print();
    if report.tally.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
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
    let runners = steps.run("building the lab", || {
        let mut cargo = command::cargo();
        command::build_executables(cargo.args(["test", "--package", "lbx-tests", "--no-run"])).map(|mut runners| {
            runners.retain(|executable| executable.test);
            runners.sort_by_key(Executable::name);
            runners
        })
    });
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
    const PASSED_ON: [&str; 9] = [
        "LBX_LOG",
        "LBX_MODEL_SEED",
        "LBX_MODEL_STEPS",
        "LBX_STRESS",
        "LBX_STRESS_SEED",
        "LBX_TEST_PATIENCE",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "RUST_TEST_THREADS",
    ];
    let package = paths::root().join("tests");
    let mut variables: Vec<(&str, OsString)> = vec![
        ("CARGO_MANIFEST_DIR", package.clone().into()),
        ("LBX_BINARY", built.lbx.clone().into()),
        ("LBX_BPF_OBJECT", built.xdp_object.clone().into()),
        ("LBX_STRESS_XDP_OBJECT", stress_xdp.into()),
    ];
    variables.extend(
        PASSED_ON
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?))),
    );
    let mut command = root.command(&runner.path, &variables);
    command.args(filter).current_dir(package);
    command
}

impl Report {
    /// The slowest tests, what happened outside tests, and the sum on the last line.
    fn print(&mut self) {
        self.slowest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        println!("slowest tests:");
        for (seconds, name) in self.slowest.iter().take(SLOWEST) {
            println!("{seconds:>8.1} s  {name}");
        }
        for note in &self.notes {
            println!("{note}");
        }
        println!("{}", self.tally);
    }

    /// Runs a runner as a step of its own.
    fn runner(&mut self, steps: &mut Steps, what: &str, mut command: Command) {
        steps.run(what, || self.count(what, &mut command));
    }

    fn count(&mut self, what: &str, command: &mut Command) {
        match TestResults::run_and_count(command, &mut io::stdout()) {
            Ok(run) => {
                self.tally += run.tally;
                self.slowest.extend(run.slowest);
            }
            Err(error) => self.fail(&format!("{what}: {error:#}")),
        }
    }

    fn fail(&mut self, why: &str) {
        self.tally.failed += 1;
        self.notes.push(format!("failed: {why}"));
    }

    fn skip(&mut self, why: &str) {
        self.tally.skipped += 1;
        self.notes.push(format!("skipped: {why}"));
    }
}
