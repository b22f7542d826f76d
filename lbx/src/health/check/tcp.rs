//! Whether a TCP connection can be made.

use super::socket::Session;
use crate::health::probe::{Aim, Dialer, Evidence, Outcome, Passed};

/// Probes once.
///
/// # Errors
/// Why there is no connection.
pub async fn run(aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    let (session, stream) = Session::tcp(aim, dialer)?;
    let outcome = session.connected(&stream).await.map(|()| Passed::default());
    session.close(stream, outcome, Evidence::BothWays)
}
