//! Sockets of probes, steered to the VIP on one real server.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lbx_common::{
    address::Address,
    service::{TCP, UDP},
    session::{PROBE_SESSION, Session, SessionKey, Steering, TO_RIP},
};
use nix::sys::socket::{SetSockOpt as _, SockType, SockaddrStorage, bind, getsockopt, sockopt};

use super::{ports::ProbePorts, sessions::Sessions, sweeper::SessionSweeper};
use crate::{
    dataplane::{DataplaneError, clock, pins::Pins},
    desired::{CheckedAddress, Protocol},
    health::{ProbeEndpoint, ProbeFailure, ProbeSteering, probe::RequiredTraffic},
    tables::lookup,
};

/// How long the port of a probe stays leased after its timeout: its last packets may be in flight.
const LINGER: Duration = Duration::from_secs(2);
/// The same for a probe that was vouched for: its answer has arrived.
const VOUCHED: Duration = Duration::from_millis(100);
/// Interval between sweeps of all sessions.
const SWEEP: Duration = Duration::from_secs(16);
/// Leases released per hold of the lock, so that new probes are not held up.
const RELEASE_BATCH: usize = 64;

/// Steers the packets of probes. One for the whole director, shared by its threads; [`ProbeSessions::expire_leases_and_sessions`] must be called about
/// once a second.
pub struct ProbeSessions {
    state: Mutex<State>,
    /// Never locked while holding the lock of `state`.
    sweep: Mutex<Sweep>,
}

struct State {
    sessions: Sessions,
    leases: HashMap<LocalPort, Lease>,
    ports: ProbePorts,
}

struct Sweep {
    sweeper: SessionSweeper,
    done: Instant,
}

/// Numbers of leases and sessions, for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Ports leased by probes.
    pub leased_ports: usize,
    /// Entries in the session table.
    pub sessions: usize,
    /// Local ports marked as having sessions.
    pub ports_with_sessions: u32,
}

/// A local port of an address and a protocol (by number), leased to one probe at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LocalPort {
    protocol: u8,
    source: IpAddr,
    port: u16,
}

/// The lease of a local port.
struct Lease {
    key: SessionKey,
    until: Instant,
}

impl Lease {
    /// Whether its probe targets this real server.
    fn targets(&self, endpoint: &ProbeEndpoint) -> bool {
        self.key.remote == lookup::address(endpoint.rip) && self.key.remote_port == endpoint.port.to_be_bytes()
    }
}

