//! What many real servers cost. Measured with a release build only, as `cargo xtask test` makes it; by hand:
//!
//! ```text
//! cargo xtask build
//! LBX_BINARY=$PWD/target/release/lbx cargo test -p lbx-tests --test lab health::cost -- --nocapture
//! ```

use std::{fs, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, RealServer, Service},
    host::Host,
    lab::{Lab, VIP},
    lbx::Director,
    manual_setup, patience,
    servers::TcpServer,
    wait,
};

crate::harness::tests!(Release:
    a_thousand_servers_every_second,
    ten_thousand_servers_without_checks,
);

const SERVERS: u16 = 1_000;
/// The part of a processor core that their checks may take; of a slower machine, more.
const PART: f64 = 0.2;
/// How long it is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// The n-th address of rs1, all of them in 10.0.0.0/16.
const fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, 1 + high, low)
}

/// Gives a host addresses, all at once.
fn give(host: &Host, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<()> {
    let lines: String = addresses
        .map(|address| format!("address add {address}/16 dev eth0\n"))
        .collect();
    let file = host.directory().join("addresses");
    fs::write(&file, lines)?;
    host.ip(&format!("-batch {}", file.display())).map(drop)
}

fn a_thousand_servers_every_second() -> Result<()> {
    let lab = Lab::with_real_servers(1)?;
    let host = lab.real_server(1);
    manual_setup::make_real_server(host, VIP)?;
    give(host, (0..SERVERS).map(address))?;
    give(lab.director(), std::iter::once(Ipv4Addr::new(10, 0, 0, 1)))?;
    let door = TcpServer::open_door(host, 80)?;
    let mut service = Service::web("rr", 0).with("health", "{ tcp: {}, interval: 1s, timeout: 1s }");
    service.servers = (0..SERVERS).map(|number| RealServer::new(address(number), 1)).collect();
    let director = Director::start(&lab, &Cluster::from(service))?;
    let up = || -> Result<usize> {
        let json = director.json()?;
        let servers = json["services"][0]["servers"].as_array().cloned().unwrap_or_default();
        Ok(servers.iter().filter(|server| server["state"] == "up").count())
    };
    let all = usize::from(SERVERS);
    wait::until_true(Duration::from_secs(20), "all are up", || {
        thread::sleep(Duration::from_millis(500));
        Ok(up()? == all)
    })
    .map_err(|error| error.context(format!("{:?} are up", up())))?;
    let (before, probed) = (director.processor_time()?, door.taken());
    thread::sleep(WINDOW);
    let taken = (director.processor_time()? - before).as_secs_f64() / WINDOW.as_secs_f64();
    let probes = door.taken() - probed;
    println!("checks of {SERVERS} real servers take {:.1} % of a core", taken * 100.0);
    ensure!(up()? == all, "{} of {SERVERS} are up: nothing was measured", up()?);
    let wanted = u64::from(SERVERS) * WINDOW.as_secs();
    let due = wanted as f64 / patience::slowness();
    ensure!(probes as f64 >= due * 0.9, "{probes} probes instead of {due}");
    ensure!(taken < PART * patience::slowness(), "{:.1} % of a core", taken * 100.0);
    let sockets = lab.director().run(["ss", "-Htan"])?.success()?;
    let waiting = sockets.lines().filter(|line| line.starts_with("TIME-WAIT")).count();
    ensure!(waiting == 0, "{waiting} ports are taken");
    Ok(())
}

/// What is left without checks: MAC addresses, each solicited every four seconds.
fn ten_thousand_servers_without_checks() -> Result<()> {
    const SERVERS: u16 = 10_000;
    const PER_SERVICE: u16 = 2_000;
    // 2.4 % alone on the machine, more beside other tests.
    const PART: f64 = 0.05;
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, 64, high, low)
    };
    let lab = Lab::with_real_servers(1)?;
    let host = lab.real_server(1);
    host.ip("address add 10.0.0.2/8 dev eth0")?;
    lab.director().ip("address add 10.0.0.1/8 dev eth0")?;
    // It has all of these addresses.
    host.ip("route add local 10.64.0.0/10 dev lo")?;
    let service = |number: u16| {
        let mut service = Service::web("wlc", 0).on("tcp", 80 + number).with("slots", 16_381);
        let numbers = number * PER_SERVICE..(number + 1) * PER_SERVICE;
        service.servers = numbers.map(|number| RealServer::new(address(number), 1)).collect();
        service
    };
    let mut cluster = Cluster::from(service(0));
    cluster.services.extend((1..SERVERS / PER_SERVICE).map(service));
    let director = Director::start(&lab, &cluster)?;
    wait::until_true(Duration::from_secs(30), "all are resolved", || {
        thread::sleep(Duration::from_secs(1));
        Ok(director.log().matches(" up: MAC address").count() == usize::from(SERVERS))
    })?;
    thread::sleep(Duration::from_secs(5));
    let before = director.processor_time()?;
    thread::sleep(WINDOW);
    let taken = (director.processor_time()? - before).as_secs_f64() / WINDOW.as_secs_f64();
    println!(
        "{SERVERS} real servers without checks take {:.1} % of a core",
        taken * 100.0
    );
    ensure!(taken < PART * patience::slowness(), "{:.1} % of a core", taken * 100.0);
    Ok(())
}
