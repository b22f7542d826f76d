//! Access to a frame in words of any alignment, one instruction each, as a C compiler makes it of a header's fields
//! ([`lbx_common::unaligned`]).

use aya_ebpf::programs::XdpContext;
use lbx_common::unaligned;

/// The linear part of a frame.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

/// `LENGTH` bytes of a frame, within its bounds.
#[derive(Clone, Copy)]
pub struct Window<const LENGTH: usize> {
    start: usize,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// The bytes from an offset on, if the frame has them.
    #[inline(always)]
    pub fn window<const LENGTH: usize>(self, offset: usize) -> Option<Window<LENGTH>> {
        let start = self.start + offset;
        (start + LENGTH <= self.end).then_some(Window { start })
    }
}

macro_rules! access {
    ($load:ident, $store:ident, $type:ty) => {
        /// Reads a word, byte order as in the packet.
        #[inline(always)]
        #[allow(dead_code, reason = "not every program needs every width")]
        pub fn $load<const AT: usize>(self) -> $type {
            const { assert!(AT + size_of::<$type>() <= LENGTH) };
            // SAFETY: within the window, which lies within the frame.
            unsafe { unaligned::$load::<AT>(self.start) }
        }

        /// Writes a word, byte order as in the packet.
        #[inline(always)]
        #[allow(dead_code, reason = "not every program needs every width")]
        pub fn $store<const AT: usize>(self, word: $type) {
            const { assert!(AT + size_of::<$type>() <= LENGTH) };
            // SAFETY: within the window, which lies within the frame, and nothing else writes it.
            unsafe { unaligned::$store::<AT>(self.start, word) }
        }
    };
}

impl<const LENGTH: usize> Window<LENGTH> {
    access!(load8, store8, u8);
    access!(load16, store16, u16);
    access!(load32, store32, u32);
    access!(load64, store64, u64);
}
