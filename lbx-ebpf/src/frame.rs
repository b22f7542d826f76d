//! Frames: the only raw pointers into them, the layouts of their headers, and their EtherTypes.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use lbx_common::{
    address::Address,
    backend::{MAC_MASK, mac_to_word},
    unaligned,
};

/// The linear part of a received frame. Headers lie there; a jumbo frame's payload may lie in further buffers.
///
/// Start and end are read from the context at every access: if they were kept, each range the verifier has proved would
/// become a state of its own.
pub struct Frame<'c> {
    context: &'c XdpContext,
}

impl<'c> Frame<'c> {
    /// The frame of a context.
    #[inline(always)]
    pub fn new(context: &'c XdpContext) -> Self {
        Self { context }
    }

    /// Reads a header. `T` must be valid for every bit pattern; none if the linear part ends before it does.
    #[inline(always)]
    pub fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let start = self.context.data() + offset;
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        // SAFETY: start..start + size lies within data..data_end, Header types are valid for every bit pattern.
        Some(unsafe { unaligned::load(start) })
    }

    /// The byte after the one at an offset; none if the linear part ends before it does. The check has two bytes in it: the compiler
    /// makes one for a single byte a comparison from which the verifier learns nothing.
    #[inline(always)]
    pub fn byte_after(&self, offset: usize) -> Option<u8> {
        let start = self.context.data() + offset;
        if start + 2 > self.context.data_end() {
            return None;
        }
        // SAFETY: both bytes lie within data..data_end.
        Some(unsafe { unaligned::load8::<1>(start) })
    }

    /// Its first bytes; none if the linear part is shorter.
    #[inline(always)]
    pub fn first<const LENGTH: usize>(&self) -> Option<FirstBytes<LENGTH>> {
        let start = self.context.data();
        (start + LENGTH <= self.context.data_end()).then_some(FirstBytes { start })
    }

    /// Reads words from an even `offset` on; none if the linear part is shorter.
    #[inline(always)]
    pub fn words<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let start = self.context.data() + offset;
        if start + N * 2 > self.context.data_end() {
            return None;
        }
        // SAFETY: the words lie within data..data_end; frames start at an even address.
        Some(unsafe { (start as *const [u16; N]).read_volatile() })
    }

    /// Writes `words` from an even `offset` on; none if the linear part is shorter.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, words: [u16; N]) -> Option<()> {
        let start = self.context.data() + offset;
        if start + N * 2 > self.context.data_end() {
            return None;
        }
        let target = start as *mut u16;
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: index < N, so the word lies within data..data_end; frames start at an even address.
            unsafe { target.add(index).write_volatile(word) };
        }
        Some(())
    }

    /// Writes the MAC addresses; none if the linear part is shorter.
    #[inline(always)]
    pub fn write_macs(&self, destination: Mac, source: Mac) -> Option<()> {
        let FirstBytes { start } = self.first::<14>()?;
        let [a, b, c, d, e, f, _, _] = source.to_ne_bytes();
        let head = destination & MAC_MASK | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, a, b]);
        // SAFETY: within the bytes, and nothing else writes the frame.
        unsafe {
            unaligned::store64::<0>(start, head);
            unaligned::store32::<8>(start, u32::from_ne_bytes([c, d, e, f]));
        }
        Some(())
    }

    /// Moves the start of the frame by a number of bytes; none if there is no headroom.
    #[inline(always)]
    pub fn adjust_head(&self, by: i32) -> Option<()> {
        // SAFETY: the context of an XDP program; no pointer into the frame is kept across the call.
        let failed = unsafe { bpf_xdp_adjust_head(self.xdp_md(), by) };
        (failed == 0).then_some(())
    }

    /// Cuts the frame, further buffers included, to a length; none if the kernel refuses. A shorter frame stays as it is.
    #[inline(always)]
    pub fn cut(&self, length: usize) -> Option<()> {
        let excess = self.length() as i64 - length as i64;
        if excess <= 0 {
            return Some(());
        }
        // SAFETY: the context of an XDP program; no pointer into the frame is kept across the call.
        let failed = unsafe { bpf_xdp_adjust_tail(self.xdp_md(), -excess as i32) };
        (failed == 0).then_some(())
    }

    /// Length of the linear part.
    #[inline(always)]
    pub fn linear_length(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    /// Length of the frame, further buffers included.
    #[inline(always)]
    fn length(&self) -> u64 {
        // SAFETY: the context is the xdp_md this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.xdp_md()) }
    }

    /// Index of the ingress NIC.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: the context of an XDP program is an xdp_md for as long as the program runs.
        unsafe { (*self.xdp_md()).ingress_ifindex }
    }

    /// Whether the linear part has at least `length` bytes.
    #[inline(always)]
    pub fn has_linear(&self, length: usize) -> bool {
        self.context.data() + length <= self.context.data_end()
    }

    /// Whether the frame, further buffers included, has at least `length` bytes.
    #[inline(always)]
    pub fn has_at_least(&self, length: usize) -> bool {
        self.has_linear(length) || length as u64 <= self.length()
    }

    /// The context itself.
    #[inline(always)]
    pub fn xdp_md(&self) -> *mut xdp_md {
        self.context.as_ptr().cast()
    }
}

