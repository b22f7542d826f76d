//! Runs programs on packets of many flows; the BPF side is bench/ebpf/src/prologue.rs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use lbx_bench_common as names;

use crate::{
    cpu,
    traffic::{FlowOrder, IpVersion, Traffic},
};

/// Actions of linux/bpf.h.
pub const XDP_PASS: u32 = 2;
/// See above.
pub const XDP_TX: u32 = 3;

/// A packet generator for one stream of packets.
pub struct PacketGenerator {
    ebpf: Ebpf,
    frame: Vec<u8>,
    slot: ProgramArray<aya::maps::MapData>,
    bare: ProgramFd,
}

impl PacketGenerator {
    /// Loads a packet generator that generates this traffic.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(object: &Path, traffic: &Traffic) -> Result<Self> {
        let frame = traffic.frame();
        let (words, _) = frame.as_chunks::<8>();
        let head = [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])];
        let (in_turn, from) = match traffic.flow_order {
            FlowOrder::Random => (0_u8, 0),
            FlowOrder::SequentialFrom(from) => (1, from),
        };
        let version: u8 = if traffic.ip_version == IpVersion::V4 { 4 } else { 6 };
        let mut ebpf = EbpfLoader::new()
            .override_global(names::FLOWS, &traffic.flows, true)
            .override_global(names::SERVICES, &traffic.services, true)
            .override_global(names::IN_TURN, &in_turn, true)
            .override_global(names::IP_VERSION, &version, true)
            .override_global(names::IP_AT, &traffic.ip_header_offset(), true)
            .override_global(names::HEAD, &head, true)
            .override_global(names::VIP, &traffic.destination_word(), true)
            .load_file(object)
            .with_context(|| format!("cannot load {}", object.display()))?;
        let bare = load(&mut ebpf, names::BARE)?;
        load(&mut ebpf, names::PROLOGUE)?;
        let slot = ebpf
            .take_map(names::SLOT)
            .context("the object has no slot")?
            .try_into()?;
        let counter = ebpf.map_mut(names::COUNTER).context("the object has no counter")?;
        Array::try_from(counter)?.set(0, u64::from(from), 0)?;
        Ok(Self {
            ebpf,
            frame,
            slot,
            bare,
        })
    }

    /// Runs a program on the next packets; returns nanoseconds per packet, packet generator included.
    ///
    /// # Errors
    /// The kernel refuses, or the last packet does not end as expected.
    pub fn measure_ns_per_packet(&mut self, program: &ProgramFd, packets: u32, action: u32) -> Result<f64> {
        self.slot
            .set(0, program, 0)
            .context("cannot put the program into the slot")?;
        self.repeat(packets, action)
    }

    /// The same for a program that does nothing: the time to subtract.
    ///
    /// # Errors
    /// As above.
    pub fn measure_noop_ns_per_packet(&mut self, packets: u32) -> Result<f64> {
        self.slot.set(0, &self.bare, 0)?;
        self.repeat(packets, XDP_TX)
    }

    fn repeat(&self, packets: u32, action: u32) -> Result<f64> {
        let packet_generator: &Xdp = self
            .ebpf
            .program(names::PROLOGUE)
            .context("the object has no packet generator")?
            .try_into()?;
        let begun = cpu::thread_cpu_ns()?;
        let result = packet_generator.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat: packets,
            ..TestRunOptions::default()
        })?;
        // The kernel's own result has whole nanoseconds only.
        let taken = cpu::thread_cpu_ns()? - begun;
        if result.return_value != action {
            bail!(
                "the last packet ended with action {} instead of {action}",
                result.return_value
            );
        }
        Ok(taken / f64::from(packets))
    }
}

/// Loads one of an object's programs.
///
/// # Errors
/// There is none of this name, or the kernel refuses it.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?;
    program
        .load()
        .with_context(|| format!("the kernel refuses program {name}"))?;
    Ok(program.fd()?.try_clone()?)
}
