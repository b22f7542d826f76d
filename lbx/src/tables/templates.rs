//! Templates about to expire: re-armed while one of their connections lives, as in IPVS.
//!
//! The kernel's `ip_vs_conn_expire` (net/netfilter/ipvs/ip_vs_conn.c) re-arms a template that still controls connections for
//! 60 s. Here the daemon's scan does, ahead of time, so that the program never finds such a template expired.

use std::collections::HashMap;

use lbx_common::{
    flow::{self, EVICTION_GRACE_TICKS, FlowEntry, FlowKey, TICK_MASK, TICK_SHIFT},
    service::{PERSISTENT, TimeoutTicks},
};

use super::service::LoadedService;

/// Ticks for which a template is re-armed, from the scan on: the 60 s of IPVS.
pub const REARM_TICKS: u32 = (60_000_000_000u64 >> TICK_SHIFT) as u32 + 1;
/// A template that expires within as many ticks is about to.
pub const REARM_BEFORE_TICKS: u32 = REARM_TICKS / 2;

/// The templates that a scan found expired or about to, and whether a connection of theirs lives.
#[derive(Debug, Default)]
pub struct ExpiringTemplates {
    by_key: HashMap<FlowKey, ExpiringTemplate>,
}

#[derive(Debug)]
struct ExpiringTemplate {
    backend: u16,
    has_connection: bool,
}

impl ExpiringTemplates {
    /// Adds a template, if it is about to expire and clients may be sent to its real server; returns whether it did.
    pub fn add(&mut self, service: &LoadedService, key: FlowKey, template: FlowEntry, now: u32) -> bool {
        let is_configured = |index| {
            service
                .backends
                .get(&index)
                .is_some_and(|member| member.is_configured())
        };
        if !is_persistent(service)
            || !is_configured(template.backend)
            || !service.may_own_flows(template.backend)
            || !is_about_to_expire(template, &service.policy.timeouts, now)
        {
            return false;
        }
        let expiring = ExpiringTemplate {
            backend: template.backend,
            has_connection: false,
        };
        self.by_key.insert(key, expiring);
        true
    }

    /// Whether a key is that of an expiring template.
    #[must_use]
    pub fn contains(&self, key: FlowKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Notes a live connection: the template of its client has one, if it names the same real server.
    pub fn note_connection(&mut self, service: &LoadedService, key: FlowKey, entry: FlowEntry) {
        if self.by_key.is_empty() || !is_persistent(service) {
            return;
        }
        let template = FlowKey {
            client: key.client.masked(u32::from(service.policy.persistence_prefix_len)),
            client_port: [0; 2],
            ..key
        };
        if let Some(expiring) = self.by_key.get_mut(&template) {
            expiring.has_connection |= expiring.backend == entry.backend;
        }
    }

    /// The re-armed entry of a template with a live connection; none where it has none, or would expire no later.
    #[must_use]
    pub fn re_armed(&self, timeouts: &TimeoutTicks, key: FlowKey, template: FlowEntry, now: u32) -> Option<FlowEntry> {
        let has_connection = self.by_key.get(&key).is_some_and(|expiring| expiring.has_connection);
        let last_seen_tick = re_armed_tick(template.state, timeouts, now);
        let later = signed_elapsed(template.last_seen_tick, last_seen_tick) > 0;
        (has_connection && later).then_some(FlowEntry {
            last_seen_tick,
            ..template
        })
    }
}

/// Whether clients of a service have templates.
#[must_use]
pub fn is_persistent(service: &LoadedService) -> bool {
    service.policy.flags & PERSISTENT != 0
}

fn is_about_to_expire(template: FlowEntry, timeouts: &TimeoutTicks, now: u32) -> bool {
    let timeout = i32::from(flow::timeout_ticks(template.state, timeouts));
    signed_elapsed(template.last_seen_tick, now) > timeout - REARM_BEFORE_TICKS as i32
}

/// The tick at which a re-armed template counts as seen; it may be ahead of `now`. Not so for an unconfirmed one: new flows must
/// still be able to displace it, as they displace its connection.
fn re_armed_tick(state: u8, timeouts: &TimeoutTicks, now: u32) -> u32 {
    let timeout = i32::from(flow::timeout_ticks(state, timeouts));
    let mut ahead = REARM_TICKS as i32 - timeout;
    if flow::is_evictable(state) {
        ahead = ahead.min(-(EVICTION_GRACE_TICKS as i32));
    }
    now.wrapping_add_signed(ahead) & TICK_MASK
}

/// Ticks from `since` to `now`; negative where `since` is ahead.
fn signed_elapsed(since: u32, now: u32) -> i32 {
    // 24 bits, moved to the top so that their highest is the sign.
    (flow::elapsed_ticks(since, now) << 8).cast_signed() >> 8
}

#[cfg(test)]
mod tests {
    use lbx_common::flow::{TEMPLATE, TEMPLATE_NEW};

    use super::*;

    const TIMEOUTS: TimeoutTicks = TimeoutTicks {
        half_open: 56,
        established: 840,
        closing: 112,
        closed: 10,
        udp: 280,
        persistent: 5,
        pad: [0; 2],
    };

    fn template(state: u8, last_seen_tick: u32) -> FlowEntry {
        FlowEntry {
            vip_port: [0; 2],
            backend: 1,
            state,
            last_seen_tick,
        }
    }

    #[test]
    fn a_re_armed_template_lives_for_a_minute_across_the_wrap_of_the_clock() {
        for now in [1_000, TICK_MASK - 3, 2] {
            let re_armed = template(TEMPLATE, re_armed_tick(TEMPLATE, &TIMEOUTS, now));
            let expired = |after| re_armed.expired((now + after) & TICK_MASK, &TIMEOUTS);
            assert!(
                !expired(0) && !expired(REARM_TICKS) && expired(REARM_TICKS + 1),
                "{now}"
            );
            let about_to = |after| is_about_to_expire(re_armed, &TIMEOUTS, (now + after) & TICK_MASK);
            let half = REARM_TICKS - REARM_BEFORE_TICKS;
            assert!(!about_to(0) && !about_to(half) && about_to(half + 1), "{now}");
        }
    }

    #[test]
    fn an_unconfirmed_template_can_still_be_displaced() {
        let timeouts = TimeoutTicks {
            half_open: 5,
            ..TIMEOUTS
        };
        assert_eq!(
            re_armed_tick(TEMPLATE_NEW, &timeouts, 1_000),
            1_000 - EVICTION_GRACE_TICKS
        );
        assert_eq!(
            re_armed_tick(TEMPLATE_NEW, &TIMEOUTS, 1_000),
            1_000 - EVICTION_GRACE_TICKS
        );
        let timeouts = TimeoutTicks {
            half_open: 280,
            ..TIMEOUTS
        };
        assert_eq!(re_armed_tick(TEMPLATE_NEW, &timeouts, 1_000), 1_000 + REARM_TICKS - 280);
    }
}
