//! Frames that the kernel or a driver has dropped after the program's verdict, as two of the kernel's tracepoints report them.

/// `XDP_TX` of `enum xdp_action`, include/uapi/linux/bpf.h.
pub const XDP_TX: u32 = 3;
/// `XDP_REDIRECT` of `enum xdp_action`.
pub const XDP_REDIRECT: u32 = 4;
/// Kinds of lost frames that the map has room for, of all XDP programs on the host.
pub const MAX_KINDS: u32 = 256;

/// A kind of lost frames.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostFrameKind {
    /// Id of the XDP program: one of any director, or of anybody else.
    pub program: u32,
    /// Index of the NIC that the frames arrived on.
    pub ifindex: u32,
    /// The program's verdict.
    pub action: u32,
    /// Index of the NIC that they were redirected to; 0 for other verdicts.
    pub target_ifindex: u32,
    /// The kernel's error, a positive errno; 0 where it names none.
    pub errno: u32,
}

const _: () = assert!(size_of::<LostFrameKind>() == 20 && align_of::<LostFrameKind>() == 4);
