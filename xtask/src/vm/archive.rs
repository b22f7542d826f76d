//! Debian packages: found and unpacked into target/vm, nothing of them installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Signs all suites of Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites with other kernels than that of this machine's.
const SUITES: [&str; 5] = [
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
];

/// Where packages come from.
pub enum Archive {
    /// The suites that this machine is set up for.
    Own,
    /// All [`SUITES`] of the mirror that this machine uses; lists and settings in a folder of our own.
    AllSuites(PathBuf),
}

impl Archive {
    /// The archive of all suites, with its lists in `folder`; they are fetched when they are not there.
    ///
    /// # Errors
    /// When this machine uses no mirror of Debian, or the lists cannot be fetched.
    pub fn all_suites(folder: &Path) -> Result<Self> {
        let archive = Self::AllSuites(folder.to_owned());
        let sources = folder.join("sources.list");
        if !sources.is_file() {
            fs::create_dir_all(folder.join("lists/partial"))?;
            let new = folder.join("sources.list.new");
            fs::write(&new, sources_list(&mirror()?))?;
            let mut update = archive.tool("apt-get", &new);
            command::run(update.args(["update", "--quiet", "--error-on=any"]))?;
            fs::rename(new, sources)?;
        }
        Ok(archive)
    }

    /// The names of packages that match a regular expression.
    ///
    /// # Errors
    /// When apt does not answer.
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let mut search = self.command("apt-cache");
        let answer = command::stdout_of(search.args(["search", "--names-only", pattern]));
        let answer = answer.context("apt-cache does not answer")?;
        let name = |line: &str| line.split_once(' ').map(|(name, _)| name.to_owned());
        Ok(answer.lines().filter_map(name).collect())
    }

    /// Downloads packages and unpacks them into `folder`, which holds nothing else afterwards.
    ///
    /// # Errors
    /// When apt or dpkg fails.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let downloads = folder.join("downloads");
        fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
        let mut download = self.command("apt-get");
        download.args(["download", "--quiet"]).args(packages);
        command::run(download.current_dir(&downloads)).with_context(|| match self {
            Self::Own => "the package lists may be old: `apt-get update` renews them".to_owned(),
            Self::AllSuites(lists) => format!("the package lists may be old: remove {}", lists.display()),
        })?;
        for package in fs::read_dir(&downloads)? {
            command::run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(folder))?;
        }
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    fn command(&self, tool: &str) -> Command {
        match self {
            Self::Own => as_caller(tool),
            Self::AllSuites(folder) => self.tool(tool, &folder.join("sources.list")),
        }
    }

    /// A tool of apt that reads these sources; the lists are those of the archive.
    fn tool(&self, tool: &str, sources: &Path) -> Command {
        let mut command = as_caller(tool);
        if let Self::AllSuites(folder) = self {
            for (key, value) in [
                ("Dir::Etc::SourceList", sources),
                ("Dir::Etc::SourceParts", Path::new("-")),
                ("Dir::State::Lists", &folder.join("lists")),
                ("Dir::Cache", folder),
            ] {
                command.arg("-o").arg(format!("{key}={}", value.display()));
            }
        }
        command
    }
}

/// A tool of apt that does not change to apt's own user, who may not write here.
fn as_caller(tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
}

/// The mirror from which this machine has its own packages.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(SITE) $(ORIGIN) $(LABEL) $(COMPONENT)",
        "Created-By: Packages",
    ]);
    let targets = command::stdout_of(&mut targets).context("apt-get does not say where packages come from")?;
    let main = |line: &str| line.strip_suffix(" Debian Debian main").map(str::to_owned);
    match targets.lines().find_map(main) {
        Some(mirror) => Ok(mirror),
        None => bail!("this machine has no package lists of Debian: `apt-get update` fetches them"),
    }
}

fn sources_list(mirror: &str) -> String {
    let line = |suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
    SUITES.map(line).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_suites_are_of_one_mirror() {
        let list = sources_list("http://mirror.example/debian");
        assert_eq!(list.lines().count(), SUITES.len());
        assert!(
            list.contains("] http://mirror.example/debian trixie-backports main\n"),
            "{list}"
        );
    }
}
