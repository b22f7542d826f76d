//! Whom the schedulers that go by load choose: the rules are those of IPVS (net/netfilter/ipvs/ip_vs_lc.c and its
//! neighbours).

use anyhow::Result;
use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_common::drops::DropReason::NoBackend;
use lbx_tests::lab::VIP;

use crate::{
    cluster::{LO, balanced, flow, tcp, udp},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::Opens,
};

const HTTP: VirtualService = tcp(VIP, 80);
const DNS: VirtualService = udp(VIP, 53);

/// Active and inactive connections of each real server.
type Loads = &'static [(u16, u16)];
/// The weight of each.
type Weights = &'static [u16];

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [least(), delay(), by_weight(), changes()]
        .into_iter()
        .flatten()
        .collect()
}

fn services(scheduler: Scheduler, weights: Weights) -> Vec<Service> {
    let servers: Vec<(u8, u16)> = (1..).zip(weights.iter().copied()).collect();
    vec![balanced(HTTP, scheduler, &servers), balanced(DNS, scheduler, &servers)]
}

/// With these loads the next connection goes there.
fn chooses(says: &'static str, scheduler: Scheduler, weights: Weights, loads: Loads, number: u8) -> Fixture {
    let plays = move |director: &mut Director| {
        burden(director, loads)?;
        let next = flow(HTTP, 40_000);
        director.sends(next, &next.syn(), To::Rs(number), Opens)
    };
    story_of(says, move || services(scheduler, weights), plays)
}

/// Gives each real server its connections: for the time being it has the only weight.
fn burden(director: &mut Director, loads: Loads) -> Result<()> {
    let before = director.service_mut(HTTP)?.servers.clone();
    for (number, &(active, inactive)) in (1..).zip(loads) {
        for server in &mut director.service_mut(HTTP)?.servers {
            server.weight = 0;
        }
        // Enough for every rule to take it.
        director.weigh(HTTP, number, u16::MAX)?;
        for connection in 0..active + inactive {
            let flow = flow(HTTP, 1_024 * u16::from(number) + connection);
            director.run(LO, &flow.syn())?;
            if connection < active {
                director.run(LO, &flow.ack())?;
            }
        }
        director.has_load(HTTP, number, active.into(), inactive.into())?;
    }
    director.service_mut(HTTP)?.servers = before;
    director.plan()
}

fn least() -> Vec<Fixture> {
    use Scheduler::{Lc, P2c, Wlc};
    vec![
        chooses(
            "lc takes who has the fewest",
            Lc,
            &[1, 1, 1],
            &[(2, 0), (1, 0), (3, 0)],
            2,
        ),
        chooses(
            "lc takes the first of equals",
            Lc,
            &[1, 1, 1],
            &[(2, 0), (1, 0), (1, 0)],
            2,
        ),
        chooses("lc heeds no weight", Lc, &[1, 9], &[(1, 0), (2, 0)], 1),
        chooses("lc counts inactive connections", Lc, &[1, 1], &[(1, 2), (1, 1)], 2),
        chooses(
            "lc counts an active one for more than 255 inactive ones",
            Lc,
            &[1, 1],
            &[(1, 0), (0, 255)],
            2,
        ),
        chooses(
            "lc counts an active one for as much as 256",
            Lc,
            &[1, 1],
            &[(1, 0), (0, 256)],
            1,
        ),
        chooses(
            "lc takes nobody of weight 0",
            Lc,
            &[1, 0, 1],
            &[(2, 0), (0, 0), (1, 0)],
            3,
        ),
        chooses(
            "wlc takes the fewest for their weight",
            Wlc,
            &[3, 1],
            &[(2, 0), (1, 0)],
            1,
        ),
        chooses("wlc takes the first of equals", Wlc, &[1, 3], &[(1, 0), (3, 0)], 1),
        chooses(
            "wlc takes the lighter one when the heavier has more",
            Wlc,
            &[3, 1],
            &[(4, 0), (1, 0)],
            2,
        ),
        chooses(
            "wlc prefers who has none, however light",
            Wlc,
            &[1, 100],
            &[(0, 0), (1, 0)],
            1,
        ),
        chooses("wlc counts inactive connections", Wlc, &[2, 1], &[(0, 5), (0, 2)], 2),
        chooses("p2c takes the less loaded of two", P2c, &[1, 1], &[(2, 0), (1, 0)], 2),
        chooses("p2c heeds weights", P2c, &[5, 1], &[(4, 0), (1, 0)], 1),
        story_of(
            "p2c never takes the most loaded of three",
            || services(P2c, &[1, 1, 1]),
            not_the_most,
        ),
        story_of("p2c takes each of many", || services(P2c, &[1, 1, 1, 1]), each),
    ]
}

fn not_the_most(director: &mut Director) -> Result<()> {
    burden(director, &[(1, 0), (9, 0), (5, 0)])?;
    for port in 40_000..40_050 {
        director.run(LO, &flow(HTTP, port).syn())?;
    }
    director.has_load(HTTP, 2, 9, 0)
}

/// Two choices keep the loads of four within a few connections of each other: 15 each here.
fn each(director: &mut Director) -> Result<()> {
    for port in 40_000..40_060 {
        director.run(LO, &flow(HTTP, port).syn())?;
    }
    for number in 1..=4 {
        let load = director.load(HTTP, number)?;
        anyhow::ensure!((8..=22).contains(&load.inactive), "rs{number} has {load:?}");
    }
    Ok(())
}

