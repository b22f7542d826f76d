//! Slow start: the reduced weights of real servers that came up not long ago.

use super::members::DesiredServer;
use crate::desired::{Scheduler, ServerState};

/// Resolution of slow start: hundredths of a weight.
const WHOLE: u16 = 100;

/// The effective weight of each real server. While one is in slow start all weights are scaled up, so that a weight of 1 can
/// be reduced too; but not for a scheduler to which a weight is a number of connections.
#[must_use]
pub fn effective_weights(wanted: &[DesiredServer], scheduler: Scheduler) -> Vec<u16> {
    let rises = |server: &DesiredServer| matches!(server.state, ServerState::SlowStart(_)) && server.weight > 0;
    let weighs = !matches!(scheduler, Scheduler::Rr | Scheduler::Lc);
    let parts = match wanted.iter().map(|server| server.weight).max() {
        Some(heaviest) if scheduler != Scheduler::Ovf && weighs && wanted.iter().any(rises) => {
            (u16::MAX / heaviest.max(1)).clamp(1, WHOLE)
        }
        _ => 1,
    };
    let share = |server: &DesiredServer| match server.state {
        ServerState::Draining => 0,
        ServerState::SlowStart(part) if weighs && server.weight > 0 => {
            let whole = u32::from(server.weight) * u32::from(parts);
            let share = whole * u32::from(part.get()) / u32::from(WHOLE);
            share.clamp(1, whole) as u16
        }
        _ => server.weight * parts,
    };
    wanted.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU8};

    use super::*;
    use crate::desired::OnFailure;

    fn server(weight: u16, state: ServerState) -> DesiredServer {
        DesiredServer {
            address: IpAddr::from([10, 0, 0, 1]),
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            quic_server_id: None,
            sorry: false,
            state,
        }
    }

    fn slow_starting(part: u8) -> ServerState {
        NonZeroU8::new(part).map_or(ServerState::Up, ServerState::SlowStart)
    }

    #[test]
    fn a_weight_of_one_is_reduced_too() {
        let wanted = [
            server(1, ServerState::Up),
            server(1, slow_starting(25)),
            server(0, slow_starting(25)),
        ];
        assert_eq!(effective_weights(&wanted, Scheduler::Maglev), [100, 25, 0]);
        assert_eq!(
            effective_weights(&wanted, Scheduler::Rr),
            [1, 1, 0],
            "rr ignores weights"
        );
        assert_eq!(effective_weights(&wanted[..1], Scheduler::Maglev), [1]);
    }

    #[test]
    fn proportions_stay_whatever_the_weights() {
        let wanted = [
            server(65_535, ServerState::Up),
            server(65_535, slow_starting(50)),
            server(1, slow_starting(2)),
        ];
        assert_eq!(effective_weights(&wanted, Scheduler::Wrr), [65_535, 32_767, 1]);
        let wanted = [
            server(1_000, ServerState::Up),
            server(3, slow_starting(50)),
            server(7, ServerState::Down(OnFailure::Drop)),
        ];
        assert_eq!(effective_weights(&wanted, Scheduler::Wlc), [65_000, 97, 455]);
    }

    #[test]
    fn a_weight_that_is_a_number_of_connections_stays_one() {
        let wanted = [
            server(10, ServerState::Up),
            server(10, slow_starting(25)),
            server(2, slow_starting(5)),
        ];
        assert_eq!(effective_weights(&wanted, Scheduler::Ovf), [10, 2, 1]);
    }

    #[test]
    fn a_draining_real_server_has_weight_zero() {
        assert_eq!(
            effective_weights(&[server(3, ServerState::Draining)], Scheduler::Maglev),
            [0]
        );
    }
}
