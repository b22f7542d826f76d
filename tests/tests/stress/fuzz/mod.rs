//! Frames that nobody would send, millions of them: none aborts the program, none but its Ethernet header and VLAN tags are
//! changed, every drop is counted, and another parser comes to the same verdict.

mod cluster;
mod fast_path;
mod frames;
mod oracle;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use lbx::desired::Service;
use lbx_common::{backend::VlanTags, drops::DropReason};
use lbx_tests_ebpf::FrameBuffer;

use self::oracle::Verdict;
use crate::{
    Test,
    action::{XDP_DROP, XDP_PASS, XDP_TX},
    cpus::{cpus, pinned},
    director::{Director, OWN_MAC, SECOND, mac_of},
    random::Random,
    scale::{Scale, seed},
    stress_xdp::StressXdp,
};

/// The test.
pub fn all() -> Vec<Test> {
    vec![
        (
            "fuzz: random and mutated frames, on two CPUs".to_owned(),
            fuzz as fn() -> Result<()>,
        ),
        (
            "fuzz: the fast path does what the general path does".to_owned(),
            fast_path::paths_agree,
        ),
    ]
}

/// What has become of frames.
#[derive(Default)]
struct Outcome {
    passed: u64,
    sent: u64,
    dropped: u64,
    /// Drops by their reasons, as far as only one reason is possible.
    reasons: BTreeMap<DropReason, u64>,
}

fn fuzz() -> Result<()> {
    let mut director = cluster::director()?;
    let services = director.desired.services.clone();
    let seeds = frames::seeds();
    let frames = Scale::wanted().fuzz / 2;
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    let sources = [director.stress_xdp()?, director.stress_xdp()?];
    let outcome = thread::scope(|scope| {
        let (services, seeds, done) = (&services, &seeds, &done);
        let threads: Vec<_> = sources
            .into_iter()
            .zip(cpus()?)
            .enumerate()
            .map(|(number, (stress_xdp, cpu))| {
                scope.spawn(move || {
                    let random = Random::new(seed() << 8 | number as u64);
                    let result = pinned(cpu).and_then(|()| run(stress_xdp, services, seeds, frames, random));
                    done.fetch_add(1, Ordering::Release);
                    result
                })
            })
            .collect();
        let mut random = Random::new(seed());
        while done.load(Ordering::Acquire) < 2 {
            director.pass([SECOND, 4 * SECOND, 70 * SECOND, 1000 * SECOND][random.below(4)])?;
            director.sweep()?;
            thread::sleep(Duration::from_millis(5));
        }
        let mut all = Outcome::default();
        for thread in threads {
            let outcome = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            all.passed += outcome.passed;
            all.sent += outcome.sent;
            all.dropped += outcome.dropped;
            for (reason, count) in outcome.reasons {
                *all.reasons.entry(reason).or_default() += count;
            }
        }
        anyhow::Ok(all)
    })?;
    let Outcome {
        passed, sent, dropped, ..
    } = outcome;
    println!(
        "{} frames in {:.1?}: {passed} passed, {sent} sent, {dropped} dropped",
        passed + sent + dropped,
        begun.elapsed()
    );
    ensure!(passed.min(sent).min(dropped) > frames / 20, "too much of one kind");
    counted(&director, &outcome)?;
    director.loads_agree()
}

/// Every frame sent and every drop is counted, under the reason that the other parser gives.
fn counted(director: &Director, outcome: &Outcome) -> Result<()> {
    let dataplane = director.dataplane();
    let mut sent = 0;
    for service in director.tables.services.values() {
        sent += dataplane.service_traffic(service.service_number)?.packets;
    }
    ensure!(
        sent == outcome.sent,
        "{sent} of {} packets sent are counted",
        outcome.sent
    );
    let (mut all, mut wrong) = (0, Vec::new());
    for &reason in DropReason::ALL {
        let drops = dataplane.drops(reason)?;
        all += drops;
        let expected = outcome.reasons.get(&reason).copied().unwrap_or(0);
        println!("  {:20}{drops}", reason.name());
        if certain(reason) && drops != expected {
            wrong.push(format!("{drops} instead of {expected} {}", reason.name()));
        } else if drops < expected {
            wrong.push(format!("{drops}, less than {expected} {}", reason.name()));
        }
    }
    ensure!(wrong.is_empty(), "drops: {}", wrong.join("; "));
    ensure!(all == outcome.dropped, "{all} of {} drops are counted", outcome.dropped);
    Ok(())
}

