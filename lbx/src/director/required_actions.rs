//! What a part asks of the loop after an event: the network, health and what is loaded don't know each other, so what concerns more than one is said here.

use std::ops::BitOrAssign;

/// What has to follow an event. Merged over all events that wait, then reconciled once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequiredActions {
    /// Next hops or health have changed: the tables are planned again.
    pub replan: bool,
    /// Links, routes or VIPs have changed: the network is read again, and everything follows.
    pub reread_network: bool,
    /// Paths to real servers have changed: health checks get the new ones.
    pub update_server_paths: bool,
}

impl RequiredActions {
    /// Nothing follows.
    pub const NONE: Self = Self {
        replan: false,
        reread_network: false,
        update_server_paths: false,
    };

    /// The tables are planned again, if so.
    #[must_use]
    pub const fn replan_if(plan: bool) -> Self {
        Self {
            replan: plan,
            ..Self::NONE
        }
    }

    /// The network is read again, if so.
    #[must_use]
    pub const fn reread_network_if(network: bool) -> Self {
        Self {
            reread_network: network,
            ..Self::NONE
        }
    }
}

impl BitOrAssign for RequiredActions {
    fn bitor_assign(&mut self, other: Self) {
        self.replan |= other.replan;
        self.reread_network |= other.reread_network;
        self.update_server_paths |= other.update_server_paths;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_several_events_are_merged() {
        let mut change = RequiredActions::NONE;
        change |= RequiredActions::replan_if(true);
        change |= RequiredActions::replan_if(false);
        assert_eq!(change, RequiredActions::replan_if(true));
        change |= RequiredActions::reread_network_if(true);
        assert!(change.replan && change.reread_network && !change.update_server_paths);
    }
}
