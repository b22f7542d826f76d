//! Random histories.

use proptest::prelude::*;

use lbx::desired::{OnFailure, Scheduler, ServerState};

use crate::cluster::{Change, How, SERVERS, SERVICES};

/// Clients there are; each has some ports.
const CLIENTS: u8 = 5;
const PORTS: u8 = 3;
/// Nanoseconds of a tick.
const TICK: u64 = 1 << 30;

/// A beginning, and what follows.
#[derive(Clone, Debug)]
pub struct History {
    pub schedulers: [How; SERVICES],
    /// Ticks until the flow clock wraps.
    pub before_wrap: u32,
    pub steps: Vec<Step>,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet arrives.
    Packet(Packet),
    /// Changes, and the plan that follows them. A daemon that is dead is started first.
    Plan { changes: Vec<Change>, during: During },
    /// A scan, and what time has brought.
    Age { during: During },
    /// Nanoseconds pass.
    Wait(u64),
    /// So long that the clock of flows wraps, a scan now and then.
    Wrap,
    /// The daemon is killed; `reopen`: its maps are closed too, and opened from their pins.
    Kill { reopen: bool },
}

/// What happens while the writes of a plan are carried out: places among them are in 256ths.
#[derive(Clone, Debug, Default)]
pub struct During {
    pub packets: Vec<(u8, Packet)>,
    /// The daemon is killed here.
    pub killed: Option<u8>,
}

/// A packet of a client for a service.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub service: usize,
    /// Added to the service's first port.
    pub offset: u8,
    pub client: u8,
    pub port: u8,
    pub kind: Kind,
}

/// What a packet is; a UDP service gets datagrams for everything TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
    Rst,
    /// An ICMP error about the flow.
    Error,
    /// The first fragment of a packet with data.
    First,
    /// Another fragment of it.
    Later,
    /// A fragment of a packet whose first nobody has seen.
    Orphan,
}

pub fn history() -> impl Strategy<Value = History> {
    // Most of what happens is about two services: elsewhere too little comes together.
    let steps = [0..SERVICES, 0..SERVICES].prop_flat_map(|busy| prop::collection::vec(step(busy), 1..400));
    let schedulers: [_; SERVICES] = std::array::from_fn(|_| how());
    (schedulers, 0..400u32, steps).prop_map(|(schedulers, before_wrap, steps)| History {
        schedulers,
        before_wrap,
        steps,
    })
}

fn service(busy: [usize; 2]) -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(busy[0]),
        2 => Just(busy[1]),
        1 => 0..SERVICES,
    ]
}

fn step(busy: [usize; 2]) -> impl Strategy<Value = Step> {
    prop_oneof![
        1400 => packet(busy).prop_map(Step::Packet),
        280 => (prop::collection::vec(change(busy), 0..3), during(busy))
            .prop_map(|(changes, during)| Step::Plan { changes, during }),
        280 => during(busy).prop_map(|during| Step::Age { during }),
        200 => prop_oneof![
            3 => 1..TICK / 2,
            6 => 1..4u64,
            4 => 4..14u64,
            1 => 14..40u64,
        ].prop_map(|wait| Step::Wait(if wait < 40 { wait * TICK } else { wait })),
        4 => Just(Step::Wrap),
        12 => Just(Step::Kill { reopen: false }),
        1 => Just(Step::Kill { reopen: true }),
    ]
}

fn during(busy: [usize; 2]) -> impl Strategy<Value = During> {
    let killed = prop_oneof![12 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let packets = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((any::<u8>(), packet(busy)), 1..4),
    ];
    (packets, killed).prop_map(|(packets, killed)| During { packets, killed })
}

