//! What happens to NICs under a running director.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    bpffs,
    clients::Connection,
    cluster::{Cluster, Service},
    lab::{Lab, VIP},
    lbx::{self, Director},
    nginx::Nginx,
    servers::TcpServer,
    wait,
    xdp::{self, Mode},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::setup::{PAGE, Site, Snapshot, expect_turns, on_segment_2, reload, start_real_servers, two_segments, web};

crate::harness::tests!(Lbx:
    a_detached_program_is_attached_again,
    a_pin_that_was_removed_is_made_again,
    pins_that_were_removed_are_made_again,
    a_bpffs_mounted_over_the_pins_changes_nothing,
    a_foreign_program_in_between_is_left_alone,
    a_removed_nic_affects_only_its_own_real_servers,
    another_nic_of_the_same_index_is_not_taken_for_the_former_one,
    a_nic_that_is_down_for_a_moment_changes_nothing,
    an_address_that_is_gone_for_a_moment_changes_nothing,
    a_route_that_is_gone_for_a_moment_changes_nothing,
    an_address_that_is_gone_for_good_loses_the_real_servers,
    packets_are_not_joined_while_the_program_is_generic,
    a_nic_that_is_too_narrow_is_refused,
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
    // Without the program the director's own stack refuses the connection.
    wait::until_true(SOON, "clients are served again", || Ok(site.pages(1).is_ok()))?;
    expect_turns(&site.pages(4)?, 2)?;
    let log = site.director.log();
    ensure!(
        log.contains("XDP program detached from eth0 by another process"),
        "it does not say so:\n{log}"
    );
    Ok(())
}

fn a_detached_program_is_attached_again() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    expect_turns(&site.pages(4)?, 2)?;
    for _ in 0..2 {
        detach(&site)?;
        expect_attached_again(&site)?;
    }
    Ok(())
}

/// The daemon holds what is pinned: whatever becomes of the pins, packets are forwarded, and a next daemon finds them.
fn a_pin_that_was_removed_is_made_again() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let pin = pin(&site)?;
    fs::remove_file(&pin)?;
    expect_turns(&site.pages(4)?, 2)?;
    expect_pinned_again(&site, || Ok(pin.exists()))?;
    ensure!(!site.director.log().contains("detached"), "{}", site.director.log());
    Ok(())
}

fn expect_pinned_again(site: &Site<Nginx>, condition: impl Fn() -> Result<bool>) -> Result<()> {
    wait::until_true(SOON, "the pins are there again", &condition)?;
    wait::until_true(SOON, "it is logged", || {
        Ok(site
            .director
            .log()
            .contains("removed or covered by a mount; pinned again"))
    })?;
    expect_turns(&site.pages(4)?, 2)?;
    ensure!(
        !site.director.log().contains("another XDP program"),
        "{}",
        site.director.log()
    );
    site.director.expect_no_drops()
}

/// Everything is removed; a reload and the next daemon after a kill work as if nothing had been.
fn pins_that_were_removed_are_made_again() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    expect_turns(&site.pages(4)?, 2)?;
    let pins = bpffs::pins_of(site.director.name());
    let count = || -> Result<usize> {
        let mut count = 0;
        for version in fs::read_dir(&pins)? {
            count += fs::read_dir(version?.path())?.count();
        }
        Ok(count)
    };
    let before = count()?;
    fs::remove_dir_all(&pins)?;
    expect_turns(&site.pages(4)?, 2)?;
    expect_pinned_again(&site, || Ok(pins.exists() && count()? == before))?;
    reload(&site.director, Service::weighted("rr", &[1, 2]))?;
    site.director.kill()?;
    site.director.restart()?;
    ensure!(
        site.director.log().contains("adopted the maps"),
        "{}",
        site.director.log()
    );
    expect_turns(&site.pages(4)?, 2)?;
    site.director.stop(Signal::SIGTERM)?;
    ensure!(!pins.exists(), "pins stay after a stop");
    Ok(())
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

/// A director that reaches rs1 by eth0, where the clients are, and rs2 by eth1.
fn by_two_nics() -> Result<Site<Nginx>> {
    let mut service = Service::web("rr", 2);
    service.servers[1].address = on_segment_2(190).into();
    let cluster = Cluster::from(service);
    let site = Site::start_in(two_segments()?, &cluster, Nginx::start)?;
    expect_turns(&site.pages(4)?, 2)?;
    Ok(site)
}

