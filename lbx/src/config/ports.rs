//! What a service's `port` may say, and who has which port.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use super::{
    error::{Fault, Faults},
    field::Field,
    limits,
    node::Value,
    value,
};
use crate::desired::{Protocol, VirtualService};

/// All ports, as the range of the one that stands for them.
const ALL: RangeInclusive<u16> = 0..=0;
/// The word for all ports.
const ALL_WORD: &str = "all";

/// The ports of a service, each range with its field, in the order of the file; none of them is empty.
pub(super) type Written<'a> = Vec<(RangeInclusive<u16>, Field<'a>)>;

/// A port, a range, a list of both, or all.
pub(super) fn written<'a>(field: &Field<'a>) -> Result<Written<'a>, Faults> {
    if is_all(field.value()) {
        return Ok(vec![(ALL, field.clone())]);
    }
    let Value::List(_) = field.value() else {
        let range = range(field, "use 1 to 65535, a range like 8000-8099, a list of them, or all")?;
        return Ok(vec![(range, field.clone())]);
    };
    let items = field.items("list ports")?;
    if items.is_empty() {
        return Err(field.fault("the list is empty: give at least one port").into());
    }
    items.read(item)
}

fn item(field: Field<'_>) -> Result<(RangeInclusive<u16>, Field<'_>), Fault> {
    if is_all(field.value()) {
        return Err(field.fault(format!(
            "{} means all ports: give it alone, as port: all",
            field.value()
        )));
    }
    let range = range(&field, "use 1 to 65535, or a range like 8000-8099")?;
    Ok((range, field))
}

fn is_all(value: &Value) -> bool {
    matches!(value, Value::Integer(0)) || value.is_text(ALL_WORD)
}

/// A port, or a first and a last one.
fn range(field: &Field<'_>, expected: &str) -> Result<RangeInclusive<u16>, Fault> {
    value::range(field, "a port", "a range of ports", limits::PORTS, expected)
}

/// The first port the file gives; 0: all.
pub(super) fn first(written: &Written<'_>) -> u16 {
    written.first().map_or(0, |(range, _)| *range.start())
}

/// Who has which port of which VIP and protocol.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<(IpAddr, Protocol, u16), (u16, String)>);

impl Taken {
    /// Takes the ports that the file gives a service.
    ///
    /// # Errors
    /// One of them is taken, by this service or another: says where.
    pub(super) fn take(&mut self, service: VirtualService, written: &Written<'_>) -> Result<(), Fault> {
        let VirtualService { vip, protocol, .. } = service;
        for (range, field) in written {
            let (first, last) = range.clone().into_inner();
            // None overlap: so of those that begin where this one ends, or before, the last is also the last to end.
            let before = self.0.range((vip, protocol, 0)..=(vip, protocol, last)).next_back();
            if let Some((&(.., start), (end, place))) = before
                && *end >= first
            {
                let port = start.max(first);
                let shown = VirtualService { vip, port, protocol };
                return Err(field.fault(format!("{shown} is already {place}")));
            }
            self.0.insert((vip, protocol, first), (last, field.whereabouts()));
        }
        Ok(())
    }
}
