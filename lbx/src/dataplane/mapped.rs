//! Maps shared with the kernel as plain words: no system call per entry, every word read and written whole.

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

use aya::maps::MapData;

use super::{DataplaneError, error::map_failed};

/// An array map made with BPF_F_MMAPABLE, as words.
pub(super) struct MmapArray {
    start: NonNull<AtomicU64>,
    words: usize,
}

impl MmapArray {
    /// Maps a whole array into memory.
    ///
    /// # Errors
    /// It was made without BPF_F_MMAPABLE, or memory is short.
    pub fn open(name: &'static str, data: &MapData) -> Result<Self, DataplaneError> {
        let info = data.info().map_err(map_failed(name))?;
        // The kernel rounds every value up to 8 bytes (kernel/bpf/arraymap.c, array_map_alloc).
        let words = info.max_entries() as usize * (info.value_size() as usize).div_ceil(size_of::<u64>());
        let length = words * size_of::<u64>();
        let fd = data.fd().as_fd().as_raw_fd();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of a file descriptor we hold, at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(start.cast::<AtomicU64>()) {
            Some(start) if start.as_ptr().cast::<libc::c_void>() != libc::MAP_FAILED => Ok(Self { start, words }),
            _ => Err(DataplaneError::Mmap {
                map: name,
                source: io::Error::last_os_error(),
            }),
        }
    }
}

impl Deref for MmapArray {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `words` long and lives as long as self; the kernel shares its words, which
        // is what atomics are for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for MmapArray {
    fn drop(&mut self) {
        // SAFETY: the mapping made in open, not referenced any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

// SAFETY: an address of shared words, valid in every thread.
unsafe impl Send for MmapArray {}
// SAFETY: all access is to atomic words.
unsafe impl Sync for MmapArray {}