fn a_removed_nic_affects_only_its_own_real_servers() -> Result<()> {
    let site = by_two_nics()?;
    site.lab.director().ip("link delete eth1")?;
    wait::until_true(SOON, "rs2 is given up", || {
        Ok(site
            .director
            .log()
            .contains("configuration do not match, or the kernel refused a change; skipped, retrying"))
    })?;
    let note = "192.168.2.190: not reachable: there is no route to it; it gets no connections";
    wait::until_true(SOON, "the listing says why", || {
        Ok(site.director.list_text(&[])?.contains(note))
    })?;
    let pages = site.pages(4)?;
    ensure!(pages.iter().all(|page| page == "rs1"), "{pages:?}");
    // A change of the file is still taken, as long as it fits.
    site.director
        .reload(&Cluster::from(Service::web("rr", 1)).to_string())?;
    wait::until_true(SOON, "the reload", || Ok(site.director.log().contains("reloaded")))
}

fn another_nic_of_the_same_index_is_not_taken_for_the_former_one() -> Result<()> {
    let site = by_two_nics()?;
    let director = site.lab.director();
    let index = director.interface_index("eth1")?;
    director.ip("link delete eth1")?;
    director.ip(&format!("link add eth1 index {index} type veth peer name other"))?;
    let _foreign = xdp::attach(director.namespace(), "eth1", &xdp::pass(), Mode::Native)?;
    let foreign_id = director.xdp_program("eth1")?;
    for step in [
        "link set other up",
        "link set eth1 up",
        "address add 192.168.2.2/24 dev eth1",
    ] {
        director.ip(step)?;
    }
    wait::until_true(SOON, "the complaint", || {
        let log = site.director.log();
        Ok(log.contains("interface eth1") && log.contains("another XDP program is attached"))
    })?;
    ensure!(
        director.xdp_program("eth1")? == foreign_id,
        "the foreign program was replaced"
    );
    let pages = site.pages(4)?;
    ensure!(pages.iter().all(|page| page == "rs1"), "{pages:?}");
    Ok(())
}

fn a_nic_that_is_down_for_a_moment_changes_nothing() -> Result<()> {
    let site = by_two_nics()?;
    let director = site.lab.director();
    for nic in ["eth1", "eth0"] {
        director.set_up(nic, false)?;
        thread::sleep(Duration::from_millis(1_500));
        director.set_up(nic, true)?;
        wait::until_true(SOON, "it works again", || Ok(site.pages(2).is_ok()))?;
        expect_turns(&site.pages(4)?, 2)?;
    }
    let log = site.director.log();
    ensure!(!log.contains("configuration do not match"), "{log}");
    ensure!(director.has_address(VIP)?, "the VIP is gone");
    Ok(())
}

fn packets_are_not_joined_while_the_program_is_generic() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.director();
    host.set_offload("eth0", "gro", true)?;
    let before = Snapshot::of(host)?;
    let joins = || -> Result<bool> {
        let features = host.run(["ethtool", "--show-features", "eth0"])?.success()?;
        Ok(features.contains("generic-receive-offload: on"))
    };
    let mut cluster = Cluster::from(Service::web("rr", 2));
    let mut native = Director::start(&lab, &cluster)?;
    ensure!(joins()?, "a native program is given packets as they come in");
    native.stop(Signal::SIGTERM)?;
    before.expect(host)?;

    cluster.mode = "generic";
    let mut director = Director::start(&lab, &cluster)?;
    ensure!(!joins()?, "a generic program is given joined packets");
    director.kill()?;
    director.restart()?;
    ensure!(!joins()?, "the second director has turned it on");
    director.stop(Signal::SIGTERM)?;
    before.expect(host)
}

fn a_nic_that_is_too_narrow_is_refused() -> Result<()> {
    let mut service = Service::web("rr", 2);
    service.servers[1].address = on_segment_2(190).into();
    let cluster = Cluster::from(service);
    let lab = two_segments()?;
    lab.director().ip("link set eth1 mtu 1400")?;
    let output = Director::refused(lab.director(), lab.id(), &cluster.to_string())?;
    ensure!(output.stderr.contains("behind eth1 with MTU 1400"), "{output}");
    // Under a running director it costs the real servers behind it alone, until it is wide enough again.
    lab.director().ip("link set eth1 mtu 1500")?;
    let site = Site::start_in(lab, &cluster, Nginx::start)?;
    expect_turns(&site.pages(4)?, 2)?;
    site.lab.director().ip("link set eth1 mtu 1400")?;
    let only_rs1 = || Ok(site.pages(4)?.iter().all(|page| page == "rs1"));
    wait::until_true(SOON, "rs2 is left out", only_rs1)?;
    site.lab.director().ip("link set eth1 mtu 1500")?;
    wait::until_true(SOON, "rs2 is back", || Ok(!only_rs1()?))?;
    expect_turns(&site.pages(4)?, 2)
}

