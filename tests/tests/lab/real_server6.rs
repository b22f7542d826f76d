//! `lbx realserver` with IPv6, several VIPs and reloads.

use std::{fs, net::Ipv6Addr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    host::Host,
    lab::{Lab, VIP},
    lbx::{self, Agent},
    netns::LIMIT,
    wait,
};
use nix::sys::signal::Signal;

use crate::setup::Snapshot;

crate::harness::tests!(Lbx:
    an_ipv6_vip_is_taken_and_nobody_is_told,
    an_ipv6_vip_that_is_missing_fails_the_check_and_is_undone,
    a_vip_that_cannot_be_had_keeps_no_other_away,
    a_reload_takes_and_leaves_vips,
    agents_of_one_name_on_two_hosts,
);

const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const RIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x185);
/// Its last three bytes are those of the RIP: solicitations for the one reach whoever has the other.
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0xff, 0, 0x185);

/// Exit statuses of the README; written down here once more because they must not change.
const NETWORK: i32 = 5;
const CHECK_FAILED: i32 = 7;

/// A lab whose client and rs1 speak IPv6 too.
fn lab() -> Result<Lab> {
    let lab = Lab::with_real_servers(1)?;
    for (host, address) in [(lab.client(), CLIENT6), (lab.real_server(1), RIP6)] {
        for conf in ["all", "lo", "eth0"] {
            host.set_sysctl(&format!("ipv6/conf/{conf}/disable_ipv6"), "0")?;
        }
        host.ip(&format!("address add {address}/64 dev eth0 nodad"))?;
    }
    Ok(lab)
}

fn once(lab: &Lab, vips: &[&str]) -> Result<lbx_tests::process::Output> {
    let mut arguments: Vec<_> = vips.iter().flat_map(|vip| ["--vip", vip]).collect();
    arguments.push("--once");
    lbx::real_server(lab.real_server(1), lab.id(), &arguments)
}

fn answers(host: &Host, address: Ipv6Addr) -> Result<bool> {
    let output = host.run(["ping", "-n", "-c", "1", "-w", "2", &address.to_string()])?;
    Ok(output.stdout.contains(" 0% packet loss"))
}

/// What the client has found out about the VIP's MAC address.
fn neighbour(lab: &Lab) -> Result<String> {
    lab.client().ip(&format!("-6 neighbour show {VIP6}"))
}

fn an_ipv6_vip_is_taken_and_nobody_is_told() -> Result<()> {
    let lab = lab()?;
    let (client, server) = (lab.client(), lab.real_server(1));
    once(&lab, &[&VIP6.to_string()])?.success()?;
    let on_lo = server.ip("-6 address show dev lo")?;
    ensure!(on_lo.contains(&format!("{VIP6}/128")), "{on_lo}");
    // It is no source address of what the host sends by itself.
    let route = server.ip(&format!("-6 route get {CLIENT6}"))?;
    ensure!(route.contains(&format!("src {RIP6} ")), "{route}");

    ensure!(answers(client, RIP6)?, "the segment does not work");
    ensure!(!answers(client, VIP6)?, "somebody answers for the VIP");
    let seen = neighbour(&lab)?;
    ensure!(!seen.contains("lladdr"), "the VIP was found on the segment: {seen}");
    // A frame that a director sends there is answered from the VIP.
    let mac = server.mac("eth0")?;
    client.ip(&format!("neighbour replace {VIP6} lladdr {mac} dev eth0 nud permanent"))?;
    ensure!(answers(client, VIP6)?, "the real server does not take the VIP");
    client.ip(&format!("neighbour delete {VIP6} dev eth0"))?;

    // The same question is answered where the VIP is on the NIC: the silence above was heard.
    server.ip(&format!("address add {VIP6}/128 dev eth0 nodad"))?;
    ensure!(answers(client, VIP6)?, "the question for the VIP reaches nobody");
    let checked = lbx::real_server(server, lab.id(), &["--vip", &VIP6.to_string(), "check"])?;
    ensure!(checked.code() == Some(CHECK_FAILED), "{checked}");
    ensure!(checked.stdout.contains("neighbour discovery"), "{checked}");
    Ok(())
}

