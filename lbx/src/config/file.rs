//! The format of the file: which fields are where, and what may not be there twice.

use std::{collections::HashMap, net::IpAddr, path::Path};

use super::{
    error::{Fault, Faults, Parts},
    failure_policy::Defaults,
    field::{Field, Unique},
    health, limits,
    node::Value,
    ports::Taken,
    service::{self, Written},
    text, time, value,
};
use crate::{
    desired::{DesiredState, Service, TableSizes, Timeouts},
    tables::service::slot_count,
};

pub(super) const ROOT: [&str; 7] = [
    "interface",
    "mode",
    "network_grace",
    "timeouts",
    "tables",
    "defaults",
    "services",
];
pub(super) const TIMEOUTS: [&str; 5] = ["half_open", "established", "closing", "closed", "udp"];
pub(super) const TABLES: [&str; 5] = ["flows", "flows6", "slots", "ports", "fragments"];

/// Seconds for which a real server keeps a route that is gone, unless the file says otherwise.
const NETWORK_GRACE: u16 = 30;

/// The whole file; the paths it has begin at `folder`, unless they are absolute.
pub(super) fn desired(root: &Field<'_>, folder: &Path) -> Result<DesiredState, Faults> {
    if matches!(root.value(), Value::Null) {
        return Err(root
            .fault("the file is empty: it needs at least interface and services")
            .into());
    }
    root.mapping(&ROOT, |fields| {
        let nics = fields.required("interface", "name the NIC where clients arrive, or a list of them");
        let sizes = fields.read_optional("tables", |field| Ok::<_, Faults>((tables(field)?, field.clone())));
        let list = fields.required("services", "list what clients connect to");
        let mut checks = health::Reader::new(folder);
        let timeouts = fields.read_or("timeouts", Timeouts::default(), timeouts);
        let initial_defaults = timeouts
            .as_ref()
            .map_or_else(|_| Defaults::default(), Defaults::by_timeouts);
        let defaults = fields.read_or("defaults", initial_defaults.clone(), |field| {
            initial_defaults.read(field, &mut checks)
        });
        let services = |field: &Field<'_>| services(field, defaults.as_ref().ok(), &mut checks);
        let (interfaces, mode, network_grace, timeouts, sizes, services, list, _) = (
            nics.and_then(|field| interfaces(&field)),
            value::choice_or_default(fields, "mode"),
            fields.read_or("network_grace", NETWORK_GRACE, time::seconds_or_none),
            timeouts,
            sizes,
            list.as_ref().map_err(|_| Faults::default()).and_then(services),
            list,
            defaults,
        )
            .all()?;
        let (tables, field) = sizes.unwrap_or((TableSizes::default(), list));
        refuse_more_than_fits(&services, tables, &field)?;
        Ok(DesiredState {
            interfaces,
            mode,
            network_grace_seconds: network_grace,
            timeouts,
            tables,
            services,
        })
    })
}

fn interfaces(field: &Field<'_>) -> Result<Vec<String>, Faults> {
    if !matches!(field.value(), Value::List(_)) {
        return Ok(vec![text::interface(field)?]);
    }
    let items = field.at_most(limits::INTERFACES, "interfaces", "use a list of names")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: name at least one NIC").into());
    }
    let mut seen = Unique::default();
    items.read(|item| {
        let name = text::interface(&item)?;
        seen.insert(name.clone(), format_args!("{name:?}"), &item)?;
        Ok::<_, Fault>(name)
    })
}

fn timeouts(field: &Field<'_>) -> Result<Timeouts, Faults> {
    let default = Timeouts::default();
    field.mapping(&TIMEOUTS, |fields| {
        let (half_open, established, closing, closed, udp) = (
            fields.read_or("half_open", default.half_open_seconds, time::seconds),
            fields.read_or("established", default.established_seconds, time::seconds),
            fields.read_or("closing", default.closing_seconds, time::seconds),
            fields.read_or("closed", default.closed_seconds, time::seconds),
            fields.read_or("udp", default.udp_seconds, time::seconds),
        )
            .all()?;
        Ok(Timeouts {
            half_open_seconds: half_open,
            established_seconds: established,
            closing_seconds: closing,
            closed_seconds: closed,
            udp_seconds: udp,
        })
    })
}