/// The first `LENGTH` bytes of a frame, whose bounds have been checked once: fields at fixed offsets. Not valid any more once the
/// start of the frame has moved. Byte order is that of the frame.
#[derive(Clone, Copy)]
pub struct FirstBytes<const LENGTH: usize> {
    start: usize,
}

impl<const LENGTH: usize> FirstBytes<LENGTH> {
    /// The byte at an offset.
    #[inline(always)]
    pub fn load8<const AT: usize>(self) -> u8 {
        const { assert!(AT < LENGTH) };
        // SAFETY: within the bytes.
        unsafe { unaligned::load8::<AT>(self.start) }
    }

    /// Two bytes from an offset on.
    #[inline(always)]
    pub fn load16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= LENGTH) };
        // SAFETY: as above.
        unsafe { unaligned::load16::<AT>(self.start) }
    }

    /// Four bytes from an offset on.
    #[inline(always)]
    pub fn load32<const AT: usize>(self) -> u32 {
        const { assert!(AT + 4 <= LENGTH) };
        // SAFETY: as above.
        unsafe { unaligned::load32::<AT>(self.start) }
    }

    /// Eight bytes from an offset on.
    #[inline(always)]
    pub fn load64<const AT: usize>(self) -> u64 {
        const { assert!(AT + 8 <= LENGTH) };
        // SAFETY: as above.
        unsafe { unaligned::load64::<AT>(self.start) }
    }
}

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// Largest offset of a header in a frame: the verifier needs a bound.
pub const MAX_HEADER_OFFSET: u32 = 4_095;

/// A MAC address: bytes 0–5 of a word, as on the wire; zero in 6–7.
pub type Mac = u64;

/// The MAC address of three words in the order of the wire.
#[inline(always)]
pub fn mac_of_words([a, b, c]: [u16; 3]) -> Mac {
    let [[a, b], [c, d], [e, f]] = [a, b, c].map(u16::to_ne_bytes);
    mac_to_word([a, b, c, d, e, f])
}

/// The words of an address, in the order of the wire.
#[inline(always)]
pub fn address_words(
    Address {
        high_be: high,
        low_be: low,
    }: Address,
) -> [u16; 8] {
    let [a, b, c, d] = words(high);
    let [e, f, g, h] = words(low);
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn words(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes)
}

/// Plain bytes that may be read from a frame.
///
/// # Safety
/// Valid for every bit pattern.
pub unsafe trait Header: Copy {}

/// Ethernet II (IEEE 802.3 clause 3.2.6).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u16; 3],
    /// Source MAC address.
    pub source: [u16; 3],
    /// EtherType, network byte order.
    pub ether_type: u16,
}

