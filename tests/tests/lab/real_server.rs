//! `lbx realserver`: what makes a host a real server, keeps it one, and undoes it.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::Service,
    host::Host,
    lab::{Builder, CLIENT, Lab, VIP, rip},
    lbx::{self, Agent, Director},
    manual_setup,
    netns::Namespace,
    nginx::Nginx,
    patience,
    process::{self, Output},
    wait,
};
use nix::sys::signal::Signal;

use crate::setup::{PAGE, Snapshot};

crate::harness::tests!(Lbx:
    once_makes_a_real_server,
    a_second_run_changes_nothing,
    check_finds_what_is_wrong,
    an_address_taken_away_comes_back,
    a_setting_changed_is_changed_back,
    undo_restores,
    undo_restores_what_the_operator_had_set,
    a_cluster_of_lbx_alone,
    a_kernel_of_4_18_makes_a_real_server,
    a_kernel_of_4_18_makes_no_director,
    files_of_dead_namespaces_go_with_the_next_start,
);

/// Exit status of a check that found something.
const CHECK_FAILED: i32 = 7;
/// How soon the agent must have put right what somebody broke.
const SOON: Duration = Duration::from_secs(2);

/// A lab of one real server, and `lbx realserver` on it.
struct Subject {
    lab: Lab,
}

impl Subject {
    fn new() -> Result<Self> {
        Ok(Self {
            lab: lab_without_director(1)?,
        })
    }

    fn host(&self) -> &Host {
        self.lab.real_server(1)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        lbx::real_server(self.host(), self.lab.id(), arguments)
    }

    fn once(&self) -> Result<()> {
        self.run(&["--vip", &VIP.to_string(), "--once"])?.success().map(drop)
    }

    fn check(&self) -> Result<Output> {
        self.run(&["--vip", &VIP.to_string(), "check"])
    }

    fn undo(&self) -> Result<()> {
        self.run(&["--undo"])?.success().map(drop)
    }
}

/// A client and real servers. Kernels that are too old for a director do.
fn lab_without_director(count: u8) -> Result<Lab> {
    let client = Lab::builder().host("client", &[CLIENT]);
    let add = |builder: Builder, number| builder.host(&format!("rs{number}"), &[rip(number)]);
    (1..=count).fold(client, add).build()
}

fn once_makes_a_real_server() -> Result<()> {
    let subject = Subject::new()?;
    let (host, client) = (subject.host(), subject.lab.client());
    subject.once()?;
    let addresses = host.ip("address show dev lo")?;
    ensure!(addresses.contains(&format!("{VIP}/32")), "{addresses}");
    let answers = client.arp_probe(VIP)?;
    ensure!(answers.is_empty(), "{answers:?} answers ARP for the VIP");
    let _nginx = Nginx::start(host)?;
    manual_setup::pin_neighbour(client, VIP, host.mac("eth0")?)?;
    let page = client.curl(PAGE)?;
    ensure!(page == "rs1 nginx", "{page:?}");
    // arp_announce: the VIP is no sender address of ARP requests, or the client would learn it.
    ensure!(
        host.sysctl("ipv4/conf/all/arp_announce")? == "2",
        "arp_announce is not 2"
    );
    Ok(())
}

fn a_second_run_changes_nothing() -> Result<()> {
    let subject = Subject::new()?;
    subject.once()?;
    let once = Snapshot::of(subject.host())?;
    subject.once()?;
    once.expect(subject.host())
}

fn check_finds_what_is_wrong() -> Result<()> {
    let subject = Subject::new()?;
    let host = subject.host();
    let expect_failure = |word: &str| {
        let output = subject.check()?;
        ensure!(output.code() == Some(CHECK_FAILED), "{output}");
        ensure!(format!("{output}").contains(word), "no {word}: {output}");
        anyhow::Ok(())
    };
    expect_failure("192.168.1.160")?;
    subject.once()?;
    subject.check()?.success()?;
    host.ip(&format!("address del {VIP}/32 dev lo"))?;
    expect_failure("192.168.1.160")?;
    subject.once()?;
    host.set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
    host.set_sysctl("ipv4/conf/eth0/arp_ignore", "0")?;
    expect_failure("arp_ignore")
}