fn packet(busy: [usize; 2]) -> impl Strategy<Value = Packet> {
    let kind = prop_oneof![
        10 => Just(Kind::Syn),
        2 => Just(Kind::SynAck),
        8 => Just(Kind::Ack),
        14 => Just(Kind::Data),
        4 => Just(Kind::Fin),
        2 => Just(Kind::Rst),
        2 => Just(Kind::Error),
        2 => Just(Kind::First),
        3 => Just(Kind::Later),
        1 => Just(Kind::Orphan),
    ];
    let offset = prop_oneof![6 => Just(0u8), 1 => 0..4u8];
    // Few flows that send much, and others.
    let flow = prop_oneof![
        6 => (0..2u8, Just(0), Just(0)),
        3 => (0..CLIENTS, 0..PORTS, Just(0)),
        1 => (0..CLIENTS, 0..PORTS, offset),
    ];
    (service(busy), flow, kind).prop_map(|(service, (client, port, offset), kind)| Packet {
        service,
        offset,
        client,
        port,
        kind,
    })
}

fn change(busy: [usize; 2]) -> impl Strategy<Value = Change> {
    let service = || service(busy);
    let server = || 0..SERVERS;
    let limit = prop_oneof![2 => Just((0, 0)), 1 => Just((2, 0)), 1 => Just((4, 2)), 1 => Just((3, 3))];
    let persistence = prop_oneof![
        2 => Just(None),
        2 => (prop_oneof![Just(5u16), Just(12)], any::<bool>(), any::<bool>()).prop_map(Some),
    ];
    prop_oneof![
        8 => (service(), server(), 0..4u16).prop_map(|(service, server, weight)| Change::Weight(service, server, weight)),
        4 => (service(), server()).prop_map(|(service, server)| Change::Remove(service, server)),
        1 => service().prop_map(Change::Replace),
        1 => service().prop_map(Change::Drain),
        3 => (service(), server(), limit).prop_map(|(service, server, (upper, lower))| Change::Limit(service, server, upper, lower)),
        6 => (service(), how()).prop_map(|(service, how)| Change::Schedule(service, how)),
        2 => (service(), persistence).prop_map(|(service, persistence)| Change::Persist(service, persistence)),
        1 => (service(), prop_oneof![Just(None), (1..30u32).prop_map(Some)]).prop_map(|(service, seconds)| Change::DrainTimeout(service, seconds)),
        1 => (service(), any::<bool>()).prop_map(|(service, on)| Change::Sorry(service, on)),
        1 => (service(), any::<bool>()).prop_map(|(service, on)| Change::OnePacket(service, on)),
        2 => (service(), 0..4u16).prop_map(|(service, more)| Change::Ports(service, more)),
        2 => service().prop_map(Change::Toggle),
        1 => service().prop_map(Change::Reverse),
        4 => (0..=SERVERS).prop_map(Change::Lose),
        6 => (0..=SERVERS, 0..3u8).prop_map(|(server, from)| Change::Answer(server, from)),
        1 => (0..2usize).prop_map(Change::Timeouts),
        14 => (service(), server(), server_state()).prop_map(|(service, server, state)| Change::Stand(service, server, state)),
    ]
}

fn server_state() -> impl Strategy<Value = ServerState> {
    prop_oneof![
        4 => Just(ServerState::Up),
        1 => Just(ServerState::Draining),
        1 => Just(ServerState::Down(OnFailure::Rehash)),
        2 => Just(ServerState::Down(OnFailure::Keep)),
        2 => Just(ServerState::Down(OnFailure::Drop)),
    ]
}

fn how() -> impl Strategy<Value = How> {
    let hashing: Vec<_> = Scheduler::ALL
        .into_iter()
        .filter(|scheduler| scheduler.hashes())
        .collect();
    let scheduler = prop_oneof![
        2 => prop::sample::select(Scheduler::ALL.to_vec()),
        1 => prop::sample::select(hashing),
    ];
    (scheduler, any::<bool>(), any::<bool>()).prop_map(|(scheduler, port, fallback)| How {
        scheduler,
        port,
        fallback,
    })
}
