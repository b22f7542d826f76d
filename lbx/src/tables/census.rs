//! Flows counted from their records, and records nobody needs any more found.

use std::collections::{HashMap, HashSet};

use lbx_common::{
    flow::{self, BUSY, EMPTY, Entry, FlowKey},
    hash,
};

use super::{Tables, service::Loaded};

/// What a look at all records has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The tick at which it began.
    pub taken: u32,
    /// Live flows by service number and backend index.
    pub flows: HashMap<(u16, u16), Flows>,
    /// Slots (service number, slot) with a live record that names another backend than the slot's owner.
    pub disagreeing: HashSet<(u16, u32)>,
    /// Service numbers that some record names, alive or not.
    pub numbers: HashSet<u16>,
    /// Backends (service number, index) that some record names, alive or not.
    pub named: HashSet<(u16, u16)>,
    /// Live records.
    pub live: u64,
}

/// Flows of a backend, in ipvsadm's two classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Established, and UDP.
    pub active: u64,
    /// Half-open and closing.
    pub inactive: u64,
}

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// Expired, or of a service or backend that is no longer.
    Erase,
}

/// Takes the census of a set of tables at one moment.
pub struct Taker<'t> {
    services: Vec<Option<&'t Loaded>>,
    census: Census,
}

impl<'t> Taker<'t> {
    /// A census of the tables at tick `now`.
    #[must_use]
    pub fn new(tables: &'t Tables, now: u32) -> Self {
        let mut services = Vec::new();
        for loaded in tables.services.values() {
            let number = usize::from(loaded.number);
            if services.len() <= number {
                services.resize(number + 1, None);
            }
            services[number] = Some(loaded.as_ref());
        }
        Self {
            services,
            census: Census {
                taken: now,
                ..Census::default()
            },
        }
    }

    /// Looks at a record's two words.
    pub fn visit(&mut self, a: u64, b: u64) -> Verdict {
        let entry = Entry::from_word(b);
        if matches!(entry.state, EMPTY | BUSY) {
            return Verdict::Keep;
        }
        let key = FlowKey::from_word(a);
        let named = (key.service, entry.backend);
        self.census.numbers.insert(key.service);
        self.census.named.insert(named);
        let Some(service) = self.services.get(usize::from(key.service)).copied().flatten() else {
            return Verdict::Erase;
        };
        if entry.expired(self.census.taken, &service.timeouts) || !service.usable(entry.backend) {
            return Verdict::Erase;
        }
        let flows = self.census.flows.entry(named).or_default();
        if flow::active(entry.state) {
            flows.active += 1;
        } else {
            flows.inactive += 1;
        }
        self.census.live += 1;
        let slots = service.slots.as_slice();
        let tuple = hash::tuple(key.client, key.client_port, entry.vip_port);
        let slot = hash::slot(tuple, slots.len() as u32);
        if slots.get(slot as usize).is_some_and(|slot| slot.owner != entry.backend) {
            self.census.disagreeing.insert((key.service, slot));
        }
        Verdict::Keep
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Census {
        self.census
    }
}
