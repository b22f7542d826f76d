//! Loads and stores at addresses that need not be aligned to their size: the fields of a frame's headers.
//!
//! The kernel allows them in frames on the architectures lbx runs on (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`). LLVM's BPF backend
//! knows none, and would split each into loads of single bytes; so they are written in assembly. Byte order is that of memory.

macro_rules! access {
    ($type:ty, $size:literal, $load:ident, $store:ident) => {
        /// Loads a number `AT` bytes after `start`.
        ///
        /// # Safety
        /// These bytes are there.
        #[inline(always)]
        #[must_use]
        pub unsafe fn $load<const AT: usize>(start: usize) -> $type {
            #[cfg(target_arch = "bpf")]
            {
                let word: u64;
                // SAFETY: as the caller promises.
                unsafe {
                    core::arch::asm!(
                        concat!("{word} = *(", $size, " *)({start} + {at})"),
                        word = out(reg) word,
                        start = in(reg) start,
                        at = const AT,
                        options(pure, readonly, nostack, preserves_flags)
                    );
                }
                word as $type
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: as the caller promises.
            unsafe {
                ((start + AT) as *const $type).read_unaligned()
            }
        }

        /// Stores a number `AT` bytes after `start`.
        ///
        /// # Safety
        /// These bytes are there, and nothing else uses them meanwhile.
        #[inline(always)]
        pub unsafe fn $store<const AT: usize>(start: usize, value: $type) {
            #[cfg(target_arch = "bpf")]
            // SAFETY: as the caller promises.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $size, " *)({start} + {at}) = {value}"),
                    value = in(reg) u64::from(value),
                    start = in(reg) start,
                    at = const AT,
                    options(nostack, preserves_flags)
                );
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: as the caller promises.
            unsafe {
                ((start + AT) as *mut $type).write_unaligned(value);
            }
        }
    };
}

access!(u8, "u8", load8, store8);
access!(u16, "u16", load16, store16);
access!(u32, "u32", load32, store32);
access!(u64, "u64", load64, store64);

/// Loads a value in as few words as its size allows.
///
/// # Safety
/// `T` is valid for every bit pattern, and its bytes are there from `start` on.
#[inline(always)]
#[must_use]
pub unsafe fn load<T: Copy>(start: usize) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let target: *mut u8 = value.as_mut_ptr().cast();
    let mut done = 0;
    // SAFETY: what is loaded and written lies within the value; in the end all its bytes are initialised.
    unsafe {
        while done + 4 <= size_of::<T>() {
            target
                .add(done)
                .cast::<u32>()
                .write_unaligned(load32::<0>(start + done));
            done += 4;
        }
        if done + 2 <= size_of::<T>() {
            target
                .add(done)
                .cast::<u16>()
                .write_unaligned(load16::<0>(start + done));
            done += 2;
        }
        if done < size_of::<T>() {
            target.add(done).write(load8::<0>(start + done));
        }
        value.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_at_any_address() {
        let mut bytes = [0u8; 24];
        for (index, byte) in (0..).zip(&mut bytes) {
            *byte = index;
        }
        for offset in 0..8 {
            let start = bytes.as_mut_ptr() as usize + offset;
            let first = offset as u8;
            // SAFETY: 8 + 8 bytes from any of these offsets lie within the array.
            unsafe {
                assert_eq!(load8::<1>(start), first + 1);
                assert_eq!(load16::<2>(start).to_ne_bytes(), [2, 3].map(|n| n + first));
                assert_eq!(load32::<3>(start).to_ne_bytes(), [3, 4, 5, 6].map(|n| n + first));
                assert_eq!(
                    load64::<8>(start).to_ne_bytes(),
                    [8, 9, 10, 11, 12, 13, 14, 15].map(|n| n + first)
                );
                assert_eq!(load::<[u8; 7]>(start), [0, 1, 2, 3, 4, 5, 6].map(|n| n + first));
                let before = load32::<4>(start);
                store32::<4>(start, !before);
                assert_eq!(load32::<4>(start), !before);
                store32::<4>(start, before);
            }
        }
    }
}
