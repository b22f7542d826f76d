//! The format of the file: which fields are where, and what may not be there twice.

use std::{collections::HashMap, net::IpAddr, path::Path};

use super::{
    error::Fault,
    failover::Defaults,
    field::{Field, Unique},
    health, limits,
    node::Value,
    ports::Taken,
    service::{self, Written},
    text, time, value,
};
use crate::{
    desired::{Desired, Service, TableSizes, Timeouts},
    tables::service::slot_count,
};

pub(super) const ROOT: [&str; 6] = ["interface", "mode", "timeouts", "tables", "defaults", "services"];
pub(super) const TIMEOUTS: [&str; 5] = ["half_open", "established", "closing", "closed", "udp"];
pub(super) const TABLES: [&str; 5] = ["flows", "flows6", "slots", "ports", "fragments"];

/// The whole file; the paths it has begin at `folder`, unless they are absolute.
pub(super) fn desired(root: &Field<'_>, folder: &Path) -> Result<Desired, Fault> {
    if matches!(root.value(), Value::Null) {
        return Err(root.fault("the file is empty: it needs at least interface and services"));
    }
    let fields = root.fields(&ROOT)?;
    let interfaces =
        interfaces(&fields.required("interface", "name the NIC where clients arrive, or a list of them")?)?;
    let mode = value::choice_or_default(&fields, "mode")?;
    let timeouts = match fields.optional("timeouts")? {
        Some(field) => timeouts(&field)?,
        None => Timeouts::default(),
    };
    let sizes = fields.optional("tables")?;
    let tables = match &sizes {
        Some(field) => tables(field)?,
        None => TableSizes::default(),
    };
    let list = fields.required("services", "list what clients connect to")?;
    let mut checks = health::Reader::new(folder);
    let defaults = match fields.optional("defaults")? {
        Some(field) => Defaults::read(&field, &mut checks)?,
        None => Defaults::default(),
    };
    let services = services(&list, &defaults, &mut checks)?;
    refuse_more_than_fits(&services, tables, &sizes.unwrap_or(list))?;
    Ok(Desired {
        interfaces,
        mode,
        timeouts,
        tables,
        services,
    })
}

fn interfaces(field: &Field<'_>) -> Result<Vec<String>, Fault> {
    if !matches!(field.value(), Value::List(_)) {
        return Ok(vec![text::interface(field)?]);
    }
    let items = field.at_most(limits::INTERFACES, "interfaces", "use a list of names")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: name at least one NIC"));
    }
    let mut seen = Unique::default();
    items
        .iter()
        .map(|item| {
            let name = text::interface(item)?;
            seen.insert(name.clone(), format_args!("{name:?}"), item)?;
            Ok(name)
        })
        .collect()
}

fn timeouts(field: &Field<'_>) -> Result<Timeouts, Fault> {
    let fields = field.fields(&TIMEOUTS)?;
    let read = |name, default| match fields.optional(name)? {
        Some(timeout) => time::seconds(&timeout),
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

fn tables(field: &Field<'_>) -> Result<TableSizes, Fault> {
    let fields = field.fields(&TABLES)?;
    let read = |name, default, value: &dyn Fn(&Field<'_>) -> Result<u32, Fault>| match fields.optional(name)? {
        Some(field) => value(&field),
        None => Ok(default),
    };
    let default = TableSizes::default();
    let flows = |field: &Field<'_>| value::power_of_two(field, "a number of flows", limits::TABLE_FLOWS);
    Ok(TableSizes {
        flows: read("flows", default.flows, &flows)?,
        flows6: read("flows6", default.flows6, &flows)?,
        slots: read("slots", default.slots, &|field| {
            value::number(field, "a number of slots", limits::TABLE_SLOTS)
        })?,
        ports: read("ports", default.ports, &|field| {
            value::power_of_two(field, "a number of ports", limits::TABLE_PORTS)
        })?,
        fragments: read("fragments", default.fragments, &|field| {
            value::number(field, "a number of fragments", limits::TABLE_FRAGMENTS)
        })?,
    })
}

/// The sums over all services must find room in the tables.
fn refuse_more_than_fits(services: &[Service], tables: TableSizes, field: &Field<'_>) -> Result<(), Fault> {
    let sum = |of: fn(&Service) -> u32| -> u64 { services.iter().map(|service| u64::from(of(service))).sum() };
    for (what, needed, size) in [
        ("slots", sum(slot_count), tables.slots),
        ("ports", sum(|service| service.ports.count()), tables.ports),
    ] {
        if needed > u64::from(size) {
            return Err(field.fault(format!(
                "the services need {needed} {what} and tables.{what} is {size}: make it larger"
            )));
        }
    }
    Ok(())
}

fn services<'a>(
    field: &Field<'a>,
    defaults: &Defaults<'a>,
    checks: &mut health::Reader<'_>,
) -> Result<Vec<Service>, Fault> {
    let items = field.at_most(limits::SERVICES, "services", "use a list of services")?;
    if items.is_empty() {
        return Err(field.fault("no services: give at least one, so that a file cut short never takes all down"));
    }
    let (mut names, mut taken) = (Unique::default(), Taken::default());
    let mut room = limits::ALL_REAL_SERVERS;
    let mut all = Vec::with_capacity(items.len());
    for item in &items {
        let written = service::read(item, defaults, checks)?;
        let Service {
            name, virtual_service, ..
        } = &written.service;
        taken.take(*virtual_service, &written.ports)?;
        names.insert(
            name.clone(),
            format_args!("{name:?}"),
            written.name.as_ref().unwrap_or(item),
        )?;
        room = room.checked_sub(written.addresses.len()).ok_or_else(|| {
            item.fault(format!(
                "too many real servers: lbx holds {} at most in all services together",
                limits::ALL_REAL_SERVERS
            ))
        })?;
        all.push(written);
    }
    refuse_vips_as_servers(&all)?;
    Ok(all.into_iter().map(|written| written.service).collect())
}

/// A real server with the address of a VIP would have the director send to itself.
fn refuse_vips_as_servers(all: &[Written<'_>]) -> Result<(), Fault> {
    let mut vips: HashMap<IpAddr, &Field<'_>> = HashMap::new();
    for written in all {
        vips.entry(written.service.virtual_service.vip).or_insert(&written.vip);
    }
    for Written { service, addresses, .. } in all {
        for (address, field) in addresses {
            let Some(vip) = vips.get(address) else {
                continue;
            };
            let whose = if *address == service.virtual_service.vip {
                "the VIP of its own service".to_owned()
            } else {
                format!("a VIP, {}", vip.whereabouts())
            };
            return Err(field.fault(format!("{address} is {whose}: give the server's own address")));
        }
    }
    Ok(())
}
