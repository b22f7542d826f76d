//! The program as a whole: what the kernel has to do before it runs.

use anyhow::{Context as _, Result, ensure};

use crate::{
    director::Director,
    harness::{Fixture, story},
};

/// Instructions the verifier may follow. The kernel gives up at a million (BPF_COMPLEXITY_LIMIT_INSNS in linux/bpf.h), and other
/// versions of it follow more than this one.
const MOST: u32 = 100_000;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![story("the verifier is far from its limit", verified)]
}

fn verified(director: &mut Director) -> Result<()> {
    let info = director.dataplane().program()?.info()?;
    let count = info.verified_instruction_count().context("this kernel does not tell")?;
    ensure!(count <= MOST, "{count} instructions");
    Ok(())
}
