//! Notifications: commands, each at most as long as its timeout, and sockets, in the order of `notify_queue`. The director goes
//! on meanwhile.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{notification::Notification, notify_queue::NotifyQueue, notify_socket::SocketNotifier};
use crate::{
    command::RunningCommand,
    desired::{NotifyCommand, NotifyTarget},
};

/// Notifications that may wait: a command that hangs must not fill the memory.
const QUEUE_CAPACITY: usize = 100_000;

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
