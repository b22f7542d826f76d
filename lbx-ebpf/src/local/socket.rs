//! Sockets of the director that ask for a VIP: they get a backend's own address to connect to, and see the VIP.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval},
    programs::SockAddrContext,
};
use lbx_common::{
    address::Address,
    hash,
    service::{HASH_ADDRESS, HASH_VIP, LOCAL as MAY, ONE_PACKET, TCP, UDP},
    session::{LOCAL, Led},
    slot::{self, Slot},
};

use crate::{
    backend, maps,
    schedule::schedule,
    service::{self, Meant},
};

/// Whether the kernel is to go on with what the socket asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// With the address as it is now.
    Granted,
    /// The service has no backend: connection refused.
    Refused,
}

/// The family of a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The address is in `user_ip4`.
    V4,
    /// The address is in `user_ip6`; it may be an IPv4 one, mapped.
    V6,
}

/// connect(2), and sendmsg(2) of a socket that is not connected: a VIP is replaced by a backend's own address. A socket that
/// sends to the same VIP again goes to the same backend, as long as that may get packets.
#[inline(always)]
pub fn ask(context: &SockAddrContext, family: Family) -> Ask {
    // Every socket of the host comes by here.
    // SAFETY: the context of a sock_addr program.
    if maps::netns() == 0 || unsafe { bpf_get_netns_cookie(context.as_ptr()) } != maps::netns() {
        return Ask::Granted;
    }
    let (vip, port, protocol) = asked(context, family);
    let socket = socket(context);
    // SAFETY: the context's socket.
    let known = unsafe { maps::led(socket) };
    let mut led = Led::default();
    if let Some(known) = known {
        // SAFETY: the socket's own storage.
        led = unsafe { *known };
    }
    if led.kind != 0 && led.kind != LOCAL {
        return Ask::Granted;
    }
    if led.vip != vip || led.port != port || led.protocol != protocol {
        led = Led {
            vip,
            port,
            protocol,
            ..Led::default()
        };
    }
    match lbx_choose(&mut led) {
        CHOSEN => {}
        NOBODY => return Ask::Refused,
        _ => {
            if let Some(known) = known {
                forget(known, vip, port, protocol);
            }
            return Ask::Granted;
        }
    }
    // SAFETY: the context's socket.
    let Some(place) = (unsafe { maps::led_or(socket, &mut led) }) else {
        return Ask::Refused;
    };
    // SAFETY: the socket's own storage.
    unsafe { *place = led };
    answer(context, family, led.rip);
    Ask::Granted
}

/// A socket asks for what is no VIP. Where it may go on with others meanwhile, which only UDP does, it stays led: nothing but
/// packets to its RIP is touched, unless that is what it asks for.
#[inline(always)]
fn forget(known: *mut Led, asked: Address, port: [u8; 2], protocol: u8) {
    // SAFETY: the socket's own storage.
    unsafe {
        if protocol != UDP || ((*known).rip == asked && (*known).port == port) {
            (*known).kind = 0;
        }
    }
}

/// getpeername(2), and recvmsg(2) of UDP: the socket sees the VIP where its backend is.
#[inline(always)]
pub fn show(context: &SockAddrContext, family: Family) {
    // SAFETY: the context's socket.
    let Some(led) = (unsafe { maps::led(socket(context)) }) else {
        return;
    };
    // SAFETY: the socket's own storage.
    let led = unsafe { *led };
    let (address, port, _) = asked(context, family);
    if led.kind == LOCAL && led.rip == address && led.port == port {
        answer(context, family, led.vip);
    }
}

/// Has the kernel say ECONNREFUSED and not EPERM.
#[inline(always)]
pub fn refuse() {
    const ECONNREFUSED: i32 = 111;
    // SAFETY: takes a number.
    let _old_kernel = unsafe { bpf_set_retval(-ECONNREFUSED) };
}

const NOT_OURS: u32 = 0;
const CHOSEN: u32 = 1;
const NOBODY: u32 = 2;

