//! Words shared between CPUs. The BPF target has no `AtomicU64`; its loads and stores of an aligned word are single
//! instructions, its compare-and-exchange and fetch-and-add are compiler intrinsics.

/// Reads a word.
#[inline(always)]
pub fn load(word: *const u64) -> u64 {
    // SAFETY: callers pass aligned words of map values.
    unsafe { word.read_volatile() }
}

/// Writes a word.
#[inline(always)]
pub fn store(word: *mut u64, value: u64) {
    // SAFETY: callers pass aligned words of map values.
    unsafe { word.write_volatile(value) }
}

/// Replaces `old` by `new`; returns the value before.
#[inline(always)]
pub fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
        // SAFETY: callers pass aligned words of map values.
        unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, old, new).0 }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        // SAFETY: callers pass aligned words that outlive the call.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.compare_exchange(old, new, SeqCst, SeqCst)
            .unwrap_or_else(|before| before)
    }
}

/// Adds; returns the value before.
#[inline(always)]
pub fn fetch_add(word: *mut u64, value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xadd};
        // SAFETY: callers pass aligned words of map values.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(word, value) }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        // SAFETY: callers pass aligned words that outlive the call.
        unsafe { AtomicU64::from_ptr(word) }.fetch_add(value, SeqCst)
    }
}

/// Sets bits.
#[inline(always)]
pub fn set_bits(word: *mut u64, bits: u64) {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering::SeqCst, atomic_or};
        // SAFETY: callers pass aligned words of map values.
        unsafe { atomic_or::<u64, u64, { SeqCst }>(word, bits) };
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        // SAFETY: callers pass aligned words that outlive the call.
        unsafe { AtomicU64::from_ptr(word) }.fetch_or(bits, SeqCst);
    }
}
