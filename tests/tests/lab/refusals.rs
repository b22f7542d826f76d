//! Where lbx must refuse: one clear message that names the object, the documented exit status, and nothing changed.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::{Cluster, RealServer, Service},
    lab::{DIP, DIP6, Lab},
    lbx::{self, Director},
    process::{Output, Process},
    xdp::{self, Mode},
};

use crate::setup::{Snapshot, expect_no_traces, expect_turns, web};

crate::harness::tests!(Lbx:
    an_interface_that_is_missing,
    an_interface_that_is_down,
    a_real_server_off_the_segment,
    a_real_server_that_is_the_director,
    all_ports_of_an_address_of_the_host,
    a_foreign_native_program,
    a_foreign_generic_program,
    another_director_on_the_nic,
    a_second_director_of_the_same_name,
    a_user_who_is_not_root,
    a_file_that_is_no_yaml,
    a_field_nobody_knows,
    a_file_that_is_missing,
);

/// The exit statuses of the README; written down here once more because they must not change.
mod status {
    pub const CONFIG: i32 = 3;
    pub const PRIVILEGE: i32 = 4;
    pub const NETWORK: i32 = 5;
    pub const RUNNING: i32 = 6;
}

fn standard() -> Cluster {
    Service::web("rr", 2).into()
}

/// That a run has refused: with this status and one message that holds all these words.
fn expect_refusal(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    ensure!(output.code() == Some(status), "status {status} expected\n{output}");
    let messages: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("lbx: ")).collect();
    let [message] = messages.as_slice() else {
        anyhow::bail!("{} messages instead of one\n{output}", messages.len())
    };
    // A cause that its error quotes as well is said twice.
    let parts: Vec<_> = message.split(": ").collect();
    let repeated = parts.iter().enumerate().find(|(at, part)| parts[..*at].contains(part));
    ensure!(repeated.is_none(), "says something twice: {message:?}");
    for word in words {
        ensure!(message.contains(word), "no {word} in the message {message:?}");
    }
    ensure!(!output.stderr.contains("panicked"), "{output}");
    Ok(())
}

/// That a director refuses this file and leaves its host as it was.
fn expect_refused(lab: &Lab, yaml: &str, status: i32, words: &[&str]) -> Result<()> {
    let before = Snapshot::of(lab.director())?;
    let output = Director::refused(lab.director(), lab.id(), yaml)?;
    expect_refusal(&output, status, words)?;
    before.expect(lab.director())?;
    expect_no_traces(lab.id())
}

fn an_interface_that_is_missing() -> Result<()> {
    let mut cluster = standard();
    cluster.interfaces = vec!["eth9".to_owned()];
    expect_refused(&Lab::new()?, &cluster.to_string(), status::NETWORK, &["eth9"])
}

fn an_interface_that_is_down() -> Result<()> {
    let lab = Lab::new()?;
    lab.director().set_up("eth0", false)?;
    expect_refused(&lab, &standard().to_string(), status::NETWORK, &["eth0", "down"])
}

fn a_real_server_off_the_segment() -> Result<()> {
    let mut service = Service::web("rr", 2);
    service.servers.push(RealServer::new(Ipv4Addr::new(10, 9, 9, 9), 1));
    expect_refused(
        &Lab::new()?,
        &Cluster::from(service).to_string(),
        status::NETWORK,
        &["10.9.9.9"],
    )
}

fn a_real_server_that_is_the_director() -> Result<()> {
    let mut service = Service::web("rr", 2);
    service.servers.push(RealServer::new(DIP, 1));
    expect_refused(
        &Lab::new()?,
        &Cluster::from(service).to_string(),
        status::NETWORK,
        &["192.168.1.2"],
    )
}

