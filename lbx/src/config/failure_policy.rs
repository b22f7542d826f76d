//! What a service says of health and of what follows from it, by itself or by `defaults`.

use std::sync::Arc;

use super::{
    command,
    error::{Fault, Faults, Parts},
    field::{Field, Fields},
    health, limits,
    node::Value,
    text, time, value,
};
use crate::desired::{
    FailurePolicy, HealthConfig, NotifyTarget, OnEmpty, OnFailure, Protocol, RealServer, Scheduler, Service, Timeouts,
};

pub(super) const DEFAULTS: [&str; 7] = [
    "health",
    "on_failure",
    "on_empty",
    "drain_timeout",
    "slow_start",
    "notify",
    "local",
];
pub(super) const QUORUM: [&str; 2] = ["weight", "hysteresis"];

/// What `defaults` may say, and every service for itself.
#[derive(Clone, Debug)]
pub(super) struct Defaults<'a> {
    health: Option<(Arc<HealthConfig>, Field<'a>)>,
    on_failure: OnFailure,
    on_empty: OnEmpty,
    drain_timeout: DrainTimeout,
    slow_start: u16,
    notify: Option<NotifyTarget>,
    local: bool,
}

/// After which connections of a real server that is out of the file are cut.
#[derive(Clone, Copy, Debug)]
enum DrainTimeout {
    /// Not said: never for TCP, after these seconds for UDP.
    ByProtocol {
        udp_seconds: u32,
    },
    /// Never.
    Unlimited,
    Seconds(u32),
}

impl DrainTimeout {
    /// What is not said, where this is the idle timeout of UDP.
    fn by_protocol(udp_timeout_seconds: u16) -> Self {
        Self::ByProtocol {
            udp_seconds: 2 * u32::from(udp_timeout_seconds),
        }
    }

    fn read(field: &Field<'_>) -> Result<Self, Fault> {
        match field.value() {
            value if value.is_text("none") => Ok(Self::Unlimited),
            _ => match time::seconds(field) {
                Ok(seconds) => Ok(Self::Seconds(seconds.into())),
                Err(fault) => Err(Fault {
                    message: format!("{}, or none", fault.message),
                    ..fault
                }),
            },
        }
    }

    const fn seconds(self, protocol: Protocol) -> Option<u32> {
        match (self, protocol) {
            (Self::Seconds(seconds), _) | (Self::ByProtocol { udp_seconds: seconds }, Protocol::Udp) => Some(seconds),
            (Self::ByProtocol { .. }, Protocol::Tcp) | (Self::Unlimited, _) => None,
        }
    }
}

impl Default for Defaults<'_> {
    fn default() -> Self {
        Self {
            health: None,
            on_failure: OnFailure::default(),
            on_empty: OnEmpty::default(),
            drain_timeout: DrainTimeout::by_protocol(Timeouts::default().udp_seconds),
            slow_start: 0,
            notify: None,
            local: true,
        }
    }
}

impl<'a> Defaults<'a> {
    /// What holds if `defaults` says nothing.
    pub(super) fn by_timeouts(timeouts: &Timeouts) -> Self {
        Self {
            drain_timeout: DrainTimeout::by_protocol(timeouts.udp_seconds),
            ..Self::default()
        }
    }

    /// The same with what `defaults` says.
    pub(super) fn read(&self, field: &Field<'a>, reader: &mut health::Reader<'_>) -> Result<Self, Faults> {
        field.mapping(&DEFAULTS, |fields| self.overridden(fields, reader))
    }

    /// The same with what these fields say instead.
    pub(super) fn overridden(&self, fields: &Fields<'a>, reader: &mut health::Reader<'_>) -> Result<Self, Faults> {
        let (health, on_failure, on_empty, drain_timeout, slow_start, notify, local) = (
            fields.read_or("health", self.health.clone(), |field| {
                Ok::<_, Faults>(reader.read(field)?.map(|health| (health, field.clone())))
            }),
            fields.read_or("on_failure", self.on_failure, |field| {
                value::choice(field, "treatment of connections")
            }),
            fields.read_or("on_empty", self.on_empty, |field| {
                value::choice(field, "treatment of packets without a real server")
            }),
            fields.read_or("drain_timeout", self.drain_timeout, DrainTimeout::read),
            fields.read_or("slow_start", self.slow_start, time::seconds_or_none),
            fields.read_or("notify", self.notify.clone(), command::notify),
            value::boolean_or(fields, "local", self.local),
        )
            .all()?;
        Ok(Self {
            health,
            on_failure,
            on_empty,
            drain_timeout,
            slow_start,
            notify,
            local,
        })
    }

