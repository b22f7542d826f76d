//! The program under test, as a director and as a real server's agent.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    bpffs,
    cluster::Cluster,
    host::Host,
    lab::Lab,
    listing::{self, Service},
    process::{Output, Process},
};

/// Where directors have their control sockets.
pub const RUN: &str = "/run/lbx";

/// How long a program of ours may take until it is ready: long, for guests whose processor is emulated.
const START: Duration = Duration::from_secs(30);

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Makes a binary the one under test, before anything of it is run.
///
/// # Errors
/// There is no such file, or another was chosen before.
pub fn choose_binary(path: &Path) -> Result<()> {
    let path = fs::canonicalize(path).with_context(|| format!("no program {}", path.display()))?;
    CHOSEN
        .set(path)
        .map_err(|_| anyhow::anyhow!("the binary under test is chosen already"))
}

/// The binary under test: the one chosen, that of `LBX_BINARY`, or the one that was built last in this workspace.
///
/// # Errors
/// There is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = env::var_os("LBX_BINARY") {
        let path = PathBuf::from(path);
        return fs::canonicalize(&path).with_context(|| format!("LBX_BINARY is {}", path.display()));
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let candidates = ["release", "debug"].map(|profile| target.join(profile).join("lbx"));
    let built = candidates.into_iter().filter_map(|path| {
        let time = path.metadata().ok()?.modified().ok()?;
        Some((time, path))
    });
    let (_, path) = built
        .max()
        .context("lbx is not built: run `cargo xtask build`, or set LBX_BINARY")?;
    Ok(fs::canonicalize(path)?)
}

/// A director at work on a host. Stopped with the handle; what it should have cleared away is cleared away then.
#[derive(Debug)]
pub struct Director {
    process: Process,
    host: Host,
    name: String,
    file: PathBuf,
}

impl Director {
    /// Starts a director on the lab's director host and waits until it answers.
    ///
    /// # Errors
    /// It ends or does not answer within thirty seconds; with its log.
    pub fn start(lab: &Lab, cluster: &Cluster) -> Result<Self> {
        Self::start_named(lab.director(), lab.id(), &cluster.to_string())
    }

    /// Starts a director with a name and a configuration of one's choice.
    ///
    /// # Errors
    /// It ends or does not answer within thirty seconds; with its log.
    pub fn start_named(host: &Host, name: &str, yaml: &str) -> Result<Self> {
        let mut director = Self::begin(host, name, yaml)?;
        director.wait_ready()?;
        Ok(director)
    }

    /// Starts a director and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(host: &Host, name: &str, yaml: &str) -> Result<Self> {
        let file = write_file(host, name, yaml)?;
        Ok(Self {
            process: Self::launch(host, name, &file)?,
            host: host.clone(),
            name: name.to_owned(),
            file,
        })
    }

    /// Runs a director that is expected to refuse and end by itself.
    ///
    /// # Errors
    /// It goes on running.
    pub fn refused(host: &Host, name: &str, yaml: &str) -> Result<Output> {
        let file = write_file(host, name, yaml)?;
        host.run(command(&file, name)?)
            .with_context(|| format!("a director that should refuse\n{yaml}"))
    }

    fn launch(host: &Host, name: &str, file: &Path) -> Result<Process> {
        host.spawn(&format!("director-{name}"), command(file, name)?)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let Self {
            process, host, name, ..
        } = self;
        process.wait_ready(START, || Ok(list(host, name, &[])?.status.success()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Processor time it has taken so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn processor_time(&self) -> Result<Duration> {
        self.process.processor_time()
    }

    /// Replaces its configuration and tells it so (SIGHUP).
    ///
    /// # Errors
    /// It is gone.
    pub fn reload(&self, yaml: &str) -> Result<()> {
        self.reconfigure(yaml)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Kills it as the kernel would when memory is short: nothing is cleared away.
    ///
    /// # Errors
    /// It is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop(Signal::SIGKILL).map(drop)
    }

    /// Replaces its configuration while it does not run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reconfigure(&self, yaml: &str) -> Result<()> {
        Ok(fs::write(&self.file, yaml)?)
    }

    /// Starts it again after its end.
    ///
    /// # Errors
    /// It still runs, or does not come up; with its log.
    pub fn restart(&mut self) -> Result<()> {
        if self.process.ended()?.is_none() {
            bail!("the director still runs");
        }
        self.process = Self::launch(&self.host, &self.name, &self.file)?;
        self.wait_ready()
    }

    /// Stops it properly.
    ///
    /// # Errors
    /// It does not end within three seconds.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.stop(signal)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// What `lbx list` prints, with more arguments.
    ///
    /// # Errors
    /// It fails.
    pub fn list_text(&self, arguments: &[&str]) -> Result<String> {
        list(&self.host, &self.name, arguments)?.success()
    }

    /// What `lbx list --json` prints.
    ///
    /// # Errors
    /// It fails, or prints something else than JSON.
    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.list_text(&["--json"])?)?)
    }

    /// That it has dropped no packet, for whatever reason.
    ///
    /// # Errors
    /// It has; with the reasons and numbers.
    pub fn expect_no_drops(&self) -> Result<()> {
        let json = self.json()?;
        let drops = json["drops"].as_object().context("no drops in the listing")?;
        let dropped = drops.values().any(|packets| packets.as_u64() != Some(0));
        ensure!(!drops.is_empty() && !dropped, "dropped: {drops:?}");
        Ok(())
    }

    /// Its services as `lbx list` shows them.
    ///
    /// # Errors
    /// It fails, or prints something else than `ipvsadm -Ln` would.
    pub fn list(&self) -> Result<Vec<Service>> {
        listing::parse(&self.list_text(&[])?)
    }

    /// Its services as `lbx list --stats` shows them.
    ///
    /// # Errors
    /// It fails, or prints something else than `ipvsadm -Ln --stats` would.
    pub fn statistics(&self) -> Result<Vec<Service>> {
        listing::parse(&self.list_text(&["--stats"])?)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if self.stop(Signal::SIGTERM).is_err() {
            self.kill().ok();
        }
        bpffs::remove_pins_of(&self.name);
    }
}

