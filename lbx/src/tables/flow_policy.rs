//! How a service handles its flows, as the maps hold it: scheduler, flags and timeouts.

use lbx_common::{
    flow::TICK_SHIFT,
    service::{
        self as abi, EXPIRE_QUIESCENT_TEMPLATE, HAS_CONNECTION_LIMITS, HASH_CLIENT_ADDRESS, HASH_FALLBACK, HASH_VIP,
        LOCAL_ACCESS, ONE_PACKET, PERSISTENT, QUIC, RECORD_ALL, REJECT, SCHEDULE_BY_HASH,
    },
};

use crate::{
    desired::{OnEmpty, Protocol, Scheduler, Service, Timeouts},
    schedule::eligible::falls_back,
};

/// Scheduler, flags, timeouts and persistence of a service, as the program needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowPolicy {
    /// The scheduler of new connections.
    pub scheduler: Scheduler,
    /// All flags of [`lbx_common::service`] but those of the mapping and `HASHED`.
    pub flags: u32,
    /// Leading bits of a client's address that count for persistence, of 128.
    pub persistence_prefix_len: u8,
    /// Idle timeouts in ticks.
    pub timeouts: abi::TimeoutTicks,
}

impl FlowPolicy {
    /// The policy of a configured service.
    #[must_use]
    pub fn of(service: &Service, timeouts: &Timeouts) -> Self {
        let persistence = service.persistence;
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(service.records_all_flows(), RECORD_ALL)
            | flag(service.scheduler.hashes(), SCHEDULE_BY_HASH)
            | flag(falls_back(service.scheduler, service.hash_options), HASH_FALLBACK)
            | flag(persistence.is_some(), PERSISTENT)
            | flag(
                persistence.is_some_and(|persistence| !persistence.persist_while_draining),
                EXPIRE_QUIESCENT_TEMPLATE,
            )
            | flag(service.one_packet, ONE_PACKET)
            | flag(
                service.servers.iter().any(|server| server.upper_threshold != 0),
                HAS_CONNECTION_LIMITS,
            )
            | flag(service.quic, QUIC)
            | flag(service.local_access, LOCAL_ACCESS)
            | flag(service.failure_policy.on_empty == OnEmpty::Reject, REJECT);
        let persistent = persistence.map_or(0, |persistence| ticks_of(persistence.timeout_seconds));
        let mut timeouts = abi::TimeoutTicks {
            persistent,
            ..ticks(timeouts)
        };
        if service.virtual_service.protocol == Protocol::Udp {
            // UDP flows are never half-open: the field holds the timeout of clients with one-datagram flows.
            timeouts.half_open = persistent;
        }
        let bits_before = if service.virtual_service.vip.is_ipv4() { 96 } else { 0 };
        Self {
            scheduler: service.scheduler,
            flags,
            persistence_prefix_len: persistence.map_or(0, |persistence| bits_before + persistence.prefix),
            timeouts,
        }
    }

    /// The policy of a service found in the maps.
    #[must_use]
    pub fn from_abi(service: &abi::Service) -> Option<Self> {
        Some(Self {
            scheduler: Scheduler::from_code(service.scheduler)?,
            flags: service.flags & !(abi::WAS_SCHEDULED_BY_HASH | HASH_INPUT_FLAGS),
            persistence_prefix_len: service.persistence_prefix,
            timeouts: service.timeouts,
        })
    }

    /// Whether every flow gets a record.
    #[must_use]
    pub const fn records_all(&self) -> bool {
        self.flags & RECORD_ALL != 0
    }

    /// Whether new connections go where the hash says.
    #[must_use]
    pub const fn hashes(&self) -> bool {
        self.flags & SCHEDULE_BY_HASH != 0
    }

    /// Whether the share of a real server that gets no new connections goes to the others.
    #[must_use]
    pub const fn has_fallback(&self) -> bool {
        self.flags & HASH_FALLBACK != 0
    }
}

/// The flags that say what is hashed to find a slot.
pub const HASH_INPUT_FLAGS: u32 = HASH_CLIENT_ADDRESS | HASH_VIP;

/// What is hashed to find a slot; none where the scheduler does not depend on it.
#[must_use]
pub fn hash_input_flags(service: &Service) -> Option<u32> {
    match service.scheduler {
        Scheduler::Maglev => Some(0),
        Scheduler::Sh | Scheduler::Mh => Some(if service.hash_options.include_port {
            0
        } else {
            HASH_CLIENT_ADDRESS
        }),
        Scheduler::Dh => Some(HASH_VIP),
        _ => None,
    }
}

/// Timeouts as the program sees them: in ticks, rounded up, so that none is shorter than asked.
#[must_use]
pub fn ticks(timeouts: &Timeouts) -> abi::TimeoutTicks {
    abi::TimeoutTicks {
        half_open: ticks_of(timeouts.half_open_seconds),
        established: ticks_of(timeouts.established_seconds),
        closing: ticks_of(timeouts.closing_seconds),
        closed: ticks_of(timeouts.closed_seconds),
        udp: ticks_of(timeouts.udp_seconds),
        ..abi::TimeoutTicks::default()
    }
}

fn ticks_of(seconds: u16) -> u16 {
    ticks_of_seconds(u32::from(seconds)) as u16
}

/// Seconds in ticks, rounded up.
#[must_use]
pub fn ticks_of_seconds(seconds: u32) -> u32 {
    (u64::from(seconds) * 1_000_000_000).div_ceil(1 << TICK_SHIFT) as u32
}
