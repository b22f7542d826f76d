//! The program as a whole: what the kernel has to do before it runs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lbx::{
    dataplane::{Dataplane, pins::BPFFS},
    desired::TableSizes,
};
use lbx_common::{
    drops::DropReason,
    maps::{ABI, MAPS_ADDED_LATER, SERVICES},
};
use lbx_tests::bpffs;

use crate::{
    cluster::SIZES,
    director::{Director, unique_name},
    harness::{Fixture, free_story, story},
};

/// Instructions the verifier may follow. The kernel gives up at a million (BPF_COMPLEXITY_LIMIT_INSNS in linux/bpf.h), and other
/// versions of it follow more than this one.
const MOST: u32 = 100_000;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story("the verifier is far from its limit", verified),
        free_story(
            "maps of a version that did not know all of them are adopted",
            adopted_from_older,
        ),
        free_story("maps of which an old one is missing are made anew", made_anew),
    ]
}

fn verified(director: &mut Director) -> Result<()> {
    let info = director.dataplane().program()?.info()?;
    let count = info.verified_instruction_count().context("this kernel does not tell")?;
    ensure!(count <= MOST, "{count} instructions");
    Ok(())
}

/// A data plane whose daemon has ended after it had lost these pins, opened again with other sizes: those of adopted maps stay.
fn reopened_without(lost: &[&str]) -> Result<Dataplane> {
    bpffs::mount_if_missing()?;
    let name = unique_name();
    drop(Dataplane::open(&name, SIZES)?);
    let pins = Path::new(BPFFS).join("lbx").join(&name).join(format!("v{ABI}"));
    for map in lost {
        fs::remove_file(pins.join(map))?;
    }
    let other_sizes = TableSizes {
        slots: SIZES.slots * 2,
        ..SIZES
    };
    Ok(Dataplane::open(&name, other_sizes)?)
}

fn adopted_from_older() -> Result<()> {
    let dataplane = reopened_without(&MAPS_ADDED_LATER)?;
    let (adopted, sizes) = (dataplane.has_adopted_maps(), dataplane.sizes());
    let counted = dataplane.drops(DropReason::Rejected);
    dataplane.detach_and_unpin()?;
    ensure!(adopted && sizes == SIZES, "made anew: {sizes:?}");
    ensure!(counted? == 0, "the new map does not begin at 0");
    Ok(())
}

fn made_anew() -> Result<()> {
    let dataplane = reopened_without(&[SERVICES])?;
    let adopted = dataplane.has_adopted_maps();
    dataplane.detach_and_unpin()?;
    ensure!(!adopted, "adopted without services");
    Ok(())
}
