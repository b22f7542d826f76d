//! Applies the rules, keeps them, undoes them.

use std::{net::IpAddr, pin::pin, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    RealServerError,
    observe::{self, observe},
    rules::{Finding, Mend, Observed, evaluate, wanted},
    state::{State, Store},
    sysctl::{self, Setting},
};
use crate::{
    net::{Added, Event, Net, namespace_cookie, watch},
    preflight::{NET_ADMIN, require_capabilities},
};

/// How often the sysctls are read: the kernel tells nobody when they change.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two looks, so that a fight with another tool costs no CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes this host a real server and keeps it one.
#[derive(Debug)]
pub struct Agent {
    net: Net,
    store: Store,
    state: State,
    vips: Vec<IpAddr>,
    /// What was last complained about, so that it is said once.
    complaint: String,
}

impl Agent {
    /// An agent for these VIPs; changes nothing yet.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or another process has this name.
    pub fn new(net: Net, name: &str, vips: Vec<IpAddr>) -> Result<Self, RealServerError> {
        require_capabilities(&[NET_ADMIN])?;
        let store = Store::open(name, namespace_cookie()?)?;
        let state = store.load()?.unwrap_or_else(|| store.empty());
        Ok(Self {
            net,
            store,
            state,
            vips,
            complaint: String::new(),
        })
    }

    /// Makes every rule hold.
    ///
    /// # Errors
    /// Something stands in the way, and nothing was changed; or a change failed.
    pub async fn apply(&mut self) -> Result<(), RealServerError> {
        let observed = observe(&self.net).await?;
        let blocking: Vec<_> = evaluate(&observed, &self.vips)
            .into_iter()
            .filter(Finding::is_blocking)
            .collect();
        if !blocking.is_empty() {
            return Err(RealServerError::Refused(blocking));
        }
        self.mend(&observed).await.map(drop)
    }

    /// Makes every rule hold, and hold again whenever something has broken it, until `stop` resolves. What was applied
    /// stays then.
    ///
    /// # Errors
    /// The rules cannot be applied at first, or the network can no longer be watched. What fails later is logged and
    /// tried again.
    pub async fn keep(mut self, stop: impl Future<Output = ()>) -> Result<(), RealServerError> {
        // Watching starts before the first look, so that no change falls in between.
        let mut events = watch()?;
        self.apply().await?;
        let mut observed = observe(&self.net).await?;
        self.say_ready();
        let mut stop = pin!(stop);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let network_changed = tokio::select! {
                () = &mut stop => return Ok(()),
                _ = poll.tick() => false,
                event = events.recv() => match event {
                    Some(event) if concerns(&event, &self.vips) => true,
                    Some(_) => continue,
                    None => return Err(RealServerError::Unwatched),
                },
            };
            // One look answers all that has happened until now.
            while network_changed && events.try_recv().is_ok() {}
            if let Err(error) = self.look_after(&mut observed, network_changed).await {
                self.complain(format!("{:#}", anyhow::Error::from(error)));
            }
            if network_changed {
                sleep(PAUSE).await;
            }
        }
    }

    async fn look_after(&mut self, observed: &mut Observed, network_changed: bool) -> Result<(), RealServerError> {
        if network_changed {
            *observed = observe(&self.net).await?;
        } else {
            observed.conf = observe::sysctls(&observed.nics)?;
        }
        let mended = self.mend(observed).await;
        if !matches!(mended, Ok(false)) {
            *observed = observe(&self.net).await?;
        }
        mended?;
        let blocking = evaluate(observed, &self.vips).into_iter().filter(Finding::is_blocking);
        let complaints: Vec<_> = blocking
            .map(|Finding { rule, seen, .. }| format!("does not hold: {rule} ({seen})"))
            .collect();
        self.complain(complaints.join("; "));
        Ok(())
    }

    /// Carries out what it can to make the rules hold; says whether there was anything to do.
    async fn mend(&mut self, observed: &Observed) -> Result<bool, RealServerError> {
        let mut todo: Vec<(Mend, String)> = Vec::new();
        for Finding { rule, seen, mend, .. } in evaluate(observed, &self.vips) {
            match mend {
                None | Some(Mend::Operator(_)) => {}
                // One setting may mend several NICs.
                Some(mend) if todo.iter().any(|(other, _)| *other == mend) => {}
                Some(mend) => todo.push((mend, format!("{rule}: {seen}"))),
            }
        }
        self.remember(&todo, observed)?;
        for (mend, reason) in &todo {
            if self.carry_out(observed.lo, mend).await? {
                tracing::info!("{mend} ({reason})");
            }
        }
        Ok(!todo.is_empty())
    }

    /// Writes down what is about to change, before it does.
    fn remember(&mut self, todo: &[(Mend, String)], observed: &Observed) -> Result<(), RealServerError> {
        let mut state = self.state.clone();
        state.vips.extend(&self.vips);
        // Read only when it matters: most looks find nothing to do.
        let others = if todo.is_empty() {
            Vec::new()
        } else {
            self.store.others()?
        };
        for (mend, _) in todo {
            let Mend::Sysctl(setting) = mend else { continue };
            let values = observed.conf.get(&setting.conf);
            if let Some(&now) = values.and_then(|values| values.get(&setting.key)) {
                state.remember(&setting.conf, setting.key, now, &others);
            }
        }
        if state != self.state {
            self.store.save(&state)?;
            self.state = state;
        }
        Ok(())
    }

    /// Says whether it changed anything.
    async fn carry_out(&self, lo: u32, mend: &Mend) -> Result<bool, RealServerError> {
        Ok(match mend {
            Mend::Sysctl(setting) => sysctl::write(setting)?,
            Mend::Vip(vip) => self.net.add_vip(lo, *vip).await? == Added::New,
            Mend::Route(vip) => self.net.add_host_route(lo, *vip).await?,
            Mend::Operator(_) => false,
        })
    }

    fn say_ready(&self) {
        let list = |vips: &mut dyn Iterator<Item = &IpAddr>| {
            let vips: Vec<_> = vips.map(IpAddr::to_string).collect();
            vips.join(", ")
        };
        tracing::info!("this host is a real server for {}", list(&mut self.vips.iter()));
        let earlier = list(&mut self.state.vips.iter().filter(|vip| !self.vips.contains(vip)));
        if !earlier.is_empty() {
            tracing::info!("in place from an earlier run, not looked after: {earlier}");
        }
    }

    fn complain(&mut self, complaint: String) {
        if complaint != self.complaint && !complaint.is_empty() {
            tracing::warn!("{complaint}");
        }
        self.complaint = complaint;
    }
}

