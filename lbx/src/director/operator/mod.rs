//! The operators' part: calls on the control socket, and what they are answered with.
//!
//! - [`listing`]: the report behind `lbx list`
//! - [`trace`]: the decisions behind `lbx trace`

pub mod listing;
pub mod trace;

use tokio::sync::mpsc;

use self::{
    listing::ConnectionEstimator,
    trace::{TraceError, Tracer},
};
use super::{loaded::LoadedState, log_failure};
use crate::{
    control::{
        TraceRequest,
        server::{ControlSocket, IncomingRequest},
    },
    dataplane::clock,
    desired::DesiredState,
    tables::flow_policy,
};

/// What operators see, and how they ask for it.
pub struct OperatorInterface {
    calls: mpsc::Receiver<IncomingRequest>,
    /// Connections of hashed services.
    pub estimator: ConnectionEstimator,
    tracer: Option<Tracer>,
    /// Removed from the file system when the director goes.
    _socket: ControlSocket,
}

/// What operators need of the loop.
#[derive(Debug)]
pub enum OperatorEvent {
    /// A call came in.
    IncomingRequest(IncomingRequest),
    /// The trace has lines to forward.
    TraceLines,
    /// The client that traces has disconnected.
    TraceEnded,
    /// The control socket is gone.
    ControlSocketClosed,
}

impl OperatorInterface {
    /// Serves a control socket.
    #[must_use]
    pub fn new(socket: ControlSocket, calls: mpsc::Receiver<IncomingRequest>) -> Self {
        Self {
            calls,
            estimator: ConnectionEstimator::default(),
            tracer: None,
            _socket: socket,
        }
    }

    /// Waits for the next event.
    pub async fn next_event(&mut self) -> OperatorEvent {
        let tracer = self.tracer.as_ref();
        let traced = async {
            match tracer {
                Some(tracer) => tracer.wait_for_poll().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            call = self.calls.recv() => call.map_or(OperatorEvent::ControlSocketClosed, OperatorEvent::IncomingRequest),
            connected = traced => if connected { OperatorEvent::TraceLines } else { OperatorEvent::TraceEnded },
        }
    }

    /// Takes a sample of connections that have no record.
    pub fn sample_connections(&mut self, loaded: &LoadedState, desired: &DesiredState) {
        let window = u32::from(flow_policy::ticks(&desired.timeouts).closing);
        let sampled = self
            .estimator
            .sample(&loaded.dataplane, &loaded.tables, clock::current_tick(), window);
        log_failure("cannot read counters", sampled);
    }

    /// Starts a trace for a client; one that runs ends.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn start_trace(
        &mut self,
        loaded: &mut LoadedState,
        desired: &DesiredState,
        request: &TraceRequest,
        call: &IncomingRequest,
    ) -> Result<(), TraceError> {
        let number = |name: &str| {
            let service = desired.services.iter().find(|service| service.name == name)?;
            Some(loaded.tables.services.get(&service.virtual_service)?.service_number)
        };
        let filter = trace::filter(request, number)?;
        self.stop_trace(loaded);
        self.tracer = Some(Tracer::start(&mut loaded.dataplane, filter, call.responses.clone())?);
        tracing::info!("trace enabled (slower data path)");
        Ok(())
    }

    /// Forwards the lines of a trace to its client.
    pub fn forward_trace(&mut self, loaded: &LoadedState, desired: &DesiredState) {
        let tables = &loaded.tables;
        let name = |number: u16| {
            let (id, _) = tables.by_number(number)?;
            let service = desired.services.iter().find(|service| service.virtual_service == *id)?;
            Some(service.name.clone())
        };
        if let Some(tracer) = &mut self.tracer {
            tracer.forward(tables, name);
        }
    }

    /// Ends a trace, if one runs.
    pub fn stop_trace(&mut self, loaded: &mut LoadedState) {
        if let Some(tracer) = self.tracer.take()
            && !log_failure(
                "cannot stop the trace, NICs may go on running the slower program",
                tracer.stop(&mut loaded.dataplane),
            )
        {
            tracing::info!("trace disabled");
        }
    }
}
