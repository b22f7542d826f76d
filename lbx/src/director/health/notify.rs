//! Notification commands: run one after the other in the order of the events, each at most as long as its timeout. The
//! director goes on meanwhile.

use std::{net::IpAddr, process::Stdio, time::SystemTime};

use tokio::{sync::mpsc, time::timeout};

use crate::{
    command::Running,
    desired::{Notify, Service, VirtualService},
};

/// Notifications that may wait: a command that hangs must not fill the memory.
const QUEUE_CAPACITY: usize = 100_000;

/// A notification: what a command gets in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened: `server_up`, `server_down`, `quorum_gained`, `quorum_lost`.
    pub event: &'static str,
    /// Name of the service.
    pub service: String,
    /// The service.
    pub id: VirtualService,
    /// The real server, if it is about one.
    pub server: Option<IpAddr>,
    /// Its weight in the file.
    pub weight: Option<u16>,
    /// Why it is down.
    pub reason: Option<String>,
    /// When.
    pub at: SystemTime,
}

impl Notice {
    /// A notice about a service as such.
    #[must_use]
    pub fn of(service: &Service, event: &'static str) -> Self {
        Self {
            event,
            service: service.name.clone(),
            id: service.virtual_service,
            server: None,
            weight: None,
            reason: None,
            at: SystemTime::now(),
        }
    }

    /// Names and values; those that are about nothing are empty.
    #[must_use]
    pub fn environment(&self, director: &str) -> [(&'static str, String); 10] {
        fn text<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        [
            ("LBX_EVENT", self.event.to_owned()),
            ("LBX_NAME", director.to_owned()),
            ("LBX_SERVICE", self.service.clone()),
            ("LBX_VIP", self.id.vip.to_string()),
            ("LBX_PORT", self.id.port.to_string()),
            ("LBX_PROTOCOL", self.id.protocol.to_string()),
            ("LBX_RIP", text(self.server)),
            ("LBX_WEIGHT", text(self.weight)),
            ("LBX_REASON", text(self.reason.as_ref())),
            ("LBX_TIME", humantime::format_rfc3339_seconds(self.at).to_string()),
        ]
    }
}

/// Where notices are handed in.
#[derive(Debug)]
pub struct Notifier(mpsc::Sender<(Notify, Notice)>);

impl Notifier {
    /// Begins to run commands for the director of a name; ends when it is dropped and all are sent.
    #[must_use]
    pub fn start(director: &str) -> Self {
        let (sender, mut waiting) = mpsc::channel::<(Notify, Notice)>(QUEUE_CAPACITY);
        let director = director.to_owned();
        tokio::spawn(async move {
            while let Some((notify, notice)) = waiting.recv().await {
                run(&notify, &notice, &director).await;
            }
        });
        Self(sender)
    }

    /// Queues a notification.
    pub fn send(&self, notify: &Notify, notice: Notice) {
        if let Err(error) = self.0.try_send((notify.clone(), notice)) {
            tracing::error!(%error, "notification dropped: queue full, the notify command is too slow");
        }
    }
}

async fn run(notify: &Notify, notice: &Notice, director: &str) {
    let program = notify.command.first().map_or("", String::as_str);
    let event = notice.event;
    let mut running = match Running::start(&notify.command, notice.environment(director), Stdio::null()) {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(program, event, "notify: cannot run the command: {error}");
            return;
        }
    };
    match timeout(notify.timeout, running.child.wait()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(program, event, "notify: {status}"),
        Ok(Err(error)) => tracing::error!(program, event, "notify: cannot wait for the command: {error}"),
        Err(_) => tracing::warn!(program, event, "notify: killed after {:?}", notify.timeout),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::desired::Protocol;

    #[test]
    fn environment_of_a_command() {
        let notice = Notice {
            event: "server_down",
            service: "web".to_owned(),
            id: VirtualService {
                vip: IpAddr::from([192, 0, 2, 1]),
                port: 80,
                protocol: Protocol::Tcp,
            },
            server: Some(IpAddr::from([10, 0, 0, 2])),
            weight: Some(3),
            reason: Some("connection refused".to_owned()),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        };
        let environment = notice.environment("main");
        let expected = [
            ("LBX_EVENT", "server_down"),
            ("LBX_NAME", "main"),
            ("LBX_SERVICE", "web"),
            ("LBX_VIP", "192.0.2.1"),
            ("LBX_PORT", "80"),
            ("LBX_PROTOCOL", "tcp"),
            ("LBX_RIP", "10.0.0.2"),
            ("LBX_WEIGHT", "3"),
            ("LBX_REASON", "connection refused"),
            ("LBX_TIME", "1970-01-02T00:00:00Z"),
        ];
        assert_eq!(environment, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
