//! Two CPUs at the same few buckets, and the daemon's sweeper besides: no record is torn, and nothing is miscounted.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx::desired::{Protocol, Scheduler, TableSizes, VirtualService};
use lbx_common::{
    drops::DropReason,
    flow::{CLOSED, CLOSING, ESTABLISHED, FlowKey, HALF_OPEN, MIDSTREAM, UDP_NEW, UDP_STREAM},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    Test,
    action::XDP_TX,
    director::{self, Director, SECOND},
    flow::{ACK, FIN, Flow, PSH, RST, SYN},
    random::Random,
    records,
    scale::{Scale, seed},
    stress_xdp::StressXdp,
};

/// Two VIPs of each family: their services differ in nothing else.
const VIPS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];
const PORTS: [u16; 2] = [80, 443];

/// Sixteen buckets of either family.
const SIZES: TableSizes = TableSizes {
    flows4: 64,
    flows6: 32,
    slots: 65_536,
    ports: 1024,
    fragments: 1024,
};

/// Flows of each service.
const FLOWS: u64 = 24;

/// The tests.
pub fn all() -> Vec<Test> {
    vec![
        ("two CPUs: a handful of buckets, no sweeps".to_owned(), || hammer(false)),
        ("two CPUs: a handful of buckets, swept all the time".to_owned(), || {
            hammer(true)
        }),
    ]
}

/// What a thread has sent of each service: packets, and how many of them end a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    packets: u64,
    bytes: u64,
    endings: u64,
}

fn hammer(sweeps: bool) -> Result<()> {
    let ids = services();
    let services = ids.iter().map(|&id| {
        let scheduler = if id.protocol == Protocol::Tcp {
            Scheduler::Wlc
        } else {
            Scheduler::Rr
        };
        director::service(id, scheduler, 1..=3)
    });
    let mut director = Director::open(SIZES, services.collect())?;
    let flows: Vec<Flow> = ids
        .iter()
        .flat_map(|&id| (0..FLOWS).map(move |n| Flow::of(id, 10, n * 0x1_0001)))
        .collect();
    let packets = Scale::wanted().cpu;
    let (done, struck) = (AtomicU64::new(0), AtomicU64::new(0));
    let programs = [director.stress_xdp()?, director.stress_xdp()?];
    let begun = Instant::now();
    let sent = thread::scope(|scope| {
        let (flows, done, struck) = (&flows, &done, &struck);
        let threads: Vec<_> = programs
            .into_iter()
            .zip(cpus()?)
            .enumerate()
            .map(|(number, (stress_xdp, cpu))| {
                scope.spawn(move || {
                    let result =
                        pinned(cpu).and_then(|()| strike(stress_xdp, flows, packets, struck, seed() + number as u64));
                    done.fetch_add(1, Ordering::Release);
                    result
                })
            })
            .collect();
        let mut random = Random::new(seed());
        let mut scan = 0;
        while done.load(Ordering::Acquire) < 2 {
            // Time in leaps, so that records expire and lose their shelter in every state.
            // In the end it stands still: something must be left to be looked at.
            if struck.load(Ordering::Relaxed) < packets / 5 * 9 {
                director.pass([SECOND, 4 * SECOND, 70 * SECOND, 1000 * SECOND][random.below(4)])?;
            }
            if sweeps {
                director.sweep()?;
                scan += 1;
            }
            thread::sleep(Duration::from_micros(random.below(3000) as u64));
        }
        let mut sum: HashMap<VirtualService, Sent> = HashMap::new();
        for thread in threads {
            for (id, sent) in thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?? {
                let all = sum.entry(id).or_default();
                all.packets += sent.packets;
                all.bytes += sent.bytes;
                all.endings += sent.endings;
            }
        }
        println!("2 × {packets} packets in {:.1?}, {scan} sweeps", begun.elapsed());
        anyhow::Ok(sum)
    })?;
    nothing_torn(&director, &flows)?;
    counters_add_up(&director, &sent)?;
    director.loads_agree()
}

