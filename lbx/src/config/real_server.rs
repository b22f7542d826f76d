//! The real servers of a service, and its sorry server.

use std::net::IpAddr;

use super::{
    error::{Fault, Faults, Parts},
    field::{Field, Fields, Unique},
    limits,
    node::Value,
    value,
};
use crate::desired::{RealServer, ServerState};

pub(super) const REAL_SERVER: [&str; 5] = ["address", "weight", "upper", "lower", "quic_id"];

/// Weight of a real server that is given none.
const DEFAULT_WEIGHT: u16 = 1;

/// The real servers of a service, and its sorry server.
pub(super) struct Servers {
    pub(super) all: Vec<RealServer>,
    pub(super) sorry: Option<IpAddr>,
}

impl Servers {
    /// Reads them; of a service that knows QUIC they may have ids. What is not known is not compared.
    pub(super) fn read<'a>(
        fields: &Fields<'a>,
        vip: Option<IpAddr>,
        quic: Option<bool>,
        all: &mut Vec<(IpAddr, Field<'a>)>,
    ) -> Result<Self, Faults> {
        let mut addresses = Addresses {
            vip,
            seen: Unique::default(),
            all,
        };
        let (all, sorry) = (
            real_servers(fields, quic, &mut addresses),
            fields.read_optional("sorry_server", |field| addresses.read(field, "a sorry server")),
        )
            .all()?;
        Ok(Self { all, sorry })
    }
}

fn real_servers<'a>(
    fields: &Fields<'a>,
    quic: Option<bool>,
    addresses: &mut Addresses<'a, '_>,
) -> Result<Vec<RealServer>, Faults> {
    let field = fields.required("realservers", "list the real servers")?;
    let items = field.at_most(limits::REAL_SERVERS, "real servers", "use a list of real servers")?;
    if items.is_empty() {
        return Err(field
            .fault("no real servers: to drain one, keep it with weight 0")
            .into());
    }
    let mut quic_ids = Unique::default();
    items.read(|item| match item.value() {
        Value::Mapping(_) => real_server(&item, quic, addresses, &mut quic_ids),
        _ => Ok(RealServer {
            address: addresses.read(&item, "a real server")?,
            weight: DEFAULT_WEIGHT,
            upper_threshold: 0,
            lower_threshold: 0,
            quic_id: None,
            state: ServerState::Up,
        }),
    })
}

/// A real server with more to say than its address.
fn real_server<'a>(
    field: &Field<'a>,
    quic: Option<bool>,
    addresses: &mut Addresses<'a, '_>,
    quic_ids: &mut Unique<u16>,
) -> Result<RealServer, Faults> {
    field.mapping(&REAL_SERVER, |fields| {
        let address = fields.required("address", "give the real server's own address");
        let (address, weight, (upper, lower), quic_id) = (
            address.and_then(|field| Ok(addresses.read(&field, "a real server")?)),
            fields.read_or("weight", DEFAULT_WEIGHT, value::weight),
            thresholds(fields),
            fields.read_optional("quic_id", |field| quic_id(field, quic, quic_ids)),
        )
            .all()?;
        Ok(RealServer {
            address,
            weight,
            upper_threshold: upper,
            lower_threshold: lower,
            quic_id,
            state: ServerState::Up,
        })
    })
}

fn quic_id(field: &Field<'_>, quic: Option<bool>, seen: &mut Unique<u16>) -> Result<u16, Fault> {
    if quic == Some(false) {
        return Err(field.fault("needs quic: true in its service"));
    }
    let id = value::quic_id(field)?;
    seen.insert(id, id, field)?;
    Ok(id)
}

/// The addresses of a service's servers: of the VIP's family, none of them twice.
struct Addresses<'a, 'all> {
    vip: Option<IpAddr>,
    seen: Unique<IpAddr>,
    all: &'all mut Vec<(IpAddr, Field<'a>)>,
}

impl<'a> Addresses<'a, '_> {
    fn read(&mut self, field: &Field<'a>, role: &str) -> Result<IpAddr, Fault> {
        let address = value::address(field, role)?;
        if let Some(vip) = self.vip.filter(|vip| vip.is_ipv4() != address.is_ipv4()) {
            let (own, other) = (family(address), family(vip));
            return Err(field.fault(format!(
                "{address} is an {own} address, and the VIP {vip} an {other} one: give an {other} address"
            )));
        }
        self.seen.insert(address, address, field)?;
        self.all.push((address, field.clone()));
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
fn thresholds(fields: &Fields<'_>) -> Result<(u32, u32), Faults> {
    let (upper, lower) = (
        fields.read_or("upper", 0, value::threshold),
        fields.read_optional("lower", |field| {
            Ok::<_, Fault>((value::threshold(field)?, field.clone()))
        }),
    )
        .all()?;
    match lower {
        None | Some((0, _)) => Ok((upper, 0)),
        Some((_, field)) if upper == 0 => Err(field.fault("needs upper: give the threshold it belongs to").into()),
        Some((lower, field)) if lower >= upper => Err(field
            .fault(format!("{lower} is not below upper: use 0 to {}", upper - 1))
            .into()),
        Some((lower, _)) => Ok((upper, lower)),
    }
}
