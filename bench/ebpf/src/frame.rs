//! Access to a frame in words of any alignment, one instruction each, as a C compiler makes it of a header's fields.
//!
//! This compiler would take words apart into bytes, since it must not assume that BPF reads them at odd places; the kernel
//! allows that in packets wherever the processor does.

use aya_ebpf::programs::XdpContext;

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
    ($load:ident, $store:ident, $type:ty, $bpf:literal) => {
        /// Reads a word, byte order as in the packet.
        #[inline(always)]
        #[allow(dead_code, reason = "not every program needs every width")]
        pub fn $load<const AT: usize>(self) -> $type {
            const { assert!(AT + size_of::<$type>() <= LENGTH) };
            #[cfg(target_arch = "bpf")]
            {
                let word: u64;
                // SAFETY: within the window, which lies within the frame; BPF loads need no alignment in packets.
                unsafe {
                    core::arch::asm!(
                        concat!("{word} = *(", $bpf, " *)({start} + {at})"),
                        word = out(reg) word, start = in(reg) self.start, at = const AT,
                        options(readonly, nostack, preserves_flags),
                    )
                };
                word as $type
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: within the window, which lies within the frame.
            unsafe {
                ((self.start + AT) as *const $type).read_unaligned()
            }
        }

        /// Writes a word, byte order as in the packet.
        #[inline(always)]
        #[allow(dead_code, reason = "not every program needs every width")]
        pub fn $store<const AT: usize>(self, word: $type) {
            const { assert!(AT + size_of::<$type>() <= LENGTH) };
            #[cfg(target_arch = "bpf")]
            // SAFETY: within the window, which lies within the frame; BPF stores need no alignment in packets.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $bpf, " *)({start} + {at}) = {word}"),
                    word = in(reg) word as u64, start = in(reg) self.start, at = const AT,
                    options(nostack, preserves_flags),
                )
            };
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: within the window, which lies within the frame.
            unsafe {
                ((self.start + AT) as *mut $type).write_unaligned(word)
            }
        }
    };
}

impl<const LENGTH: usize> Window<LENGTH> {
    access!(load8, store8, u8, "u8");
    access!(load16, store16, u16, "u16");
    access!(load32, store32, u32, "u32");
    access!(load64, store64, u64, "u64");
}
