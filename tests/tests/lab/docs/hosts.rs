//! The four hosts of the pages, and a shell on each of them.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::LazyLock, time::Duration,
};

use ::lbx::dataplane;
use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    bpffs,
    host::Host,
    lab::Lab,
    lbx,
    nginx::Nginx,
    process::{self, Process},
    wait,
};
use regex::Regex;

use super::page::Command;

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(20);
/// How long until a page's log line is there.
const LOGGED: Duration = Duration::from_secs(10);

/// What differs from run to run, and what stands for it on both sides.
static DIFFERENCES: LazyLock<[(Regex, &str); 7]> = LazyLock::new(|| {
    [
        (r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", "TIME "),
        (r"XDP program \d+", "XDP program N"),
        (r"\b192\.168\.1\.10:\d{5}\b", "192.168.1.10:PORT"),
        (r"lbxlab-[0-9-]+", "lbx"),
        // How many acknowledgements a client sends is a matter of time.
        (
            r"^(TCP|UDP|  ->)( +\S+ +\d+) +[1-9]\d* +0 +\d+ +0$",
            "$1$2 PACKETS 0 BYTES 0",
        ),
        // A command is run again until it prints what the page has: connections of former times are listed too.
        (r"^(  -> \S+ +Route +\d+ +0) +[1-9]\d* *$", "$1 CLOSED"),
        (r#""(packets|bytes)": [1-9]\d*"#, "\"$1\": N"),
    ]
    .map(|(pattern, by)| (Regex::new(pattern).expect("a pattern"), by))
});

/// Whether this machine has another number of CPUs than the pages say.
static OTHER_CPUS: LazyLock<bool> = LazyLock::new(|| dataplane::memory::cpus() != 2);

/// A program that stays, and how much of its log the page has had so far.
struct Foreground {
    process: Process,
    seen: usize,
}

/// Hosts, working directories and programs of one page. Fields go in their order: the lab last.
pub struct Hosts {
    /// The programs that stay, by host: the last one started.
    foreground: BTreeMap<String, Foreground>,
    /// Those that were started before.
    earlier: Vec<Foreground>,
    _nginx: Vec<Nginx>,
    path: String,
    lab: Lab,
}

impl Hosts {
    /// A client, a director and two real servers, all with nginx where they need it, none prepared otherwise.
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let programs = lab.directory().join("programs");
        fs::create_dir_all(&programs)?;
        let hosts = Self {
            foreground: BTreeMap::new(),
            earlier: Vec::new(),
            _nginx: lab.real_servers().map(Nginx::start).collect::<Result<_>>()?,
            path: format!("{}:{}", programs.display(), std::env::var("PATH")?),
            lab,
        };
        hosts.install(&programs)?;
        Ok(hosts)
    }

    /// What the pages call and the lab has under another name: hosts are namespaces of one machine, whose directors must
    /// differ in name.
    fn install(&self, programs: &std::path::Path) -> Result<()> {
        let binary = lbx::binary()?;
        let demo = env!("CARGO_BIN_EXE_demo");
        let scripts = [
            ("sudo", "exec \"$@\"".to_owned()),
            (
                "lbx",
                format!(
                    "case \"$1 $2\" in check*|'realserver check'|--version*) ;; *) set -- \"$@\" --name \"$LBX_NAME\" ;; esac\n\
                     exec {} \"$@\"",
                    binary.display()
                ),
            ),
            // On a terminal it draws no progress meter.
            ("curl", "exec /usr/bin/curl --silent --show-error \"$@\"".to_owned()),
            ("pidof", "exec cat \"$HOST_DIRECTORY/$1.pid\"".to_owned()),
            (
                "cargo",
                format!("[ \"$*\" = 'xtask demo' ] && exec {demo} --lbx {}", binary.display()),
            ),
        ];
        for (name, script) in scripts {
            let file = programs.join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Writes a file into the working directory.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.directory().join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn directory(&self) -> PathBuf {
        self.lab.directory().to_owned()
    }

    /// Runs a command and compares what it prints; log lines are looked for in the log of the host's lbx.
    pub fn run(&mut self, command: &Command) -> Result<()> {
        let host = self.lab.host(&command.host).clone();
        let (logged, printed): (Vec<_>, Vec<_>) = command
            .expected
            .iter()
            .map(|line| normalise(line))
            .partition(|line| line.starts_with("TIME "));
        if command.text.contains("lbx trace ") {
            self.trace(&host, command)?;
        } else if stays(&command.text) {
            ensure!(printed.is_empty(), "stays, and is said to print {printed:#?}");
            self.start(&host, command)?;
        } else {
            self.expect_printed(&host, command, &printed)?;
        }
        self.expect_logged(&host, &logged)
    }

    /// Runs a command until it prints what is expected: a reader too tries again, when real servers are not up yet.
    fn expect_printed(&self, host: &Host, command: &Command, expected: &[String]) -> Result<()> {
        let mut lines = Vec::new();
        let printed = wait::until_true(LOGGED, "the output is as the page has it", || {
            let output = process::run(&mut self.shell(host, &command.text), COMMAND)?;
            let printed = [output.stdout, output.stderr].concat();
            lines = printed.trim_end().lines().map(normalise).collect();
            Ok(matches(expected, &lines))
        });
        printed.with_context(|| {
            format!(
                "the page has\n{}\n\nprinted was\n{}",
                expected.join("\n"),
                lines.join("\n")
            )
        })
    }

    fn shell(&self, host: &Host, text: &str) -> std::process::Command {
        let mut command = host.command("sh");
        command
            .args(["-c", text])
            .current_dir(self.directory())
            .env("PATH", &self.path)
            .env("LBX_NAME", self.lab.id())
            .env("HOST_DIRECTORY", host.directory());
        command
    }

    fn spawn(&self, host: &Host, command: &Command) -> Result<Process> {
        let text = format!("exec {}", command.text.trim_end_matches(" &"));
        Process::spawn(&command.text, &mut self.shell(host, &text), &log_of(host, command))
    }

    /// Starts a program that stays and waits until it says that it is ready.
    fn start(&mut self, host: &Host, command: &Command) -> Result<()> {
        if let Some(former) = self.foreground.get_mut(host.name()) {
            wait::until_true(COMMAND, "the former program ends", || {
                Ok(former.process.ended()?.is_some())
            })?;
        }
        let mut process = self.spawn(host, command)?;
        fs::write(host.directory().join("lbx.pid"), process.pid().to_string())?;
        process.wait_ready(COMMAND, || {
            let log = fs::read_to_string(log_of(host, command))?;
            Ok([" ready ", "this host is a real server"]
                .iter()
                .any(|ready| log.contains(ready)))
        })?;
        let next = Foreground { process, seen: 0 };
        self.earlier
            .extend(self.foreground.insert(host.name().to_owned(), next));
        Ok(())
    }

    /// Starts a trace in the background and waits until the director has enabled it.
    fn trace(&mut self, host: &Host, command: &Command) -> Result<()> {
        let process = self.spawn(host, command)?;
        self.earlier.push(Foreground { process, seen: 0 });
        let director = self
            .foreground
            .get(host.name())
            .context("no director runs on this host")?;
        wait::until_true(LOGGED, "the director traces", || {
            Ok(director.process.log().contains("trace enabled"))
        })
    }

    /// Waits until these lines are in the log, in this order, after those of former commands.
    fn expect_logged(&mut self, host: &Host, expected: &[String]) -> Result<()> {
        if expected.is_empty() {
            return Ok(());
        }
        let foreground = self
            .foreground
            .get_mut(host.name())
            .context("no lbx runs on this host")?;
        for expected in expected {
            let mut log = String::new();
            let found = wait::until(LOGGED, "the line is logged", || {
                log = foreground.process.log();
                let position = log
                    .lines()
                    .skip(foreground.seen)
                    .position(|line| normalise(line) == *expected);
                Ok(position.map(|position| foreground.seen + position + 1))
            });
            foreground.seen = found.with_context(|| format!("the page has\n{expected}\n\nlogged was\n{log}"))?;
        }
        Ok(())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.foreground.clear();
        self.earlier.clear();
        bpffs::remove_pins_of(self.lab.id());
    }
}

fn log_of(host: &Host, command: &Command) -> PathBuf {
    host.directory().join(format!("line-{}.log", command.line))
}

/// Whether a command is one that stays until it is stopped.
fn stays(text: &str) -> bool {
    let lbx = text.strip_prefix("sudo ").unwrap_or(text);
    let is_director = lbx.starts_with("lbx --config ");
    let is_real_server = lbx.starts_with("lbx realserver -") && !lbx.contains("--once") && !lbx.contains("--undo");
    is_director || is_real_server
}

fn normalise(line: &str) -> String {
    // The pages have the memory of a host with two CPUs.
    let counts = ["SERVICE_STATS ", "BACKEND_STATS ", "all "];
    if *OTHER_CPUS && counts.iter().any(|counts| line.starts_with(counts)) && line.contains("MiB") {
        return "(memory of other CPUs)".to_owned();
    }
    let differences = DIFFERENCES.iter();
    let normal = differences.fold(line.to_owned(), |line, (pattern, by)| {
        pattern.replace_all(&line, *by).into_owned()
    });
    normal.trim_end().to_owned()
}

/// Whether lines are as expected, where `...` stands for any number of them.
fn matches(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == "..." => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        Some((first, rest)) => lines.first() == Some(first) && matches(rest, &lines[1..]),
    }
}
