//! Data planes, used by one fixture after the other: the kernel takes half a second to verify the program.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use lbx::{
    dataplane::{Dataplane, clock},
    desired::Desired,
    tables::{Hops, Tables},
};
use lbx_tests::{bpffs, leftovers};

use crate::{
    cluster::{self, LO},
    director::unique_name,
};

static IDLE: Mutex<Vec<Dataplane>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Dataplane>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A data plane without services, flows and NICs.
pub fn take() -> Result<Dataplane> {
    let idle = idle().pop();
    idle.map_or_else(open, Ok)
}

/// A new data plane.
pub fn open() -> Result<Dataplane> {
    leftovers::sweep_once();
    bpffs::mount_if_missing()?;
    Ok(Dataplane::open(&unique_name(), TableSizes::default())?)
}

/// Takes a data plane back that has these tables, unless it cannot be emptied.
pub fn give_back(mut dataplane: Dataplane, tables: &Tables) {
    if empty(&mut dataplane, tables).is_ok() {
        idle().push(dataplane);
    } else {
        // What could not be removed is a leftover for the next run.
        dataplane.remove().ok();
    }
}

/// Ends all idle data planes: nothing drops a static.
pub fn clear() {
    for dataplane in idle().drain(..) {
        dataplane.remove().ok();
    }
}

/// Removes services, NICs and records. Counters of services and real servers start anew with these, those of drops go on.
fn empty(dataplane: &mut Dataplane, tables: &Tables) -> Result<()> {
    let nothing = Desired {
        services: Vec::new(),
        ..cluster::desired()
    };
    let plan = tables.plan(&nothing, &Hops::new(), clock::now())?;
    dataplane.apply(&plan.writes)?;
    dataplane.remove_nic(LO)?;
    // A record of a service that is no longer is erased.
    let _census = dataplane.sweep(&Tables::default(), clock::now());
    Ok(())
}
