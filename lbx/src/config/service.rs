//! One service: which fields it has, and which of them go together.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    error::{Fault, Faults, Parts},
    failure_policy::{self, Defaults},
    field::{Field, Fields, Unique},
    health, limits,
    node::Value,
    ports,
    real_server::Servers,
    text, time, value,
};
use crate::desired::{FailurePolicy, HashOptions, Persistence, PortSet, Protocol, Scheduler, Service, VirtualService};

pub(super) const SERVICE: [&str; 21] = [
    "name",
    "vip",
    "port",
    "protocol",
    "scheduler",
    "flags",
    "slots",
    "persistence",
    "drain_persistence",
    "one_packet",
    "sorry_server",
    "quic",
    "health",
    "on_failure",
    "on_empty",
    "drain_timeout",
    "quorum",
    "slow_start",
    "notify",
    "local",
    "realservers",
];
pub(super) const PERSISTENCE: [&str; 2] = ["timeout", "mask"];

/// Seconds for which clients persist unless the file says otherwise: those of a bare `-p` (ipvsadm(8)).
const DEFAULT_PERSISTENCE: u16 = 300;

/// A service as far as it could be read, with what the checks across services need.
pub(super) struct Written<'a> {
    pub(super) field: Field<'a>,
    pub(super) service: Result<Service, Faults>,
    pub(super) identity: Option<Identity<'a>>,
    /// The addresses of its real servers and its sorry server.
    pub(super) addresses: Vec<(IpAddr, Field<'a>)>,
}

/// What no other service may have.
#[derive(Clone)]
pub(super) struct Identity<'a> {
    pub(super) name: String,
    /// The field with its name, if it is given one.
    pub(super) name_field: Option<Field<'a>>,
    pub(super) virtual_service: VirtualService,
    pub(super) vip: Field<'a>,
    pub(super) ports: ports::Written<'a>,
}

impl<'a> Identity<'a> {
    fn read(fields: &Fields<'a>, protocol: Result<Protocol, Faults>) -> Result<Self, Faults> {
        let (name, (vip, field), ports, protocol) = (name(fields), vip(fields), ports(fields), protocol).all()?;
        let virtual_service = VirtualService {
            vip,
            port: ports::first(&ports),
            protocol,
        };
        let (name_field, name) = name.unzip();
        Ok(Self {
            name: name.unwrap_or_else(|| virtual_service.to_string()),
            name_field,
            virtual_service,
            vip: field,
            ports,
        })
    }
}

/// Reads a service; `defaults` hold for what it does not say of health itself: none if they could not be read.
pub(super) fn read<'a>(
    field: Field<'a>,
    defaults: Option<&Defaults<'a>>,
    checks: &mut health::Reader<'_>,
) -> Written<'a> {
    let (mut identity, mut addresses) = (None, Vec::new());
    let service = field.mapping(&SERVICE, |fields| {
        let protocol = value::choice_or_default(fields, "protocol");
        let vip = vip(fields).ok().map(|(address, _)| address);
        let known_protocol = known(&protocol);
        let own = Identity::read(fields, protocol);
        identity = own.as_ref().ok().cloned();
        let scheduler = value::choice_or_default(fields, "scheduler");
        let quic = for_udp(fields, "quic", known_protocol).map(|field| field.is_some());
        let servers = Servers::read(fields, vip, known(&quic), &mut addresses);
        let failure_policy = defaults.unwrap_or(&Defaults::default()).overridden(fields, checks);
        let most = match (defaults, &servers, &failure_policy) {
            (Some(_), Ok(servers), Ok(failure_policy)) => failure_policy.most(&servers.all),
            _ => None,
        };
        let options = Options::read(fields, vip, known_protocol, known(&scheduler));
        let quorum = failure_policy::quorum(fields, most);
        let (own, scheduler, quic, servers, options, failure_policy, quorum) =
            (own, scheduler, quic, servers, options, failure_policy, quorum).all()?;
        let service = Service {
            name: own.name,
            virtual_service: own.virtual_service,
            ports: PortSet::from_ports(own.ports.iter().flat_map(|(range, _)| range.clone())),
            scheduler,
            hash_options: options.hashing,
            slots: options.slots,
            persistence: options.persistence,
            one_packet: options.one_packet.is_some(),
            sorry_server: servers.sorry,
            quic,
            health: None,
            failure_policy: FailurePolicy::default(),
            drain_timeout_seconds: None,
            notify: None,
            local_access: true,
            awaits_checks: false,
            servers: servers.all,
            failed_removed_servers: BTreeSet::new(),
        };
        let one_packet = match options.one_packet {
            Some(field) => refuse_with_one_packet(&field, &service),
            None => Ok(()),
        };
        let (service, ()) = (failure_policy.complete(service, quorum, fields), one_packet).all()?;
        Ok(service)
    });
    Written {
        field,
        service,
        identity,
        addresses,
    }
}

/// A value that others depend on, if it could be read.
fn known<T: Copy, E>(value: &Result<T, E>) -> Option<T> {
    value.as_ref().ok().copied()
}

fn vip<'a>(fields: &Fields<'a>) -> Result<(IpAddr, Field<'a>), Faults> {
    let field = fields.required("vip", "give the address that clients connect to")?;
    Ok((value::address(&field, "a VIP")?, field))
}

fn ports<'a>(fields: &Fields<'a>) -> Result<ports::Written<'a>, Faults> {
    ports::written(&fields.required("port", "give the port that clients connect to")?)
}