/// Breaks something under a running agent and waits until it is as before.
fn expect_repair(break_it: impl Fn(&Host) -> Result<()>) -> Result<()> {
    let subject = Subject::new()?;
    let host = subject.host();
    let mut agent = Agent::start(host, subject.lab.id(), VIP)?;
    let whole = Snapshot::of(host)?;
    for _ in 0..2 {
        break_it(host)?;
        let broken = Instant::now();
        wait::until_true(SOON * 3, "all is as before", || Ok(whole.expect(host).is_ok()))?;
        ensure!(
            broken.elapsed() <= patience::scaled(SOON),
            "put right only after {:?}",
            broken.elapsed()
        );
    }
    ensure!(agent.stop(Signal::SIGTERM)?.success(), "the agent does not end well");
    Ok(())
}

fn an_address_taken_away_comes_back() -> Result<()> {
    expect_repair(|host| host.ip(&format!("address del {VIP}/32 dev lo")).map(drop))
}

fn a_setting_changed_is_changed_back() -> Result<()> {
    expect_repair(|host| {
        host.set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
        host.set_sysctl("ipv4/conf/all/arp_announce", "0")
    })
}

fn undo_restores() -> Result<()> {
    let subject = Subject::new()?;
    let before = Snapshot::of(subject.host())?;
    subject.once()?;
    subject.undo()?;
    before.expect(subject.host())?;
    // Nothing to undo is no failure.
    subject.undo()?;
    before.expect(subject.host())
}

fn undo_restores_what_the_operator_had_set() -> Result<()> {
    let subject = Subject::new()?;
    subject.host().set_sysctl("ipv4/conf/all/arp_announce", "1")?;
    subject.host().set_sysctl("ipv4/conf/lo/arp_ignore", "2")?;
    let before = Snapshot::of(subject.host())?;
    subject.once()?;
    // The second run must not take what the first has set for what was there before.
    subject.once()?;
    subject.undo()?;
    before.expect(subject.host())
}

fn a_cluster_of_lbx_alone() -> Result<()> {
    let lab = Lab::new()?;
    let mut running = Vec::new();
    for host in lab.real_servers() {
        let agent = Agent::start(host, &format!("{}-{}", lab.id(), host.name()), VIP)?;
        running.push((agent, Nginx::start(host)?));
    }
    let _director = Director::start(&lab, &Service::web("rr", 2).into())?;
    let pages = (0..6).map(|_| lab.client().curl(PAGE)).collect::<Result<Vec<_>>>()?;
    crate::setup::expect_turns(&pages, 2)
}

/// The kernel is taken for one without namespace cookies, strict dumps and origins of addresses. On such a kernel the variable
/// changes nothing.
fn run_on_old_kernel(host: &Host, arguments: &[&str]) -> Result<Output> {
    let program = lbx::binary()?.display().to_string();
    host.run(["env", "LBX_OLD_KERNEL=1", &program].iter().chain(arguments))
}

fn a_kernel_of_4_18_makes_a_real_server() -> Result<()> {
    const OTHER: &str = "192.168.1.161";
    let lab = lab_without_director(2)?;
    let (host, other) = (lab.real_server(1), lab.real_server(2));
    let (name, second) = (lab.id(), &format!("{}-second", lab.id()));
    let run = |host, name: &str, arguments: &[&str]| {
        let named = ["realserver", "--name", name];
        run_on_old_kernel(host, &[&named, arguments].concat())?.success()
    };
    let vip = VIP.to_string();
    let once = ["--vip", &vip, "--once"];
    // Added by the operator: lbx leaves it where it is.
    host.ip(&format!("address add {OTHER}/32 dev lo"))?;
    let before = Snapshot::of(host)?;
    for _ in 0..2 {
        run(host, name, &["--vip", &vip, "--vip", OTHER, "--once"])?;
    }
    run_on_old_kernel(host, &["realserver", "--vip", &vip, "check"])?.success()?;
    let answers = lab.client().arp_probe(VIP)?;
    ensure!(answers.is_empty(), "{answers:?} answers ARP for the VIP");
    // Another name finds it there, and another namespace has a state of its own.
    run(host, second, &once)?;
    let untouched = Snapshot::of(other)?;
    let undone = run(other, name, &["--undo"])?;
    ensure!(undone.contains("nothing to undo"), "{undone}");
    untouched.expect(other)?;
    let undone = run(host, name, &["--undo"])?;
    ensure!(undone.contains("0 VIPs removed"), "{undone}");
    ensure!(host.has_address(VIP)?, "the second real server has lost its VIP");
    let undone = run(host, second, &["--undo"])?;
    ensure!(undone.contains("1 VIPs removed"), "{undone}");
    before.expect(host)
}

