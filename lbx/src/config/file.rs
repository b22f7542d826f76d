//! The format of the file: which fields are where, and what may not be there twice.

use std::{collections::HashMap, net::IpAddr};

use lbx_common::maps::{MAX_NICS, MAX_SERVERS, MAX_SERVICES};
use serde::Deserialize;

use super::{
    error::Fault,
    field::{Field, Fields, Unique},
    node::Value,
    value,
};
use crate::desired::{Desired, Hashing, Ports, RealServer, Scheduler, Service, TableSizes, Timeouts, VirtualService};

const ROOT: [&str; 4] = ["interface", "mode", "timeouts", "services"];
const TIMEOUTS: [&str; 5] = ["half_open", "established", "closing", "closed", "udp"];
const SERVICE: [&str; 6] = ["name", "vip", "port", "protocol", "scheduler", "realservers"];
const REAL_SERVER: [&str; 2] = ["address", "weight"];

/// Real servers of one service at most.
const MAX_REAL_SERVERS: usize = 4096;
/// Weight of a real server that is given none.
const DEFAULT_WEIGHT: u16 = 1;

/// The whole file.
pub(super) fn desired(root: &Field<'_>) -> Result<Desired, Fault> {
    if matches!(root.value(), Value::Null) {
        return Err(root.fault("the file is empty: it needs at least interface and services"));
    }
    let fields = root.fields(&ROOT)?;
    Ok(Desired {
        interfaces: interfaces(&fields.required("interface", "name the NIC where clients arrive, or a list of them")?)?,
        mode: choice_or_default(&fields, "mode")?,
        timeouts: match fields.optional("timeouts")? {
            Some(field) => timeouts(&field)?,
            None => Timeouts::default(),
        },
        tables: TableSizes::default(),
        services: services(&fields.required("services", "list what clients connect to")?)?,
    })
}

fn choice_or_default<T>(fields: &Fields<'_>, name: &str) -> Result<T, Fault>
where
    T: Default + for<'de> Deserialize<'de>,
{
    match fields.optional(name)? {
        Some(field) => value::choice(&field, name),
        None => Ok(T::default()),
    }
}

fn interfaces(field: &Field<'_>) -> Result<Vec<String>, Fault> {
    if !matches!(field.value(), Value::List(_)) {
        return Ok(vec![value::interface(field)?]);
    }
    let items = counted(field, "use a list of names", "interfaces", MAX_NICS as usize)?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: name at least one NIC"));
    }
    let mut seen = Unique::default();
    items
        .iter()
        .map(|item| {
            let name = value::interface(item)?;
            seen.insert(name.clone(), format_args!("{name:?}"), item)?;
            Ok(name)
        })
        .collect()
}

/// The items of a list that has room for `max`.
fn counted<'a>(field: &Field<'a>, expected: &str, what: &str, max: usize) -> Result<Vec<Field<'a>>, Fault> {
    let items = field.items(expected)?;
    if items.len() > max {
        return Err(field.fault(format!("{} {what}: lbx holds {max} at most", items.len())));
    }
    Ok(items)
}

fn timeouts(field: &Field<'_>) -> Result<Timeouts, Fault> {
    let fields = field.fields(&TIMEOUTS)?;
    let read = |name, default| match fields.optional(name)? {
        Some(timeout) => value::seconds(&timeout),
        None => Ok(default),
    };
    let default = Timeouts::default();
    Ok(Timeouts {
        half_open: read("half_open", default.half_open)?,
        established: read("established", default.established)?,
        closing: read("closing", default.closing)?,
        closed: read("closed", default.closed)?,
        udp: read("udp", default.udp)?,
    })
}

/// The schedulers that the XDP program knows.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    #[default]
    Rr,
    Wrr,
    Maglev,
}

/// A service, and the fields that the checks across services may have to point at.
struct Written<'a> {
    service: Service,
    name: Option<Field<'a>>,
    vip: Field<'a>,
    servers: Vec<Field<'a>>,
}