fn all_ports_of_an_address_of_the_host() -> Result<()> {
    let lab = Lab::new()?;
    for (family, own) in [
        (Service::web("rr", 2), DIP.to_string()),
        (Service::web("rr", 2).over_ipv6(), DIP6.to_string()),
    ] {
        for all in ["0", "all"] {
            let mut service = family.clone();
            service.vip = own.parse()?;
            service.ports = Some(all);
            let words = ["every port", &own, "eth0", "ssh"];
            expect_refused(&lab, &Cluster::from(service).to_string(), status::NETWORK, &words)?;
        }
    }
    Ok(())
}

fn a_foreign_native_program() -> Result<()> {
    expect_foreign_program_respected(Mode::Native)
}

fn a_foreign_generic_program() -> Result<()> {
    expect_foreign_program_respected(Mode::Generic)
}

fn expect_foreign_program_respected(mode: Mode) -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    let _foreign = xdp::attach(director.namespace(), "eth0", &xdp::pass(), mode)?;
    ensure!(
        director.xdp_program("eth0")?.is_some(),
        "the foreign program is not there"
    );
    expect_refused(&lab, &standard().to_string(), status::NETWORK, &["eth0", "XDP"])
}

/// That no address has come or gone while this watched. The director at work would put its VIP back at once, so what there
/// is afterwards tells nothing.
fn expect_no_change(addresses: &Process) -> Result<()> {
    let log = addresses.log();
    ensure!(!log.contains(" inet "), "addresses came and went:\n{log}");
    Ok(())
}

fn another_director_on_the_nic() -> Result<()> {
    let site = web(standard())?;
    let director = site.lab.director();
    let before = Snapshot::of(director)?;
    let name = format!("{}-other", site.lab.id());
    let addresses = director.watch_addresses()?;
    let output = Director::refused(director, &name, &standard().to_string())?;
    expect_no_change(&addresses)?;
    before.expect(director)?;
    expect_no_traces(&name)?;
    expect_refusal(&output, status::NETWORK, &["eth0", "XDP"])?;
    expect_turns(&site.pages(4)?, 2)
}

fn a_second_director_of_the_same_name() -> Result<()> {
    let site = web(standard())?;
    let director = site.lab.director();
    let before = Snapshot::of(director)?;
    let addresses = director.watch_addresses()?;
    let output = Director::refused(director, site.lab.id(), &standard().to_string())?;
    expect_refusal(&output, status::RUNNING, &[site.lab.id()])?;
    before.expect(director)?;
    expect_no_change(&addresses)?;
    expect_turns(&site.pages(4)?, 2)?;
    ensure!(site.director.list()?.len() == 1, "the first director does not answer");
    Ok(())
}

fn a_user_who_is_not_root() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    let before = Snapshot::of(director)?;
    // The build directory may be closed to others.
    let program = lab.directory().join("lbx");
    std::fs::copy(lbx::binary()?, &program).context("cannot copy lbx")?;
    let file = lab.directory().join("lb.yaml");
    std::fs::write(&file, standard().to_string())?;
    let (program, file) = (program.display().to_string(), file.display().to_string());
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let line = [&program, "--config", &file, "--name", lab.id()];
    let output = director.run(nobody.into_iter().chain(line))?;
    expect_refusal(&output, status::PRIVILEGE, &["root"])?;
    before.expect(director)?;
    expect_no_traces(lab.id())
}

fn a_file_that_is_no_yaml() -> Result<()> {
    let lab = Lab::new()?;
    expect_refused(&lab, "interface: [eth0\nservices:\n", status::CONFIG, &[".yaml:"])
}

fn a_field_nobody_knows() -> Result<()> {
    let yaml = standard().to_string().replace("scheduler:", "schedular:");
    expect_refused(
        &Lab::new()?,
        &yaml,
        status::CONFIG,
        &[".yaml:6", "schedular", "scheduler"],
    )
}

fn a_file_that_is_missing() -> Result<()> {
    let lab = Lab::new()?;
    let program = lbx::binary()?.display().to_string();
    let output = lab
        .director()
        .run([&program, "--config", "/nowhere/lb.yaml", "--name", lab.id()])?;
    expect_refusal(&output, status::CONFIG, &["/nowhere/lb.yaml"])?;
    expect_no_traces(lab.id())
}