impl ProbeSessions {
    pub(in crate::dataplane) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let state = State {
            sessions: Sessions::open(pins)?,
            leases: HashMap::new(),
            ports: ProbePorts::for_this_host(),
        };
        let sweep = Sweep {
            sweeper: SessionSweeper::open(pins)?,
            done: Instant::now(),
        };
        Ok(Self {
            state: Mutex::new(state),
            sweep: Mutex::new(sweep),
        })
    }

    /// Releases ports whose leases have expired, and removes expired sessions. Probes may begin and end meanwhile.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn expire_leases_and_sessions(&self, now: Instant) -> Result<(), DataplaneError> {
        let over = self.state().expired(now);
        for local_ports in over.chunks(RELEASE_BATCH) {
            let mut state = self.state();
            for local_port in local_ports {
                state.release(local_port, now)?;
            }
        }
        let mut sweep = locked(&self.sweep);
        if now.saturating_duration_since(sweep.done) < SWEEP {
            return Ok(());
        }
        sweep.done = now;
        let busy = self.state().leased_ports();
        let used = sweep.sweeper.remove_expired(clock::current_tick(), &busy)?;
        let cleared = {
            // Read again: probes may have begun meanwhile.
            let state = self.state();
            sweep.sweeper.clear_unused_ports(used, &state.leased_ports())
        };
        if cleared {
            sweep.sweeper.mark_used_ports()?;
        }
        Ok(())
    }

    /// Inserts a session as the egress program does: for tests.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn insert_session(&self, key: &SessionKey, session: &Session) -> Result<(), DataplaneError> {
        self.state().sessions.insert(key, session)
    }

    /// The session of a key: for tests.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn session(&self, key: &SessionKey) -> Result<Option<Session>, DataplaneError> {
        self.state().sessions.get(key)
    }

    /// The present numbers: for tests.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn session_counts(&self) -> Result<SessionCounts, DataplaneError> {
        let sweep = locked(&self.sweep);
        Ok(SessionCounts {
            leased_ports: self.state().leases.len(),
            sessions: sweep.sweeper.entry_count()?,
            ports_with_sessions: sweep.sweeper.marked_port_count(),
        })
    }

    /// Packets of a probe sent to the VIP, and received from it, and its protocol.
    fn counts(&self, local: SocketAddr, endpoint: &ProbeEndpoint) -> Result<Option<(u64, u64, u8)>, ProbeFailure> {
        let state = &mut *self.state();
        // No two probes of one real server have the same port in both protocols.
        let mut local_ports = [TCP, UDP].map(|protocol| LocalPort::new(protocol, local)).into_iter();
        let found = local_ports.find(|local_port| {
            state
                .leases
                .get(local_port)
                .is_some_and(|lease| lease.targets(endpoint))
        });
        let Some(lease) = found.and_then(|local_port| state.leases.get_mut(&local_port)) else {
            return Ok(None);
        };
        lease.until = lease.until.min(Instant::now() + VOUCHED);
        let protocol = lease.key.protocol;
        let (sent, received) = state.sessions.packet_counts(&lease.key).map_err(failed)?;
        Ok(Some((sent, received, protocol)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is consistent even after a panic: every change is a single map operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalPort {
    fn new(protocol: u8, local: SocketAddr) -> Self {
        Self {
            protocol,
            source: local.ip(),
            port: local.port(),
        }
    }

    /// The same port and address for the other protocol.
    const fn twin(mut self) -> Self {
        self.protocol = if self.protocol == TCP { UDP } else { TCP };
        self
    }
}

impl ProbeSteering for ProbeSessions {
    fn bind(&self, socket: BorrowedFd<'_>, endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        let protocol = protocol(socket)?;
        if protocol == Some(Protocol::Tcp) {
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // TIME_WAIT would hold the port for a minute.
            sockopt::Linger.set(&socket, &at_once).map_err(refused)?;
        }
        match protocol {
            Some(protocol) if endpoint.target == CheckedAddress::Vip => self.state().bind(socket, protocol, endpoint),
            _ => bind_to(socket, SocketAddr::new(endpoint.source, 0))
                .map_err(|error| ProbeFailure::CannotProbe(error.to_string())),
        }
    }

    fn verify_steered(
        &self,
        local: SocketAddr,
        endpoint: &ProbeEndpoint,
        required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        if endpoint.target == CheckedAddress::Rip {
            return Ok(());
        }
        match (self.counts(local, endpoint)?, required) {
            (Some((1.., 1.., _)), _) | (Some((1.., _, _)), RequiredTraffic::Sent) => Ok(()),
            // A connection cannot be answered from another address, a datagram can.
            (Some((1.., 0, UDP)), RequiredTraffic::BothWays) => Err(ProbeFailure::AnsweredFromRip {
                vip: endpoint.vip,
                rip: endpoint.rip,
            }),
            _ => Err(ProbeFailure::NotSteered),
        }
    }
}

impl State {
    fn bind(
        &mut self,
        socket: BorrowedFd<'_>,
        protocol: Protocol,
        endpoint: &ProbeEndpoint,
    ) -> Result<(), ProbeFailure> {
        let local_port = self.bind_free_port(socket, protocol, endpoint)?;
        let address = |address: IpAddr| -> Address { lookup::address(address) };
        let steering = Steering {
            vip: address(endpoint.vip),
            rip: address(endpoint.rip),
            port: endpoint.port.to_be_bytes(),
            protocol: protocol.number(),
            session_kind: PROBE_SESSION,
            ..Steering::default()
        };
        let key = SessionKey {
            remote: steering.rip,
            local: address(endpoint.source),
            remote_port: steering.port,
            local_port: local_port.port.to_be_bytes(),
            protocol: steering.protocol,
            direction: TO_RIP,
            ..SessionKey::default()
        };
        // What was sent from this port before is no required for this probe.
        self.sessions.remove(&key).map_err(failed)?;
        self.sessions.steer(socket, steering).map_err(failed)?;
        let until = Instant::now() + endpoint.timeout + LINGER;
        self.leases.insert(local_port, Lease { key, until });
        Ok(())
    }

    /// Binds to a port that is neither leased nor in use.
    fn bind_free_port(
        &mut self,
        socket: BorrowedFd<'_>,
        protocol: Protocol,
        endpoint: &ProbeEndpoint,
    ) -> Result<LocalPort, ProbeFailure> {
        let now = Instant::now();
        let local_port = |port| LocalPort::new(protocol.number(), SocketAddr::new(endpoint.source, port));
        let Self {
            sessions,
            leases,
            ports,
        } = self;
        let port = ports.next_free(|port| {
            let local_port = local_port(port);
            if leases
                .get(&local_port.twin())
                .is_some_and(|lease| lease.targets(endpoint))
            {
                return Ok(false);
            }
            if let Some(lease) = leases.get(&local_port) {
                if lease.until > now {
                    return Ok(false);
                }
                sessions.remove(&lease.key).map_err(failed)?;
                leases.remove(&local_port);
            }
            match bind_to(socket, SocketAddr::new(endpoint.source, port)) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
                Err(error) => Err(ProbeFailure::CannotProbe(format!("{}: {error}", endpoint.source))),
            }
        })?;
        let none = || ProbeFailure::CannotProbe("no local port is free".to_owned());
        port.map(local_port).ok_or_else(none)
    }

    /// The local ports whose leases have expired.
    fn expired(&self, now: Instant) -> Vec<LocalPort> {
        let over = self.leases.iter().filter(|(_, lease)| lease.until <= now);
        over.map(|(local_port, _)| *local_port).collect()
    }

    /// Releases a local port, if its lease has expired: it may be leased again already.
    fn release(&mut self, local_port: &LocalPort, now: Instant) -> Result<(), DataplaneError> {
        if let Some(lease) = self.leases.get(local_port)
            && lease.until <= now
        {
            self.sessions.remove(&lease.key)?;
            self.leases.remove(local_port);
        }
        Ok(())
    }

    /// The leased ports.
    fn leased_ports(&self) -> HashSet<u16> {
        self.leases.keys().map(|local_port| local_port.port).collect()
    }
}

fn bind_to(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// TCP or UDP; none for sockets of another kind.
fn protocol(socket: BorrowedFd<'_>) -> Result<Option<Protocol>, ProbeFailure> {
    Ok(match getsockopt(&socket, sockopt::SockType).map_err(refused)? {
        SockType::Stream => Some(Protocol::Tcp),
        SockType::Datagram => Some(Protocol::Udp),
        _ => None,
    })
}

fn refused(errno: nix::Error) -> ProbeFailure {
    ProbeFailure::CannotProbe(errno.desc().to_owned())
}

fn failed(error: DataplaneError) -> ProbeFailure {
    ProbeFailure::CannotProbe(crate::dataplane::attach::error_chain(&error))
}