fn write_file(host: &Host, name: &str, yaml: &str) -> Result<PathBuf> {
    let file = host.directory().join(format!("{name}.yaml"));
    fs::write(&file, yaml).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn command(file: &Path, name: &str) -> Result<[String; 5]> {
    let program = binary()?.display().to_string();
    let file = file.display().to_string();
    Ok([program, "--config".into(), file, "--name".into(), name.into()])
}

fn list(host: &Host, name: &str, arguments: &[&str]) -> Result<Output> {
    let program = binary()?.display().to_string();
    let line = [&program, "list", "--name", name];
    host.run(line.iter().chain(arguments))
}

/// The socket a director of this name listens on.
#[must_use]
pub fn socket_of(name: &str) -> PathBuf {
    Path::new(RUN).join(format!("{name}.sock"))
}

/// Runs `lbx realserver` on a host to its end.
///
/// # Errors
/// It cannot be started or does not end.
pub fn real_server(host: &Host, name: &str, arguments: &[&str]) -> Result<Output> {
    host.run(real_server_words(name, arguments)?)
}

fn real_server_words(name: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let program = binary()?.display().to_string();
    // A check looks at the host and not at what an agent of some name has done.
    let named: &[&str] = if arguments.contains(&"check") {
        &[]
    } else {
        &["--name", name]
    };
    let words = [&program, "realserver"];
    Ok(words
        .iter()
        .chain(named)
        .chain(arguments)
        .map(|&word| word.to_owned())
        .collect())
}

/// `lbx realserver` in the foreground: keeps its host a real server until the handle goes.
#[derive(Debug)]
pub struct Agent {
    process: Process,
}

impl Agent {
    /// Starts it and waits until `lbx realserver check` finds nothing wrong.
    ///
    /// # Errors
    /// It ends or is not ready within thirty seconds; with its log.
    pub fn start(host: &Host, name: &str, vip: impl Into<IpAddr>) -> Result<Self> {
        let vip = vip.into().to_string();
        let mut agent = Self::begin(host, name, &["--vip", &vip])?;
        let ready = ["--vip", &vip, "check"];
        let is_ready = || Ok(real_server(host, name, &ready)?.status.success());
        agent.process.wait_ready(START, is_ready)?;
        Ok(agent)
    }

    /// Starts it with arguments of one's choice and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(host: &Host, name: &str, arguments: &[&str]) -> Result<Self> {
        let process = host.spawn(&format!("realserver-{name}"), real_server_words(name, arguments)?)?;
        Ok(Self { process })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Stops it properly.
    ///
    /// # Errors
    /// It does not end within three seconds.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.stop(signal)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}
