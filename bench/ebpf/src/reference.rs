//! The reference: a load balancer of the common design, as small and fast as that design allows.
//!
//! Service by hash lookup, flow by lookup in an LRU hash, on a miss a backend from the service's ring and a new entry; the
//! Ethernet header rewritten, packets and bytes counted per CPU for service and backend, and sent from the ingress NIC. No
//! windows, connection states, timeouts or draining: these features of lbx are not part of the comparison.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "the entry point exists for BPF only")
)]

mod frame;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    macros::btf_map,
    programs::XdpContext,
};
use lbx_bench_common::reference::{Backend, FlowKey4, FlowKey6, Service, ServiceKey4, ServiceKey6, Traffic, port_key};

use crate::frame::{Frame, Window};

/// Makes values page-aligned: otherwise every fourth backend would be in two cache lines.
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
static SERVICES4: HashMap<ServiceKey4, Service, 16_384> = HashMap::new();
#[btf_map]
static SERVICES6: HashMap<ServiceKey6, Service, 16_384> = HashMap::new();
/// The host sets the size.
#[btf_map]
static FLOWS4: LruHashMap<FlowKey4, u32, 4_096> = LruHashMap::new();
/// The host sets the size.
#[btf_map]
static FLOWS6: LruHashMap<FlowKey6, u32, 4_096> = LruHashMap::new();
#[btf_map]
static RINGS: Array<u32, { 1 << 22 }, MMAPABLE> = Array::new();
#[btf_map]
static BACKENDS: Array<Backend, { 1 << 17 }, MMAPABLE> = Array::new();
#[btf_map]
static SERVICE_STATS: PerCpuArray<Traffic, 16_384> = PerCpuArray::new();
#[btf_map]
static BACKEND_STATS: PerCpuArray<Traffic, { 1 << 17 }> = PerCpuArray::new();
#[btf_map]
static MISSES: PerCpuArray<u64, 1> = PerCpuArray::new();

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// More-fragments flag and fragment offset (RFC 791 section 3.1).
const FRAGMENT: u16 = 0x3fff;

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn reference(ctx: XdpContext) -> u32 {
    match balance(Frame::of(&ctx)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_PASS,
    }
}

/// Sends the frame to a backend; none if it is not for a service.
#[inline(always)]
fn balance(frame: Frame) -> Option<()> {
    let ethernet = frame.window::<ETHERNET>(0)?;
    let (index, service, length) = match u16::from_be(ethernet.load16::<12>()) {
        IPV4 => balance4(frame)?,
        IPV6 => balance6(frame)?,
        _ => return None,
    };
    let backend = BACKENDS.get(index)?;
    ethernet.store64::<0>(backend.head);
    ethernet.store32::<8>(backend.tail);
    count(SERVICE_STATS.get_ptr_mut(service), length);
    count(BACKEND_STATS.get_ptr_mut(index), length);
    Some(())
}

/// Backend index, service number and length of an IPv4 packet without options.
#[inline(always)]
fn balance4(frame: Frame) -> Option<(u32, u32, u16)> {
    // Including the first eight bytes of TCP or all of UDP.
    let ip: Window<28> = frame.window(ETHERNET)?;
    let protocol = ip.load8::<9>();
    if ip.load8::<0>() != 0x45 || (protocol != TCP && protocol != UDP) || ip.load16::<6>() & FRAGMENT.to_be() != 0 {
        return None;
    }
    let ports = ip.load32::<20>();
    let key = ServiceKey4 {
        vip: ip.load32::<16>(),
        port_key: port_key((ports >> 16) as u16, protocol),
    };
    // SAFETY: the bench does not change services while packets run.
    let service = unsafe { SERVICES4.get(key) }?;
    let key = FlowKey4 {
        client: ip.load32::<12>(),
        ports,
        service: service.number,
    };
    // SAFETY: a word, read once.
    let index = match unsafe { FLOWS4.get(key) } {
        Some(&index) => index,
        None => {
            let index = select(service, key.client ^ key.ports.rotate_left(16))?;
            // A full table evicts the least recently used entry.
            let _ = FLOWS4.insert(key, index, 0);
            index
        }
    };
    Some((index, service.number, u16::from_be(ip.load16::<2>())))
}

/// Backend index, service number and length of an IPv6 packet without extension headers.
#[inline(always)]
fn balance6(frame: Frame) -> Option<(u32, u32, u16)> {
    const HEADER: u16 = 40;
    let ip: Window<48> = frame.window(ETHERNET)?;
    let protocol = ip.load8::<6>();
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let ports = ip.load32::<40>();
    let key = ServiceKey6 {
        vip: [
            ip.load32::<24>(),
            ip.load32::<28>(),
            ip.load32::<32>(),
            ip.load32::<36>(),
        ],
        port_key: port_key((ports >> 16) as u16, protocol),
    };
    // SAFETY: as above.
    let service = unsafe { SERVICES6.get(key) }?;
    let key = FlowKey6 {
        client: [
            ip.load32::<8>(),
            ip.load32::<12>(),
            ip.load32::<16>(),
            ip.load32::<20>(),
        ],
        ports,
        service: service.number,
    };
    // SAFETY: as above.
    let index = match unsafe { FLOWS6.get(key) } {
        Some(&index) => index,
        None => {
            let [a, b, c, d] = key.client;
            let index = select(service, a ^ b ^ c ^ d ^ key.ports.rotate_left(16))?;
            let _ = FLOWS6.insert(key, index, 0);
            index
        }
    };
    let length = u16::from_be(ip.load16::<4>()).wrapping_add(HEADER);
    Some((index, service.number, length))
}

/// Selects the backend of a flow without an entry, from the ring.
#[inline(never)]
fn select(service: &Service, mixed: u32) -> Option<u32> {
    if let Some(misses) = MISSES.get_ptr_mut(0) {
        // SAFETY: a per-CPU element; XDP programs do not interrupt each other on a CPU.
        unsafe { *misses += 1 };
    }
    let mut h = mixed.wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    let position = (u64::from(h) * u64::from(service.ring_len)) >> 32;
    RINGS.get(service.ring_base.wrapping_add(position as u32)).copied()
}

#[inline(always)]
fn count(traffic: Option<*mut Traffic>, length: u16) {
    if let Some(traffic) = traffic {
        // SAFETY: a per-CPU element; XDP programs do not interrupt each other on a CPU.
        unsafe {
            (*traffic).packets += 1;
            (*traffic).bytes += u64::from(length);
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel: `cargo xtask bench program` builds it");
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
