//! Frames: the only raw pointers into them. [`headers`] has the layouts of their headers.

mod headers;

pub use self::headers::*;

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

/// Largest offset of a header in a frame: the verifier needs a bound.
pub const MAX_HEADER_OFFSET: u32 = 4_095;

/// A MAC address: bytes 0–5 of a word, as on the wire; zero in 6–7.
pub type Mac = u64;

/// The MAC address of its first four and its last two bytes, as on the wire.
#[inline(always)]
pub fn mac_of_parts(first: u32, last: u16) -> Mac {
    let ([a, b, c, d], [e, f]) = (first.to_ne_bytes(), last.to_ne_bytes());
    mac_to_word([a, b, c, d, e, f])
}

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
