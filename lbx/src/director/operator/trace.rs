//! Decisions told as they are made: the program is exchanged for one that tells them, and back when nobody listens.

use std::{sync::Mutex, time::Duration};

use aya::Ebpf;
use aya_log::EbpfLogger;
use lbx_common::{address::Address, trace::TraceFilter};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    control::{Answer, TraceRequest},
    dataplane::{Dataplane, DataplaneError},
    tables::{Tables, lookup::address},
};

/// How often the program's buffer is looked at: soon enough for a person, and it holds a thousand decisions.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running trace.
pub struct Tracer {
    /// The program that tells; NICs run it while this lives.
    program: Ebpf,
    logger: EbpfLogger<Lines>,
    lines: std::sync::mpsc::Receiver<String>,
    listener: mpsc::Sender<Answer>,
    /// When the program's buffer is looked at next.
    next_poll: Instant,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No service of that name.
    #[error("no service is named {0}")]
    UnknownService(String),
    /// The program cannot be loaded or exchanged.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The kernel's log cannot be read.
    #[error("cannot read the trace buffer")]
    Buffer(#[from] aya_log::Error),
}

/// Collects what aya-log formats.
struct Lines(Mutex<std::sync::mpsc::Sender<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Ok(sender) = self.0.lock() {
            let _nobody_listens = sender.send(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The filter of a request. `number` finds a service by name.
///
/// # Errors
/// No service has that name.
pub fn filter(request: &TraceRequest, number: impl Fn(&str) -> Option<u16>) -> Result<TraceFilter, TraceError> {
    let service = match &request.service {
        Some(name) => u64::from(number(name).ok_or_else(|| TraceError::UnknownService(name.clone()))?) + 1,
        None => 0,
    };
    Ok(TraceFilter {
        client: request.client.map_or_else(Address::default, address),
        service,
    })
}

impl Tracer {
    /// Starts a trace.
    ///
    /// # Errors
    /// See [`TraceError`]; the usual program runs on.
    pub fn start(
        dataplane: &mut Dataplane,
        filter: TraceFilter,
        listener: mpsc::Sender<Answer>,
    ) -> Result<Self, TraceError> {
        dataplane.set_trace_filter(filter)?;
        let mut program = dataplane.load_trace_program()?;
        let (sender, lines) = std::sync::mpsc::channel();
        let logger = EbpfLogger::init_with_logger(&mut program, Lines(Mutex::new(sender)))?;
        dataplane.replace_programs(Some(&mut program))?;
        Ok(Self {
            program,
            logger,
            lines,
            listener,
            next_poll: Instant::now(),
        })
    }

    /// Lets the NICs run the usual program again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stop(self, dataplane: &mut Dataplane) -> Result<(), DataplaneError> {
        dataplane.replace_programs(None)?;
        drop(self.program);
        Ok(())
    }

    /// Waits until it is time to look at what the program has told, or nobody listens any more; whether somebody does.
    pub async fn wait(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(self.next_poll) => true,
            () = self.listener.closed() => false,
        }
    }

    /// Passes on what the program has told. A listener that cannot keep up loses lines.
    pub fn forward(&mut self, tables: &Tables, names: impl Fn(u16) -> Option<String>) {
        self.next_poll = Instant::now() + POLL_INTERVAL;
        self.logger.flush();
        for line in self.lines.try_iter() {
            let _full = self.listener.try_send(Answer::Trace(describe(&line, tables, &names)));
        }
    }
}

/// The program's line with names in place of its numbers. The fields are those of `lbx-ebpf/src/trace.rs`.
fn describe(line: &str, tables: &Tables, names: &impl Fn(u16) -> Option<String>) -> String {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u16>().ok());
    let (Some(client), Some(service)) = (field("client"), number("service")) else {
        return line.to_owned();
    };
    let server = tables
        .by_number(service)
        .and_then(|(_, loaded)| loaded.members.get(&number("backend")?));
    let signal = ["SYN", "FIN", "RST", "SYN+ACK", "ACK", "datagram"];
    let why = [
        "hashed to it",
        "its record says so",
        "scheduled",
        "the slot's owner, no record",
    ];
    let word = |words: &[&'static str], name| {
        number(name)
            .and_then(|n| words.get(usize::from(n)).copied())
            .unwrap_or("?")
    };
    format!(
        "{client} -> {} {} {} bytes -> {} ({}{})",
        names(service).unwrap_or_else(|| format!("service {service}")),
        word(&signal, "signal"),
        field("length").unwrap_or("?"),
        server.map_or_else(|| "?".to_owned(), |member| member.address.to_string()),
        word(&why, "why"),
        if number("new") == Some(1) { ", new" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        let line = "client=192.168.1.10:40000 service=0 signal=0 why=2 backend=1 new=1 length=60";
        let told = describe(line, &Tables::default(), &|_| Some("web".into()));
        assert_eq!(told, "192.168.1.10:40000 -> web SYN 60 bytes -> ? (scheduled, new)");
        assert_eq!(describe("odd", &Tables::default(), &|_| None), "odd");
    }

    #[test]
    fn an_unknown_service_is_refused() {
        let request = TraceRequest {
            client: None,
            service: Some("web".into()),
        };
        assert!(filter(&request, |_| None).is_err());
        assert_eq!(filter(&request, |_| Some(0)).unwrap().service, 1);
    }
}
