//! `cargo xtask vm`: tests of the lab under a kernel of Debian, in a guest.
//!
//! [`prepare`] makes it ready: [`kernel`] fetches its kernel ([`archive`]: Debian's packages). [`guest`] boots it, [`script`] is
//! what runs inside, and [`console`] what of it is seen.

mod archive;
mod console;
pub mod guest;
mod kernel;
pub mod prepare;
pub mod script;

pub use console::Limits;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};

use self::prepare::PreparedGuest;
use crate::{
    build::{self, BuildOutput},
    build_ebpf,
    report::Report,
    runners,
    setup::{self, Purpose},
    steps::Steps,
    tally::TestResults,
};

/// What `vm` is told.
#[derive(Args)]
pub struct Arguments {
    /// The series of Linux, or one release of it: the newest that Debian has is fetched into target/vm
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// The tests
    #[arg(long, value_enum, default_value_t = Layer::Lab)]
    layer: Layer,
    /// lbx with debug information and without optimisation: quicker to build, and much slower in the guest
    #[arg(long)]
    debug: bool,
    /// When the guest is ended and counts as a failure
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    time_limit: u64,
    /// Only tests whose names contain one of these; without, those of the lab that need a device which this machine's
    /// kernel may lack, and all of other layers
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Runners of lbx-tests that guests were tried with.
#[derive(Clone, Copy, ValueEnum)]
enum Layer {
    /// Whole directors and real servers
    Lab,
    /// The XDP program, frame by frame
    Packets,
}

impl Layer {
    /// The name of its runner.
    const fn runner(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Packets => "packets",
        }
    }
}

/// How long a guest may take to boot: 10 to 25 s were measured under emulation, with other work on the machine.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// Has the lab run those tests alone that need a device which kernels may lack (`tests/tests/lab/harness.rs`).
const DEVICES: (&str, &str) = ("LBX_LAB_TESTS", "devices");

/// Runs the task; its last line is the sum, whatever happened.
pub fn task(arguments: &Arguments) -> ExitCode {
    let mut report = Report::default();
    if let Err(error) = run(arguments, &mut report) {
        report.fail(&format!("{error:#}"));
    }
    report.finish()
}

fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    setup::ensure_installed(Purpose::Lab)?;
    let mut steps = Steps::new(build::STEPS + 5);
    let prepared = PreparedGuest::new(&arguments.kernel, &mut steps)?;
    let programs = Programs::build(arguments, &mut steps)?.copied(&prepared)?;
    let kvm = steps.run("looking for KVM", || guest::kvm_works(&prepared))?;
    let mut variables = runners::variables(&programs.built, &programs.stress_xdp);
    if arguments.filters.is_empty() {
        variables.push((DEVICES.0, DEVICES.1.into()));
    }
    let directory = runners::package();
    let script = script::Script {
        program: &programs.runner,
        directory: &directory,
        variables: &variables,
        runs: script::test_runs(&arguments.filters),
    }
    .text(&prepared.shared);
    let processor = if kvm {
        guest::Processor::Kvm
    } else {
        guest::Processor::Emulated
    };
    let guest = guest::Guest {
        prepared: &prepared,
        processor,
    };
    let limits = Limits {
        boot: BOOT_TIMEOUT,
        total: Duration::from_secs(60 * arguments.time_limit),
    };
    let by = if kvm { "KVM" } else { "emulation: slow" };
    let what = format!("testing under Linux {} ({by})", prepared.kernel.release);
    steps.run(&what, || test(&guest, &script, limits, &arguments.filters, report))
}

/// What a guest runs.
struct Programs {
    built: BuildOutput,
    stress_xdp: PathBuf,
    runner: PathBuf,
}

