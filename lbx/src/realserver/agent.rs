//! Applies the rules and keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    RealServerError,
    observe::{self, observe},
    rules::{Finding, Fix, HostState, blocked_vips, evaluate},
    state::{SavedState, Store},
    sysctl::{self, Setting},
    undo::remove_vips_from_lo,
};
use crate::{
    net::{AddVipOutcome, NetError, NetEvent, RouteNetlink, namespace_id, watch},
    preflight::{NET_ADMIN, OLDEST_KERNEL_OF_REAL_SERVER, require_capabilities, require_kernel},
    stale_files,
};

/// How often the sysctls are read: the kernel has no event for their changes.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two looks, so that a fight with another tool costs no CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes this host a real server and keeps it one.
#[derive(Debug)]
pub struct Agent {
    net: RouteNetlink,
    store: Store,
    state: SavedState,
    vips: BTreeSet<IpAddr>,
    /// The problems that were logged last: each is logged once.
    logged_problems: String,
}

/// The outcome of applying the rules.
#[derive(Debug, Default)]
struct Applied {
    /// Whether some rule did not hold that lbx can make hold.
    had_fixes: bool,
    /// Findings that only the operator can put right.
    blocking: Vec<Finding>,
    /// VIPs or routes that the kernel refused.
    refused: Vec<NetError>,
}

impl Agent {
    /// An agent for these VIPs; changes nothing yet.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or another process has this name.
    pub fn new(net: RouteNetlink, name: &str, vips: BTreeSet<IpAddr>) -> Result<Self, RealServerError> {
        require_capabilities(&[NET_ADMIN])?;
        require_kernel("a real server", OLDEST_KERNEL_OF_REAL_SERVER)?;
        let store = Store::open(name, namespace_id()?)?;
        stale_files::remove();
        let state = store.load()?.unwrap_or_default();
        Ok(Self {
            net,
            store,
            state,
            vips,
            logged_problems: String::new(),
        })
    }

    /// Makes every rule hold. A VIP that cannot be had keeps no other from being made ready.
    ///
    /// # Errors
    /// Something stands in the way of some VIP, or of all, or a change failed.
    pub async fn apply_rules(&mut self) -> Result<(), RealServerError> {
        let applied = self.apply_applicable_rules().await?;
        match applied.refused.into_iter().next() {
            Some(error) => Err(error.into()),
            None if applied.blocking.is_empty() => Ok(()),
            None => Err(RealServerError::SomeVipsBlocked(applied.blocking)),
        }
    }

    /// Makes the rules hold for those VIPs for which they can.
    ///
    /// # Errors
    /// There is none such: nothing was changed. Or a sysctl cannot be written.
    async fn apply_applicable_rules(&mut self) -> Result<Applied, RealServerError> {
        let observed = observe(&self.net).await?;
        let findings = evaluate(&observed, &self.vips);
        let blocking: Vec<_> = findings
            .iter()
            .filter(|finding| finding.is_blocking())
            .cloned()
            .collect();
        if blocking.iter().any(|finding| finding.vip.is_none()) || blocked_vips(&findings).len() == self.vips.len() {
            return Err(RealServerError::AllVipsBlocked(blocking));
        }
        self.fix(findings, &observed).await
    }

