//! The program, run by the kernel on one frame, and what is expected of it.

use std::ops::RangeFrom;

use anyhow::{Context as _, Result};
use aya::{TestRun as _, TestRunOptions, programs::Xdp};
use lbx::desired::VirtualService;
use lbx_common::drops::DropReason;
use lbx_tests::packet::Frame;

use crate::{
    cluster::{self, Flow, LO, flow},
    director::{Director, To},
    outcome::{
        Action, Counted,
        Counts::{self, Continues, Opens},
        Expected, Outcome, Sent,
    },
};

/// Room for what the program makes of a frame: it adds two VLAN tags at most.
const LARGEST: usize = 1 << 16;

impl Director {
    /// Runs the program on a frame that came in by a NIC.
    pub fn run(&self, ingress: u32, frame: &Frame) -> Result<Outcome> {
        self.run_program(self.dataplane().program()?, ingress, frame)
    }

    /// Runs one of the data plane's programs.
    pub fn run_program(&self, program: &Xdp, ingress: u32, frame: &Frame) -> Result<Outcome> {
        let input = frame.bytes();
        // Without a context the frame came in by lo, whatever the size of its first buffer.
        let context = (ingress != LO).then(|| context(0, input.len(), ingress));
        self.run_bytes(program, &input, context.as_deref())
            .with_context(|| format!("of {frame:?} on NIC {ingress}"))
    }

    /// Runs the program on a frame from lo with so little headroom that it can become longer by so many bytes.
    pub fn run_confined(&self, room: usize, frame: &Frame) -> Result<Outcome> {
        // A frame of a test run has 256 bytes of headroom (linux/bpf.h: XDP_PACKET_HEADROOM), of which the kernel itself needs
        // 40 (include/net/xdp.h: struct xdp_frame). The rest is filled with metadata, which stand before the frame.
        let metadata = 256 - 40 - room;
        let mut input = vec![0; metadata];
        input.extend(frame.bytes());
        let context = context(metadata, input.len(), 0);
        let mut outcome = self.run_bytes(self.dataplane().program()?, &input, Some(&context))?;
        outcome.bytes.drain(..metadata);
        Ok(outcome)
    }

    fn run_bytes(&self, program: &Xdp, input: &[u8], context: Option<&[u8]>) -> Result<Outcome> {
        let mut bytes = vec![0; LARGEST];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(input),
                data_out: Some(&mut bytes),
                ctx_in: context,
                ..TestRunOptions::default()
            })
            .context("the kernel runs no test")?;
        bytes.truncate(result.data_size_out as usize);
        Ok(Outcome {
            action: Action::of(result.return_value),
            bytes,
            counted: self.counted()?,
        })
    }

    /// Everything that has been counted so far.
    pub fn counted(&self) -> Result<Counted> {
        Counted::read(self.dataplane(), &self.tables)
    }

    /// Checks what becomes of a frame that comes in by a NIC: action, bytes and all counters.
    pub fn expect(&self, ingress: u32, frame: &Frame, expected: Expected) -> Result<()> {
        let before = self.counted()?;
        expected.check(frame, before, &self.run(ingress, frame)?)
    }

    /// Checks that a frame of a flow that comes in by lo goes to a real server.
    pub fn sends(&self, flow: Flow, frame: &Frame, to: To, counts: Counts) -> Result<()> {
        self.sends_from(LO, flow, frame, to, counts)
    }

    /// Checks that a frame of a flow that comes in by a NIC goes to a real server, by the NIC that one is reached by.
    pub fn sends_from(&self, ingress: u32, flow: Flow, frame: &Frame, to: To, counts: Counts) -> Result<()> {
        let expected = self.sent(ingress, flow, frame, to, counts)?;
        self.expect(ingress, frame, Expected::Sent(expected))
            .with_context(|| format!("to {to:?} of {flow:?}"))
    }

    /// What is expected of a frame that goes to a real server.
    pub fn sent(&self, ingress: u32, flow: Flow, frame: &Frame, to: To, counts: Counts) -> Result<Sent> {
        let server = self.server(flow, to)?;
        let hop = *self.hops.get(&server).context("nobody knows the way there")?;
        Ok(Sent {
            action: if hop.ifindex == ingress {
                Action::Tx
            } else {
                Action::Redirect
            },
            service: flow.service,
            server,
            hop,
            tags: Sent::tags_of(hop, frame),
            counts,
        })
    }

    /// The number of the real server a frame of a flow is sent to.
    pub fn choice(&self, flow: Flow, frame: &Frame) -> Result<u8> {
        let outcome = self.run(LO, frame)?;
        let sent_to = |&number: &u8| {
            let server = cluster::server_of(flow.service.vip, number);
            let hop = self.hops.get(&server);
            hop.is_some_and(|hop| outcome.bytes.starts_with(&hop.mac))
        };
        let number = (1..=cluster::KNOWN).find(sent_to);
        number.with_context(|| format!("{frame:?} goes to nobody: {:?}", outcome.action))
    }

    /// Checks that a connection is opened at a real server: SYN, ACK.
    pub fn opens(&self, flow: Flow, to: To) -> Result<()> {
        self.sends(flow, &flow.syn(), to, Opens)?;
        self.sends(flow, &flow.ack(), to, Continues)
    }

    /// Checks that connections from one port after the other are opened at these real servers.
    pub fn opens_in_turn(&self, service: VirtualService, ports: RangeFrom<u16>, numbers: &[u8]) -> Result<()> {
        let mut turns = ports.zip(numbers);
        turns.try_for_each(|(port, &number)| self.opens(flow(service, port), To::Rs(number)))
    }

    /// Checks that datagrams from one port after the other go to these real servers, as what they count.
    pub fn sends_in_turn(
        &self,
        service: VirtualService,
        ports: RangeFrom<u16>,
        numbers: &[u8],
        counts: Counts,
    ) -> Result<()> {
        let mut turns = ports.map(|port| flow(service, port)).zip(numbers);
        turns.try_for_each(|(flow, &number)| self.sends(flow, &flow.datagram(), To::Rs(number), counts))
    }

    /// Checks that a frame from lo is dropped, and why.
    pub fn drops(&self, frame: &Frame, reason: DropReason) -> Result<()> {
        self.expect(LO, frame, Expected::Dropped(reason))
    }

    /// Checks that a frame from lo passes.
    pub fn passes(&self, frame: &Frame) -> Result<()> {
        self.expect(LO, frame, Expected::Passed)
    }
}

/// An xdp_md (linux/bpf.h): data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(metadata: usize, length: usize, ingress: u32) -> Vec<u8> {
    let word = |bytes| u32::try_from(bytes).expect("a frame has 64 KiB at most");
    [word(metadata), word(length), 0, ingress, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}
