//! Health events: in the log, and to the commands and sockets that are notified.

use std::time::Duration;

use super::{HealthChecks, notification::Notification};
use crate::{
    desired::{DesiredState, NotifyTarget, Service},
    health::{HealthEvent, ProbeFailure, event::HealthEventKind},
    tables::event::{TableEvent as Planned, TableEventKind},
};

/// How long a stop waits where there are sockets alone: they take what they can at once.
const SOCKETS_AT_STOP: Duration = Duration::from_secs(1);

impl HealthChecks {
    /// Logs events, and notifies commands and sockets of them.
    pub fn log_and_notify(&self, events: &[HealthEvent]) {
        for event in events {
            let Some(service) = self.effective(event.service) else {
                continue;
            };
            let (id, real_server) = (event.service, event.kind.real_server().map(tracing::field::display));
            match event.kind {
                _ if !is_logged(service, event) => tracing::debug!(service = %id, real_server, "{event}"),
                HealthEventKind::ServerDown { .. }
                | HealthEventKind::FirstCheckOverdue { .. }
                | HealthEventKind::QuorumLost { .. } => {
                    tracing::warn!(service = %id, real_server, "{event}");
                }
                _ => tracing::info!(service = %id, real_server, "{event}"),
            }
            self.notify(service, event);
        }
    }

    /// Whether one of these events says what an event of the plan says: that a real server is up or down.
    pub fn is_already_logged(&self, events: &[HealthEvent], planned: &Planned) -> bool {
        let up_or_down = matches!(
            planned.kind,
            TableEventKind::ServerUp { .. }
                | TableEventKind::ServerFailed { .. }
                | TableEventKind::ServerUnresolved { .. }
        );
        let same = |event: &&HealthEvent| {
            let up_or_down = matches!(
                event.kind,
                HealthEventKind::ServerUp { .. } | HealthEventKind::ServerDown { .. }
            );
            up_or_down && event.service == planned.service && event.kind.real_server() == planned.kind.real_server()
        };
        up_or_down
            && events.iter().filter(same).any(|event| {
                let service = self.effective(event.service);
                service.is_some_and(|service| is_logged(service, event))
            })
    }

    /// Notifies every command and socket of these services of an event of the director, each once.
    pub fn notify_director_event(&self, desired: &DesiredState, event: &'static str) {
        for notify in targets(desired) {
            self.notifier.send(notify, Notification::for_director(event));
        }
    }

    /// Notifies of the end of the director, and waits for all commands that are running.
    pub async fn notify_stop(self, desired: &DesiredState) {
        self.notify_director_event(desired, "director_stop");
        let commands = targets(desired).into_iter().filter_map(NotifyTarget::command);
        let longest = commands.map(|notify| notify.timeout).max();
        self.notifier.finish(longest.unwrap_or(SOCKETS_AT_STOP)).await;
    }

    /// Notifies the command or socket of a service of an event.
    fn notify(&self, service: &Service, event: &HealthEvent) {
        let Some(notify) = &service.notify else {
            return;
        };
        let of = |name| Notification::for_service(service, name);
        let notice = match &event.kind {
            HealthEventKind::ServerUp { server, weight } => Notification {
                server: Some(*server),
                weight: Some(*weight),
                ..of("server_up")
            },
            HealthEventKind::ServerDown { server, reason } => Notification {
                server: Some(*server),
                weight: service
                    .servers
                    .iter()
                    .find(|other| other.address == *server)
                    .map(|other| other.weight)
                    // Out of the file it drains, as with weight 0.
                    .or(Some(0)),
                reason: Some(reason.to_string()),
                ..of("server_down")
            },
            HealthEventKind::QuorumGained { .. } => of("quorum_gained"),
            HealthEventKind::QuorumLost { .. } => of("quorum_lost"),
            HealthEventKind::FirstCheckOverdue { .. } | HealthEventKind::WeightChanged { .. } => return,
        };
        self.notifier.send(notify, notice);
    }
}

/// The commands and sockets of services, each once.
fn targets(desired: &DesiredState) -> Vec<&NotifyTarget> {
    let mut targets = Vec::new();
    for notify in desired.services.iter().filter_map(|service| service.notify.as_ref()) {
        if !targets.contains(&notify) {
            targets.push(notify);
        }
    }
    targets
}

/// Whether health logs an event. Without a check the plan does: MAC addresses are resolved and lost there.
fn is_logged(service: &Service, event: &HealthEvent) -> bool {
    let unresolved = matches!(
        event.kind,
        HealthEventKind::ServerDown {
            reason: ProbeFailure::NoMac,
            ..
        }
    );
    service.health.is_some() && !unresolved
}