    /// Makes every rule hold, and hold again whenever something has broken it, until `stop` resolves. What was applied
    /// stays then. `reloads` brings other VIPs to look after; those that it no longer names are taken off lo.
    ///
    /// # Errors
    /// The rules cannot be applied at first, or the network can no longer be watched. What fails later is logged and
    /// tried again.
    pub async fn maintain(
        mut self,
        stop: impl Future<Output = ()>,
        mut reloads: mpsc::Receiver<BTreeSet<IpAddr>>,
    ) -> Result<(), RealServerError> {
        // Watching starts before the first look, so that no change falls in between.
        let mut events = watch()?;
        let applied = self.apply_applicable_rules().await?;
        self.log_unapplied(&applied);
        let mut observed = observe(&self.net).await?;
        self.log_ready();
        let mut stop = pin!(stop);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let network_changed = tokio::select! {
                () = &mut stop => return Ok(()),
                Some(vips) = reloads.recv() => {
                    self.set_vips(vips).await;
                    true
                }
                _ = poll.tick() => false,
                event = events.recv() => match event {
                    Some(event) if concerns(&event, &self.vips) => true,
                    Some(_) => continue,
                    None => return Err(RealServerError::WatchFailed),
                },
            };
            // One look answers all that has happened until now.
            while network_changed && events.try_recv().is_ok() {}
            if let Err(error) = self.recheck(&mut observed, network_changed).await {
                self.log_problems(format!("{:#}", anyhow::Error::from(error)));
            }
            if network_changed {
                sleep(PAUSE).await;
            }
        }
    }

    /// Maintains these VIPs from now on; those that it no longer maintains are removed from lo.
    async fn set_vips(&mut self, vips: BTreeSet<IpAddr>) {
        let gone: Vec<_> = self.vips.difference(&vips).copied().collect();
        self.vips = vips;
        if let Err(error) = self.remove_vips(&gone).await {
            tracing::warn!(
                "VIPs no longer configured: not removed from lo, or not saved as removed: {:#}",
                anyhow::Error::from(error)
            );
        }
        self.log_ready();
    }

    /// Removes VIPs from lo, unless another real server of this host has them.
    async fn remove_vips(&mut self, gone: &[IpAddr]) -> Result<(), RealServerError> {
        if gone.is_empty() {
            return Ok(());
        }
        let others = self.store.load_others()?;
        let own: Vec<_> = self
            .state
            .unshared_vips(&others)
            .filter(|vip| gone.contains(vip))
            .collect();
        remove_vips_from_lo(&self.net, &own, &self.state.vips_added_by_any(&others)).await?;
        self.state.added_vips.retain(|vip| !own.contains(vip));
        self.state.vips.retain(|vip| !gone.contains(vip));
        self.store.save(&self.state)
    }

    async fn recheck(&mut self, observed: &mut HostState, network_changed: bool) -> Result<(), RealServerError> {
        if network_changed {
            *observed = observe(&self.net).await?;
        } else {
            observed.sysctls_by_nic = observe::sysctls(&observed.arp_nics)?;
        }
        let findings = evaluate(observed, &self.vips);
        let applied = self.fix(findings, observed).await;
        if !matches!(&applied, Ok(Applied { had_fixes: false, .. })) {
            *observed = observe(&self.net).await?;
        }
        self.log_unapplied(&applied?);
        Ok(())
    }

    /// Carries out what it can to make the rules hold. ARP is quiet before any VIP is there; VIPs do not wait for each
    /// other.
    async fn fix(&mut self, findings: Vec<Finding>, observed: &HostState) -> Result<Applied, RealServerError> {
        let blocked = blocked_vips(&findings);
        let mut todo = Todo::default();
        let mut applied = Applied::default();
        for finding in findings {
            if finding.is_blocking() {
                applied.blocking.push(finding);
            } else if finding.vip.is_none_or(|vip| !blocked.contains(&vip)) {
                todo.add(finding);
            }
        }
        applied.had_fixes = !todo.is_empty();
        self.record_original(&todo, &blocked, observed)?;
        for (setting, reason) in &todo.sysctls {
            if sysctl::write(setting)? {
                tracing::info!("applied: sysctl -w {setting} ({reason})");
            }
        }
        let vips = todo.vips.keys().copied();
        for (vip, added) in self.net.add_vips(observed.lo_ifindex, vips, &observed.addresses).await {
            match added {
                Ok(AddVipOutcome::Added) => tracing::info!("applied: {} ({})", Fix::Vip(vip), todo.vips[&vip]),
                Ok(AddVipOutcome::PresentFromLbx | AddVipOutcome::PresentFromOther) => {}
                Err(error) => applied.refused.push(error),
            }
        }
        for (vip, reason) in &todo.routes {
            match self.net.add_host_route(observed.lo_ifindex, *vip).await {
                Ok(true) => tracing::info!("applied: {} ({reason})", Fix::Route(*vip)),
                Ok(false) => {}
                Err(error) => applied.refused.push(error),
            }
        }
        Ok(applied)
    }

    /// Writes down what is about to change, before it does.
    fn record_original(
        &mut self,
        todo: &Todo,
        blocked: &BTreeSet<IpAddr>,
        observed: &HostState,
    ) -> Result<(), RealServerError> {
        let mut state = self.state.clone();
        state.vips.extend(self.vips.difference(blocked));
        state.added_vips.extend(todo.vips.keys());
        // Read only when it matters: most looks find nothing to do.
        let others = if todo.is_empty() {
            Vec::new()
        } else {
            self.store.load_others()?
        };
        for (setting, _) in &todo.sysctls {
            let values = observed.sysctls_by_nic.get(&setting.nic_or_all);
            if let Some(&now) = values.and_then(|values| values.get(&setting.key)) {
                state.record_original_sysctl(&setting.nic_or_all, setting.key, now, &others);
            }
        }
        if state != self.state {
            self.store.save(&state)?;
            self.state = state;
        }
        Ok(())
    }

    fn log_ready(&self) {
        tracing::info!("this host is a real server for {}", list(&self.vips));
        let earlier = list(self.state.vips.difference(&self.vips));
        if !earlier.is_empty() {
            tracing::info!("VIPs set up by an earlier run, not maintained by this one: {earlier}");
        }
    }

    fn log_unapplied(&mut self, applied: &Applied) {
        let violations = applied.blocking.iter().map(Finding::violation);
        let refused = applied.refused.iter().map(|error| match error.source() {
            Some(reason) => format!("{error}: {reason}"),
            None => error.to_string(),
        });
        let problems: Vec<_> = violations.chain(refused).collect();
        self.log_problems(problems.join("; "));
    }

    fn log_problems(&mut self, problems: String) {
        if problems != self.logged_problems && !problems.is_empty() {
            tracing::warn!("{problems}");
        }
        self.logged_problems = problems;
    }
}