fn name<'a>(fields: &Fields<'a>) -> Result<Option<(Field<'a>, String)>, Faults> {
    fields.read_optional("name", |field| {
        Ok::<_, Fault>((field.clone(), text::service_name(field)?))
    })
}

/// How a service schedules, besides its scheduler.
struct Options<'a> {
    hashing: HashOptions,
    slots: Option<u32>,
    persistence: Option<Persistence>,
    /// The field that asks for one-packet scheduling.
    one_packet: Option<Field<'a>>,
}

impl<'a> Options<'a> {
    fn read(
        fields: &Fields<'a>,
        vip: Option<IpAddr>,
        protocol: Option<Protocol>,
        scheduler: Option<Scheduler>,
    ) -> Result<Self, Faults> {
        let (hashing, slots, persistence, one_packet) = (
            scheduler.map_or(Ok(Scheduler::default().default_hash_options()), |scheduler| {
                hashing(fields, scheduler)
            }),
            fields.read_optional("slots", |field| value::prime(field, "a number of slots", limits::SLOTS)),
            persistence(fields, vip),
            for_udp(fields, "one_packet", protocol),
        )
            .all()?;
        Ok(Self {
            hashing,
            slots,
            persistence,
            one_packet,
        })
    }
}

/// The field of a switch that is on and needs UDP.
fn for_udp<'a>(fields: &Fields<'a>, name: &str, protocol: Option<Protocol>) -> Result<Option<Field<'a>>, Fault> {
    let Some(field) = fields.optional(name)? else {
        return Ok(None);
    };
    match (value::boolean(&field)?, protocol) {
        (false, _) => Ok(None),
        (true, Some(Protocol::Udp) | None) => Ok(Some(field)),
        (true, Some(protocol)) => {
            Err(field.fault(format!("is for UDP alone, and the service is {protocol}: leave it out")))
        }
    }
}

/// What the scheduler's flags make of it.
fn hashing(fields: &Fields<'_>, scheduler: Scheduler) -> Result<HashOptions, Faults> {
    let mut hashing = scheduler.default_hash_options();
    let Some(field) = fields.optional("flags")? else {
        return Ok(hashing);
    };
    let Some(known) = scheduler.flag_names() else {
        let why = match scheduler {
            Scheduler::Maglev => ": it is mh with mh-port and mh-fallback",
            _ => ": leave them out",
        };
        return Err(field.fault(format!("{scheduler} takes no flags{why}")).into());
    };
    let items = field.items("list the flags of the scheduler")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: leave it out").into());
    }
    let mut seen = Unique::default();
    items.read(|item| {
        match item.value() {
            flag if flag.is_text(known.port) => hashing.include_port = true,
            flag if flag.is_text(known.fallback) => hashing.fallback = true,
            _ => {
                let expected = text::or_list(&[known.port, known.fallback]);
                return Err(item.is_not(format_args!("a flag of {scheduler}"), format_args!("use {expected}")));
            }
        }
        seen.insert(item.value().to_string(), item.value(), &item)
    })?;
    Ok(hashing)
}

fn persistence(fields: &Fields<'_>, vip: Option<IpAddr>) -> Result<Option<Persistence>, Faults> {
    let (drain, field) = (fields.optional("drain_persistence"), fields.optional("persistence")).all()?;
    let Some(field) = field else {
        return match drain {
            Some(drain) => Err(drain.fault("needs persistence: add it, or leave this out").into()),
            None => Ok(None),
        };
    };
    // Without a VIP there is no family to hold a mask against, and no service either.
    let mask = |field: &Field<'_>| vip.map_or(Ok(0), |vip| value::mask(field, vip));
    let single = vip.map_or(0, |vip| *value::prefixes(vip).end());
    let times = match field.value() {
        Value::Mapping(_) => field.mapping(&PERSISTENCE, |fields| {
            let timeout = fields.read_or("timeout", DEFAULT_PERSISTENCE, time::seconds);
            (timeout, fields.read_or("mask", single, mask)).all()
        }),
        _ => time::seconds(&field)
            .map(|timeout| (timeout, single))
            .map_err(Faults::from),
    };
    let drain = drain.map_or(Ok(true), |drain| value::boolean(&drain));
    let ((timeout, prefix), drain) = (times, drain).all()?;
    Ok(Some(Persistence {
        timeout_seconds: timeout,
        prefix,
        persist_while_draining: drain,
    }))
}

/// What does not go with one-packet scheduling: nothing is remembered of a datagram.
fn refuse_with_one_packet(field: &Field<'_>, service: &Service) -> Result<(), Faults> {
    let scheduler = service.scheduler;
    let mut faults = Faults::default();
    if service.persistence.is_some() {
        faults.add(field.fault("keeps no record of clients, which persistence needs: leave one of them out"));
    }
    if service.servers.iter().any(|server| server.upper_threshold != 0) {
        faults.add(field.fault("counts no connections, which upper needs: leave one of them out"));
    }
    if !scheduler.supports_one_packet() {
        let able: Vec<_> = Scheduler::ALL
            .into_iter()
            .filter(|scheduler| scheduler.supports_one_packet())
            .map(Scheduler::name)
            .collect();
        let able = text::or_list(&able);
        faults.add(field.fault(format!(
            "keeps no records, which scheduler {scheduler} needs: use {able}"
        )));
    }
    faults.or(())
}
