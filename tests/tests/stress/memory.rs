//! Maps as plain memory.

use std::{
    io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;

/// The values of an array map made with BPF_F_MMAPABLE. They are only looked at while no program runs that writes them.
pub struct Memory<T> {
    start: NonNull<T>,
    count: usize,
}

// SAFETY: the mapping is the process's, not a thread's.
unsafe impl<T: Send> Send for Memory<T> {}

impl<T: Copy> Memory<T> {
    /// Maps a whole array. Every bit pattern must be a `T`.
    pub fn of(map: &MapData) -> Result<Self> {
        let info = map.info()?;
        ensure!(
            info.value_size() as usize == size_of::<T>() && size_of::<T>().is_multiple_of(8),
            "a value of the map has {} bytes",
            info.value_size()
        );
        let count = info.max_entries() as usize;
        let fd = map.fd().as_fd().as_raw_fd();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let length = count * size_of::<T>();
        // SAFETY: a fresh mapping of a descriptor we hold, at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let start = NonNull::new(start.cast()).context("the kernel maps nothing at 0")?;
        Ok(Self { start, count })
    }
}

impl<T> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, so long, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; whoever has it has it alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made above; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}
