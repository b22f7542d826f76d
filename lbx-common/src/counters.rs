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

const _: () = assert!(size_of::<Traffic>() == 32 && align_of::<Traffic>() == 8);

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.connections += other.connections;
        self.fin_rst_packets += other.fin_rst_packets;
    }
}
