//! The pages say what lbx prints: every `console` block is run, page by page, and compared.
//!
//! - `page`: the files and commands of a page, in its order;
//! - `hosts`: runs them on a client, a director and two real servers of the lab.

mod hosts;
mod page;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    lab::{Lab, VIP},
    lbx,
};

use self::{hosts::Hosts, page::Part};

crate::harness::tests!(Lbx:
    every_page_with_commands_is_run,
    front_page,
    getting_started,
    commands,
    configuration,
    operations,
    real_servers,
    scripts_of_real_servers,
);

/// The pages that are run, and how many commands each has at least: a page that loses its fences loses its test.
const PAGES: [(&str, usize); 6] = [
    ("README.md", 4),
    ("docs/getting-started.md", 6),
    ("docs/commands.md", 16),
    ("docs/configuration.md", 2),
    ("docs/operations.md", 10),
    ("docs/real-servers.md", 3),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| format!("cannot read {name}"))
}

fn every_page_with_commands_is_run() -> Result<()> {
    let pages = BTreeMap::from(PAGES);
    let mut names = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/architecture"] {
        for entry in fs::read_dir(root().join(folder))? {
            let name = entry?.file_name().into_string().ok().context("a name")?;
            if name.ends_with(".md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    for name in names {
        let parts = page::parts(&read(&name)?).with_context(|| name.clone())?;
        let commands = parts.iter().filter(|part| matches!(part, Part::Command(_))).count();
        let least = pages.get(name.as_str()).copied().unwrap_or_default();
        ensure!(commands >= least, "{name} has {commands} commands, and had {least}");
        ensure!(commands == 0 || least > 0, "{name} has commands that no test runs");
    }
    Ok(())
}

/// Runs a page.
fn run(name: &str) -> Result<()> {
    let mut hosts = Hosts::new()?;
    for part in page::parts(&read(name)?).with_context(|| name.to_owned())? {
        match part {
            Part::File { name, text } => hosts.write(&name, &text)?,
            Part::Command(command) => hosts
                .run(&command)
                .with_context(|| format!("{name}:{}: `{}`", command.line, command.text))?,
        }
    }
    Ok(())
}

fn front_page() -> Result<()> {
    run("README.md")
}

fn getting_started() -> Result<()> {
    run("docs/getting-started.md")
}

fn commands() -> Result<()> {
    run("docs/commands.md")
}

fn configuration() -> Result<()> {
    run("docs/configuration.md")
}

fn operations() -> Result<()> {
    run("docs/operations.md")
}

fn real_servers() -> Result<()> {
    run("docs/real-servers.md")
}

/// What the pages show as the script of LVS-DR makes a real server by lbx's own judgement.
fn scripts_of_real_servers() -> Result<()> {
    for name in ["README.md", "docs/getting-started.md"] {
        let page = read(name)?;
        let mut blocks = page
            .split("```sh\n")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once("```")?.0));
        let script = blocks
            .find(|block| block.contains("arp_ignore"))
            .with_context(|| format!("{name} has no script"))?;
        let lab = Lab::with_real_servers(1)?;
        let host = lab.real_server(1);
        host.run(["sh", "-ec", script])?.success()?;
        let check = lbx::real_server(host, lab.id(), &["--vip", &VIP.to_string(), "check"])?;
        check.success().with_context(|| name.to_owned())?;
    }
    Ok(())
}
