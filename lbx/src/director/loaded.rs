//! The loaded state: the program and maps in the kernel, and the tables that are their mirror.

use super::{DirectorError, log_failure, required_actions::RequiredActions};
use crate::{
    dataplane::{Dataplane, clock},
    desired::DesiredState,
    tables::{NextHops, Plan, Tables, event::TableEvent, scan::FlowScanResult},
};

/// What is loaded.
pub struct LoadedState {
    /// The mirror of the maps.
    pub tables: Tables,
    /// The program and its maps.
    pub dataplane: Dataplane,
    /// A change could not be made and is tried again every second.
    pending_retry: bool,
}

impl LoadedState {
    /// A data plane whose tables have not been read.
    #[must_use]
    pub fn new(dataplane: Dataplane) -> Self {
        Self {
            tables: dataplane.empty_tables(),
            dataplane,
            pending_retry: false,
        }
    }

    /// Reads the tables back from the maps.
    ///
    /// # Errors
    /// They can't be read, or make no sense.
    pub fn read_back(&mut self) -> Result<(), DirectorError> {
        self.tables = self.dataplane.read_tables(clock::current_tick())?;
        Ok(())
    }

    /// Plans the way from what is loaded to a desired state.
    ///
    /// # Errors
    /// A table is full.
    pub fn plan(&self, desired: &DesiredState, next_hops: &NextHops) -> Result<Plan, DirectorError> {
        Ok(self.tables.plan(desired, next_hops, clock::current_tick())?)
    }

    /// Executes a plan; returns its events. If the kernel refuses a write, the tables are read back: the next plan starts from
    /// what is really there.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn execute(&mut self, plan: Plan) -> Result<Vec<TableEvent>, DirectorError> {
        if let Err(error) = self.dataplane.apply(&plan.writes) {
            self.read_back()?;
            self.pending_retry = true;
            return Err(error.into());
        }
        self.tables = plan.resulting_tables;
        Ok(plan.events)
    }

    /// Has the next second plan again: a change could not be made.
    pub fn retry_later(&mut self) {
        self.pending_retry = true;
    }

    /// Takes the retry that is due, if one is.
    pub fn take_retry(&mut self) -> RequiredActions {
        RequiredActions::replan_if(std::mem::take(&mut self.pending_retry))
    }

    /// Counts all flows now.
    #[must_use]
    pub fn scan(&self) -> FlowScanResult {
        self.dataplane.sweep_flows(&self.tables, clock::current_tick())
    }

    /// Closes windows, ends tracking and frees what is no longer used.
    pub fn expire(&mut self) {
        let expired = self.expired().and_then(|plan| self.execute(plan));
        log_failure(
            "cannot remove drained real servers and expired table entries, retrying",
            expired.map(|events| events.iter().for_each(TableEvent::log)),
        );
    }

    /// What has expired by now. The counters are read after the scan has begun, as its tick demands.
    fn expired(&self) -> Result<Plan, DirectorError> {
        let mut scan = self.scan();
        scan.services_without_traffic = self.dataplane.open_window_services_without_traffic(&self.tables)?;
        Ok(self.tables.plan_expiry(&scan))
    }

    /// Logs that tables keep the size they were made with, where the configuration wants another.
    pub fn log_table_size_mismatches(&self, desired: &DesiredState) {
        let (current, configured) = (self.dataplane.sizes(), desired.tables);
        for ((table, current_size), (_, configured_size)) in
            current.with_names().into_iter().zip(configured.with_names())
        {
            if current_size != configured_size {
                tracing::warn!(
                    table,
                    current_size,
                    configured_size,
                    "table keeps its size until lbx is stopped and started"
                );
            }
        }
    }
}