/// Start scripts mount bpffs without looking: in the mount namespace of this director alone here, so that no other is
/// disturbed.
fn a_bpffs_mounted_over_the_pins_changes_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = start_real_servers(&lab, &[VIP.into()].into(), Nginx::start)?;
    let host = lab.director();
    let name = lab.id();
    let file = host.directory().join("covered.yaml");
    fs::write(&file, Cluster::from(Service::web("rr", 2)).to_string())?;
    // SIGUSR1 is not lbx's: the shell that holds the namespace mounts by it.
    let script = format!(
        "trap 'mount -t bpf bpf /sys/fs/bpf' USR1; {} --config {} --name {name} & while kill -0 $!; do wait; done",
        lbx::binary()?.display(),
        file.display()
    );
    let mut shell = host.spawn(
        "covered",
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script],
    )?;
    let served = || Ok(lab.client().curl(PAGE).is_ok());
    wait::until_true(SOON * 2, "clients are served", served)?;
    shell.signal(Signal::SIGUSR1)?;
    wait::until_true(SOON, "it is logged", || {
        Ok(shell.log().contains("removed or covered by a mount; pinned again"))
    })?;
    let page = |_| Ok(lab.client().curl(PAGE)?.replace(" nginx", ""));
    for _ in 0..3 {
        expect_turns(&(0..4).map(page).collect::<Result<Vec<_>>>()?, 2)?;
        thread::sleep(Duration::from_millis(500));
    }
    let log = shell.log();
    ensure!(!log.contains("detached") && !log.contains("another XDP"), "{log}");
    let program = lbx::binary()?.display().to_string();
    let listed = host.run([&program, "list", "--name", name, "--json"])?.success()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let pid = listed["pid"].as_i64().context("no pid")?;
    signal::kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
    wait::until_true(SOON, "it has stopped", || Ok(shell.ended()?.is_some()))?;
    ensure!(
        host.xdp_program("eth0")?.is_none(),
        "the program stays:\n{}",
        shell.log()
    );
    Ok(())
}

/// Servers that greet, with checks, and a connection to each.
fn with_connections(grace: &'static str) -> Result<(Site<TcpServer>, Vec<Connection>)> {
    let mut cluster =
        Cluster::from(Service::web("rr", 2).with("health", "{ tcp: {}, interval: 300ms, timeout: 200ms }"));
    cluster.network_grace = Some(grace);
    let site = Site::start(cluster, |host| TcpServer::start(host, 80))?;
    for number in [1, 2] {
        site.director.wait_for(80, lbx_tests::lab::rip(number), "up", SOON)?;
    }
    let open = |_| site.client().enter(|| Connection::open(0, crate::setup::WEB))?;
    let connections = (0..2).map(open).collect::<Result<Vec<_>>>()?;
    Ok((site, connections))
}

fn expect_kept(site: &Site<TcpServer>, connections: &mut [Connection], gone: &str, back: &str) -> Result<()> {
    let director = site.lab.director();
    director.ip(gone)?;
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(700));
        connections
            .iter_mut()
            .try_for_each(|connection| connection.echo("while it is gone"))?;
    }
    let log = site.director.log();
    ensure!(
        log.contains("real server is no longer on-link") && !log.contains(" down:"),
        "{log}"
    );
    director.ip(back)?;
    wait::until_true(SOON, "the route is back", || {
        Ok(site.director.log().matches("route to the real server is back").count() == 2)
    })?;
    thread::sleep(Duration::from_millis(1_500));
    connections
        .iter_mut()
        .try_for_each(|connection| connection.echo("and after it"))?;
    site.client().enter(|| Connection::open(0, crate::setup::WEB))??;
    let log = site.director.log();
    ensure!(!log.contains(" down:") && !log.contains("ARP unresolved"), "{log}");
    site.director.expect_no_drops()
}

/// As systemd-networkd does when it restarts.
fn an_address_that_is_gone_for_a_moment_changes_nothing() -> Result<()> {
    let (site, mut connections) = with_connections("30s")?;
    let address = format!("{}/24 dev eth0", lbx_tests::lab::DIP);
    expect_kept(
        &site,
        &mut connections,
        &format!("address del {address}"),
        &format!("address add {address}"),
    )
}

fn a_route_that_is_gone_for_a_moment_changes_nothing() -> Result<()> {
    let (site, mut connections) = with_connections("30s")?;
    let route = format!("192.168.1.0/24 dev eth0 scope link src {}", lbx_tests::lab::DIP);
    expect_kept(
        &site,
        &mut connections,
        "route del 192.168.1.0/24 dev eth0",
        &format!("route add {route}"),
    )
}

fn an_address_that_is_gone_for_good_loses_the_real_servers() -> Result<()> {
    let (site, _connections) = with_connections("2s")?;
    site.lab
        .director()
        .ip(&format!("address del {}/24 dev eth0", lbx_tests::lab::DIP))?;
    wait::until_true(SOON * 2, "both are lost", || {
        let log = site.director.log();
        Ok(log.contains("is not on-link (there is no route to it)") && log.matches(" down:").count() >= 2)
    })
    .with_context(|| site.director.log())
}