fn services() -> Vec<VirtualService> {
    let of = |vip| PORTS.map(|port| [Protocol::Tcp, Protocol::Udp].map(|protocol| director::id(vip, port, protocol)));
    VIPS.into_iter().flat_map(of).flatten().collect()
}

/// The first two CPUs this process may use.
pub fn cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .take(2)
        .collect();
    ensure!(cpus.len() == 2, "this test needs two CPUs");
    Ok(cpus)
}

/// Ties this thread to a CPU.
pub fn pinned(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Sends packets of all flows at random, and tells how many it has sent.
fn strike(
    mut stress_xdp: StressXdp,
    flows: &[Flow],
    packets: u64,
    struck: &AtomicU64,
    seed: u64,
) -> Result<HashMap<VirtualService, Sent>> {
    const FLAGS: [u8; 8] = [SYN, SYN, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK, ACK];
    let mut random = Random::new(seed);
    let mut sent: HashMap<VirtualService, Sent> = HashMap::new();
    let mut left = packets;
    while left > 0 {
        while left > 0 && stress_xdp.room() > 0 {
            left -= 1;
            let (flow, flags) = (*random.of(flows), *random.of(&FLAGS));
            let tray = stress_xdp.tray();
            flow.packet(flags, tray);
            let sent = sent.entry(flow.service).or_default();
            sent.packets += 1;
            sent.bytes += u64::from(tray.length) - 14;
            sent.endings += u64::from(flow.service.protocol == Protocol::Tcp && flags & (FIN | RST) != 0);
        }
        let run = stress_xdp.run()?;
        struck.fetch_add(run.len() as u64, Ordering::Relaxed);
        for tray in run {
            ensure!(tray.action == XDP_TX, "a packet ended with {}", tray.action);
        }
    }
    Ok(sent)
}

/// Every record is one of a flow, its entry that of the same one, and nobody is still at work on it.
fn nothing_torn(director: &Director, flows: &[Flow]) -> Result<()> {
    let known: HashMap<FlowKey, Flow> = flows
        .iter()
        .map(|flow| (flow.key(director.number(flow.service)), *flow))
        .collect();
    let records = records::all(director)?;
    let mut twice: HashMap<FlowKey, u32> = HashMap::new();
    for (key, entry) in &records {
        let flow = known
            .get(key)
            .with_context(|| format!("{key:?} is nobody's: {entry:?}"))?;
        *twice.entry(*key).or_default() += 1;
        let states: &[u8] = match flow.service.protocol {
            Protocol::Tcp => &[HALF_OPEN, MIDSTREAM, ESTABLISHED, CLOSING, CLOSED],
            Protocol::Udp => &[UDP_NEW, UDP_STREAM],
        };
        let backends = &director.tables.services[&flow.service].backends;
        ensure!(
            flow.fits(*entry) && states.contains(&entry.state) && backends.contains_key(&entry.backend),
            "a torn record of {flow:?}: {entry:?}"
        );
    }
    let twice = twice.values().filter(|&&count| count > 1).count();
    println!("{} records, {twice} flows have more than one", records.len());
    ensure!(records.len() > 20, "only {} records", records.len());
    Ok(())
}

/// Packets, bytes and endings of services and real servers are those that were sent; nothing was dropped.
fn counters_add_up(director: &Director, sent: &HashMap<VirtualService, Sent>) -> Result<()> {
    let dataplane = director.dataplane();
    for (id, &sent) in sent {
        let loaded = &director.tables.services[id];
        let service = dataplane.service_traffic(loaded.service_number)?;
        let mut servers = lbx_common::counters::Traffic::default();
        for counter in loaded.counter_indices() {
            servers += dataplane.backend_traffic(counter)?;
        }
        ensure!(
            service == servers,
            "{id}: {service:?}, but {servers:?} of its real servers"
        );
        let counted = Sent {
            packets: service.packets,
            bytes: service.bytes,
            endings: service.fin_rst_packets,
        };
        ensure!(counted == sent, "{id}: {counted:?} of {sent:?}");
    }
    for &reason in DropReason::ALL {
        let drops = dataplane.drops(reason)?;
        ensure!(drops == 0, "{drops} were dropped: {}", reason.name());
    }
    Ok(())
}