/// What undoing has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// VIPs taken off lo.
    pub vips: usize,
    /// Sysctls set back.
    pub sysctls: usize,
}

/// Restores what a real server of this name found; `None` if there was nothing to undo.
///
/// # Errors
/// CAP_NET_ADMIN is missing, another process has this name, or a change failed; the state is kept then.
pub async fn undo(net: &Net, name: &str) -> Result<Option<Undone>, RealServerError> {
    require_capabilities(&[NET_ADMIN])?;
    let store = Store::open(name, namespace_cookie()?)?;
    let Some(mut state) = store.load()? else {
        return Ok(None);
    };
    let others = store.others()?;
    let lo = observe(net).await?.lo;
    let mut undone = Undone { vips: 0, sysctls: 0 };
    // The reverse of applying: the VIP is gone before ARP answers for any address again.
    for vip in state.own_vips(&others) {
        net.remove_host_route(lo, vip).await?;
        if net.remove_vip(lo, vip).await? {
            tracing::info!("removed {vip}/32 from lo");
            undone.vips += 1;
        }
    }
    if others.iter().any(|other| !other.vips.is_empty()) {
        tracing::info!("ARP stays quiet: a real server of another --name needs it, and restores it when it is undone");
        state.vips.clear();
        store.save(&state)?;
        return Ok(Some(undone));
    }
    for setting in state.originals(&others) {
        undone.sysctls += usize::from(restore(&setting)?);
    }
    store.delete()?;
    Ok(Some(undone))
}

/// Sets a sysctl back, unless its value is no longer the one we set: then that is somebody else's decision since.
fn restore(setting: &Setting) -> Result<bool, RealServerError> {
    let ours = sysctl::read_one(&setting.conf, setting.key)? == Some(wanted(setting.key));
    if ours {
        sysctl::write(setting)?;
        tracing::info!("restored {setting}");
    } else {
        tracing::info!("changed since and left as it is; before there was {setting}");
    }
    Ok(ours)
}

/// Judges the rules without changing anything; needs no privilege.
///
/// # Errors
/// What there is cannot be read.
pub async fn check(net: &Net, vips: &[IpAddr]) -> Result<Vec<Finding>, RealServerError> {
    Ok(evaluate(&observe(net).await?, vips))
}

/// Whether an event may have broken a rule. A route that is replaced is not said to be gone, only that there is a new
/// one.
fn concerns(event: &Event, vips: &[IpAddr]) -> bool {
    match event {
        Event::Link(_) | Event::LinkGone { .. } | Event::Overrun => true,
        Event::Address(address) | Event::AddressGone(address) => vips.contains(&address.address),
        Event::Route(route) | Event::RouteGone(route) => vips.contains(&route.destination),
        Event::Neighbour(_) | Event::NeighbourGone { .. } => false,
    }
}