fn tables(field: &Field<'_>) -> Result<TableSizes, Faults> {
    let default = TableSizes::default();
    let table_flows = |field: &Field<'_>| value::power_of_two(field, "a number of flows", limits::TABLE_FLOWS);
    field.mapping(&TABLES, |fields| {
        let (flows, flows6, slots, ports, fragments) = (
            fields.read_or("flows", default.flows4, table_flows),
            fields.read_or("flows6", default.flows6, table_flows),
            fields.read_or("slots", default.slots, |field| {
                value::number(field, "a number of slots", limits::TABLE_SLOTS)
            }),
            fields.read_or("ports", default.ports, |field| {
                value::power_of_two(field, "a number of ports", limits::TABLE_PORTS)
            }),
            fields.read_or("fragments", default.fragments, |field| {
                value::number(field, "a number of fragments", limits::TABLE_FRAGMENTS)
            }),
        )
            .all()?;
        Ok(TableSizes {
            flows4: flows,
            flows6,
            slots,
            ports,
            fragments,
        })
    })
}

/// The sums over all services must find room in the tables.
fn refuse_more_than_fits(services: &[Service], tables: TableSizes, field: &Field<'_>) -> Result<(), Faults> {
    let sum = |of: fn(&Service) -> u32| -> u64 { services.iter().map(|service| u64::from(of(service))).sum() };
    let mut faults = Faults::default();
    for (what, needed, size) in [
        ("slots", sum(slot_count), tables.slots),
        ("ports", sum(|service| service.ports.table_entry_count()), tables.ports),
    ] {
        if needed > u64::from(size) {
            faults.add(field.fault(format!(
                "the services need {needed} {what} and tables.{what} is {size}: make it larger"
            )));
        }
    }
    faults.or(())
}

/// All services; without the defaults, if these are wrong.
fn services<'a>(
    field: &Field<'a>,
    defaults: Option<&Defaults<'a>>,
    checks: &mut health::Reader<'_>,
) -> Result<Vec<Service>, Faults> {
    let items = field.at_most(limits::SERVICES, "services", "use a list of services")?;
    if items.is_empty() {
        return Err(field
            .fault("no services: give at least one, so that a file cut short never takes all down")
            .into());
    }
    let (all, mut faults) = items.read_good(|item| Ok::<_, Faults>(service::read(item, defaults, checks)));
    faults.add(common_names_and_ports(&all));
    faults.add(too_many_real_servers(&all));
    faults.add(vips_as_servers(&all));
    let services: Vec<_> = all
        .into_iter()
        .filter_map(|written| faults.take(written.service))
        .collect();
    faults.or(services)
}

/// What two services have in common and must not.
fn common_names_and_ports(all: &[Written<'_>]) -> Faults {
    let (mut names, mut taken) = (Unique::default(), Taken::default());
    let mut faults = Faults::default();
    for Written { field, identity, .. } in all {
        let Some(identity) = identity else {
            continue;
        };
        let ports = faults.take(taken.take(identity.virtual_service, &identity.ports));
        let field = match &identity.name_field {
            Some(field) => field,
            // Its name is made of the address that is taken: one fault, not two.
            None if ports.is_none() => continue,
            None => field,
        };
        let name = &identity.name;
        faults.take(names.insert(name.clone(), format_args!("{name:?}"), field));
    }
    faults
}

/// The service with which the real servers of all become too many.
fn too_many_real_servers(all: &[Written<'_>]) -> Faults {
    let mut capacity = limits::ALL_REAL_SERVERS;
    for Written { field, addresses, .. } in all {
        let Some(rest) = capacity.checked_sub(addresses.len()) else {
            let max = limits::ALL_REAL_SERVERS;
            return field
                .fault(format!(
                    "too many real servers: lbx holds {max} at most in all services together"
                ))
                .into();
        };
        capacity = rest;
    }
    Faults::default()
}

/// Real servers with the address of a VIP: the director would send to itself.
fn vips_as_servers(all: &[Written<'_>]) -> Faults {
    let mut vips: HashMap<IpAddr, &Field<'_>> = HashMap::new();
    for identity in all.iter().filter_map(|written| written.identity.as_ref()) {
        vips.entry(identity.virtual_service.vip).or_insert(&identity.vip);
    }
    let mut faults = Faults::default();
    for Written {
        identity, addresses, ..
    } in all
    {
        let own = identity.as_ref().map(|identity| identity.virtual_service.vip);
        for (address, field) in addresses {
            let Some(vip) = vips.get(address) else {
                continue;
            };
            let whose = if Some(*address) == own {
                "the VIP of its own service".to_owned()
            } else {
                format!("a VIP, {}", vip.whereabouts())
            };
            faults.add(field.fault(format!("{address} is {whose}: give the server's own address")));
        }
    }
    faults
}
