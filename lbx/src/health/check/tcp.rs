//! Whether a TCP connection can be made.

use super::socket::Session;
use crate::health::probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess, RequiredTraffic};

/// Probes once.
///
/// # Errors
/// Why there is no connection.
pub async fn run(endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    let (session, stream) = Session::tcp(endpoint, steering)?;
    let outcome = session.wait_connected(&stream).await.map(|()| ProbeSuccess::default());
    session.close(stream, outcome, RequiredTraffic::BothWays)
}
