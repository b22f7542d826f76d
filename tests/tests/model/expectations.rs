//! What a packet leaves behind: what its client may expect of the next one.

use anyhow::Result;
use lbx::{desired::Persistence, tables::templates::REARM_TICKS};
use lbx_common::flow::{ESTABLISHED, FlowEntry, UDP_STREAM, elapsed_ticks};

use crate::{
    cluster::Cluster,
    expected::{Expected, Phase, Signal, ticks},
    history::Kind,
    model::Model,
    packet_case::{PacketCase, PacketOutcome},
};

/// Where the first fragment of a packet outcome.
#[derive(Clone, Copy, Debug)]
pub struct Fragmented {
    pub id: u32,
    pub service: usize,
    pub server: u8,
    pub at: u32,
}

/// Where all connections of a client go.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    pub server: u8,
    pub last: u32,
    /// How long it lives after that at least.
    pub timeout: u32,
    /// Whether one of its connections was established.
    pub proved: bool,
    /// Whether it is known since a scan for the sake of a connection that lives.
    pub re_armed: bool,
}

impl Template {
    /// Whether its client persists still.
    pub fn lives(&self, now: u32) -> bool {
        elapsed_ticks(self.last, now) <= self.timeout
    }

    /// The template renewed at a tick: it never lives shorter for that.
    fn renewed(self, now: u32, timeout: u32) -> Self {
        let idle = elapsed_ticks(self.last, now);
        if idle + timeout < self.timeout {
            return self;
        }
        Self {
            last: now,
            timeout,
            re_armed: false,
            ..self
        }
    }
}

