//! Notifications: commands, each at most as long as its timeout, and sockets, in the order of `notify_queue`. The director goes
//! on meanwhile.

use std::{
    net::IpAddr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    notify_queue::{NotifyQueue, Subject},
    notify_socket::SocketNotifier,
};
use crate::{
    command::RunningCommand,
    desired::{NotifyCommand, NotifyTarget, Service, VirtualService},
};

/// Notifications that may wait: a command that hangs must not fill the memory.
const QUEUE_CAPACITY: usize = 100_000;

/// A notification: what a command gets in its environment, and a socket as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What happened: `server_up`, `server_down`, `quorum_gained`, `quorum_lost`, `director_start`, `director_stop`.
    pub event: &'static str,
    /// The service and its name, unless it is about the director.
    pub service: Option<(VirtualService, String)>,
    /// The real server, if it is about one.
    pub server: Option<IpAddr>,
    /// Its weight in the file.
    pub weight: Option<u16>,
    /// Why it is down.
    pub reason: Option<String>,
    /// When.
    pub timestamp: SystemTime,
}

impl Notification {
    /// A notice about a service as such.
    #[must_use]
    pub fn for_service(service: &Service, event: &'static str) -> Self {
        Self {
            service: Some((service.virtual_service, service.name.clone())),
            ..Self::for_director(event)
        }
    }

    /// A notice about the director.
    #[must_use]
    pub fn for_director(event: &'static str) -> Self {
        Self {
            event,
            service: None,
            server: None,
            weight: None,
            reason: None,
            timestamp: SystemTime::now(),
        }
    }

    fn subject(&self) -> Subject {
        match (&self.service, self.server) {
            (None, _) => Subject::Director,
            (Some((service, _)), None) => Subject::Service(*service),
            (Some((service, _)), Some(server)) => Subject::Server(*service, server),
        }
    }

    /// Names and values; those that are about nothing are empty.
    #[must_use]
    pub fn environment(&self, director: &str) -> [(&'static str, String); 10] {
        fn text<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let (id, name) = self.service.as_ref().map(|(id, name)| (id, name)).unzip();
        [
            ("LBX_EVENT", self.event.to_owned()),
            ("LBX_NAME", director.to_owned()),
            ("LBX_SERVICE", text(name)),
            ("LBX_VIP", text(id.map(|id| id.vip))),
            ("LBX_PORT", text(id.map(|id| id.port))),
            ("LBX_PROTOCOL", text(id.map(|id| id.protocol))),
            ("LBX_RIP", text(self.server)),
            ("LBX_WEIGHT", text(self.weight)),
            ("LBX_REASON", text(self.reason.as_ref())),
            ("LBX_TIME", self.time()),
        ]
    }

    /// When, in UTC.
    #[must_use]
    pub fn time(&self) -> String {
        humantime::format_rfc3339_seconds(self.timestamp).to_string()
    }
}

/// Where notices are handed in.
#[derive(Debug)]
pub struct Notifier {
    sender: mpsc::Sender<(NotifyTarget, Notification)>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Begins to run commands and to send to sockets for the director of a name.
    #[must_use]
    pub fn start(director: &str) -> Self {
        let (sender, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let task = tokio::spawn(run_all(waiting, director.to_owned()));
        Self { sender, task }
    }

    /// Queues a notification.
    pub fn send(&self, notify: &NotifyTarget, notice: Notification) {
        if let Err(error) = self.sender.try_send((notify.clone(), notice)) {
            tracing::error!(%error, "notification dropped: the notify commands are too slow");
        }
    }

    /// Waits until all commands have ended, at most so long.
    pub async fn finish(self, limit: Duration) {
        drop(self.sender);
        if timeout(limit, self.task).await.is_err() {
            tracing::warn!(
                "notify: not all commands have ended {limit:?} after the director stopped: those that run are killed, those that wait are not run"
            );
        }
    }
}

/// What waits, for commands and for sockets: a slow command delays no socket.
#[derive(Debug, Default)]
struct Waiting {
    commands: NotifyQueue<(NotifyCommand, Notification)>,
    sockets: NotifyQueue<(PathBuf, Notification)>,
}

impl Waiting {
    fn push(&mut self, target: NotifyTarget, notice: Notification) {
        let subject = notice.subject();
        match target {
            NotifyTarget::Command(command) => self.commands.push(subject, (command, notice)),
            NotifyTarget::Socket(path) => self.sockets.push(subject, (path, notice)),
        }
    }

    /// Sends what waits for sockets: what concerns the director or a service first.
    fn send_to_sockets(&mut self, sockets: &mut SocketNotifier) {
        while let Some((subject, (path, notice))) = self.sockets.next() {
            sockets.send(&path, &notice);
            self.sockets.on_job_ended(subject);
        }
    }
}

/// Runs commands and sends to sockets until no notice can come any more and all have been sent.
async fn run_all(mut notices: mpsc::Receiver<(NotifyTarget, Notification)>, director: String) {
    let mut waiting = Waiting::default();
    let mut sockets = SocketNotifier::new(&director);
    let mut running = JoinSet::new();
    let mut open = true;
    while open || !waiting.commands.is_idle() {
        tokio::select! {
            notice = notices.recv(), if open => match notice {
                Some((target, notice)) => {
                    waiting.push(target, notice);
                    // What has come together is ordered together.
                    while let Ok((target, notice)) = notices.try_recv() {
                        waiting.push(target, notice);
                    }
                }
                None => open = false,
            },
            Some(ended) = running.join_next() => if let Ok(subject) = ended {
                waiting.commands.on_job_ended(subject);
            },
        }
        waiting.send_to_sockets(&mut sockets);
        while let Some((subject, (notify, notice))) = waiting.commands.next() {
            let director = director.clone();
            running.spawn(async move {
                run(&notify, &notice, &director).await;
                subject
            });
        }
    }
}

async fn run(notify: &NotifyCommand, notice: &Notification, director: &str) {
    let program = notify.command.first().map_or("", String::as_str);
    let event = notice.event;
    let mut running = match RunningCommand::start(&notify.command, notice.environment(director), Stdio::null()) {
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
        let notice = Notification {
            event: "server_down",
            service: Some((
                VirtualService {
                    vip: IpAddr::from([192, 0, 2, 1]),
                    port: 80,
                    protocol: Protocol::Tcp,
                },
                "web".to_owned(),
            )),
            server: Some(IpAddr::from([10, 0, 0, 2])),
            weight: Some(3),
            reason: Some("connection refused".to_owned()),
            timestamp: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
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
