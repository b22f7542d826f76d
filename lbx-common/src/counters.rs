//! Counters, kept per CPU and added up by user space.

/// Traffic of a service or a backend.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets forwarded to a real server.
    pub packets: u64,
    /// Their bytes from the IP header on, as IPVS counts them.
    pub bytes: u64,
    /// New connections scheduled (TCP), new flows recorded (UDP), datagrams scheduled (one-packet scheduling).
    pub connections: u64,
    /// FIN and RST packets seen from clients: the basis for estimating active connections where flows are not recorded.
    pub fin_rst_packets: u64,
}

/// What a frame of the self-test has added to the counters of a service and of a backend: the input of the program that takes
/// it off again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedFrame {
    /// Service number.
    pub service: u32,
    /// Counter of the backend.
    pub backend_counter: u32,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

impl CountedFrame {
    /// As the data of a test run.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        // SAFETY: both are 16 bytes of plain data, and CountedFrame has no padding.
        unsafe { core::mem::transmute(self) }
    }

    /// What added to a counter takes the frame off it: counters wrap.
    #[inline(always)]
    #[must_use]
    pub const fn negated(self) -> Traffic {
        Traffic {
            packets: 1u64.wrapping_neg(),
            bytes: self.bytes.wrapping_neg(),
            connections: 0,
            fin_rst_packets: 0,
        }
    }
}

const _: () = assert!(size_of::<CountedFrame>() == 16);

const _: () = assert!(size_of::<Traffic>() == 32 && align_of::<Traffic>() == 8);

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        // A frame may have been taken off on another CPU than it was counted on.
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.connections = self.connections.wrapping_add(other.connections);
        self.fin_rst_packets = self.fin_rst_packets.wrapping_add(other.fin_rst_packets);
    }
}