/// Whether nothing but what the other parser says leads to a drop of this reason.
fn certain(reason: DropReason) -> bool {
    use DropReason::*;
    !matches!(reason, BadSource | IcmpQuote | NoBackend | Loop | OrphanFragment)
}

fn run(
    mut stress_xdp: StressXdp,
    services: &[Service],
    seeds: &[Vec<u8>],
    frames: u64,
    mut random: Random,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut given: Vec<(Vec<u8>, Verdict)> = Vec::new();
    let mut left = frames;
    while left > 0 {
        let count = (stress_xdp.room() as u64).min(left) as usize;
        given.resize_with(count, || (Vec::new(), Verdict::Pass));
        for (frame, verdict) in &mut given {
            frames::mutate(&mut random, seeds, frame);
            *verdict = oracle::judge(services, frame);
            stress_xdp.put(frame);
        }
        left -= count as u64;
        for (tray, (frame, verdict)) in stress_xdp.run()?.iter().zip(&given) {
            if let Err(error) = outcome.note(services, tray, frame, *verdict) {
                let after = &tray.bytes[..tray.length as usize];
                bail!(
                    "{error:#}: action {}, {verdict:?}\n  {frame:02x?}\n  {after:02x?}",
                    tray.action
                );
            }
        }
    }
    Ok(outcome)
}

impl Outcome {
    /// Compares what became of a frame with what ought to.
    fn note(&mut self, services: &[Service], tray: &FrameBuffer, frame: &[u8], verdict: Verdict) -> Result<()> {
        let after = &tray.bytes[..tray.length as usize];
        match tray.action {
            XDP_TX => {
                ensure!(is_sent(frame, after), "more than the Ethernet header is changed");
                self.sent += 1;
                match verdict {
                    Verdict::Send(service) => ensure!(serves(&services[service], after), "it went to another's server"),
                    Verdict::Follow | Verdict::Dubious => {}
                    _ => bail!("it should not have been sent"),
                }
            }
            XDP_PASS | XDP_DROP if frame != after => bail!("it is changed though it is not sent"),
            XDP_PASS => {
                self.passed += 1;
                ensure!(
                    matches!(verdict, Verdict::Pass | Verdict::Follow | Verdict::Dubious),
                    "it should not have passed"
                );
            }
            XDP_DROP => {
                self.dropped += 1;
                let from_server = (1..=9).any(|number| frame[6..12] == mac_of(number));
                match verdict {
                    Verdict::Drop(reason) => *self.reasons.entry(reason).or_default() += 1,
                    Verdict::Follow | Verdict::Dubious => {}
                    Verdict::Send(service) => ensure!(
                        from_server || !always(&services[service]),
                        "it should not have been dropped"
                    ),
                    Verdict::Pass => bail!("it should have passed"),
                }
            }
            _ => bail!("nobody asked for that"),
        }
        Ok(())
    }
}

/// Whether a service has somebody for every packet.
fn always(service: &Service) -> bool {
    !service.servers.is_empty()
}

/// Whether a frame has been sent to one of a service's real servers.
fn serves(service: &Service, after: &[u8]) -> bool {
    let number = after[5];
    service
        .server_addresses()
        .any(|address| address == crate::director::address_of(address, number))
}

/// Whether a frame is what it was, but for the Ethernet header and the tags that lead to a real server.
fn is_sent(before: &[u8], after: &[u8]) -> bool {
    let is_tag = |at: usize| matches!(before[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]);
    let mut at = 12;
    while is_tag(at) && at < 12 + 8 {
        at += 4;
    }
    // Each tag keeps the priority of the one it takes the place of; a second one more has that of the first.
    let priority = if at > 12 { before[14] & 0xf0 } else { 0 };
    let inner = if at > 16 { before[18] & 0xf0 } else { priority };
    let number = after[5];
    let mut header = [mac_of(number), OWN_MAC].concat();
    for (tag, priority) in cluster::tags_to(number).into_iter().zip([priority, inner]) {
        if tag == 0 {
            continue;
        }
        header.extend(if tag & VlanTags::SERVICE_TAG_FLAG == 0 {
            [0x81, 0x00]
        } else {
            [0x88, 0xa8]
        });
        let [high, low] = (tag & VlanTags::ID_MASK).to_be_bytes();
        header.extend([high | priority, low]);
    }
    after.strip_prefix(header.as_slice()) == Some(&before[at..])
}