/// Chooses the backend for VIP, port and protocol, or stays with the one that is there. A function of a name of its own is
/// verified by itself, once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_choose(led: *mut Led) -> u32 {
    // SAFETY: null or the caller's.
    let Some(led) = (unsafe { led.as_mut() }) else {
        return NOT_OURS;
    };
    let Some(meant) = service::named(led.vip, led.protocol, led.port) else {
        return NOT_OURS;
    };
    if meant.flags & MAY == 0 {
        return NOT_OURS;
    }
    if stays(led, &meant) {
        return CHOSEN;
    }
    let Some(slot) = slot_of(led.vip, &meant) else {
        return NOBODY;
    };
    let mut index = schedule(&meant, slot);
    if index != slot::NONE && !backend::usable(meant.backends(), index) {
        index = slot.owner;
    }
    if !reachable(&meant, index) {
        return NOBODY;
    }
    let Some(backend) = backend::place(meant.backends(), index) else {
        return NOBODY;
    };
    led.rip = Address::from_octets(backend.address);
    led.kind = LOCAL;
    led.service = meant.number;
    led.index = index;
    led.counter = backend.counter;
    maps::add_connection(u32::from(meant.number), backend.counter);
    CHOSEN
}

/// Whether a datagram goes where the one before went.
#[inline(always)]
fn stays(led: &Led, meant: &Meant) -> bool {
    led.kind == LOCAL
        && led.protocol == UDP
        && led.service == meant.number
        && meant.flags & ONE_PACKET == 0
        && reachable(meant, led.index)
        && backend::place(meant.backends(), led.index)
            .is_some_and(|backend| Address::from_octets(backend.address) == led.rip)
}

/// Whether the backend of an index may be sent packets.
#[inline(always)]
fn reachable(meant: &Meant, index: u16) -> bool {
    backend::hop(meant.backends(), index).is_some()
}

/// A slot for a socket whose own address is not chosen yet: that of the VIP where the service hashes addresses alone, else one
/// by chance.
#[inline(always)]
fn slot_of(vip: Address, meant: &Meant) -> Option<Slot> {
    let tuple = if meant.flags & (HASH_ADDRESS | HASH_VIP) != 0 {
        hash::tuple(vip, [0; 2], [0; 2])
    } else {
        // SAFETY: takes nothing and touches nothing.
        u64::from(unsafe { bpf_get_prandom_u32() })
    };
    let (base, len) = meant.slots();
    maps::slot(base.wrapping_add(hash::slot(tuple, len)))
}

#[inline(always)]
fn socket(context: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context of a sock_addr program.
    unsafe { (*context.sock_addr).__bindgen_anon_1.sk }
}

/// Address, port and protocol of a hook; protocol 0 where it is none of ours.
#[inline(always)]
fn asked(context: &SockAddrContext, family: Family) -> (Address, [u8; 2], u8) {
    let asked: *const bpf_sock_addr = context.sock_addr;
    // SAFETY: the context of a sock_addr program; each field is read by itself, as the kernel wants it.
    let (address, port, protocol) = unsafe {
        let address = match family {
            Family::V4 => Address::from_ipv4((&raw const (*asked).user_ip4).read_volatile().to_ne_bytes()),
            Family::V6 => {
                let words: *const u32 = (&raw const (*asked).user_ip6).cast();
                let pair = |index: usize| {
                    let [a, b, c, d] = words.add(index).read_volatile().to_ne_bytes();
                    let [e, f, g, h] = words.add(index + 1).read_volatile().to_ne_bytes();
                    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
                };
                Address {
                    high: pair(0),
                    low: pair(2),
                }
            }
        };
        let port = (&raw const (*asked).user_port).read_volatile();
        let protocol = (&raw const (*asked).protocol).read_volatile();
        (address, port, protocol)
    };
    let [a, b, ..] = port.to_ne_bytes();
    let protocol = match protocol as u8 {
        ours @ (TCP | UDP) if protocol <= 0xff => ours,
        _ => 0,
    };
    (address, [a, b], protocol)
}

/// Puts an address in the place of the one that was asked for, or that is told.
#[inline(always)]
fn answer(context: &SockAddrContext, family: Family, address: Address) {
    let asked: *mut bpf_sock_addr = context.sock_addr;
    // SAFETY: the context of a sock_addr program; each field is written by itself, as the kernel wants it.
    unsafe {
        match family {
            Family::V4 => (&raw mut (*asked).user_ip4).write_volatile(u32::from_ne_bytes(address.ipv4())),
            Family::V6 => {
                let words: *mut u32 = (&raw mut (*asked).user_ip6).cast();
                for (index, word) in [address.high, address.low].into_iter().enumerate() {
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
