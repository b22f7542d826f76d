//! Health events: in the log, and to the commands that are notified.

use super::{HealthChecks, notify::Notice};
use crate::{
    desired::{Desired, Notify, Service},
    health::{Event, Failure, event::EventKind as HealthEventKind},
    tables::event::{Event as Planned, EventKind},
};

impl HealthChecks {
    /// Logs events, and runs the commands that are notified of them.
    pub fn report(&self, events: &[Event]) {
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
    pub fn reports(&self, events: &[Event], planned: &Planned) -> bool {
        let up_or_down = matches!(
            planned.kind,
            EventKind::ServerUp { .. } | EventKind::ServerFailed { .. } | EventKind::ServerUnresolved { .. }
        );
        let same = |event: &&Event| {
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

    /// Runs every command of these services for an event of the director, each once.
    pub fn notify_of_director(&self, desired: &Desired, event: &'static str) {
        for notify in commands(desired) {
            self.notifier.send(notify, Notice::of_director(event));
        }
    }

    /// Runs the commands for the end of the director, and waits for all that are running.
    pub async fn finish(self, desired: &Desired) {
        self.notify_of_director(desired, "director_stop");
        let longest = commands(desired).iter().map(|notify| notify.timeout).max();
        self.notifier.finish(longest.unwrap_or_default()).await;
    }

    /// Runs the command of a service for an event.
    fn notify(&self, service: &Service, event: &Event) {
        let Some(notify) = &service.notify else {
            return;
        };
        let of = |name| Notice::of(service, name);
        let notice = match &event.kind {
            HealthEventKind::ServerUp { server, weight } => Notice {
                server: Some(*server),
                weight: Some(*weight),
                ..of("server_up")
            },
            HealthEventKind::ServerDown { server, reason } => Notice {
                server: Some(*server),
                weight: service
                    .servers
                    .iter()
                    .find(|other| other.address == *server)
                    .map(|other| other.weight),
                reason: Some(reason.to_string()),
                ..of("server_down")
            },
            HealthEventKind::QuorumGained { .. } => of("quorum_gained"),
            HealthEventKind::QuorumLost { .. } => of("quorum_lost"),
            HealthEventKind::FirstCheckOverdue { .. } | HealthEventKind::Weight { .. } => return,
        };
        self.notifier.send(notify, notice);
    }
}

/// The commands of services, each once.
fn commands(desired: &Desired) -> Vec<&Notify> {
    let mut commands = Vec::new();
    for notify in desired.services.iter().filter_map(|service| service.notify.as_ref()) {
        if !commands.contains(&notify) {
            commands.push(notify);
        }
    }
    commands
}

/// Whether health logs an event. Without a check the plan does: MAC addresses are resolved and lost there.
fn is_logged(service: &Service, event: &Event) -> bool {
    let unresolved = matches!(
        event.kind,
        HealthEventKind::ServerDown {
            reason: Failure::NoMac,
            ..
        }
    );
    service.health.is_some() && !unresolved
}