fn delay() -> Vec<Fixture> {
    use Scheduler::{Nq, Sed};
    vec![
        chooses(
            "sed counts the connection in that comes",
            Sed,
            &[1, 3],
            &[(0, 0), (1, 0)],
            2,
        ),
        chooses("sed takes the first of equals", Sed, &[1, 3], &[(0, 0), (2, 0)], 1),
        chooses(
            "sed takes the idle one when the fast one is busy",
            Sed,
            &[1, 3],
            &[(0, 0), (3, 0)],
            1,
        ),
        chooses("sed counts no inactive connections", Sed, &[1, 1], &[(0, 9), (1, 0)], 1),
        chooses("sed takes nobody of weight 0", Sed, &[0, 1], &[(0, 0), (9, 0)], 2),
        chooses(
            "nq takes who is idle before who is fast",
            Nq,
            &[1, 9],
            &[(0, 0), (1, 0)],
            1,
        ),
        chooses(
            "nq takes the first who is idle",
            Nq,
            &[1, 9, 5],
            &[(1, 0), (0, 0), (0, 0)],
            2,
        ),
        chooses(
            "nq calls idle who has inactive connections alone",
            Nq,
            &[9, 1],
            &[(1, 0), (0, 7)],
            2,
        ),
        chooses(
            "nq goes by delay when nobody is idle",
            Nq,
            &[1, 3],
            &[(1, 0), (2, 0)],
            2,
        ),
        chooses("nq lets who drains idle", Nq, &[1, 0], &[(5, 0), (0, 0)], 1),
    ]
}

fn by_weight() -> Vec<Fixture> {
    use Scheduler::{Fo, Ovf};
    vec![
        chooses(
            "fo takes the heaviest, however loaded",
            Fo,
            &[1, 3, 2],
            &[(0, 0), (9, 9), (0, 0)],
            2,
        ),
        chooses(
            "fo takes the first of equals",
            Fo,
            &[2, 3, 3],
            &[(0, 0), (5, 0), (0, 0)],
            2,
        ),
        chooses("ovf takes the heaviest", Ovf, &[1, 3, 2], &[(0, 0), (0, 0), (0, 0)], 2),
        chooses(
            "ovf stays there while it has no more than its weight",
            Ovf,
            &[1, 3, 2],
            &[(0, 0), (3, 0), (0, 0)],
            2,
        ),
        chooses(
            "ovf counts active connections alone",
            Ovf,
            &[1, 3, 2],
            &[(0, 0), (3, 20), (0, 0)],
            2,
        ),
        chooses(
            "ovf overflows to the next",
            Ovf,
            &[1, 3, 2],
            &[(0, 0), (4, 0), (0, 0)],
            3,
        ),
        chooses(
            "ovf overflows to the last",
            Ovf,
            &[1, 3, 2],
            &[(0, 0), (4, 0), (3, 0)],
            1,
        ),
        story_of(
            "ovf drops what is too much for all",
            || services(Ovf, &[1, 2]),
            overflowing,
        ),
        story_of(
            "fo goes on with the next while the heaviest is lost",
            || services(Fo, &[1, 3, 2]),
            failover,
        ),
    ]
}

fn overflowing(director: &mut Director) -> Result<()> {
    burden(director, &[(2, 0), (3, 0)])?;
    director.drops(&flow(HTTP, 40_000).syn(), NoBackend)?;
    let ending = flow(HTTP, 2_048);
    director.run(LO, &ending.fin())?;
    director.opens(flow(HTTP, 40_000), To::Rs(2))
}

fn failover(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[2, 2])?;
    director.lose(HTTP, 2)?;
    director.opens_in_turn(HTTP, 40_010.., &[3, 3])?;
    director.weigh(HTTP, 3, 0)?;
    director.opens_in_turn(HTTP, 40_020.., &[1, 1])?;
    director.find(HTTP, 2)?;
    director.opens_in_turn(HTTP, 40_030.., &[2, 2])
}

fn changes() -> Vec<Fixture> {
    use Scheduler::{Lc, Wlc};
    vec![
        story_of("lc fills up who comes later", || services(Lc, &[1, 1]), newcomer),
        story_of("lc heeds that connections end", || services(Lc, &[1, 1]), ending),
        story_of("wlc heeds another weight at once", || services(Wlc, &[1, 1]), reweighed),
        story_of("lc goes by flows of UDP", || services(Lc, &[1, 1, 1]), datagrams),
        story_of("lc passes over who is lost", || services(Lc, &[1, 1, 1]), lost),
    ]
}

fn newcomer(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    let third = crate::cluster::real_server(lbx_tests::lab::rip(3), 1);
    director.service_mut(HTTP)?.servers.push(third);
    director.plan()?;
    director.opens_in_turn(HTTP, 41_000.., &[3, 3, 1, 2, 3])
}

fn ending(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    // One of rs2 ends: 256 + 1 against 512.
    director.run(LO, &flow(HTTP, 40_001).fin())?;
    director.opens_in_turn(HTTP, 41_000.., &[2, 1])
}

fn reweighed(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    director.weigh(HTTP, 2, 3)?;
    director.opens_in_turn(HTTP, 41_000.., &[2, 2, 2, 2, 1])
}

fn datagrams(director: &mut Director) -> Result<()> {
    director.sends_in_turn(DNS, 40_000.., &[1, 2, 3, 1], Opens)?;
    director.pass(u32::from(director.loaded(DNS).policy.timeouts.udp) + 1)?;
    director.age()?;
    director.sends_in_turn(DNS, 41_000.., &[1, 2], Opens)
}

fn lost(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 3])?;
    director.lose(HTTP, 2)?;
    director.opens_in_turn(HTTP, 41_000.., &[1, 3, 1, 3])?;
    director.find(HTTP, 2)?;
    director.age()?;
    director.opens_in_turn(HTTP, 42_000.., &[2, 2, 2, 1])
}
