//! Packets sent by sockets of the director that are steered to a RIP: the VIP replaces the RIP.
//!
//! Packets with IPv4 options or IPv6 extension headers, which hardly any socket sends, go to the RIP unchanged.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_sk_fullsock},
    programs::TcContext,
};
use lbx_common::{
    address::Address,
    counters::Traffic,
    flow::FlowEvent,
    service::{TCP, UDP},
    session::{LOCAL_SESSION, Steering},
};

use super::session::Endpoints;
use crate::{
    backend,
    frame::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, Tcp, TransportPorts},
    maps,
    service_ref::ServiceRef,
    socket_buffer::{self, SocketBuffer},
};

/// The parsed headers of a frame.
struct Sent {
    endpoints: Endpoints,
    /// Destination address.
    remote: Address,
    /// Destination MAC address: the real server's.
    mac: [u8; 6],
    /// Bytes from the IP header on; before the NIC segments the packet (TSO).
    length: u32,
    /// Offset of the TCP or UDP header.
    transport: u32,
    /// What it means for the state of its flow.
    signal: FlowEvent,
    /// Whether it is a later fragment, whose ports are not known.
    later_fragment: bool,
}

/// A frame to be sent.
struct OutgoingFrame {
    buffer: SocketBuffer,
}

/// Rewrites a frame of a steered socket to its VIP; leaves all others unchanged.
#[inline(always)]
pub fn steer(context: &TcContext) {
    let frame = OutgoingFrame {
        buffer: SocketBuffer::new(context),
    };
    let _not_steered = frame.steer();
}

impl OutgoingFrame {
    #[inline(always)]
    fn steer(&self) -> Option<()> {
        let steering = match self.socket()? {
            Socket::Steered(steering) => steering,
            Socket::None => Steering::default(),
        };
        let sent = self.parse()?;
        let steering = if steering.session_kind == 0 {
            sent.endpoints.steering_from_session(sent.remote)?
        } else {
            steering
        };
        let endpoints = &sent.endpoints;
        if sent.remote != steering.rip || endpoints.protocol != steering.protocol {
            return None;
        }
        if !sent.later_fragment {
            if endpoints.remote_port != steering.port {
                return None;
            }
            endpoints.record_sent(
                &steering,
                sent.mac,
                sent.signal.opens_connection(),
                sent.signal.closes_connection(),
            );
        }
        self.rewrite(&sent, &steering)?;
        if steering.session_kind == LOCAL_SESSION {
            count(&steering, &sent);
        }
        Some(())
    }

    /// The steering of the frame's socket; none if the socket is not steered.
    #[inline(always)]
    fn socket(&self) -> Option<Socket> {
        const SOCK_STREAM: u32 = 1;
        const SOCK_DGRAM: u32 = 2;
        // SAFETY: the context of a tc program.
        let socket = unsafe { (*self.buffer.skb).__bindgen_anon_2.sk };
        if socket.is_null() {
            return None;
        }
        // SAFETY: a socket, by what the verifier knows of the field.
        let full = unsafe { bpf_sk_fullsock(socket) };
        if full.is_null() {
            return Some(Socket::None);
        }
        // SAFETY: a full socket.
        if let Some(steering) = unsafe { maps::steering(full) } {
            // SAFETY: the socket's own storage, there as long as the socket.
            let steering = unsafe { *steering };
            return (steering.session_kind != 0).then_some(Socket::Steered(steering));
        }
        // The kernel sends TCP packets without a connection from a raw socket of its own, which says nothing about steering.
        // SAFETY: a full socket.
        let kind = unsafe { (*full).type_ };
        (!matches!(kind, SOCK_STREAM | SOCK_DGRAM)).then_some(Socket::None)
    }

