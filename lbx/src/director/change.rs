//! What a part asks of the loop after an event: the network, health and what is loaded don't know each other, so what concerns more than one is said here.

use std::ops::BitOrAssign;

/// What has to follow an event. Merged over all events that wait, then reconciled once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Next hops or health have changed: the tables are planned again.
    pub plan: bool,
    /// Links, routes or VIPs have changed: the network is read again, and everything follows.
    pub network: bool,
    /// Paths to real servers have changed: health checks get the new ones.
    pub reachability: bool,
}

impl Change {
    /// Nothing follows.
    pub const NONE: Self = Self {
        plan: false,
        network: false,
        reachability: false,
    };

    /// The tables are planned again, if so.
    #[must_use]
    pub const fn plan_if(plan: bool) -> Self {
        Self { plan, ..Self::NONE }
    }

    /// The network is read again, if so.
    #[must_use]
    pub const fn network_if(network: bool) -> Self {
        Self { network, ..Self::NONE }
    }
}

impl BitOrAssign for Change {
    fn bitor_assign(&mut self, other: Self) {
        self.plan |= other.plan;
        self.network |= other.network;
        self.reachability |= other.reachability;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_several_events_are_merged() {
        let mut change = Change::NONE;
        change |= Change::plan_if(true);
        change |= Change::plan_if(false);
        assert_eq!(change, Change::plan_if(true));
        change |= Change::network_if(true);
        assert!(change.plan && change.network && !change.reachability);
    }
}
