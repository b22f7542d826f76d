//! What clients do: connect from a port of their choice, ask for a page, send a datagram, and see who answers.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{host::Host, patience};

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections [`who_answers`] has open at a time.
const AT_A_TIME: usize = 4;

/// A connection to a [`TcpServer`](crate::servers::TcpServer).
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    server: String,
}

impl Connection {
    /// Connects from a given port (0: any) and reads who answers. Call it inside the client's namespace.
    ///
    /// # Errors
    /// The port is taken, or nobody answers within five seconds.
    pub fn open(source_port: u16, target: impl Into<SocketAddr>) -> Result<Self> {
        Self::open_within(patience::scaled(PATIENCE), source_port, target)
    }

    /// Like [`Connection::open`], with another patience.
    ///
    /// # Errors
    /// The port is taken, or nobody answers in time.
    pub fn open_within(patience: Duration, source_port: u16, target: impl Into<SocketAddr>) -> Result<Self> {
        let target = target.into();
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&any(target, source_port).into())?;
            socket.connect_timeout(&target.into(), patience)?;
            socket.set_read_timeout(Some(patience))?;
            Ok(socket.into())
        };
        let stream =
            once_free(connect).with_context(|| format!("no connection from port {source_port} to {target}"))?;
        let mut stream = BufReader::new(stream);
        let mut server = String::new();
        stream
            .read_line(&mut server)
            .with_context(|| format!("{target} does not say who it is"))?;
        ensure!(
            server.ends_with('\n'),
            "{target} closed the connection instead of saying who it is"
        );
        let server = server.trim_end().to_owned();
        Ok(Self { stream, server })
    }

    /// Who answered.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends a line and checks that it comes back.
    ///
    /// # Errors
    /// It does not.
    pub fn echo(&mut self, line: &str) -> Result<()> {
        writeln!(self.stream.get_mut(), "{line}").context("cannot send")?;
        let mut back = String::new();
        self.stream.read_line(&mut back).context("nothing comes back")?;
        ensure!(back.trim_end() == line, "sent {line:?}, got {back:?}");
        Ok(())
    }

    /// Closes it by RST, so that its port is free at once.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn reset(self) -> Result<()> {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        Ok(socket.set_linger(Some(Duration::ZERO))?)
    }
}

/// A port of whatever address of the client's the kernel takes towards a target.
const fn any(target: SocketAddr, source_port: u16) -> SocketAddr {
    let address = match target {
        SocketAddr::V4(_) => std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, source_port)
}

/// Tries until the port is free. One that was closed before may still be taken for a moment: a program that another thread
/// has just forked off holds all our sockets until it is executed.
fn once_free<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match attempt() {
            Err(error)
                if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Connects once from each of the ports and says who answered which.
///
/// # Errors
/// A connection fails.
pub fn who_answers(client: &Host, target: impl Into<SocketAddr>, ports: &[u16]) -> Result<BTreeMap<u16, String>> {
    let target = target.into();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(u16, String)>> {
        let mut answers = Vec::new();
        while let Some(port) = ports.get(next.fetch_add(1, Ordering::Relaxed)) {
            let connection = Connection::open(*port, target)?;
            answers.push((*port, connection.server().to_owned()));
            connection.reset()?;
        }
        Ok(answers)
    };
    let answers = client.enter(|| {
        // Threads inherit the namespace of the one that starts them.
        thread::scope(|scope| {
            let workers = [(); AT_A_TIME].map(|()| scope.spawn(work));
            workers.map(|worker| worker.join().expect("the worker does not panic"))
        })
    })?;
    let answers: Result<Vec<_>> = answers.into_iter().collect();
    Ok(answers?.into_iter().flatten().collect())
}

/// How often each server occurs.
#[must_use]
pub fn tally<'a>(servers: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for server in servers {
        *counts.entry(server.clone()).or_default() += 1;
    }
    counts
}

/// The body of the page at `/` by one HTTP request on a connection of its own. Call it inside the client's namespace.
///
/// # Errors
/// No whole page with status 200 within five seconds.
pub fn get(target: impl Into<SocketAddr>) -> Result<String> {
    let target = target.into();
    let mut stream = TcpStream::connect_timeout(&target, patience::scaled(PATIENCE)).context("no connection")?;
    stream.set_read_timeout(Some(patience::scaled(PATIENCE)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").context("cannot send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "answer {answer:?}");
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("answer {answer:?}"))?;
    ensure!(body.ends_with('\n'), "half a page: {answer:?}");
    Ok(body.trim_end().to_owned())
}

/// A connection on which one page is asked for after another.
#[derive(Debug)]
pub struct Visit {
    began: Instant,
    stream: BufReader<TcpStream>,
    page: Option<String>,
    goes_on: bool,
}

impl Visit {
    /// Connects. Call it inside the client's namespace.
    ///
    /// # Errors
    /// No connection within five seconds.
    pub fn begin(target: SocketAddr) -> Result<Self> {
        let began = Instant::now();
        let stream = TcpStream::connect_timeout(&target, patience::scaled(PATIENCE)).context("no connection")?;
        stream.set_read_timeout(Some(patience::scaled(PATIENCE)))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            began,
            stream: BufReader::new(stream),
            page: None,
            goes_on: true,
        })
    }

    /// The body of the page at `/`.
    ///
    /// # Errors
    /// No whole page with status 200 within five seconds.
    pub fn get(&mut self) -> Result<String> {
        let request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
        self.stream.get_mut().write_all(request).context("cannot send")?;
        let status = self.line()?;
        ensure!(status.starts_with("HTTP/1.1 200 "), "answer {status:?}");
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse()?,
                Some(("connection", "close")) => self.goes_on = false,
                None if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("half a page")?;
        let page = String::from_utf8_lossy(&body).trim_end().to_owned();
        self.page = Some(page.clone());
        Ok(page)
    }

    /// When it began.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// The page that came last.
    #[must_use]
    pub fn page(&self) -> Option<&str> {
        self.page.as_deref()
    }

    /// Whether the server keeps the connection.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.goes_on
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("no answer")?;
        ensure!(line.ends_with('\n'), "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

/// Sends a datagram from a given port (0: any) and gives the name before the echo. Call it inside the client's namespace.
///
/// # Errors
/// No answer within five seconds, or another than the echo.
pub fn ask_by_datagram(source_port: u16, target: impl Into<SocketAddr>, text: &str) -> Result<String> {
    let target = target.into();
    let socket = once_free(|| UdpSocket::bind(any(target, source_port)))?;
    // Connected: only answers from the target count, so one from a RIP is none.
    socket.connect(target)?;
    socket.set_read_timeout(Some(patience::scaled(PATIENCE)))?;
    socket.send(text.as_bytes())?;
    let mut buffer = vec![0; 1 << 16];
    let length = socket
        .recv(&mut buffer)
        .with_context(|| format!("no answer from {target}"))?;
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (server, echo) = answer.split_once(' ').with_context(|| format!("answer {answer:?}"))?;
    ensure!(echo == text, "sent {text:?}, got {answer:?}");
    Ok(server.to_owned())
}
