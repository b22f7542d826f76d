//! What health changes, told: in the log, and to the commands that want to know.

use super::Checks;
use crate::{
    desired::Service,
    director::{Director, notify::Notice},
    health::{Event, Failure, event::What},
};

impl Director {
    /// Logs what has happened, and tells the commands that want to know.
    pub(in crate::director) fn tell_health(&self, events: &[Event]) {
        for event in events {
            let Some(service) = self.checks.effective(event.service) else {
                continue;
            };
            // What is not checked is told by the plan: MAC addresses come and go there.
            let no_mac = matches!(
                event.what,
                What::ServerDown {
                    reason: Failure::NoMac,
                    ..
                }
            );
            match event.what {
                _ if no_mac || service.health.is_none() => tracing::debug!("{event}"),
                What::ServerDown { .. } | What::QuorumLost { .. } => tracing::warn!("{event}"),
                _ => tracing::info!("{event}"),
            }
            self.checks.notify(service, event);
        }
    }
}

impl Checks {
    /// Tells the command of a service what has happened there.
    fn notify(&self, service: &Service, event: &Event) {
        let Some(notify) = &service.notify else {
            return;
        };
        let of = |name| Notice::of(service, name);
        let notice = match &event.what {
            What::ServerUp { server, weight } => Notice {
                server: Some(*server),
                weight: Some(*weight),
                ..of("server_up")
            },
            What::ServerDown { server, reason } => Notice {
                server: Some(*server),
                weight: service
                    .servers
                    .iter()
                    .find(|other| other.address == *server)
                    .map(|other| other.weight),
                reason: Some(reason.to_string()),
                ..of("server_down")
            },
            What::QuorumGained { .. } => of("quorum_gained"),
            What::QuorumLost { .. } => of("quorum_lost"),
            What::Weight { .. } => return,
        };
        self.notifier.tell(notify, notice);
    }
}
