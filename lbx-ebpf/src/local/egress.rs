//! What a socket of the director sends to a RIP, where that stands for a VIP: the VIP takes its place.
//!
//! IPv4 options and IPv6 extension headers, which hardly any socket sends, go to the RIP as they are.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{
        bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_sk_fullsock, bpf_skb_load_bytes,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use lbx_common::{
    address::Address,
    counters::Traffic,
    flow::Signal,
    service::{TCP, UDP},
    session::{LOCAL, Led},
};

use super::session::Ends;
use crate::{
    backend, maps,
    packet::{Ethernet, Header, Ipv4, Ipv6, Ports, Tcp},
    parse::{IPV4, IPV6},
    service,
};

/// What of a frame matters.
struct Sent {
    ends: Ends,
    /// Where to.
    remote: Address,
    /// The next MAC address: the real server's.
    mac: [u8; 6],
    /// Bytes from the IP header on; of a segment that the NIC will cut as they are now.
    length: u32,
    /// Offset of the TCP or UDP header.
    transport: u32,
    /// What it says about its flow.
    signal: Signal,
    /// Whether ports are not known, since only the first fragment has them.
    later_fragment: bool,
}

/// A frame on its way out.
struct Out {
    skb: *mut __sk_buff,
}

/// Leads a frame to the VIP its socket means; leaves all others as they are.
#[inline(always)]
pub fn lead(context: &TcContext) {
    let out = Out { skb: context.skb.skb };
    let _others = out.lead();
}

impl Out {
    #[inline(always)]
    fn lead(&self) -> Option<()> {
        let led = match self.socket()? {
            Socket::Led(led) => led,
            Socket::None => Led::default(),
        };
        let sent = self.parse()?;
        let led = if led.kind == 0 {
            sent.ends.led_before(sent.remote)?
        } else {
            led
        };
        let ends = &sent.ends;
        if sent.remote != led.rip || ends.protocol != led.protocol {
            return None;
        }
        if !sent.later_fragment {
            if ends.remote_port != led.port {
                return None;
            }
            ends.note(&led, sent.mac, sent.signal.opens(), sent.signal.ends());
        }
        self.rewrite(&sent, &led)?;
        if led.kind == LOCAL {
            count(&led, &sent);
        }
        Some(())
    }

    /// Where the frame's socket is led; none where it has one that is led nowhere.
    #[inline(always)]
    fn socket(&self) -> Option<Socket> {
        const SOCK_STREAM: u32 = 1;
        const SOCK_DGRAM: u32 = 2;
        // SAFETY: the context of a tc program.
        let socket = unsafe { (*self.skb).__bindgen_anon_2.sk };
        if socket.is_null() {
            return None;
        }
        // SAFETY: a socket, by what the verifier knows of the field.
        let full = unsafe { bpf_sk_fullsock(socket) };
        if full.is_null() {
            return Some(Socket::None);
        }
        // SAFETY: a full socket.
        if let Some(led) = unsafe { maps::led(full) } {
            // SAFETY: the socket's own storage, there as long as the socket.
            let led = unsafe { *led };
            return (led.kind != 0).then_some(Socket::Led(led));
        }
        // The kernel's own for TCP packets of no connection is a raw one, and speaks for none.
        // SAFETY: a full socket.
        let kind = unsafe { (*full).type_ };
        (!matches!(kind, SOCK_STREAM | SOCK_DGRAM)).then_some(Socket::None)
    }

    #[inline(always)]
    fn parse(&self) -> Option<Sent> {
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        const NETWORK: u32 = size_of::<Ethernet>() as u32;
        let link: Ethernet = self.read(0)?;
        let [[a, b], [c, d], [e, f]] = link.destination.map(u16::to_ne_bytes);
        let (local, remote, protocol, length, header, later_fragment);
        match u16::from_be(link.ether_type) {
            IPV4 => {
                let ip: Ipv4 = self.read(NETWORK)?;
                if ip.version_ihl != 0x45 {
                    return None;
                }
                local = Address::from_ipv4(ip.source);
                remote = Address::from_ipv4(ip.destination);
                protocol = ip.protocol;
                length = u32::from(u16::from_be_bytes(ip.total_length));
                header = size_of::<Ipv4>() as u32;
                later_fragment = u16::from_be_bytes(ip.fragment) & FRAGMENT_OFFSET != 0;
            }
            IPV6 => {
                let ip: Ipv6 = self.read(NETWORK)?;
                local = Address::from_octets(ip.source);
                remote = Address::from_octets(ip.destination);
                protocol = ip.next_header;
                header = size_of::<Ipv6>() as u32;
                length = u32::from(u16::from_be_bytes(ip.payload_length)) + header;
                later_fragment = false;
            }
            _ => return None,
        }
        let transport = NETWORK + header;
        let mut ports = Ports {
            source: [0; 2],
            destination: [0; 2],
        };
        let mut signal = Signal::DATAGRAM;
        match protocol {
            TCP | UDP if later_fragment => {}
            TCP => {
                let tcp: Tcp = self.read(transport)?;
                (ports.source, ports.destination) = (tcp.source, tcp.destination);
                signal = Signal::of_tcp_flags(tcp.flags);
            }
            UDP => ports = self.read(transport)?,
            _ => return None,
        }
        Some(Sent {
            ends: Ends {
                local,
                remote_port: ports.destination,
                local_port: ports.source,
                protocol,
            },
            remote,
            mac: [a, b, c, d, e, f],
            length,
            transport,
            signal,
            later_fragment,
        })
    }

