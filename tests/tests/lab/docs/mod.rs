//! The pages say what lbx prints: their samples are compared with real logs and listings.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{Lab, VIP},
    lbx::Agent,
    wait,
};

use crate::setup::web;

crate::harness::tests!(Lbx:
    log_of_a_director_is_as_documented,
    log_of_a_real_server_is_as_documented,
    listing_is_as_documented,
);

const PAGE: &str = "docs/getting-started.md";

fn page() -> Result<String> {
    let path = format!("{}/../{PAGE}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// The documented log lines, without their times, of the sample that begins with one of a kind.
fn documented_log(first: &str) -> Result<Vec<String>> {
    let page = page()?;
    let lines = page
        .lines()
        .map(|line| line.split_once("Z  INFO ").map(|(_, line)| line));
    let mut samples: Vec<Vec<String>> = vec![Vec::new()];
    for line in lines {
        match line {
            Some(line) => samples.last_mut().context("no sample")?.push(line.to_owned()),
            None => samples.push(Vec::new()),
        }
    }
    let begins = |sample: &Vec<String>| sample.first().is_some_and(|line| line.starts_with(first));
    samples
        .into_iter()
        .find(begins)
        .with_context(|| format!("no sample begins with {first:?}"))
}

/// That a log has these lines in this order.
fn expect_lines(log: &str, documented: &[String]) -> Result<()> {
    let mut lines = log.lines();
    for line in documented {
        ensure!(
            lines.any(|logged| logged.ends_with(&format!(" INFO {line}"))),
            "{PAGE} has {line:?}, the log not, or not in this place:\n{log}"
        );
    }
    Ok(())
}

fn log_of_a_director_is_as_documented() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let documented = documented_log("service added")?;
    ensure!(documented.len() >= 6, "{documented:?}");
    let name = format!("name=\"{}\"", site.lab.id());
    wait::until_true(std::time::Duration::from_secs(5), "the director is ready", || {
        Ok(site.director.log().contains("ready"))
    })?;
    expect_lines(&site.director.log().replace(&name, "name=\"lbx\""), &documented)
}

fn log_of_a_real_server_is_as_documented() -> Result<()> {
    let lab = Lab::with_real_servers(1)?;
    let agent = Agent::start(lab.real_server(1), lab.id(), VIP)?;
    let documented = documented_log("sysctl -w")?;
    ensure!(documented.len() >= 6, "{documented:?}");
    let last = documented.last().context("no line")?;
    wait::until_true(std::time::Duration::from_secs(5), "it is a real server", || {
        Ok(agent.log().contains(last))
    })?;
    expect_lines(&agent.log(), &documented)
}

/// After six requests of the demo, as its page shows.
fn listing_is_as_documented() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    site.pages(6)?;
    let page = page()?;
    let sample = page
        .split("director$ lbx list\n")
        .nth(1)
        .context("no listing in the page")?;
    let documented: Vec<&str> = sample.lines().map_while(|line| line.strip_prefix("    ")).collect();
    ensure!(documented.len() >= 6, "{documented:?}");
    let mut listed = String::new();
    wait::until_true(
        std::time::Duration::from_secs(5),
        "the listing is as documented",
        || {
            listed = site.director.list_text(&[])?;
            Ok(listed
                .lines()
                .map(str::trim_end)
                .eq(documented.iter().map(|line| line.trim_end())))
        },
    )
    .with_context(|| format!("{PAGE}:\n{}\nlbx list:\n{listed}", documented.join("\n")))
}