impl Model<'_> {
    /// Notes what the client may expect from now on.
    pub fn expect_next(&mut self, case: &PacketCase, outcome: PacketOutcome) -> Result<()> {
        let (now, timeouts, id) = (self.now(), self.timeouts(), case.id);
        if let (Some(fragment), Kind::First, PacketOutcome::Sent { service, server, .. }) =
            (case.fragment, case.kind, outcome)
        {
            let first = Fragmented {
                id: fragment,
                service,
                server,
                at: now,
            };
            self.fragments.insert(id, first);
        }
        if matches!(case.kind, Kind::Later | Kind::Orphan) {
            return Ok(());
        }
        for &service in case.services.iter().flatten() {
            self.seen.insert((id, service), now);
        }
        let PacketOutcome::Sent { service, server, new } = outcome else {
            // Whoever was passed or dropped keeps nothing; a promise would have been broken before.
            if case.signal == Signal::Open || case.expected.is_none() {
                self.flows.remove(&id);
            }
            return self.note_held(case);
        };
        self.persist(case, service, server, new);
        let begun = |phase| Expected {
            service,
            server,
            phase,
            last: now,
            timeouts,
            recorded: true,
            firm: false,
        };
        if matches!(case.signal, Signal::Finish | Signal::Reset) {
            self.ended.insert(id, now);
        }
        let closing = self.ended.get(&id).is_some_and(|&at| elapsed_ticks(at, now) < 2);
        let next = match (case.signal, case.expected) {
            (Signal::Open, _) => Some(begun(Phase::HalfOpen)),
            (Signal::Datagram, _) => Some(begun(Phase::Udp)),
            (_, Some(expected)) => Some(expected.after(case.signal, now, timeouts)),
            (Signal::Data, None) if !closing => Some(begun(Phase::Adopted)),
            _ => None,
        };
        self.flows.remove(&id);
        let one_packet = |cluster: &Cluster| cluster.services[service].service.one_packet;
        if let Some(mut next) = next.filter(|_| !self.in_force.iter().any(one_packet)) {
            if !self.roomy {
                self.look_up(case, service, &mut next)?;
            }
            self.flows.insert(id, next);
        }
        // What the plan under way ends is over already.
        let cluster = self.in_force.last().expect("something is in force");
        let over = id.service(cluster) != Some(service) || cluster.loses(service, server);
        if over {
            self.flows.remove(&id);
        }
        if over || !cluster.up(service).contains(&server) {
            self.fragments.remove(&id);
        }
        Ok(())
    }

    /// Notes a packet that was dropped because the real server of its flow is held: the flow goes on.
    fn note_held(&mut self, case: &PacketCase) -> Result<()> {
        let (now, timeouts) = (self.now(), self.timeouts());
        let Some(expected) = case.expected.filter(|_| case.signal != Signal::Open) else {
            return Ok(());
        };
        if matches!(case.signal, Signal::Finish | Signal::Reset) {
            self.ended.insert(case.id, now);
        }
        let mut next = expected.after(case.signal, now, timeouts);
        if !self.roomy {
            self.look_up(case, expected.service, &mut next)?;
        }
        self.flows.insert(case.id, next);
        Ok(())
    }

    /// Notes whether a flow has a record after a packet: where there are few, it is promised nothing without.
    fn look_up(&mut self, case: &PacketCase, service: usize, next: &mut Expected) -> Result<()> {
        let now = self.now();
        let record = self.record(&case.id, service)?;
        // One that nobody touched lies there until it is swept: its slot is at rest.
        let touched = |record: &FlowEntry| record.last_seen_tick == now || matches!(next.phase, Phase::Ended { .. });
        let about = matches!(case.signal, Signal::Odd | Signal::Mention);
        let record = record.filter(|record| touched(record) || (about && next.recorded));
        next.recorded = record.is_some();
        next.firm = record.is_some_and(|record| matches!(record.state, ESTABLISHED | UDP_STREAM));
        self.tally.without_record += u64::from(!next.recorded && self.records_all(service));
        Ok(())
    }

    /// Notes where the connections of a client that persists go.
    fn persist(&mut self, case: &PacketCase, service: usize, server: u8, new: bool) {
        let (now, id) = (self.now(), case.id);
        let half_open = self.timeouts().half_open();
        let [cluster] = self.in_force.as_slice() else {
            self.templates.retain(|(other, _), _| *other != service);
            self.persisted.insert((service, id.client / 2, server), now);
            return;
        };
        let Some(persistence) = cluster.services[service].service.persistence else {
            return;
        };
        self.persisted.insert((service, id.client / 2, server), now);
        let timeout = ticks(persistence.timeout_seconds);
        let key = (service, persisting(persistence, id.client));
        let known = self
            .templates
            .get(&key)
            .copied()
            .filter(|template| template.server == server);
        if new {
            let lives = known.filter(|known| known.lives(now));
            let template = match lives {
                Some(template) if template.proved => template.renewed(now, timeout),
                _ => Template {
                    server,
                    last: now,
                    timeout: timeout.min(half_open),
                    proved: false,
                    re_armed: false,
                },
            };
            self.templates.insert(key, template);
        } else if let (Some(template), Some(expected)) = (known, case.expected)
            && case.signal == Signal::Data
            && expected.phase == Phase::HalfOpen
            && template.lives(now)
        {
            let template = Template {
                proved: true,
                ..template.renewed(now, timeout)
            };
            self.templates.insert(key, template);
        }
    }

    /// Notes that the daemon scans: clients of whom a connection lives persist for another minute.
    pub fn note_scan(&mut self) -> Result<()> {
        let now = self.now();
        let [cluster] = self.in_force.as_slice() else {
            return Ok(());
        };
        if !self.roomy {
            return Ok(());
        }
        let mut re_armed = Vec::new();
        for (key, template) in self.templates.iter().filter(|(_, template)| template.proved) {
            let &(service, who) = key;
            let wish = &cluster.services[service].service;
            let Some(persistence) = wish
                .persistence
                .filter(|_| cluster.has_server(service, template.server))
            else {
                continue;
            };
            for (id, flow) in &self.flows {
                let of_template = (flow.service, flow.server) == (service, template.server)
                    && persisting(persistence, id.client) == who
                    && flow.phase == Phase::Established
                    && flow.lives(now);
                if of_template && self.record(id, service)?.is_some() {
                    re_armed.push((*key, template.renewed(now, REARM_TICKS)));
                    break;
                }
            }
        }
        for (key, template) in re_armed {
            let template = Template {
                re_armed: true,
                ..template
            };
            self.templates.insert(key, template);
        }
        Ok(())
    }
}

/// Who persists, the client or its network: as a number.
pub fn persisting(persistence: Persistence, client: u8) -> u8 {
    if matches!(persistence.prefix, 32 | 128) {
        client
    } else {
        client / 2
    }
}