    /// Puts the VIP in the place of the RIP, wherever the NIC or the kernel is to complete the checksum.
    #[inline(always)]
    fn rewrite(&self, sent: &Sent, led: &Led) -> Option<()> {
        const NETWORK: u32 = size_of::<Ethernet>() as u32;
        const CHECKSUM4: u32 = 10;
        const DESTINATION4: u32 = 16;
        const DESTINATION6: u32 = 24;
        if led.rip.is_ipv4() {
            let [from, to] = [led.rip, led.vip].map(|address| u64::from(u32::from_ne_bytes(address.ipv4())));
            self.transport_checksum(sent, from, to, 4)?;
            // SAFETY: the context of a tc program.
            let failed = unsafe { bpf_l3_csum_replace(self.skb, NETWORK + CHECKSUM4, from, to, 4) };
            done(failed)?;
            return self.write(NETWORK + DESTINATION4, &led.vip.ipv4());
        }
        let [mut from, mut to] = [led.rip, led.vip].map(|address| [address.high, address.low]);
        // SAFETY: places of 16 bytes on the stack.
        let difference = unsafe { bpf_csum_diff(from.as_mut_ptr().cast(), 16, to.as_mut_ptr().cast(), 16, 0) };
        self.transport_checksum(sent, 0, u64::from(difference as u32), 0)?;
        self.write(NETWORK + DESTINATION6, &to)
    }

    /// Of TCP or UDP: `size` bytes of the pseudo-header change, or by a difference where that is 0.
    #[inline(always)]
    fn transport_checksum(&self, sent: &Sent, from: u64, to: u64, size: u64) -> Option<()> {
        if sent.later_fragment {
            return Some(());
        }
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | size;
        let (at, flags) = match sent.ends.protocol {
            TCP => (16, pseudo),
            // No checksum stays none.
            _ => (6, pseudo | u64::from(BPF_F_MARK_MANGLED_0)),
        };
        // SAFETY: the context of a tc program.
        done(unsafe { bpf_l4_csum_replace(self.skb, sent.transport + at, from, to, flags) })
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let mut header = core::mem::MaybeUninit::<T>::uninit();
        let size = size_of::<T>() as u32;
        // SAFETY: the place is as large as what is read.
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, header.as_mut_ptr().cast(), size) };
        done(failed)?;
        // SAFETY: filled, and Header types are valid for every bit pattern.
        Some(unsafe { header.assume_init() })
    }

    #[inline(always)]
    fn write<T>(&self, offset: u32, value: &T) -> Option<()> {
        let size = size_of::<T>() as u32;
        // SAFETY: the value is as large as what is written.
        done(unsafe { bpf_skb_store_bytes(self.skb, offset, (&raw const *value).cast(), size, 0) })
    }
}

/// The socket of a frame.
enum Socket {
    /// One that is led somewhere.
    Led(Led),
    /// None that could be, or none any more.
    None,
}

#[inline(always)]
fn done(failed: core::ffi::c_long) -> Option<()> {
    (failed == 0).then_some(())
}

/// Counts a packet for service and backend, if that is still the one its socket was led to.
#[inline(always)]
fn count(led: &Led, sent: &Sent) {
    let meant = service::by_number(led.service);
    let backend = meant.and_then(|meant| backend::place(meant.backends(), led.index));
    if !backend
        .is_some_and(|backend| backend.counter == led.counter && Address::from_octets(backend.address) == led.rip)
    {
        return;
    }
    let what = Traffic {
        packets: 1,
        bytes: u64::from(sent.length),
        connections: 0,
        endings: u64::from(sent.signal.ends()),
    };
    maps::add_to_service(u32::from(led.service), what);
    maps::add_to_backend(led.counter, what);
}
