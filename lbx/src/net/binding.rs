//! Receives ARP and neighbour discovery on a NIC: which host states that it has which address.

use std::{
    io, mem,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{NetError, arp, ndp};

/// Frames read at a time: a storm must not hold the daemon up.
const MAX_PER_READ: usize = 4_096;
/// What a socket may hold, in bytes: the answers of thousands of hosts while the daemon does something else.
const SOCKET_BUFFER: libc::c_int = 4 << 20;
/// More than a message with its usual options takes.
const FRAME_MAX: usize = 256;

/// A host's statement that an address is at a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressBinding {
    /// The address.
    pub address: IpAddr,
    /// The MAC address stated.
    pub mac: [u8; 6],
}

/// What a listener receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResolutionProtocol {
    /// For IPv4 addresses.
    Arp,
    /// For IPv6 addresses.
    NeighbourDiscovery,
}

impl ResolutionProtocol {
    /// The protocol for an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Arp,
            IpAddr::V6(_) => Self::NeighbourDiscovery,
        }
    }
}

/// A packet socket that receives the ARP or neighbour discovery of one NIC.
#[derive(Debug)]
pub struct BindingListener {
    socket: OwnedFd,
    protocol: ResolutionProtocol,
}

impl BindingListener {
    /// Opens the socket.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or the NIC is gone.
    pub fn open(ifindex: u32, protocol: ResolutionProtocol) -> Result<Self, NetError> {
        let failed = || NetError::Socket {
            kind: "packet",
            source: io::Error::last_os_error(),
        };
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Without a protocol until it is bound, so that it receives nothing from other NICs, and nothing without the filter.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(failed());
        }
        // SAFETY: just opened, not owned by anything else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let listener = Self { socket, protocol };
        // Without it the socket holds less: some answers are lost, and the hosts solicited again.
        let _less = listener.set_option(libc::SO_RCVBUFFORCE, &SOCKET_BUFFER);
        let ether_type = match protocol {
            ResolutionProtocol::Arp => libc::ETH_P_ARP,
            ResolutionProtocol::NeighbourDiscovery => {
                listener.filter().map_err(|_| failed())?;
                libc::ETH_P_IPV6
            }
        };
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut here: libc::sockaddr_ll = unsafe { mem::zeroed() };
        here.sll_family = libc::AF_PACKET as u16;
        here.sll_protocol = (ether_type as u16).to_be();
        here.sll_ifindex = ifindex.cast_signed();
        let length = mem::size_of_val(&here) as libc::socklen_t;
        // SAFETY: the address is borrowed for the call and its true length given.
        if unsafe { libc::bind(fd, (&raw const here).cast(), length) } < 0 {
            return Err(failed());
        }
        Ok(listener)
    }

    /// Lets only neighbour solicitations and advertisements in: other IPv6 packets never reach the daemon.
    fn filter(&self) -> io::Result<()> {
        const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
        const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        let instruction = |code: u32, k, jt, jf| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let mut program = [
            // Next header: ICMPv6.
            instruction(LOAD_BYTE, 20, 0, 0),
            instruction(JUMP_EQUAL, 58, 0, 4),
            // Type: neighbour solicitation or advertisement.
            instruction(LOAD_BYTE, 54, 0, 0),
            instruction(JUMP_EQUAL, 135, 1, 0),
            instruction(JUMP_EQUAL, 136, 0, 1),
            instruction(RETURN, FRAME_MAX as u32, 0, 0),
            instruction(RETURN, 0, 0, 0),
        ];
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        self.set_option(libc::SO_ATTACH_FILTER, &program)
    }

    fn set_option<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the value is borrowed for the call and its true length given.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(value).cast(),
                mem::size_of::<T>() as libc::socklen_t,
            )
        };
        if set < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The bindings received since the last call, in order.
    pub fn read(&self) -> Vec<AddressBinding> {
        let mut frame = [0u8; FRAME_MAX];
        let mut bindings = Vec::new();
        for _ in 0..MAX_PER_READ {
            // SAFETY: the buffer is borrowed for the call and its true length given.
            let length = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let Ok(length) = usize::try_from(length) else {
                break;
            };
            bindings.extend(match self.protocol {
                ResolutionProtocol::Arp => arp::binding(&frame[..length]),
                ResolutionProtocol::NeighbourDiscovery => ndp::binding(&frame[..length]),
            });
        }
        bindings
    }
}
