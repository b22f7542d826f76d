//! Sockets of the director that connect to a VIP: the kernel connects them to a backend's RIP, and they see the VIP.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval},
    programs::SockAddrContext,
};
use lbx_common::{
    address::Address,
    hash,
    service::{HASH_CLIENT_ADDRESS, HASH_VIP, LOCAL_ACCESS, ONE_PACKET, TCP, UDP},
    session::{LOCAL_SESSION, Steering},
    slot::{self, Slot},
};

use crate::{backend, lookup, maps, schedule::schedule, service_ref::ServiceRef};

/// Whether the kernel continues the system call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// With the address that is now in the context.
    Continue,
    /// The service has no backend: connection refused.
    Refuse,
}

/// The family of a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The address is in `user_ip4`.
    V4,
    /// The address is in `user_ip6`; it may be an IPv4 one, mapped.
    V6,
}

/// connect(2), and sendmsg(2) of an unconnected socket: a VIP is replaced by a backend's RIP. A socket that sends to the same
/// VIP again keeps its backend, as long as packets may be sent to that.
#[inline(always)]
pub fn connect_hook(context: &SockAddrContext, family: Family) -> Decision {
    // The hook runs for every socket of the host, in all network namespaces.
    // SAFETY: the context of a sock_addr program.
    if maps::netns_cookie() == 0 || unsafe { bpf_get_netns_cookie(context.as_ptr()) } != maps::netns_cookie() {
        return Decision::Continue;
    }
    let (vip, port, protocol) = destination(context, family);
    let socket = socket(context);
    // SAFETY: the context's socket.
    let stored = unsafe { maps::steering(socket) };
    let mut steering = Steering::default();
    if let Some(stored) = stored {
        // SAFETY: the socket's own storage.
        steering = unsafe { *stored };
    }
    if steering.session_kind != 0 && steering.session_kind != LOCAL_SESSION {
        return Decision::Continue;
    }
    if steering.vip != vip || steering.port != port || steering.protocol != protocol {
        steering = Steering {
            vip,
            port,
            protocol,
            ..Steering::default()
        };
    }
    match lbx_steer_socket(&mut steering) {
        STEERED => {}
        NO_BACKEND => return Decision::Refuse,
        _ => {
            if let Some(stored) = stored {
                clear(stored, vip, port, protocol);
            }
            return Decision::Continue;
        }
    }
    // SAFETY: the context's socket.
    let Some(stored) = (unsafe { maps::steering_or_insert(socket, &mut steering) }) else {
        return Decision::Refuse;
    };
    // SAFETY: the socket's own storage.
    unsafe { *stored = steering };
    set_address(context, family, steering.rip);
    Decision::Continue
}

/// Ends the steering of a socket whose destination is not a VIP. An unconnected UDP socket may still send to its VIP, so it
/// stays steered, unless the destination is its RIP: only packets to the RIP are rewritten.
#[inline(always)]
fn clear(stored: *mut Steering, destination: Address, port: [u8; 2], protocol: u8) {
    // SAFETY: the socket's own storage.
    unsafe {
        if protocol != UDP || ((*stored).rip == destination && (*stored).port == port) {
            (*stored).session_kind = 0;
        }
    }
}

/// getpeername(2), and recvmsg(2) of UDP: the socket sees the VIP instead of the RIP.
#[inline(always)]
pub fn peer_hook(context: &SockAddrContext, family: Family) {
    // SAFETY: the context's socket.
    let Some(steering) = (unsafe { maps::steering(socket(context)) }) else {
        return;
    };
    // SAFETY: the socket's own storage.
    let steering = unsafe { *steering };
    let (address, port, _) = destination(context, family);
    if steering.session_kind == LOCAL_SESSION && steering.rip == address && steering.port == port {
        set_address(context, family, steering.vip);
    }
}

/// Makes the system call return ECONNREFUSED instead of EPERM.
#[inline(always)]
pub fn return_econnrefused() {
    const ECONNREFUSED: i32 = 111;
    // SAFETY: takes a number.
    let _old_kernel = unsafe { bpf_set_retval(-ECONNREFUSED) };
}

const NOT_STEERED: u32 = 0;
const STEERED: u32 = 1;
const NO_BACKEND: u32 = 2;

