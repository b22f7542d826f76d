//! What happens to NICs under a running director.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    bpffs,
    cluster::Service,
    nginx::Nginx,
    wait,
    xdp::{self, Mode},
};

use crate::setup::{Site, expect_turns, web};

crate::harness::tests!(Lbx:
    a_program_that_somebody_detached_is_attached_again,
    a_link_whose_pin_somebody_removed_is_made_again,
    a_foreign_program_in_between_is_left_alone,
);

/// How soon a change must have been noticed.
const SOON: Duration = Duration::from_secs(5);

/// The pin of the link to the director's eth0.
fn pin(site: &Site<Nginx>) -> Result<PathBuf> {
    let link = format!("link_{}", site.lab.director().interface_index("eth0")?);
    let versions = fs::read_dir(bpffs::pins_of(site.director.name()))?;
    let pins = versions.map(|version| Ok(version?.path().join(&link)));
    let pins = pins.collect::<Result<Vec<_>>>()?;
    pins.into_iter()
        .find(|pin| pin.exists())
        .context("eth0 has no pinned link")
}

fn detach(site: &Site<Nginx>) -> Result<()> {
    let pin = pin(site)?.display().to_string();
    let director = site.lab.director();
    director.run(["bpftool", "link", "detach", "pinned", &pin])?.success()?;
    ensure!(director.xdp_program("eth0")?.is_none(), "the program is still there");
    Ok(())
}

fn expect_attached_again(site: &Site<Nginx>) -> Result<()> {
    let director = site.lab.director();
    wait::until_true(SOON, "the program is back", || {
        Ok(director.xdp_program("eth0")?.is_some())
    })?;
    expect_turns(&site.pages(4)?, 2)?;
    let log = site.director.log();
    ensure!(log.contains("detached the XDP program"), "it does not say so:\n{log}");
    Ok(())
}

fn a_program_that_somebody_detached_is_attached_again() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    expect_turns(&site.pages(4)?, 2)?;
    for _ in 0..2 {
        detach(&site)?;
        expect_attached_again(&site)?;
    }
    Ok(())
}

fn a_link_whose_pin_somebody_removed_is_made_again() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    fs::remove_file(pin(&site)?)?;
    expect_attached_again(&site)
}

fn a_foreign_program_in_between_is_left_alone() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let director = site.lab.director();
    detach(&site)?;
    let foreign = xdp::attach(director.namespace(), "eth0", &xdp::pass(), Mode::Native)?;
    let foreign_id = director.xdp_program("eth0")?;
    wait::until_true(SOON, "the complaint", || {
        Ok(site.director.log().contains("another XDP program is attached"))
    })?;
    ensure!(
        director.xdp_program("eth0")? == foreign_id,
        "the foreign program was replaced"
    );
    drop(foreign);
    expect_attached_again(&site)
}
