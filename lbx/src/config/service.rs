//! One service: which fields it has, and which of them go together.

use std::net::IpAddr;

use super::{
    error::Fault,
    failover::Defaults,
    field::{Field, Fields, Unique},
    health, limits,
    node::Value,
    ports, text, time, value,
};
use crate::desired::{
    Failover, Hashing, Persistence, Ports, Protocol, RealServer, Scheduler, ServerState, Service, VirtualService,
};

pub(super) const SERVICE: [&str; 19] = [
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
    "quorum",
    "slow_start",
    "notify",
    "local",
    "realservers",
];
pub(super) const PERSISTENCE: [&str; 2] = ["timeout", "mask"];
pub(super) const REAL_SERVER: [&str; 5] = ["address", "weight", "upper", "lower", "quic_id"];

/// Weight of a real server that is given none.
const DEFAULT_WEIGHT: u16 = 1;
/// Seconds for which clients persist unless the file says otherwise: those of a bare `-p` (ipvsadm(8)).
const DEFAULT_PERSISTENCE: u16 = 300;

/// A service, and the fields that the checks across services may have to point at.
pub(super) struct Written<'a> {
    pub(super) service: Service,
    pub(super) name: Option<Field<'a>>,
    pub(super) vip: Field<'a>,
    pub(super) ports: ports::Written<'a>,
    /// The addresses of its real servers and its sorry server.
    pub(super) addresses: Vec<(IpAddr, Field<'a>)>,
}

/// Reads a service; `defaults` say what it leaves out of health.
pub(super) fn read<'a>(
    field: &Field<'a>,
    defaults: &Defaults<'a>,
    checks: &mut health::Reader<'_>,
) -> Result<Written<'a>, Fault> {
    let fields = field.fields(&SERVICE)?;
    let vip_field = fields.required("vip", "give the address that clients connect to")?;
    let vip = value::address(&vip_field, "a VIP")?;
    let ports = ports::written(&fields.required("port", "give the port that clients connect to")?)?;
    let virtual_service = VirtualService {
        vip,
        port: ports::first(&ports),
        protocol: value::choice_or_default(&fields, "protocol")?,
    };
    let name = fields.optional("name")?;
    let scheduler = value::choice_or_default(&fields, "scheduler")?;
    let quic = for_udp(&fields, "quic", virtual_service.protocol)?.is_some();
    let mut servers = Servers::read(&fields, vip, quic)?;
    let service = Service {
        name: match &name {
            Some(name) => text::service_name(name)?,
            None => virtual_service.to_string(),
        },
        virtual_service,
        ports: Ports::of(ports.iter().flat_map(|(range, _)| range.clone())),
        scheduler,
        hashing: hashing(&fields, scheduler)?,
        slots: match fields.optional("slots")? {
            Some(slots) => Some(value::prime(&slots, "a number of slots", limits::SLOTS)?),
            None => None,
        },
        persistence: persistence(&fields, vip)?,
        one_packet: false,
        sorry_server: servers.sorry(&fields, vip)?,
        quic,
        health: None,
        failover: Failover::default(),
        notify: None,
        local: true,
        servers: servers.all,
    };
    Ok(Written {
        service: defaults.complete(&fields, one_packet(&fields, service)?, checks)?,
        name,
        vip: vip_field,
        ports,
        addresses: servers.addresses,
    })
}

/// The field of a switch that is on and needs UDP.
fn for_udp<'a>(fields: &Fields<'a>, name: &str, protocol: Protocol) -> Result<Option<Field<'a>>, Fault> {
    let Some(field) = fields.optional(name)? else {
        return Ok(None);
    };
    match (value::boolean(&field)?, protocol) {
        (false, _) => Ok(None),
        (true, Protocol::Udp) => Ok(Some(field)),
        (true, protocol) => Err(field.fault(format!("is for UDP alone, and the service is {protocol}: leave it out"))),
    }
}

/// What the scheduler's flags make of it.
fn hashing(fields: &Fields<'_>, scheduler: Scheduler) -> Result<Hashing, Fault> {
    let mut hashing = scheduler.hashing();
    let Some(field) = fields.optional("flags")? else {
        return Ok(hashing);
    };
    let Some(known) = scheduler.flags() else {
        let why = match scheduler {
            Scheduler::Maglev => ": it is mh with mh-port and mh-fallback",
            _ => ": leave them out",
        };
        return Err(field.fault(format!("{scheduler} takes no flags{why}")));
    };
    let items = field.items("list the flags of the scheduler")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: leave it out"));
    }
    let mut seen = Unique::default();
    for item in items {
        match item.value() {
            flag if flag.is_text(known.port) => hashing.port = true,
            flag if flag.is_text(known.fallback) => hashing.fallback = true,
            _ => {
                let expected = text::or_list(&[known.port, known.fallback]);
                return Err(item.is_not(format_args!("a flag of {scheduler}"), format_args!("use {expected}")));
            }
        }
        seen.insert(item.value().to_string(), item.value(), &item)?;
    }
    Ok(hashing)
}

fn persistence(fields: &Fields<'_>, vip: IpAddr) -> Result<Option<Persistence>, Fault> {
    let drain = fields.optional("drain_persistence")?;
    let Some(field) = fields.optional("persistence")? else {
        return match drain {
            Some(drain) => Err(drain.fault("needs persistence: add it, or leave this out")),
            None => Ok(None),
        };
    };
    let (timeout, mask) = match field.value() {
        Value::Mapping(_) => {
            let fields = field.fields(&PERSISTENCE)?;
            (fields.optional("timeout")?, fields.optional("mask")?)
        }
        _ => (Some(field), None),
    };
    Ok(Some(Persistence {
        timeout: match timeout {
            Some(timeout) => time::seconds(&timeout)?,
            None => DEFAULT_PERSISTENCE,
        },
        prefix: match mask {
            Some(mask) => value::mask(&mask, vip)?,
            None => *value::prefixes(vip).end(),
        },
        drain: match drain {
            Some(drain) => value::boolean(&drain)?,
            None => true,
        },
    }))
}