/// IPv4 without options (RFC 791 section 3.1). Fields are as in the packet: network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version in the upper half, header length in words in the lower.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload.
    pub total_length: [u8; 2],
    /// Identification.
    pub identification: [u8; 2],
    /// Flags in the upper three bits, fragment offset.
    pub flags_and_fragment_offset: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// TCP without options (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Sequence and acknowledgment numbers.
    pub sequence_and_acknowledgment: [u8; 8],
    /// Header length in words in the upper half.
    pub data_offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window, checksum, urgent pointer.
    pub window_checksum_urgent: [u8; 6],
}

/// UDP (RFC 768).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Length of header and payload.
    pub length: [u8; 2],
    /// Checksum.
    pub checksum: [u8; 2],
}

/// A VLAN tag after the addresses (IEEE 802.1Q clause 9.3), network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VlanTag {
    /// Priority in the upper three bits, drop eligible in the fourth, VLAN id.
    pub tci: u16,
    /// EtherType of what follows.
    pub ether_type: u16,
}

/// IPv6 (RFC 8200 section 3). Fields are as in the packet: network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version in the upper four bits, traffic class, flow label.
    pub version_class_flow: [u8; 4],
    /// Length of what follows this header.
    pub payload_length: [u8; 2],
    /// What follows this header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// The start of an IPv6 extension header (RFC 8200 section 4), and all of a fragment header (section 4.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6ExtensionHeader {
    /// What follows this header.
    pub next_header: u8,
    /// Its length in a unit of its kind; reserved in a fragment header.
    pub header_extension_length: u8,
    /// Fragment offset in the upper 13 bits, more-fragments flag in the lowest.
    pub fragment_offset_and_more: [u8; 2],
    /// Identification of the fragmented packet.
    pub identification: [u8; 4],
}

/// ICMP and ICMPv6 (RFC 792, RFC 4443 section 2.1), up to the packet an error quotes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: [u8; 2],
    /// Depends on the type.
    pub rest_of_header: [u8; 4],
}

/// The ports that TCP and UDP begin with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TransportPorts {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
}

/// A QUIC short header up to the server id (RFC 9000 section 17.3; draft-ietf-quic-load-balancers section 3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QuicShort {
    /// Header form, fixed bit and protected bits.
    pub flags: u8,
    /// First octet of the connection id.
    pub connection_id_first_octet: u8,
    /// Server id.
    pub server_id: [u8; 2],
}

/// A QUIC long header up to the server id (RFC 9000 section 17.2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QuicLong {
    /// Form, fixed bit, type.
    pub flags: u8,
    /// Version.
    pub version: [u8; 4],
    /// Length of the destination connection id.
    pub connection_id_length: u8,
    /// First octet of that.
    pub connection_id_first_octet: u8,
    /// Server id.
    pub server_id: [u8; 2],
}

// SAFETY: every bit pattern is a number.
unsafe impl Header for [u8; 2] {}
// SAFETY: as above.
unsafe impl Header for u16 {}
// SAFETY: integers and arrays of them.
unsafe impl Header for Ethernet {}
// SAFETY: as above.
unsafe impl Header for Ipv4 {}
// SAFETY: as above.
unsafe impl Header for Tcp {}
// SAFETY: as above.
unsafe impl Header for Udp {}

// SAFETY: as above.
unsafe impl Header for VlanTag {}
// SAFETY: as above.
unsafe impl Header for Ipv6 {}
// SAFETY: as above.
unsafe impl Header for Ipv6ExtensionHeader {}
// SAFETY: as above.
unsafe impl Header for Icmp {}
// SAFETY: as above.
unsafe impl Header for TransportPorts {}
// SAFETY: as above.
unsafe impl Header for QuicShort {}
// SAFETY: as above.
unsafe impl Header for QuicLong {}

const _: () = assert!(size_of::<Ethernet>() == 14 && size_of::<VlanTag>() == 4);
const _: () = assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40 && size_of::<Ipv6ExtensionHeader>() == 8);
const _: () = assert!(size_of::<Tcp>() == 20 && size_of::<Udp>() == 8 && size_of::<Icmp>() == 8);
