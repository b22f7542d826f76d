//! What a service says of health and of what follows from it, by itself or by `defaults`.

use std::sync::Arc;

use super::{
    command,
    error::Fault,
    field::{Field, Fields},
    health, limits,
    node::Value,
    text, time, value,
};
use crate::desired::{Failover, Health, Notify, OnFailure, Scheduler, Service};

pub(super) const DEFAULTS: [&str; 5] = ["health", "on_failure", "slow_start", "notify", "local"];
pub(super) const QUORUM: [&str; 2] = ["weight", "hysteresis"];

/// What `defaults` may say, and every service for itself.
#[derive(Clone, Debug)]
pub(super) struct Defaults<'a> {
    health: Option<(Arc<Health>, Field<'a>)>,
    on_failure: OnFailure,
    slow_start: u16,
    notify: Option<Notify>,
    local: bool,
}

impl Default for Defaults<'_> {
    fn default() -> Self {
        Self {
            health: None,
            on_failure: OnFailure::default(),
            slow_start: 0,
            notify: None,
            local: true,
        }
    }
}

impl<'a> Defaults<'a> {
    /// What `defaults` says.
    pub(super) fn read(field: &Field<'a>, reader: &mut health::Reader<'_>) -> Result<Self, Fault> {
        Self::default().overridden(&field.fields(&DEFAULTS)?, reader)
    }

    /// The same with what these fields say instead.
    fn overridden(&self, fields: &Fields<'a>, reader: &mut health::Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            health: match fields.optional("health")? {
                Some(field) => reader.read(&field)?.map(|health| (health, field)),
                None => self.health.clone(),
            },
            on_failure: match fields.optional("on_failure")? {
                Some(field) => value::choice(&field, "treatment of connections")?,
                None => self.on_failure,
            },
            slow_start: match fields.optional("slow_start")? {
                Some(field) => time::seconds_or_none(&field)?,
                None => self.slow_start,
            },
            notify: match fields.optional("notify")? {
                Some(field) => command::notify(&field)?,
                None => self.notify.clone(),
            },
            local: value::boolean_or(fields, "local", self.local)?,
        })
    }

    /// The service with what its fields say of this, or else the defaults.
    pub(super) fn complete(
        &self,
        fields: &Fields<'a>,
        service: Service,
        reader: &mut health::Reader<'_>,
    ) -> Result<Service, Fault> {
        let own = self.overridden(fields, reader)?;
        if let Some((health, field)) = &own.health {
            health::refuse_unstated_port(health, field, &service.name, &service.ports)?;
        }
        let health = own.health.map(|(health, _)| health);
        let (quorum, hysteresis) = match fields.optional("quorum")? {
            Some(field) => quorum(&field, most(&service, health.as_deref()))?,
            None => (0, 0),
        };
        Ok(Service {
            failover: Failover {
                on_failure: own.on_failure,
                quorum,
                hysteresis,
                slow_start: slow_start(fields, own.slow_start, service.scheduler)?,
            },
            health,
            notify: own.notify,
            local: own.local,
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
            Err(field.fault(format!("raises weights, which {scheduler} does not heed: use {able}")))
        }
        _ => Ok(0),
    }
}

/// The largest sum of weights that a service can have, unless its checks make the weights.
fn most(service: &Service, health: Option<&Health>) -> Option<u32> {
    let sum = || service.servers.iter().map(|server| u32::from(server.weight)).sum();
    (!health.is_some_and(|health| health.check.reports_weight())).then(sum)
}

/// Quorum and hysteresis: up from their sum on, down below their difference.
fn quorum(field: &Field<'_>, most: Option<u32>) -> Result<(u32, u32), Fault> {
    let sum = |field: &Field<'_>| value::number(field, "a sum of weights", limits::QUORUMS);
    let (weight, hysteresis) = match field.value() {
        Value::Mapping(_) => {
            let fields = field.fields(&QUORUM)?;
            let weight = fields.required("weight", "give the sum of weights that makes the quorum")?;
            (weight, fields.optional("hysteresis")?)
        }
        _ => (field.clone(), None),
    };
    let quorum = sum(&weight)?;
    if let Some(most) = most.filter(|most| *most < quorum) {
        return Err(weight.fault(format!(
            "{quorum} is more than all real servers weigh together, {most}: the service would never be up"
        )));
    }
    let Some(field) = hysteresis else {
        return Ok((quorum, 0));
    };
    let hysteresis = value::number(&field, "a sum of weights", limits::HYSTERESES)?;
    let least = quorum.saturating_add(hysteresis);
    match most {
        _ if hysteresis >= quorum => Err(field.fault(format!(
            "{hysteresis} is not below the quorum, {quorum}: the service would never be down"
        ))),
        Some(most) if least > most => Err(field.fault(format!(
            "the service would be up again from {least} on, and all real servers weigh {most} together: make it smaller"
        ))),
        _ => Ok((quorum, hysteresis)),
    }
}