/// The service with one-packet scheduling if the file asks for it: nothing is remembered of a datagram then.
fn one_packet(fields: &Fields<'_>, service: Service) -> Result<Service, Fault> {
    let protocol = service.virtual_service.protocol;
    let Some(field) = for_udp(fields, "one_packet", protocol)? else {
        return Ok(service);
    };
    let scheduler = service.scheduler;
    if service.persistence.is_some() {
        return Err(field.fault("keeps no record of clients, which persistence needs: leave one of them out"));
    }
    if service.servers.iter().any(|server| server.upper != 0) {
        return Err(field.fault("counts no connections, which upper needs: leave one of them out"));
    }
    if !scheduler.supports_one_packet() {
        let able: Vec<_> = Scheduler::ALL
            .into_iter()
            .filter(|scheduler| scheduler.supports_one_packet())
            .map(Scheduler::name)
            .collect();
        let able = text::or_list(&able);
        return Err(field.fault(format!(
            "keeps no records, which scheduler {scheduler} needs: use {able}"
        )));
    }
    Ok(Service {
        one_packet: true,
        ..service
    })
}

/// The real servers of a service.
struct Servers<'a> {
    all: Vec<RealServer>,
    addresses: Vec<(IpAddr, Field<'a>)>,
    seen: Unique<IpAddr>,
}

impl<'a> Servers<'a> {
    /// Reads them; of a service that knows QUIC they may have ids.
    fn read(fields: &Fields<'a>, vip: IpAddr, quic: bool) -> Result<Self, Fault> {
        let field = fields.required("realservers", "list the real servers")?;
        let items = field.at_most(limits::REAL_SERVERS, "real servers", "use a list of real servers")?;
        if items.is_empty() {
            return Err(field.fault("no real servers: to drain one, keep it with weight 0"));
        }
        let mut servers = Self {
            all: Vec::with_capacity(items.len()),
            addresses: Vec::with_capacity(items.len()),
            seen: Unique::default(),
        };
        let mut quic_ids = Unique::default();
        for item in &items {
            let server = match item.value() {
                Value::Mapping(_) => servers.mapping(item, vip, quic, &mut quic_ids)?,
                _ => RealServer {
                    address: servers.address(item.clone(), vip, "a real server")?,
                    weight: DEFAULT_WEIGHT,
                    upper: 0,
                    lower: 0,
                    quic_id: None,
                    state: ServerState::Up,
                },
            };
            servers.all.push(server);
        }
        Ok(servers)
    }

    /// A real server with more to say than its address.
    fn mapping(
        &mut self,
        field: &Field<'a>,
        vip: IpAddr,
        quic: bool,
        quic_ids: &mut Unique<u16>,
    ) -> Result<RealServer, Fault> {
        let fields = field.fields(&REAL_SERVER)?;
        let address = fields.required("address", "give the real server's own address")?;
        let address = self.address(address, vip, "a real server")?;
        let weight = match fields.optional("weight")? {
            Some(weight) => value::weight(&weight)?,
            None => DEFAULT_WEIGHT,
        };
        let (upper, lower) = thresholds(&fields)?;
        let quic_id = fields.optional("quic_id")?;
        if let (Some(field), false) = (&quic_id, quic) {
            return Err(field.fault("needs quic: true in its service"));
        }
        let quic_id = match quic_id {
            Some(field) => {
                let id = value::quic_id(&field)?;
                quic_ids.insert(id, id, &field)?;
                Some(id)
            }
            None => None,
        };
        Ok(RealServer {
            address,
            weight,
            upper,
            lower,
            quic_id,
            state: ServerState::Up,
        })
    }

    /// The server that is there for when there is no other.
    fn sorry(&mut self, fields: &Fields<'a>, vip: IpAddr) -> Result<Option<IpAddr>, Fault> {
        match fields.optional("sorry_server")? {
            Some(field) => self.address(field, vip, "a sorry server").map(Some),
            None => Ok(None),
        }
    }

    /// An address of the VIP's family that no other server of the service has.
    fn address(&mut self, field: Field<'a>, vip: IpAddr, role: &str) -> Result<IpAddr, Fault> {
        let address = value::address(&field, role)?;
        if address.is_ipv4() != vip.is_ipv4() {
            let (own, other) = (family(address), family(vip));
            return Err(field.fault(format!(
                "{address} is an {own} address, and the VIP {vip} an {other} one: give an {other} address"
            )));
        }
        self.seen.insert(address, address, &field)?;
        self.addresses.push((address, field));
        Ok(address)
    }
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Upper and lower threshold.
fn thresholds(fields: &Fields<'_>) -> Result<(u32, u32), Fault> {
    let read = |name| match fields.optional(name)? {
        Some(field) => value::threshold(&field).map(|value| (value, Some(field))),
        None => Ok((0, None)),
    };
    let (upper, _) = read("upper")?;
    let (lower, field) = read("lower")?;
    match field {
        Some(field) if lower != 0 && upper == 0 => Err(field.fault("needs upper: give the threshold it belongs to")),
        Some(field) if lower != 0 && lower >= upper => {
            Err(field.fault(format!("{lower} is not below upper: use 0 to {}", upper - 1)))
        }
        _ => Ok((upper, lower)),
    }
}