    #[inline(always)]
    fn parse(&self) -> Option<Sent> {
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        const NETWORK: u32 = size_of::<Ethernet>() as u32;
        let link: Ethernet = self.buffer.read(0)?;
        let [[a, b], [c, d], [e, f]] = link.destination.map(u16::to_ne_bytes);
        let (local, remote, protocol, length, header, later_fragment);
        match u16::from_be(link.ether_type) {
            IPV4 => {
                let ip: Ipv4 = self.buffer.read(NETWORK)?;
                if ip.version_ihl != 0x45 {
                    return None;
                }
                local = Address::from_ipv4(ip.source);
                remote = Address::from_ipv4(ip.destination);
                protocol = ip.protocol;
                length = u32::from(u16::from_be_bytes(ip.total_length));
                header = size_of::<Ipv4>() as u32;
                later_fragment = u16::from_be_bytes(ip.flags_and_fragment_offset) & FRAGMENT_OFFSET != 0;
            }
            IPV6 => {
                let ip: Ipv6 = self.buffer.read(NETWORK)?;
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
        let mut ports = TransportPorts {
            source: [0; 2],
            destination: [0; 2],
        };
        let mut signal = FlowEvent::DATAGRAM;
        match protocol {
            TCP | UDP if later_fragment => {}
            TCP => {
                let tcp: Tcp = self.buffer.read(transport)?;
                (ports.source, ports.destination) = (tcp.source, tcp.destination);
                signal = FlowEvent::of_tcp_flags(tcp.flags);
            }
            UDP => ports = self.buffer.read(transport)?,
            _ => return None,
        }
        Some(Sent {
            endpoints: Endpoints {
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

    /// Replaces the RIP by the VIP, whether the checksum is complete or left to the NIC.
    #[inline(always)]
    fn rewrite(&self, sent: &Sent, steering: &Steering) -> Option<()> {
        const NETWORK: u32 = size_of::<Ethernet>() as u32;
        const CHECKSUM4: u32 = 10;
        const DESTINATION4: u32 = 16;
        const DESTINATION6: u32 = 24;
        if steering.rip.is_ipv4() {
            let [from, to] = [steering.rip, steering.vip].map(|address| u64::from(u32::from_ne_bytes(address.ipv4())));
            self.transport_checksum(sent, from, to, 4)?;
            // SAFETY: the context of a tc program.
            let failed = unsafe { bpf_l3_csum_replace(self.buffer.skb, NETWORK + CHECKSUM4, from, to, 4) };
            socket_buffer::some_if_zero(failed)?;
            return self.buffer.write(NETWORK + DESTINATION4, &steering.vip.ipv4());
        }
        let [mut from, mut to] = [steering.rip, steering.vip].map(|address| [address.high_be, address.low_be]);
        // SAFETY: buffers of 16 bytes on the stack.
        let difference = unsafe { bpf_csum_diff(from.as_mut_ptr().cast(), 16, to.as_mut_ptr().cast(), 16, 0) };
        self.transport_checksum(sent, 0, u64::from(difference as u32), 0)?;
        self.buffer.write(NETWORK + DESTINATION6, &to)
    }

    /// Updates the checksum of TCP or UDP for a change of `size` bytes in the pseudo-header, or by a difference if that is 0.
    #[inline(always)]
    fn transport_checksum(&self, sent: &Sent, from: u64, to: u64, size: u64) -> Option<()> {
        if sent.later_fragment {
            return Some(());
        }
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | size;
        let (offset, flags) = match sent.endpoints.protocol {
            TCP => (16, pseudo),
            // Zero means no checksum, and stays zero.
            _ => (6, pseudo | u64::from(BPF_F_MARK_MANGLED_0)),
        };
        // SAFETY: the context of a tc program.
        socket_buffer::some_if_zero(unsafe {
            bpf_l4_csum_replace(self.buffer.skb, sent.transport + offset, from, to, flags)
        })
    }
}

/// The socket of a frame.
enum Socket {
    /// A steered one.
    Steered(Steering),
    /// No full socket, or one that can't be steered: a session may know the steering.
    None,
}

/// Counts a packet for service and backend, if the backend is still the one its socket is steered to.
#[inline(always)]
fn count(steering: &Steering, sent: &Sent) {
    let service = ServiceRef::by_number(steering.service);
    let backend = service.and_then(|service| backend::get(service.backend_range(), steering.backend_index));
    if !backend.is_some_and(|backend| {
        backend.counter_index == steering.counter_index && Address::from_octets(backend.address) == steering.rip
    }) {
        return;
    }
    let traffic = Traffic {
        packets: 1,
        bytes: u64::from(sent.length),
        connections: 0,
        fin_rst_packets: u64::from(sent.signal.closes_connection()),
    };
    maps::add_service_traffic(u32::from(steering.service), traffic);
    maps::add_backend_traffic(steering.counter_index, traffic);
}
