//! The fast path does to a frame what the general path does. A program that is loaded with tracing has no fast path.

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::Xdp;
use lbx::desired::{Scheduler, Service};
use lbx_common::maps::XDP_PROGRAM;

use super::{cluster, frames, oracle};
use crate::{
    action::XDP_TX,
    random::Random,
    scale::{Scale, seed},
    stress_xdp::StressXdp,
};

/// Runs the same frames through both. Only services are in the file whose packets leave nothing behind, so that the second run finds
/// what the first has found; fragments without ports follow others and are not compared.
pub fn paths_agree() -> Result<()> {
    let mut director = cluster::director()?;
    director.desired.services.retain(leaves_nothing);
    director.plan()?;
    let mut general = director.dataplane().load_xdp_with_tracing()?;
    let general: &mut Xdp = general.program_mut(XDP_PROGRAM).context("no program")?.try_into()?;
    let mut runs = [director.stress_xdp()?, StressXdp::load(general)?];
    let services = director.desired.services.clone();
    let (seeds, mut random) = (frames::seeds(), Random::new(seed()));
    let mut left = Scale::wanted().fuzz / 5;
    let mut sent = 0;
    let mut given: Vec<Vec<u8>> = Vec::new();
    while left > 0 {
        let count = (runs[0].room() as u64).min(left) as usize;
        left -= count as u64;
        given.resize_with(count, Vec::new);
        for frame in &mut given {
            frames::mutate(&mut random, &seeds, frame);
            runs.iter_mut().for_each(|run| run.put(frame));
        }
        let [fast, general] = &mut runs;
        for ((one, other), frame) in fast.run()?.iter().zip(general.run()?).zip(&given) {
            let [before, after] = [one, other].map(|tray| (tray.action, &tray.bytes[..tray.length as usize]));
            if before != after && !matches!(oracle::judge(&services, frame), oracle::Verdict::Follow) {
                bail!("{frame:02x?}\n  fast path: {before:02x?}\n  general path: {after:02x?}");
            }
            sent += u64::from(one.action == XDP_TX);
        }
    }
    ensure!(sent > Scale::wanted().fuzz / 100, "only {sent} frames were sent");
    Ok(())
}

fn leaves_nothing(service: &Service) -> bool {
    let hashed = matches!(
        service.scheduler,
        Scheduler::Maglev | Scheduler::Sh | Scheduler::Mh | Scheduler::Dh
    );
    hashed && service.persistence.is_none() && !service.one_packet
}
