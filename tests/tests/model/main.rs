//! The promise of lbx, held by a model: the real program, run by the kernel (BPF_PROG_TEST_RUN) on tables that the real
//! planner makes and changes, through random histories of packets, changes of configuration and network, daemons that are
//! killed and adopted, and time. A plain model, which knows neither slots nor records, says what may become of every packet:
//!
//! - on one director with its pins intact, an established connection that is active within the idle timeout and whose record
//!   was not evicted never moves to another backend, unless its backend failed or was cut;
//! - new connections go to whom the scheduler may choose; nothing is dropped or passed without need;
//! - frames differ in the Ethernet header alone;
//! - every counter stands as it must, and loads are those of the records.
//!
//! [`cluster`] is what may be configured, [`history`] what may happen, [`case`] is a packet, [`expected`] what its
//! client may expect, [`judge`] looks at it, [`notes`] at what it leaves, [`schedule`] at new connections, [`counters`] at counters; [`world`] is all of it, [`director`] the real program.
//!
//! `LBX_MODEL_STEPS` (100,000) and `LBX_MODEL_SEED` in the environment say how long and which way. It needs root.

mod cluster;
mod counters;
mod director;
mod expectations;
mod expected;
mod frame;
mod history;
mod model;
mod packet_case;
mod regressions;
mod schedule;
mod shrink;
mod verify;

use std::{env, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lbx::desired::TableSizes;
use lbx_tests::timing;
use libtest_mimic::{Arguments, Trial};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    director::Director,
    history::{History, history},
    model::{Model, Tally},
    shrink::shrink,
};

/// Steps unless the environment says otherwise: of all tests together.
const STEPS: u64 = 100_000;

/// Every flow finds room for its record.
const ROOMY: TableSizes = TableSizes {
    flows4: 4096,
    flows6: 16_384,
    slots: 16_384,
    ports: 64,
    fragments: 8192,
};
/// Few flows do.
const TIGHT: TableSizes = TableSizes {
    flows4: 8,
    flows6: 4,
    ..ROOMY
};

fn main() -> ExitCode {
    let trial = |name, test: fn() -> Result<()>| {
        Trial::test(name, move || {
            timing::timed(name, test).map_err(|error| format!("{error:#}").into())
        })
    };
    let mut trials = vec![
        trial("the promise is held where every flow has room for a record", || {
            hold(ROOMY, 3, 0.2)
        }),
        trial("the promise is held where few flows have room for a record", || {
            hold(TIGHT, 1, 0.1)
        }),
    ];
    trials.extend(regressions::all().into_iter().map(|(name, history)| {
        Trial::test(name, move || {
            let failed = run(&mut None, &mut Tally::default(), ROOMY, &history).err();
            failed.map_or(Ok(()), |failed| {
                Err(format!("step {}: {:#}", failed.step, failed.error).into())
            })
        })
    }));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    timing::print_slowest();
    conclusion.exit_code()
}

/// Holds the promise for so many quarters of all steps; `kept`: the share of packets at least that it must have been about.
fn hold(sizes: TableSizes, quarters: u64, kept: f64) -> Result<()> {
    let steps = number("LBX_MODEL_STEPS")?.unwrap_or(STEPS) * quarters / 4;
    let seed = number("LBX_MODEL_SEED")?.unwrap_or(1);
    let roomy = sizes == ROOMY;
    let began = Instant::now();
    let mut director = None;
    let mut tally = Tally::default();
    let mut runner = runner(seed);
    while tally.steps < steps {
        let case = history().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        if run(&mut director, &mut tally, sizes, &case).is_err() {
            let shrunk = shrink(&case, |history| {
                let failed = run(&mut director, &mut Tally::default(), sizes, history).err();
                failed.map(|failed| failed.step)
            });
            let failed = run(&mut director, &mut tally, sizes, &shrunk).err();
            let error = failed
                .map(|failed| failed.error)
                .context("a history fails now and then")?;
            bail!("{error:#}\nin {}\nwith LBX_MODEL_SEED={seed}", told(&shrunk));
        }
    }
    println!("{tally:?} in {:.1?}, roomy: {roomy}", began.elapsed());
    ensure!(
        tally.kept as f64 > tally.packets as f64 * kept,
        "the promise was about {} of {} packets only",
        tally.kept,
        tally.packets
    );
    ensure!(tally.held > 0, "nobody was held");
    ensure!(
        roomy == (tally.without_record == 0),
        "{} packets found no room",
        tally.without_record
    );
    Ok(())
}

/// A history that came to grief.
struct Failed {
    step: usize,
    error: anyhow::Error,
}

/// Runs one history on a director that may have run others.
fn run(director: &mut Option<Director>, tally: &mut Tally, sizes: TableSizes, history: &History) -> Result<(), Failed> {
    let failed = |step| move |error| Failed { step, error };
    // What a history that failed has left may be beyond clearing.
    if director.as_mut().is_some_and(|director| director.clear().is_err()) {
        *director = None;
    }
    let director = match director {
        Some(director) => director,
        None => director.insert(Director::open(sizes).map_err(failed(0))?),
    };
    let mut world = Model::begin(director, sizes == ROOMY, history).map_err(failed(0))?;
    for (number, step) in history.steps.iter().enumerate() {
        world.step(step).map_err(failed(number))?;
    }
    *tally += world.tally;
    Ok(())
}

/// Histories by seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// A history, a line for every step.
fn told(history: &History) -> String {
    let History {
        schedulers,
        before_wrap,
        steps,
    } = history;
    let lines = steps
        .iter()
        .enumerate()
        .map(|(number, step)| format!("\n  {number}: {step:?}"));
    format!(
        "{schedulers:?}, {before_wrap} ticks before the wrap:{}",
        lines.collect::<String>()
    )
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Some(value) = env::var_os(variable) else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|value| value.parse().ok());
    Ok(Some(number.with_context(|| format!("{variable} is no number"))?))
}
