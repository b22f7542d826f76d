//! Histories that once outcome wrong, each cut down to what it takes.

use lbx::desired::Scheduler;

use crate::{
    cluster::{Change, How, SERVICES},
    history::{During, History, Kind, Packet, Step},
};

/// All of them, by what was wrong.
pub fn all() -> Vec<(&'static str, History)> {
    let of = |scheduler, steps| History {
        schedulers: [how(scheduler); SERVICES],
        before_wrap: 200,
        steps,
    };
    vec![
        (
            "regression: what is hashed does not change while flows without a record depend on it",
            of(
                Scheduler::Dh,
                vec![
                    packet(0, Kind::Data),
                    plan(&[schedule(0, Scheduler::P2c)]),
                    plan(&[schedule(0, Scheduler::Sh)]),
                    packet(0, Kind::Ack),
                ],
            ),
        ),
        (
            "regression: somebody gets new connections while all real servers are replaced",
            of(
                Scheduler::Lc,
                vec![Step::Plan {
                    changes: vec![Change::Replace(0), Change::Replace(4)],
                    during: During {
                        packets: (0..=255).map(|place| (place, syn(place))).collect(),
                        killed: None,
                    },
                }],
            ),
        ),
        (
            "regression: a change of what is hashed is refused at once, not by the next daemon",
            of(
                Scheduler::Sh,
                vec![
                    plan(&[Change::Schedule(
                        4,
                        How {
                            port: true,
                            ..how(Scheduler::Sh)
                        },
                    )]),
                    Step::Kill { reopen: false },
                    plan(&[]),
                ],
            ),
        ),
        (
            "regression: a client persists while one of its connections lives",
            of(Scheduler::Rr, persisting()),
        ),
    ]
}

/// A client with a connection that is busy for twice the time of persistence, and others who have turns meanwhile.
fn persisting() -> Vec<Step> {
    let of_client = |client, port, kind| {
        Step::Packet(Packet {
            service: 0,
            offset: 0,
            client,
            port,
            kind,
        })
    };
    let mut steps = vec![
        plan(&[Change::Persist(0, Some((5, false, true)))]),
        of_client(0, 0, Kind::Syn),
        of_client(0, 0, Kind::Ack),
    ];
    for other in 0..6 {
        steps.extend([
            Step::Wait(2 << 30),
            Step::Age {
                during: During::default(),
            },
            of_client(2 + other, 0, Kind::Syn),
            of_client(0, 0, Kind::Data),
        ]);
    }
    steps.extend((1..5).map(|port| of_client(0, port, Kind::Syn)));
    steps
}

fn how(scheduler: Scheduler) -> How {
    How {
        scheduler,
        port: false,
        fallback: false,
    }
}

fn schedule(service: usize, scheduler: Scheduler) -> Change {
    Change::Schedule(service, how(scheduler))
}

fn plan(changes: &[Change]) -> Step {
    Step::Plan {
        changes: changes.to_vec(),
        during: During::default(),
    }
}

/// A connection or a flow that nobody has had before.
fn syn(number: u8) -> Packet {
    Packet {
        service: if number.is_multiple_of(2) { 0 } else { 4 },
        offset: 0,
        client: number % 8,
        port: number / 8,
        kind: Kind::Syn,
    }
}

fn packet(service: usize, kind: Kind) -> Step {
    Step::Packet(Packet {
        service,
        offset: 0,
        client: 0,
        port: 0,
        kind,
    })
}