/// What is to be done, each thing once and with its reason.
#[derive(Debug, Default)]
struct Todo {
    sysctls: Vec<(Setting, String)>,
    vips: BTreeMap<IpAddr, String>,
    routes: BTreeMap<Ipv4Addr, String>,
}

impl Todo {
    fn add(&mut self, finding: Finding) {
        let reason = format!("{}: {}", finding.rule, finding.observed_state);
        match finding.fix {
            None | Some(Fix::ManualCommand(_)) => {}
            // One setting may fix several NICs.
            Some(Fix::Sysctl(setting)) if self.sysctls.iter().any(|(other, _)| *other == setting) => {}
            Some(Fix::Sysctl(setting)) => self.sysctls.push((setting, reason)),
            Some(Fix::Vip(vip)) => drop(self.vips.insert(vip, reason)),
            Some(Fix::Route(vip)) => drop(self.routes.insert(vip, reason)),
        }
    }

    fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.vips.is_empty() && self.routes.is_empty()
    }
}

fn list<'a>(vips: impl IntoIterator<Item = &'a IpAddr>) -> String {
    let vips: Vec<_> = vips.into_iter().map(IpAddr::to_string).collect();
    vips.join(", ")
}

/// Judges the rules without changing anything; needs no privilege.
///
/// # Errors
/// What there is cannot be read.
pub async fn check(net: &RouteNetlink, vips: &BTreeSet<IpAddr>) -> Result<Vec<Finding>, RealServerError> {
    Ok(evaluate(&observe(net).await?, vips))
}

/// Whether an event may have broken a rule. A route that is replaced is not said to be gone, only that there is a new
/// one.
fn concerns(event: &NetEvent, vips: &BTreeSet<IpAddr>) -> bool {
    match event {
        NetEvent::Link(_) | NetEvent::LinkGone { .. } | NetEvent::Overrun => true,
        NetEvent::Address(address) | NetEvent::AddressGone(address) => vips.contains(&address.address),
        NetEvent::Route(route) | NetEvent::RouteGone(route) => vips.contains(&route.destination),
        NetEvent::Neighbour(_) | NetEvent::NeighbourGone { .. } => false,
    }
}
