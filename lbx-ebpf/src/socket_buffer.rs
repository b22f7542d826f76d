//! Frames as the programs of tc get them: in a socket buffer, whose bytes helpers copy.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes},
    programs::TcContext,
};

use crate::frame::Header;

/// A frame in a socket buffer. A VLAN tag that the NIC or the kernel has removed is not among its bytes.
pub struct SocketBuffer {
    /// The context of the tc program.
    pub skb: *mut __sk_buff,
}

impl SocketBuffer {
    /// The frame of a context.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        Self { skb: context.skb.skb }
    }

    /// Reads a header; none if the frame ends before it does.
    #[inline(always)]
    pub fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let mut header = core::mem::MaybeUninit::<T>::uninit();
        let size = size_of::<T>() as u32;
        // SAFETY: the buffer is as large as the header.
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, header.as_mut_ptr().cast(), size) };
        some_if_zero(failed)?;
        // SAFETY: filled, and Header types are valid for every bit pattern.
        Some(unsafe { header.assume_init() })
    }

    /// Writes a value; none if the frame is shorter.
    #[inline(always)]
    pub fn write<T>(&self, offset: u32, value: &T) -> Option<()> {
        let size = size_of::<T>() as u32;
        // SAFETY: `size` is the size of the value.
        some_if_zero(unsafe { bpf_skb_store_bytes(self.skb, offset, (&raw const *value).cast(), size, 0) })
    }
}

/// Some if a helper returned no error.
#[inline(always)]
pub fn some_if_zero(failed: core::ffi::c_long) -> Option<()> {
    (failed == 0).then_some(())
}
