//! Data planes, used by one fixture after the other: to make one takes the kernel longer than most fixtures take.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use lbx::{
    dataplane::Dataplane,
    tables::{NextHops, Tables},
};

use crate::cluster::{self, LO};

/// A data plane without services, flows and NICs, and the tick it has come to. What a fixture has left elsewhere is too old
/// for the next one.
pub struct Used {
    /// The data plane.
    pub dataplane: Dataplane,
    /// A tick at which nothing has happened.
    pub now: u32,
}

/// Ticks between one fixture and the next: more than any timeout.
const BREAK: u32 = 1 << 16;

static IDLE: Mutex<Vec<Used>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Used>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A data plane that another fixture has used.
pub fn take() -> Option<Used> {
    idle().pop()
}

/// Takes a data plane back that has these tables at tick `now`, unless it cannot be emptied.
pub fn give_back(mut dataplane: Dataplane, tables: &Tables, now: u32) {
    if empty(&mut dataplane, tables, now).is_ok() {
        let now = now + BREAK;
        idle().push(Used { dataplane, now });
    } else {
        // What could not be removed is a leftover for the next run.
        dataplane.detach_and_unpin().ok();
    }
}

/// Ends all idle data planes: nothing drops a static.
pub fn clear() {
    for used in idle().drain(..) {
        used.dataplane.detach_and_unpin().ok();
    }
}

/// Removes services, NICs and records. Counters of services and real servers start anew with these, those of drops go on.
fn empty(dataplane: &mut Dataplane, tables: &Tables, now: u32) -> Result<()> {
    let plan = tables.plan(&cluster::desired(Vec::new()), &NextHops::new(), now)?;
    dataplane.apply(&plan.writes)?;
    dataplane.remove_nic(LO)?;
    // A record of a service that is no longer is erased.
    let _census = dataplane.sweep_flows(&Tables::default(), now);
    Ok(())
}
