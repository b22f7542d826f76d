//! The decision trace: the program is replaced by one that traces, and the usual one comes back when the client disconnects.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use lbx_common::{
    address::Address,
    flow_event::FlowEvent,
    trace::{SelectionReason, TraceFilter},
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    control::{Response, TraceRequest},
    dataplane::{Dataplane, DataplaneError},
    tables::{Tables, lookup::address},
};

/// How often the program's buffer is read: soon enough for a person, and it holds a thousand decisions.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running trace.
pub struct Tracer {
    /// The program that traces; NICs run it while this lives.
    program: Ebpf,
    logger: EbpfLogger<Lines>,
    lines: std::sync::mpsc::Receiver<String>,
    listener: mpsc::Sender<Response>,
    /// When the program's buffer is read next.
    next_poll: Instant,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No service of that name.
    #[error("no service is named {0}: `lbx list` shows the names")]
    UnknownService(String),
    /// The program cannot be loaded or exchanged.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The kernel's log cannot be read.
    #[error("cannot open the trace buffer")]
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
        service_plus_one: service,
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
        listener: mpsc::Sender<Response>,
    ) -> Result<Self, TraceError> {
        dataplane.set_trace_filter(filter)?;
        let mut program = dataplane.load_xdp_with_tracing()?;
        let (sender, lines) = std::sync::mpsc::channel();
        let logger = EbpfLogger::init_with_logger(&mut program, Lines(Mutex::new(sender)))?;
        if let Err(error) = dataplane.replace_programs(Some(&mut program)) {
            dataplane.replace_programs(None)?;
            return Err(error.into());
        }
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

    /// Waits until the program's buffer is to be read, or the client has disconnected; whether it is still there.
    pub async fn wait_for_poll(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(self.next_poll) => true,
            () = self.listener.closed() => false,
        }
    }

    /// Sends the client what the program has traced. A client that cannot keep up loses lines.
    pub fn forward(&mut self, tables: &Tables, names: impl Fn(u16) -> Option<String>) {
        self.next_poll = Instant::now() + POLL_INTERVAL;
        self.logger.flush();
        for line in self.lines.try_iter() {
            let _full = self.listener.try_send(Response::Trace(describe(&line, tables, &names)));
        }
    }
}

/// The program's line with names in place of its numbers. The fields are those of `lbx-ebpf/src/trace.rs`.
fn describe(line: &str, tables: &Tables, names: &impl Fn(u16) -> Option<String>) -> String {
    decision(line, tables, names).unwrap_or_else(|| line.to_owned())
}

fn decision(line: &str, tables: &Tables, names: &impl Fn(u16) -> Option<String>) -> Option<String> {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str| field(name)?.parse::<u16>().ok();
    let code = |name: &str| field(name)?.parse::<u8>().ok();
    let client: IpAddr = field("client")?.parse().ok()?;
    let client = SocketAddr::new(client.to_canonical(), number("port")?);
    let (service, backend) = (number("service")?, number("backend")?);
    let server = tables
        .by_number(service)
        .and_then(|(_, loaded)| loaded.backends.get(&backend));
    Some(format!(
        "{client} -> {} {} {} bytes -> {} ({}{})",
        names(service).unwrap_or_else(|| format!("service {service}")),
        flags(FlowEvent::from_code(code("signal")?)),
        field("length")?,
        server.map_or_else(|| format!("backend {backend}"), |member| member.address.to_string()),
        reason(SelectionReason::from_code(code("reason")?)),
        if number("new")? == 1 { ", new" } else { "" },
    ))
}

/// What kind of packet it is: its TCP flags as far as they matter to a flow.
fn flags(signal: FlowEvent) -> String {
    if signal.is_datagram() {
        return "datagram".to_owned();
    }
    if signal.is_related() {
        return "fragment or ICMP error".to_owned();
    }
    let names: Vec<_> = signal.tcp_flags().collect();
    if names.is_empty() {
        "no flags".to_owned()
    } else {
        names.join("+")
    }
}

const fn reason(reason: SelectionReason) -> &'static str {
    match reason {
        SelectionReason::Slot => "hashed",
        SelectionReason::Record => "recorded",
        SelectionReason::Scheduled => "scheduled",
        SelectionReason::Owner => "slot owner, no record",
        SelectionReason::Fragment => "as its first fragment",
        SelectionReason::Quic => "QUIC server id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        let described = |line: &str| describe(line, &Tables::default(), &|_| Some("web".into()));
        for (line, expected) in [
            (
                "client=::ffff:192.168.1.10 port=40000 service=0 signal=2 reason=2 backend=1 new=1 length=60",
                "192.168.1.10:40000 -> web SYN 60 bytes -> backend 1 (scheduled, new)",
            ),
            (
                "client=2001:db8::10 port=40000 service=0 signal=17 reason=1 backend=1 new=0 length=72",
                "[2001:db8::10]:40000 -> web FIN+ACK 72 bytes -> backend 1 (recorded)",
            ),
            (
                "client=::ffff:192.168.1.10 port=53 service=0 signal=128 reason=0 backend=2 new=0 length=40",
                "192.168.1.10:53 -> web datagram 40 bytes -> backend 2 (hashed)",
            ),
            ("odd", "odd"),
        ] {
            assert_eq!(described(line), expected);
        }
    }

    #[test]
    fn an_unknown_service_is_refused() {
        let request = TraceRequest {
            client: None,
            service: Some("web".into()),
        };
        assert!(filter(&request, |_| None).is_err());
        assert_eq!(filter(&request, |_| Some(0)).unwrap().service_plus_one, 1);
    }
}
