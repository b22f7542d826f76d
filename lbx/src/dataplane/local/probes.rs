//! Sockets of probes, led to the VIP on one real server.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lbx_common::{
    address::Address,
    session::{Led, OUT, PROBE, Session, SessionKey},
};
use nix::sys::socket::{SetSockOpt as _, SockType, SockaddrStorage, bind, getsockopt, sockopt};

use super::{ports, sessions::Sessions};
use crate::{
    dataplane::{DataplaneError, clock, pins::Pins},
    desired::{Protocol, Target},
    health::{Aim, Dialer, Failure, probe::Evidence},
    tables::lookup,
};

/// How long the port of a probe is no other's after its time is up, or after it was vouched for: its last packets may be under
/// way.
const LINGER: Duration = Duration::from_secs(2);
/// How often all sessions are looked at.
const SWEEP: Duration = Duration::from_secs(16);

/// Leads the packets of probes. One for the whole director, shared by its threads; its [`Probes::sweep`] wants to be called
/// about once a second.
pub struct Probes {
    state: Mutex<State>,
}

struct State {
    sessions: Sessions,
    /// By local port.
    leases: HashMap<u16, Lease>,
    ranges: Vec<RangeInclusive<u16>>,
    /// Where in the ranges the search for a port begins.
    next: usize,
    swept: Instant,
}

/// What there is of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Ports that probes have.
    pub leases: usize,
    /// Entries in the table.
    pub sessions: usize,
    /// Local ports that are known to have any.
    pub ports: u32,
}

/// A local port of a probe.
struct Lease {
    key: SessionKey,
    until: Instant,
}

impl Probes {
    pub(in crate::dataplane) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let state = State {
            sessions: Sessions::open(pins)?,
            leases: HashMap::new(),
            ranges: ports::for_probes(),
            next: 0,
            swept: Instant::now(),
        };
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// Gives ports back whose probes are over, and forgets sessions that are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sweep(&self, now: Instant) -> Result<(), DataplaneError> {
        let state = &mut *self.lock();
        let over: Vec<u16> = state
            .leases
            .iter()
            .filter(|(_, lease)| lease.until <= now)
            .map(|(&port, _)| port)
            .collect();
        for port in over {
            if let Some(lease) = state.leases.remove(&port) {
                state.sessions.forget(&lease.key)?;
            }
        }
        if now.saturating_duration_since(state.swept) >= SWEEP {
            state.swept = now;
            let busy: HashSet<u16> = state.leases.keys().copied().collect();
            state.sessions.sweep(clock::now(), &busy)?;
        }
        Ok(())
    }

    /// Keeps a session as the program on what is sent does: for tests.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pretend(&self, key: &SessionKey, session: &Session) -> Result<(), DataplaneError> {
        self.lock().sessions.keep(key, session)
    }

    /// The session of a key: for tests.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn session(&self, key: &SessionKey) -> Result<Option<Session>, DataplaneError> {
        self.lock().sessions.get(key)
    }

    /// What there is now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn left(&self) -> Result<Left, DataplaneError> {
        let state = self.lock();
        Ok(Left {
            leases: state.leases.len(),
            sessions: state.sessions.count()?,
            ports: state.sessions.ports(),
        })
    }

    /// How many packets of a probe went to the VIP, and how many came from there.
    fn counts(&self, local: SocketAddr) -> Result<Option<(u64, u64)>, Failure> {
        let state = &mut *self.lock();
        let Some(lease) = state.leases.get_mut(&local.port()) else {
            return Ok(None);
        };
        lease.until = lease.until.min(Instant::now() + LINGER);
        state.sessions.counts(&lease.key).map(Some).map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked has left is whole: every change is one of a map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer for Probes {
    fn bind(&self, socket: BorrowedFd<'_>, aim: &Aim) -> Result<(), Failure> {
        let protocol = protocol(socket)?;
        if protocol == Some(Protocol::Tcp) {
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // A connection that is waited for after its end would keep the port for a minute.
            sockopt::Linger.set(&socket, &at_once).map_err(refused)?;
        }
        match protocol {
            Some(protocol) if aim.target == Target::Vip => self.lock().bind(socket, protocol, aim),
            _ => bind_to(socket, SocketAddr::new(aim.source, 0)).map_err(|error| Failure::Local(error.to_string())),
        }
    }

    fn vouch(&self, local: SocketAddr, aim: &Aim, evidence: Evidence) -> Result<(), Failure> {
        if aim.target == Target::Rip {
            return Ok(());
        }
        match (self.counts(local)?, evidence) {
            (Some((1.., 1..)), _) | (Some((1.., _)), Evidence::Sent) => Ok(()),
            _ => Err(Failure::NotRewritten),
        }
    }
}

impl State {
    fn bind(&mut self, socket: BorrowedFd<'_>, protocol: Protocol, aim: &Aim) -> Result<(), Failure> {
        let port = self.free_port(socket, aim.source)?;
        let address = |address: IpAddr| -> Address { lookup::address(address) };
        let led = Led {
            vip: address(aim.vip),
            rip: address(aim.rip),
            port: aim.port.to_be_bytes(),
            protocol: protocol.number(),
            kind: PROBE,
            ..Led::default()
        };
        let key = SessionKey {
            remote: led.rip,
            local: address(aim.source),
            remote_port: led.port,
            local_port: port.to_be_bytes(),
            protocol: led.protocol,
            way: OUT,
            ..SessionKey::default()
        };
        // Whatever was sent from here before does not speak for this probe.
        self.sessions.forget(&key).map_err(failed)?;
        self.sessions.lead(socket, led).map_err(failed)?;
        let until = Instant::now() + aim.timeout + LINGER;
        self.leases.insert(port, Lease { key, until });
        Ok(())
    }

    /// Binds to a port that neither another probe nor anybody else has.
    fn free_port(&mut self, socket: BorrowedFd<'_>, source: IpAddr) -> Result<u16, Failure> {
        let total: usize = self.ranges.iter().map(ExactSizeIterator::len).sum();
        let first: usize = self.ranges.first().map_or(0, ExactSizeIterator::len);
        // Ports beyond the first range are for when that is full.
        let within = (0..first).map(|step| (self.next + step) % first.max(1));
        for place in within.chain(first..total) {
            let Some(port) = self.port(place) else {
                continue;
            };
            if self.leases.contains_key(&port) {
                continue;
            }
            match bind_to(socket, SocketAddr::new(source, port)) {
                Ok(()) => {
                    self.next = place + 1;
                    return Ok(port);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Failure::Local(format!("{source}: {error}"))),
            }
        }
        Err(Failure::Local("no local port is free".to_owned()))
    }

    fn port(&self, mut place: usize) -> Option<u16> {
        for range in &self.ranges {
            if place < range.len() {
                return Some(range.start() + place as u16);
            }
            place -= range.len();
        }
        None
    }
}

fn bind_to(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// TCP or UDP; none for sockets of another kind.
fn protocol(socket: BorrowedFd<'_>) -> Result<Option<Protocol>, Failure> {
    Ok(match getsockopt(&socket, sockopt::SockType).map_err(refused)? {
        SockType::Stream => Some(Protocol::Tcp),
        SockType::Datagram => Some(Protocol::Udp),
        _ => None,
    })
}

fn refused(errno: nix::Error) -> Failure {
    Failure::Local(errno.desc().to_owned())
}

fn failed(error: DataplaneError) -> Failure {
    Failure::Local(crate::dataplane::attach::error_chain(&error))
}