fn an_ipv6_vip_that_is_missing_fails_the_check_and_is_undone() -> Result<()> {
    let lab = lab()?;
    let server = lab.real_server(1);
    let vip = VIP6.to_string();
    let before = Snapshot::of(server)?;
    let checked = lbx::real_server(server, lab.id(), &["--vip", &vip, "check"])?;
    ensure!(checked.code() == Some(CHECK_FAILED), "{checked}");
    ensure!(!checked.stdout.contains("arp_"), "ARP is of no concern: {checked}");
    let mut agent = Agent::start(server, lab.id(), VIP6)?;
    for _ in 0..2 {
        server.ip(&format!("address del {vip}/128 dev lo"))?;
        wait::until_true(LIMIT, "the VIP is back", || {
            Ok(server.ip("-6 address show dev lo")?.contains(&vip))
        })?;
    }
    ensure!(agent.stop(Signal::SIGTERM)?.success(), "the agent does not end well");
    lbx::real_server(server, lab.id(), &["--undo"])?.success()?;
    before.expect(server)
}

fn a_vip_that_cannot_be_had_keeps_no_other_away() -> Result<()> {
    let lab = lab()?;
    let server = lab.real_server(1);
    server.ip(&format!("address add {VIP}/32 dev eth0"))?;
    let output = once(&lab, &[&VIP.to_string(), "192.168.1.161", &VIP6.to_string()])?;
    ensure!(output.code() == Some(NETWORK), "{output}");
    ensure!(
        output.stderr.contains("192.168.1.160 on no NIC but lo: not met"),
        "{output}"
    );
    let on_lo = server.ip("address show dev lo")?;
    for vip in ["192.168.1.161/32", &format!("{VIP6}/128")] {
        ensure!(on_lo.contains(vip), "{vip} is missing\n{on_lo}");
    }
    ensure!(!on_lo.contains("192.168.1.160"), "{on_lo}");
    // With none that can be had nothing is done.
    let output = once(&lab, &[&VIP.to_string()])?;
    ensure!(output.code() == Some(NETWORK), "{output}");
    ensure!(output.stderr.contains("nothing was changed"), "{output}");
    Ok(())
}

/// A configuration with these VIPs, all served by rs1 alone.
fn write(lab: &Lab, vips: &[&str]) -> Result<PathBuf> {
    let file = lab.real_server(1).directory().join("lb.yaml");
    let services: String = vips
        .iter()
        .map(|vip| format!("  - {{vip: {vip}, port: 80, realservers: [192.168.1.185]}}\n"))
        .collect();
    fs::write(&file, format!("interface: eth0\nservices:\n{services}"))?;
    Ok(file)
}

fn a_reload_takes_and_leaves_vips() -> Result<()> {
    let lab = lab()?;
    let server = lab.real_server(1);
    let file = write(&lab, &["192.168.1.160", "192.168.1.161"])?;
    let file_name = file.display().to_string();
    let mut agent = Agent::begin(server, lab.id(), &["--config", &file_name])?;
    let has = |vips: &[&str]| -> Result<bool> {
        let on_lo = server.ip("address show dev lo")?;
        let all = ["192.168.1.160", "192.168.1.161", "192.168.1.162"];
        Ok(all.iter().all(|vip| on_lo.contains(vip) == vips.contains(vip)))
    };
    wait::until_true(LIMIT, "the VIPs of the file", || {
        has(&["192.168.1.160", "192.168.1.161"])
    })?;
    write(&lab, &["192.168.1.160", "192.168.1.162"])?;
    agent.signal(Signal::SIGHUP)?;
    wait::until_true(LIMIT, "the VIPs of the new file", || {
        has(&["192.168.1.160", "192.168.1.162"])
    })?;
    fs::write(&file, "nonsense")?;
    agent.signal(Signal::SIGHUP)?;
    wait::until_true(LIMIT, "the refusal", || Ok(agent.log().contains("reload refused")))?;
    ensure!(
        has(&["192.168.1.160", "192.168.1.162"])?,
        "a bad file changed something"
    );
    ensure!(agent.stop(Signal::SIGTERM)?.success(), "the agent does not end well");
    lbx::real_server(server, lab.id(), &["--undo"])?.success()?;
    ensure!(has(&[])?, "a VIP was not undone");
    Ok(())
}

fn agents_of_one_name_on_two_hosts() -> Result<()> {
    let lab = Lab::with_real_servers(2)?;
    let before = lab.real_servers().map(Snapshot::of).collect::<Result<Vec<_>>>()?;
    let mut agents = lab
        .real_servers()
        .map(|host| Agent::start(host, lab.id(), VIP))
        .collect::<Result<Vec<_>>>()
        .context("two real servers of one name")?;
    for agent in &mut agents {
        agent.stop(Signal::SIGTERM)?;
    }
    for (host, before) in lab.real_servers().zip(before) {
        lbx::real_server(host, lab.id(), &["--undo"])?.success()?;
        before.expect(host)?;
    }
    Ok(())
}