    /// The largest sum of weights that these real servers can have, unless their checks report the weights.
    pub(super) fn most(&self, servers: &[RealServer]) -> Option<u32> {
        let reported = self
            .health
            .as_ref()
            .is_some_and(|(health, _)| health.check.reports_weight());
        (!reported).then(|| servers.iter().map(|server| u32::from(server.weight)).sum())
    }

    /// The service with this, its quorum and hysteresis.
    pub(super) fn complete(
        self,
        service: Service,
        (quorum, hysteresis): (u32, u32),
        fields: &Fields<'a>,
    ) -> Result<Service, Faults> {
        let port = match &self.health {
            Some((health, field)) => health::refuse_unstated_port(health, field, &service.name, &service.ports),
            None => Ok(()),
        };
        let (slow_start, ()) = (slow_start(fields, self.slow_start, service.scheduler), port).all()?;
        Ok(Service {
            failure_policy: FailurePolicy {
                on_failure: self.on_failure,
                quorum,
                hysteresis,
                slow_start_seconds: slow_start,
                on_empty: self.on_empty,
            },
            drain_timeout_seconds: self.drain_timeout.seconds(service.virtual_service.protocol),
            health: self.health.map(|(health, _)| health),
            notify: self.notify,
            local_access: self.local,
            ..service
        })
    }
}

/// Seconds of slow start of a service: a scheduler that heeds no weights has none.
fn slow_start(fields: &Fields<'_>, seconds: u16, scheduler: Scheduler) -> Result<u16, Fault> {
    if scheduler.uses_weights() {
        return Ok(seconds);
    }
    match fields.optional("slow_start")? {
        Some(field) if seconds != 0 => {
            let able: Vec<_> = Scheduler::ALL
                .into_iter()
                .filter(|scheduler| scheduler.uses_weights())
                .map(Scheduler::name)
                .collect();
            let able = text::or_list(&able);
            Err(field.fault(format!(
                "slow_start is not supported by scheduler {scheduler}, which ignores weights: use {able}"
            )))
        }
        _ => Ok(0),
    }
}

/// Quorum and hysteresis of a service whose real servers weigh `most` together, where that is known.
pub(super) fn quorum(fields: &Fields<'_>, most: Option<u32>) -> Result<(u32, u32), Faults> {
    fields.read_or("quorum", (0, 0), |field| match field.value() {
        Value::Mapping(_) => field.mapping(&QUORUM, |fields| {
            let weight = fields.required("weight", "give the sum of weights that makes the quorum");
            let quorum = weight.and_then(|field| Ok(sum(&field, most)?));
            let hysteresis = fields.read_or("hysteresis", 0, |field| hysteresis(field, quorum.as_ref().ok(), most));
            (quorum, hysteresis).all()
        }),
        _ => Ok((sum(field, most)?, 0)),
    })
}

/// The sum of weights that makes the quorum.
fn sum(field: &Field<'_>, most: Option<u32>) -> Result<u32, Fault> {
    let quorum = value::number(field, "a sum of weights", limits::QUORUMS)?;
    match most.filter(|most| *most < quorum) {
        Some(most) => Err(field.fault(format!(
            "{quorum} is more than all real servers weigh together, {most}: the service would never be up"
        ))),
        None => Ok(quorum),
    }
}

/// A service is up from the sum of quorum and hysteresis on, and down below their difference, or with no weight at all.
fn hysteresis(field: &Field<'_>, quorum: Option<&u32>, most: Option<u32>) -> Result<u32, Fault> {
    let hysteresis = value::number(field, "a sum of weights", limits::HYSTERESES)?;
    let Some(&quorum) = quorum else {
        return Ok(hysteresis);
    };
    let least = quorum.saturating_add(hysteresis);
    match most {
        Some(most) if least > most => Err(field.fault(format!(
            "the service would be up again from {least} on, and all real servers weigh {most} together: make it smaller"
        ))),
        _ => Ok(hysteresis),
    }
}