impl Programs {
    fn build(arguments: &Arguments, steps: &mut Steps) -> Result<Self> {
        let built = build::build_all(steps, arguments.debug)?;
        let stress_xdp = steps.run("building the stress tests' XDP program", build_ebpf::build_stress_xdp)?;
        let name = arguments.layer.runner();
        let runners = steps.run("building the lab", runners::build)?;
        let runner = runners.into_iter().find(|runner| runner.name() == name);
        Ok(Self {
            built,
            stress_xdp,
            runner: runner.with_context(|| format!("cargo built no runner {name}"))?.path,
        })
    }

    /// Copies for a guest.
    fn copied(&self, prepared: &PreparedGuest) -> Result<Self> {
        Ok(Self {
            built: BuildOutput {
                xdp_object: prepared.copy(&self.built.xdp_object)?,
                lbx: prepared.copy(&self.built.lbx)?,
            },
            stress_xdp: prepared.copy(&self.stress_xdp)?,
            runner: prepared.copy(&self.runner)?,
        })
    }
}

/// Boots a guest, shows and counts what its runner prints, and holds that against what it leaves.
fn test(guest: &guest::Guest<'_>, script: &str, limits: Limits, filters: &[String], report: &mut Report) -> Result<()> {
    let mut running = guest.boot(script, limits)?;
    let seen = TestResults::read(&mut running.console, &mut io::stdout());
    let status = running.status();
    drop(running);
    let judged = seen.and_then(|seen| {
        let verdict = status.and_then(|status| judge(&seen, status, filters));
        report.add(seen);
        verdict
    });
    judged.map_err(|error| guest.with_console(&error))
}

/// Whether what a runner printed is complete and goes with its exit status.
fn judge(seen: &TestResults, status: i32, filters: &[String]) -> Result<()> {
    let runs = filters.len().max(1);
    if seen.announced.len() != runs {
        bail!(
            "the guest's runner began {} times instead of {runs}",
            seen.announced.len()
        );
    }
    for (filter, count) in filters.iter().zip(&seen.announced) {
        ensure!(*count > 0, "no test has {filter:?} in its name");
    }
    let tally = seen.tally;
    let counted = tally.passed + tally.failed + tally.skipped;
    let announced: u64 = seen.announced.iter().sum();
    ensure!(
        counted == announced,
        "the guest ran {announced} tests and reported {counted}"
    );
    ensure!(counted > tally.skipped, "no test ran in the guest: all were skipped");
    ensure!(
        (status == 0) == (tally.failed == 0),
        "the guest's runner ended with status {status} and {} failed tests",
        tally.failed
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    fn judged(announced: &[u64], [passed, failed, skipped]: [u64; 3], status: i32) -> Result<(), String> {
        let seen = TestResults {
            tally: Tally {
                passed,
                failed,
                skipped,
            },
            announced: announced.to_vec(),
            ..TestResults::default()
        };
        let filters: Vec<String> = (1..announced.len()).map(|number| format!("filter{number}")).collect();
        let filters = if filters.is_empty() {
            filters
        } else {
            [vec!["filter0".to_owned()], filters].concat()
        };
        judge(&seen, status, &filters).map_err(|error| error.to_string())
    }

    #[test]
    fn complete_runs_are_what_they_say() {
        judged(&[4], [3, 0, 1], 0).unwrap();
        judged(&[4], [3, 1, 0], 101).unwrap();
        judged(&[4, 2], [6, 0, 0], 0).unwrap();
    }

    #[test]
    fn nothing_else_is_green() {
        for (announced, counts, status, why) in [
            (&[][..], [0, 0, 0], 0, "began 0 times instead of 1"),
            (&[0], [0, 0, 0], 0, "no test ran"),
            (&[4], [0, 0, 4], 0, "all were skipped"),
            (&[4], [3, 0, 0], 0, "ran 4 tests and reported 3"),
            (&[4], [4, 0, 0], 137, "status 137"),
            (&[4], [3, 1, 0], 0, "status 0"),
            (&[4, 0], [4, 0, 0], 0, "no test has \"filter1\""),
        ] {
            let verdict = judged(announced, counts, status).unwrap_err();
            assert!(verdict.contains(why), "{verdict}");
        }
    }
}