fn services(field: &Field<'_>) -> Result<Vec<Service>, Fault> {
    let items = counted(field, "use a list of services", "services", MAX_SERVICES as usize - 1)?;
    if items.is_empty() {
        return Err(field.fault("no services: give at least one, so that a file cut short never takes all down"));
    }
    let (mut names, mut virtual_services) = (Unique::default(), Unique::default());
    let mut room = MAX_SERVERS as usize;
    let mut all = Vec::with_capacity(items.len());
    for item in &items {
        let written = service(item)?;
        let Service {
            name, virtual_service, ..
        } = &written.service;
        virtual_services.insert(*virtual_service, virtual_service, item)?;
        names.insert(
            name.clone(),
            format_args!("{name:?}"),
            written.name.as_ref().unwrap_or(item),
        )?;
        room = room.checked_sub(written.servers.len()).ok_or_else(|| {
            item.fault(format!(
                "too many real servers: lbx holds {MAX_SERVERS} at most in all services together"
            ))
        })?;
        all.push(written);
    }
    refuse_vips_as_servers(&all)?;
    Ok(all.into_iter().map(|written| written.service).collect())
}

fn service<'a>(field: &Field<'a>) -> Result<Written<'a>, Fault> {
    let fields = field.fields(&SERVICE)?;
    let vip = fields.required("vip", "give the address that clients connect to")?;
    let virtual_service = VirtualService {
        vip: value::address(&vip, "a VIP")?.into(),
        port: value::port(&fields.required("port", "give the port that clients connect to")?)?,
        protocol: choice_or_default(&fields, "protocol")?,
    };
    let name = fields.optional("name")?;
    let scheduler = match choice_or_default(&fields, "scheduler")? {
        Choice::Rr => Scheduler::Rr,
        Choice::Wrr => Scheduler::Wrr,
        Choice::Maglev => Scheduler::Maglev,
    };
    let (real_servers, servers) = real_servers(&fields.required("realservers", "list the real servers")?)?;
    Ok(Written {
        service: Service {
            name: match &name {
                Some(name) => value::service_name(name)?,
                None => virtual_service.to_string(),
            },
            virtual_service,
            ports: Ports::one(virtual_service.port),
            scheduler,
            hashing: Hashing {
                port: true,
                fallback: true,
            },
            slots: None,
            persistence: None,
            one_packet: false,
            sorry_server: None,
            quic: false,
            servers: real_servers,
        },
        name,
        vip,
        servers,
    })
}

/// The real servers of one service and the fields of their addresses.
fn real_servers<'a>(field: &Field<'a>) -> Result<(Vec<RealServer>, Vec<Field<'a>>), Fault> {
    let items = counted(field, "use a list of real servers", "real servers", MAX_REAL_SERVERS)?;
    if items.is_empty() {
        return Err(field.fault("no real servers: to drain one, keep it with weight 0"));
    }
    let mut seen = Unique::default();
    items
        .iter()
        .map(|item| {
            let (server, address) = real_server(item)?;
            seen.insert(server.address, server.address, &address)?;
            Ok((server, address))
        })
        .collect()
}

/// A real server: an address, or a mapping with more to say.
fn real_server<'a>(field: &Field<'a>) -> Result<(RealServer, Field<'a>), Fault> {
    let (address, weight) = match field.value() {
        Value::Mapping(_) => {
            let fields = field.fields(&REAL_SERVER)?;
            (
                fields.required("address", "give the real server's own address")?,
                fields.optional("weight")?,
            )
        }
        _ => (field.clone(), None),
    };
    let server = RealServer {
        address: value::address(&address, "a real server")?.into(),
        weight: match weight {
            Some(weight) => value::weight(&weight)?,
            None => DEFAULT_WEIGHT,
        },
        upper: 0,
        lower: 0,
        quic_id: None,
    };
    Ok((server, address))
}

/// A real server with the address of a VIP would have the director send to itself.
fn refuse_vips_as_servers(all: &[Written<'_>]) -> Result<(), Fault> {
    let mut vips: HashMap<IpAddr, &Field<'_>> = HashMap::new();
    for written in all {
        vips.entry(written.service.virtual_service.vip).or_insert(&written.vip);
    }
    for Written { service, servers, .. } in all {
        for (server, field) in service.servers.iter().zip(servers) {
            let Some(vip) = vips.get(&server.address) else {
                continue;
            };
            let whose = if server.address == service.virtual_service.vip {
                "the VIP of its own service".to_owned()
            } else {
                format!("a VIP, {}", vip.whereabouts())
            };
            let address = server.address;
            return Err(field.fault(format!("{address} is {whose}: give the real server's own address")));
        }
    }
    Ok(())
}