/// Selects the backend for VIP, port and protocol, or keeps the one the socket has. A global function: the verifier checks it
/// once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_steer_socket(steering: *mut Steering) -> u32 {
    // SAFETY: null or the caller's.
    let Some(steering) = (unsafe { steering.as_mut() }) else {
        return NOT_STEERED;
    };
    let Some(service) = lookup::service(steering.vip, steering.protocol, steering.port) else {
        return NOT_STEERED;
    };
    if service.flags & LOCAL_ACCESS == 0 {
        return NOT_STEERED;
    }
    if keeps_backend(steering, &service) {
        return STEERED;
    }
    let Some(slot) = slot_of(steering.vip, &service) else {
        return NO_BACKEND;
    };
    let mut index = schedule(&service, slot);
    if index != slot::NO_BACKEND && !backend::may_have_connections(service.backend_range(), index) {
        index = slot.owner;
    }
    if !reachable(&service, index) {
        return NO_BACKEND;
    }
    let Some(backend) = backend::get(service.backend_range(), index) else {
        return NO_BACKEND;
    };
    steering.rip = Address::from_octets(backend.address);
    steering.session_kind = LOCAL_SESSION;
    steering.service = service.number;
    steering.backend_index = index;
    steering.counter_index = backend.counter_index;
    maps::count_connection(u32::from(service.number), backend.counter_index);
    STEERED
}

/// Whether a datagram goes to the backend of the one before it.
#[inline(always)]
fn keeps_backend(steering: &Steering, service: &ServiceRef) -> bool {
    steering.session_kind == LOCAL_SESSION
        && steering.protocol == UDP
        && steering.service == service.number
        && service.flags & ONE_PACKET == 0
        && reachable(service, steering.backend_index)
        && backend::get(service.backend_range(), steering.backend_index)
            .is_some_and(|backend| Address::from_octets(backend.address) == steering.rip)
}

/// Whether packets may be sent to the backend of an index.
#[inline(always)]
fn reachable(service: &ServiceRef, index: u16) -> bool {
    backend::next_hop(service.backend_range(), index).is_some()
}

/// A slot for a socket, whose source address is not known yet: that of the VIP's address if the service hashes addresses only,
/// a random one otherwise.
#[inline(always)]
fn slot_of(vip: Address, service: &ServiceRef) -> Option<Slot> {
    let tuple = if service.flags & (HASH_CLIENT_ADDRESS | HASH_VIP) != 0 {
        hash::tuple_word(vip, [0; 2], [0; 2])
    } else {
        // SAFETY: takes no argument and only returns a number.
        u64::from(unsafe { bpf_get_prandom_u32() })
    };
    let (base, len) = service.slot_range();
    maps::slot(base.wrapping_add(hash::slot(tuple, len)))
}

#[inline(always)]
fn socket(context: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context of a sock_addr program.
    unsafe { (*context.sock_addr).__bindgen_anon_1.sk }
}

/// Address, port and protocol in the context; protocol 0 for all but TCP and UDP.
#[inline(always)]
fn destination(context: &SockAddrContext, family: Family) -> (Address, [u8; 2], u8) {
    let sock_addr: *const bpf_sock_addr = context.sock_addr;
    // SAFETY: the context of a sock_addr program; each field is read by itself, as the verifier requires.
    let (address, port, protocol) = unsafe {
        let address = match family {
            Family::V4 => Address::from_ipv4((&raw const (*sock_addr).user_ip4).read_volatile().to_ne_bytes()),
            Family::V6 => {
                let words: *const u32 = (&raw const (*sock_addr).user_ip6).cast();
                let pair = |index: usize| {
                    let [a, b, c, d] = words.add(index).read_volatile().to_ne_bytes();
                    let [e, f, g, h] = words.add(index + 1).read_volatile().to_ne_bytes();
                    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
                };
                Address {
                    high_be: pair(0),
                    low_be: pair(2),
                }
            }
        };
        let port = (&raw const (*sock_addr).user_port).read_volatile();
        let protocol = (&raw const (*sock_addr).protocol).read_volatile();
        (address, port, protocol)
    };
    let [a, b, ..] = port.to_ne_bytes();
    let protocol = match protocol as u8 {
        known @ (TCP | UDP) if protocol <= 0xff => known,
        _ => 0,
    };
    (address, [a, b], protocol)
}

/// Replaces the address in the context: the destination of a connect hook, the result of a peer hook.
#[inline(always)]
fn set_address(context: &SockAddrContext, family: Family, address: Address) {
    let sock_addr: *mut bpf_sock_addr = context.sock_addr;
    // SAFETY: the context of a sock_addr program; each field is written by itself, as the verifier requires.
    unsafe {
        match family {
            Family::V4 => (&raw mut (*sock_addr).user_ip4).write_volatile(u32::from_ne_bytes(address.ipv4())),
            Family::V6 => {
                let words: *mut u32 = (&raw mut (*sock_addr).user_ip6).cast();
                for (index, word) in [address.high_be, address.low_be].into_iter().enumerate() {
                    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
                    words.add(index * 2).write_volatile(u32::from_ne_bytes([a, b, c, d]));
                    words
                        .add(index * 2 + 1)
                        .write_volatile(u32::from_ne_bytes([e, f, g, h]));
                }
            }
        }
    }
}