fn a_kernel_of_4_18_makes_no_director() -> Result<()> {
    let lab = lab_without_director(1)?;
    let file = lab.directory().join("lb.yaml");
    let cluster = lbx_tests::cluster::Cluster::from(Service::web("rr", 2));
    std::fs::write(&file, cluster.to_string())?;
    let file = file.display().to_string();
    let output = run_on_old_kernel(lab.real_server(1), &["--config", &file, "--name", lab.id()])?;
    ensure!(output.code() == Some(4), "{output}");
    let reason = "kernel 4.18.0 is too old: a director needs 6.1 or newer";
    ensure!(output.to_string().contains(reason), "{output}");
    Ok(())
}

/// A container is gone, and its files go with the next start of an lbx anywhere; those of namespaces that live stay, whatever holds
/// these. Where some process cannot be looked into (of the sandbox that this machine may be), no namespace is known to be gone, and
/// nothing may be removed.
fn files_of_dead_namespaces_go_with_the_next_start() -> Result<()> {
    let lab = lab_without_director(2)?;
    let name = |number: &str| format!("{}-{number}", lab.id());
    let files = |number: &str| -> Result<usize> {
        let name = format!("realserver-{}.", name(number));
        let entries = fs::read_dir(lbx::RUN)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<Result<Vec<_>>>()?;
        Ok(names.iter().filter(|other| other.starts_with(&name)).count())
    };
    let all_seen = fs::read_link("/proc/1/ns/net").is_ok();
    let left = if all_seen { 0 } else { 2 };
    let vip = VIP.to_string();
    let once = ["--vip", &vip, "--once"];
    // No process is in it, and it is mounted.
    lbx::real_server(lab.real_server(1), &name("mounted"), &once)?.success()?;
    // Neither process nor mount: an open file holds it.
    let held = Namespace::create(&name("held"))?;
    real_server_in(&held, &name("held"), &once)?;
    let mount = Path::new(lbx_tests::netns::DIRECTORY).join(held.name());
    ensure!(Command::new("umount").arg("--lazy").arg(mount).status()?.success());
    let dead = Namespace::create(&name("dead"))?;
    real_server_in(&dead, &name("dead"), &once)?;
    let counts = ["dead", "mounted", "held"].map(files);
    ensure!(counts.iter().all(|count| matches!(count, Ok(2))), "{counts:?}");
    drop(dead);
    // Tests beside this one start an lbx as well.
    let gone_before = files("dead")? == 0;
    let next = lbx::real_server(lab.real_server(2), &name("next"), &once)?;
    let said = next
        .stderr
        .contains("files of network namespaces that are gone removed");
    ensure!(said == (all_seen && !gone_before), "{next}");
    ensure!(files("dead")? == left, "{} files left: {next}", files("dead")?);
    ensure!(
        files("mounted")? == 2 && files("held")? == 2,
        "those of the living go: {next}"
    );
    drop(held);
    // A director looks too.
    let _director = Director::start(&Lab::with_real_servers(2)?, &Service::web("rr", 2).into())?;
    ensure!(files("held")? == left, "{} files left", files("held")?);
    ensure!(files("mounted")? == 2, "those of the living go");
    Ok(())
}

fn real_server_in(namespace: &Namespace, name: &str, arguments: &[&str]) -> Result<()> {
    process::run(
        namespace.command("ip").args(["link", "set", "lo", "up"]),
        Duration::from_secs(20),
    )?
    .success()?;
    let mut command = namespace.command(lbx::binary()?);
    command.args(["realserver", "--name", name]).args(arguments);
    process::run(&mut command, Duration::from_secs(20))?.success().map(drop)
}
