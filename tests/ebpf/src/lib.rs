//! Shared by the stress_xdp program and its host side.
#![no_std]

/// Name of the program.
pub const PROGRAM: &str = "stress_xdp";
/// Program array of one entry: the program under test.
pub const TESTED: &str = "TESTED";
/// Array of [`FrameBuffer`], mapped into the host's memory.
pub const FRAMES: &str = "FRAMES";
/// Array of one [`Progress`], mapped as well.
pub const PROGRESS: &str = "PROGRESS";

/// Number of frame buffers.
pub const COUNT: usize = 4096;
/// Capacity of a frame buffer.
pub const CAPACITY: usize = 248;
/// Length of the longest frame: two VLAN tags may be added to it.
pub const MAX_FRAME: usize = CAPACITY - 8;
/// Length of the shortest frame the kernel creates.
pub const MIN_FRAME: usize = 14;

/// A frame: before the run as received, after it as left by the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBuffer {
    /// Length of the frame.
    pub length: u32,
    /// The action the program returned.
    pub action: u32,
    /// The frame, followed by stale bytes.
    pub bytes: [u8; CAPACITY],
}

/// Progress of a run.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Buffers with a frame.
    pub filled: u32,
    /// Buffers whose frame has been run.
    pub done: u32,
}

const _: () = assert!(size_of::<FrameBuffer>() == 256);
