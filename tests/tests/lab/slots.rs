//! The slots of a director's services, read from its pinned maps.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Pod,
    maps::{Array, Map, MapData},
};
use lbx_common::{
    backend::Backend,
    maps::{ABI, BACKENDS, SERVICES, SLOTS},
    service::Service,
    slot::Slot,
};
use lbx_tests::{bpffs, lbx::Director};

/// Service numbers that are looked at: they are given out from 0.
const NUMBERS: u32 = 8;

/// The real servers of a slot: current and owner; none where it has none.
pub type Owners = (Option<IpAddr>, Option<IpAddr>);

/// The slots of every service of a director, by their number, in which the services of a test differ.
pub fn of(director: &Director) -> Result<BTreeMap<u32, Vec<Owners>>> {
    let pinned = Pinned::open(director.name())?;
    let services = (0..NUMBERS).map(|number| Ok(Service::from_words(pinned.services.get(&number, 0)?)));
    let services: Vec<Service> = services.collect::<Result<_>>()?;
    let used = services.iter().filter(|service| service.slots_len > 0);
    used.map(|service| Ok((service.slots_len, pinned.slots_of(service)?)))
        .collect()
}

/// How many slots have an owner other than the current real server: their windows are open.
pub fn open_windows(director: &Director) -> Result<usize> {
    let services = of(director)?;
    let slots = services.values().flatten();
    Ok(slots.filter(|(current, owner)| current != owner).count())
}

/// That two directors send every flow of every service to the same real server, new ones and others, and no window is open.
pub fn expect_agreement(one: &Director, other: &Director) -> Result<()> {
    let [one, other] = [of(one)?, of(other)?];
    ensure!(!one.is_empty() && one.keys().eq(other.keys()), "not the same services");
    for (len, slots) in &one {
        let others = &other[len];
        let different = slots.iter().zip(others).filter(|(one, other)| one != other).count();
        let open = |slots: &[Owners]| slots.iter().filter(|(current, owner)| current != owner).count();
        let without = slots.iter().filter(|(current, _)| current.is_none()).count();
        let [first, second] = [open(slots), open(others)];
        ensure!(
            different == 0 && first == 0 && second == 0 && without == 0,
            "{different} of {len} slots differ; windows open: {first} and {second}; without a real server: {without}"
        );
    }
    Ok(())
}

struct Pinned {
    services: Array<MapData, [u64; 8]>,
    slots: Array<MapData, u64>,
    backends: Array<MapData, [u64; 8]>,
}

impl Pinned {
    fn open(name: &str) -> Result<Self> {
        Ok(Self {
            services: array(name, SERVICES)?,
            slots: array(name, SLOTS)?,
            backends: array(name, BACKENDS)?,
        })
    }

    fn slots_of(&self, service: &Service) -> Result<Vec<Owners>> {
        let places = service.slots_base..service.slots_base + service.slots_len;
        let slots = places.map(|place| {
            let Slot { current, owner, .. } = Slot::from_word(self.slots.get(&place, 0)?);
            Ok((self.server(service, current)?, self.server(service, owner)?))
        });
        slots.collect()
    }

    /// The RIP of a backend index of a service.
    fn server(&self, service: &Service, index: u16) -> Result<Option<IpAddr>> {
        if u32::from(index) >= service.backends_capacity {
            return Ok(None);
        }
        let place = service.backends_base + u32::from(index);
        let backend = Backend::from_words(self.backends.get(&place, 0)?);
        Ok(Some(IpAddr::V6(Ipv6Addr::from(backend.address)).to_canonical()))
    }
}

fn array<Value: Pod>(name: &str, map: &str) -> Result<Array<MapData, Value>> {
    let path = bpffs::pins_of(name).join(format!("v{ABI}")).join(map);
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Map::Array(data).try_into()?)
}
