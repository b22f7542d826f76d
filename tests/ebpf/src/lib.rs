//! What the mill and its host side share.
#![no_std]

/// The program.
pub const PROGRAM: &str = "mill";
/// Program array of one entry: the program under test.
pub const TESTED: &str = "TESTED";
/// Array of [`Tray`], mapped into the host's memory.
pub const TRAYS: &str = "TRAYS";
/// Array of one [`Progress`], mapped as well.
pub const PROGRESS: &str = "PROGRESS";

/// How many trays there are.
pub const COUNT: usize = 4096;
/// Room for a frame.
pub const ROOM: usize = 248;
/// The longest frame to be put in: two VLAN tags may be added to it.
pub const LONGEST: usize = ROOM - 8;
/// The shortest frame the kernel makes.
pub const SHORTEST: usize = 14;

/// A frame on its way through the program: before the run as it comes in, after it as the program has left it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tray {
    /// Bytes of the frame.
    pub length: u32,
    /// What the program returned.
    pub action: u32,
    /// The frame, and behind it whatever was there before.
    pub bytes: [u8; ROOM],
}

/// How far a run is.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Trays with a frame.
    pub filled: u32,
    /// Trays whose frame has been run.
    pub done: u32,
}

const _: () = assert!(size_of::<Tray>() == 256);
