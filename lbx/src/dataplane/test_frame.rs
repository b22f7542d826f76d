//! Frames run through the loaded program with its maps by BPF_PROG_TEST_RUN: nothing is sent.

use aya::{
    TestRun as _, TestRunOptions,
    programs::{ProgramError, Xdp},
};
use lbx_common::{counters::CountedFrame, maps::UNCOUNT_PROGRAM};

use super::{Dataplane, DataplaneError, object};

/// More than any frame of the self-test becomes.
const LARGEST_FRAME: usize = 512;

/// `XDP_TX` and the other actions of `enum xdp_action`, include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAction {
    /// The program has failed.
    Aborted,
    /// Dropped.
    Drop,
    /// To the host's own stack.
    Pass,
    /// Sent by the NIC of arrival.
    Tx,
    /// Sent by another NIC.
    Redirect,
}

/// What the program makes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// Its verdict.
    pub action: XdpAction,
    /// The frame after it.
    pub frame: Vec<u8>,
}

/// The beginning of `struct xdp_md`: what a test run takes of it.
#[repr(C)]
struct TestContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

impl TestContext {
    fn words(&self) -> [u32; 6] {
        [
            self.data,
            self.data_end,
            self.data_meta,
            self.ingress_ifindex,
            self.rx_queue_index,
            self.egress_ifindex,
        ]
    }
}

impl Dataplane {
    /// Runs a frame through the program as if a NIC had received it. It is counted like any other.
    ///
    /// # Errors
    /// The kernel runs no test, or the NIC is gone.
    pub fn test_frame(&self, ifindex: u32, frame: &[u8]) -> Result<TestOutcome, DataplaneError> {
        let context = TestContext {
            data: 0,
            data_end: frame.len() as u32,
            data_meta: 0,
            ingress_ifindex: ifindex,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let context: Vec<u8> = context.words().into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut output = vec![0; LARGEST_FRAME];
        let result = self.program()?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })?;
        output.truncate(result.data_size_out as usize);
        Ok(TestOutcome {
            action: match result.return_value {
                1 => XdpAction::Drop,
                2 => XdpAction::Pass,
                3 => XdpAction::Tx,
                4 => XdpAction::Redirect,
                _ => XdpAction::Aborted,
            },
            frame: output,
        })
    }

    /// Takes a frame that the program has forwarded in a test off the counters.
    ///
    /// # Errors
    /// The kernel refuses the program or the run.
    pub fn uncount_test_frame(&mut self, frame: CountedFrame) -> Result<(), DataplaneError> {
        let program = self.program.program_mut(UNCOUNT_PROGRAM);
        let program: &mut Xdp = program.ok_or(DataplaneError::NoProgram)?.try_into()?;
        if program.fd().is_err() {
            object::with_signals_blocked(|| program.load())?;
        }
        program
            .test_run(TestRunOptions {
                data_in: Some(&frame.to_bytes()),
                ..TestRunOptions::default()
            })
            .map(drop)
            .map_err(ProgramError::into)
    }
}
