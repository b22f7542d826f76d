//! The only raw pointers into a frame.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};

/// The linear part of a received frame. Headers lie there; a jumbo frame's payload may lie in further buffers.
pub struct Frame {
    start: usize,
    end: usize,
    context: *mut core::ffi::c_void,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
            context: ctx.as_ptr(),
        }
    }

    /// Reads a header. `T` must be valid for every bit pattern; none when the linear part ends before it does.
    #[inline(always)]
    pub fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: start..start + size lies within data..data_end, Header types are valid for every bit pattern.
        Some(unsafe { (start as *const T).read_unaligned() })
    }

    /// Writes `words` from the start of the frame on; none when the linear part is shorter.
    #[inline(always)]
    pub fn write_start<const N: usize>(&self, words: [u16; N]) -> Option<()> {
        if self.start + N * 2 > self.end {
            return None;
        }
        let target = self.start as *mut u16;
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: index < N, so the word lies within data..data_end; frames start at an even address.
            unsafe { target.add(index).write_volatile(word) };
        }
        Some(())
    }

    /// Index of the NIC the frame came in by.
    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        // SAFETY: the context of an XDP program is an xdp_md for as long as the program runs.
        unsafe { (*self.context.cast::<aya_ebpf::bindings::xdp_md>()).ingress_ifindex }
    }

    /// Whether the frame, further buffers included, holds `length` bytes.
    #[inline(always)]
    pub fn holds(&self, length: usize) -> bool {
        if self.start + length <= self.end {
            return true;
        }
        // SAFETY: the context is the xdp_md this program was called with.
        let whole = unsafe { bpf_xdp_get_buff_len(self.context.cast()) };
        length as u64 <= whole
    }
}

/// A MAC address as three words in the order of the wire: the frame's alignment allows no larger ones.
pub type Mac = [u16; 3];

/// The words of a MAC address.
#[inline(always)]
pub fn mac_words(mac: [u8; 6]) -> Mac {
    let [a, b, c, d, e, f] = mac;
    [
        u16::from_ne_bytes([a, b]),
        u16::from_ne_bytes([c, d]),
        u16::from_ne_bytes([e, f]),
    ]
}

/// Whether two addresses are the same, word by word: a slice comparison would become a call.
#[inline(always)]
pub fn same_mac(a: Mac, b: Mac) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2]
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
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
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
    pub fragment: [u8; 2],
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
    pub numbers: [u8; 8],
    /// Header length in words in the upper half.
    pub offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window, checksum, urgent pointer.
    pub rest: [u8; 6],
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

// SAFETY: integers and arrays of them.
unsafe impl Header for Ethernet {}
// SAFETY: as above.
unsafe impl Header for Ipv4 {}
// SAFETY: as above.
unsafe impl Header for Tcp {}
// SAFETY: as above.
unsafe impl Header for Udp {}

const _: () = assert!(size_of::<Ethernet>() == 14 && size_of::<Ipv4>() == 20);
const _: () = assert!(size_of::<Tcp>() == 20 && size_of::<Udp>() == 8);
