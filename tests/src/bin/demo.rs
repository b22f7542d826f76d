//! The demonstration: a client, a director and two real servers with nginx on this machine, and what a person would see.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::{self, Agent, Director},
    nginx::Nginx,
    xdp::Mode,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::Uid,
};

/// Builds a cluster of network namespaces on this machine, curls the VIP and shows who answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program to demonstrate [default: the one built last in this workspace]
    #[arg(long, value_name = "PATH")]
    lbx: Option<PathBuf>,
    /// Keep the cluster until Enter or Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// How often the client asks.
const REQUESTS: usize = 6;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match demonstrate(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(arguments: &Arguments) -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "network namespaces and XDP need root: run it with sudo"
    );
    if let Some(path) = &arguments.lbx {
        lbx::choose_binary(path)?;
    }
    clear_away_on_signals()?;
    let lab = Lab::new()?;
    println!("{}", topology());
    let mut nginx = Vec::new();
    let mut agents = Vec::new();
    for host in lab.real_servers() {
        println!("{}$ lbx realserver --vip {VIP} &", host.name());
        nginx.push(Nginx::start(host)?);
        agents.push(Agent::start(host, &format!("{}-{}", lab.id(), host.name()), VIP)?);
    }
    let cluster = Cluster::from(Service::web("rr", 2));
    println!("\ndirector$ cat lb.yaml\n{cluster}\ndirector$ lbx --config lb.yaml &");
    let director = Director::start(&lab, &cluster)?;
    show(&lab, &director).with_context(|| format!("log of the director:\n{}", director.log()))?;
    if arguments.keep {
        keep(&lab)?;
    }
    Ok(())
}

fn topology() -> String {
    let (rs1, rs2) = (rip(1), rip(2));
    format!(
        "\
client   {CLIENT}  ─┬─ one segment; clients connect to the VIP {VIP}
director {DIP}   ─┤
rs1      {rs1} ─┤
rs2      {rs2} ─┘
"
    )
}

/// How the program runs, as the kernel tells it.
fn attachment(lab: &Lab) -> Result<String> {
    let (number, mode) = lab
        .director()
        .xdp_program("eth0")?
        .context("there is no XDP program on the director's eth0")?;
    let mode = match mode {
        Mode::Native => "native (in the driver)",
        Mode::Generic => "generic (after the driver)",
    };
    Ok(format!("XDP program {number} on the director's eth0, {mode}"))
}

/// Shows how the director is attached, who answers at the VIP and what the director lists, and makes sure that the answers
/// alternate.
fn show(lab: &Lab, director: &Director) -> Result<()> {
    println!("{}\n", attachment(lab)?);
    let mut pages = Vec::new();
    for _ in 0..REQUESTS {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        let page = lab.client().curl(&format!("http://{VIP}/"))?;
        println!("client$ curl {VIP}\n{page}");
        pages.push(page);
    }
    println!("\ndirector$ lbx list\n{}", director.list_text(&[])?);
    let alternates = pages.windows(2).all(|pair| pair[0] != pair[1]);
    let both = ["rs1 nginx", "rs2 nginx"]
        .iter()
        .all(|page| pages.iter().any(|other| other == page));
    if !alternates || !both {
        bail!("the answers do not alternate between the two real servers: {pages:?}");
    }
    Ok(())
}

/// Waits for Enter, the end of the input, or a signal.
fn keep(lab: &Lab) -> Result<()> {
    println!("The cluster stays. In another shell, as root:");
    for host in lab.hosts() {
        println!(
            "  nsenter --net=/run/netns/{} bash   # {}",
            host.namespace().name(),
            host.name()
        );
    }
    print!("Enter or Ctrl-C ends it. ");
    io::stdout().flush()?;
    let input = io::stdin();
    let mut ready = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    while !INTERRUPTED.load(Ordering::Relaxed) {
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
    println!();
    Ok(())
}

/// Has signals end what is under way, so that the lab is taken down as usual, instead of ending us.
fn clear_away_on_signals() -> Result<()> {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    // No SA_RESTART: a signal must end the wait for Enter.
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic, which is safe in a signal handler.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}
