//! Two directors with one file, started in any order at any time: where the same real servers are up, every slot is the same
//! real server's on both, so that the other may take over.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::Director,
    notifications::Script,
    patience,
    servers::TcpServer,
    wait,
};

use crate::{
    setup::{WEB, reload, start_real_servers},
    slots::{expect_agreement, open_windows},
};

crate::harness::tests!(Lbx:
    two_directors_agree_as_soon_as_the_real_servers_are_up,
    they_agree_although_a_real_server_comes_later,
    they_agree_about_a_service_that_a_reload_adds,
    a_window_of_a_service_in_use_stays_open,
    a_new_service_waits_for_the_first_results_of_its_checks,
    a_service_begins_without_a_result_that_is_overdue,
    a_service_in_use_does_not_begin_anew_with_another_first_port,
);

const SERVERS: u8 = 5;
/// Until real servers are up.
const SOON: Duration = Duration::from_secs(10);
/// Until a window without traffic is closed: three ticks, and a scan every two seconds.
const CLOSED: Duration = Duration::from_secs(10);
/// Two numbers of slots, by which tests tell services apart.
const SLOTS: [u32; 2] = [1259, 2503];

/// The other director's address.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 3);

/// A lab with two directors, and servers on two ports of all real servers.
fn start() -> Result<(Lab, Vec<[TcpServer; 2]>)> {
    let base = Lab::builder()
        .host("client", &[CLIENT])
        .host("director", &[DIP])
        .host("director-b", &[OTHER]);
    let lab = (1..=SERVERS)
        .fold(base, |lab, number| lab.host(&format!("rs{number}"), &[rip(number)]))
        .build()?;
    let serve = |host: &Host| Ok([TcpServer::start(host, 80)?, TcpServer::start(host, 8080)?]);
    let servers = start_real_servers(&lab, &[VIP.into()].into(), serve)?;
    Ok((lab, servers))
}

fn check(interval: &str) -> String {
    format!("{{ tcp: {{}}, interval: {interval}, timeout: 500ms, rise: 1, fall: 2, initial: first }}")
}

fn web(slots: u32) -> Service {
    Service::web("maglev", SERVERS)
        .with("slots", slots)
        .with("health", check("500ms"))
}

/// Starts a director on a host after a delay.
fn begin(lab: &Lab, host: &str, cluster: &Cluster, delay: Duration) -> Result<Director> {
    thread::sleep(delay);
    let name = format!("{}-{host}", lab.id());
    Director::start_named(lab.host(host), &name, &cluster.to_string())
}

fn wait_up(director: &Director, port: u16, numbers: impl IntoIterator<Item = u8>) -> Result<()> {
    for number in numbers {
        director.wait_for(port, rip(number), "up", SOON)?;
    }
    Ok(())
}

fn wait_agreement(one: &Director, other: &Director) -> Result<()> {
    let mut last = Ok(());
    let agreed = wait::until_true(CLOSED, "they agree", || {
        last = expect_agreement(one, other);
        Ok(last.is_ok())
    });
    agreed.and(last)
}

/// A delay by chance, different in every run.
fn by_chance(most: Duration) -> Duration {
    let nanoseconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    most.mul_f64(f64::from(nanoseconds % 1000) / 1000.0)
}

/// The first results come in another order to each director: a check takes up to a second.
fn two_directors_agree_as_soon_as_the_real_servers_are_up() -> Result<()> {
    let (lab, _servers) = start()?;
    let pause = "sleep 0.$(( $(od -An -N1 -tu1 /dev/urandom) % 10 ))";
    let script = Script::create(lab.directory(), "check", pause)?;
    let exec = format!("exec: {{ command: [{}] }}", script.path().display());
    let health = format!("{{ {exec}, interval: 3s, timeout: 3s }}");
    let service = Service::web("maglev", SERVERS).with("slots", SLOTS[0]);
    let cluster = service.with("health", health).into();
    for round in 0..3 {
        let mut order = ["director", "director-b"];
        order.rotate_left(round % 2);
        let delay = by_chance(Duration::from_millis(700));
        let one = begin(&lab, order[0], &cluster, Duration::ZERO)?;
        let other = begin(&lab, order[1], &cluster, delay)?;
        for director in [&one, &other] {
            wait_up(director, 80, 1..=SERVERS)?;
        }
        // At once: no window has been opened.
        expect_agreement(&one, &other).with_context(|| format!("round {round}, after {delay:?}"))?;
    }
    Ok(())
}

/// A director was there before, and one comes later that has found all at its start.
fn they_agree_although_a_real_server_comes_later() -> Result<()> {
    let (lab, mut servers) = start()?;
    let cluster = web(SLOTS[0]).into();
    servers.remove(2);
    let active = begin(&lab, "director", &cluster, Duration::ZERO)?;
    let standby = begin(&lab, "director-b", &cluster, Duration::ZERO)?;
    for director in [&active, &standby] {
        wait_up(director, 80, [1, 2, 4, 5])?;
        director.wait_down(80, rip(3), "connection refused", SOON)?;
    }
    expect_agreement(&active, &standby).context("with one down")?;
    drop(standby);
    servers.push([
        TcpServer::start(lab.real_server(3), 80)?,
        TcpServer::start(lab.real_server(3), 8080)?,
    ]);
    wait_up(&active, 80, 1..=SERVERS)?;
    let cold = begin(&lab, "director-b", &cluster, Duration::ZERO)?;
    wait_up(&cold, 80, 1..=SERVERS)?;
    wait_agreement(&active, &cold)
}

fn they_agree_about_a_service_that_a_reload_adds() -> Result<()> {
    let (lab, _servers) = start()?;
    let mut cluster = Cluster::from(web(SLOTS[0]));
    let one = begin(&lab, "director", &cluster, Duration::ZERO)?;
    wait_up(&one, 80, 1..=SERVERS)?;
    cluster.services.push(web(SLOTS[1]).on("tcp", 8080));
    let other = begin(&lab, "director-b", &cluster, Duration::ZERO)?;
    reload(&one, cluster)?;
    for director in [&one, &other] {
        wait_up(director, 80, 1..=SERVERS)?;
        wait_up(director, 8080, 1..=SERVERS)?;
    }
    expect_agreement(&one, &other)
}

/// Its connections without a record depend on the owners.
fn a_window_of_a_service_in_use_stays_open() -> Result<()> {
    let (lab, _servers) = start()?;
    let mut cluster = Cluster::from(web(SLOTS[0]));
    let last = cluster.services[0].servers.pop().context("a real server")?;
    let director = begin(&lab, "director", &cluster, Duration::ZERO)?;
    wait_up(&director, 80, 1..SERVERS)?;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(lab.client().enter(|| Connection::open(0, WEB))??);
    }
    cluster.services[0].servers.push(last);
    reload(&director, cluster)?;
    wait_up(&director, 80, 1..=SERVERS)?;
    let opened = open_windows(&director)?;
    ensure!(opened > 0, "no window was opened");
    thread::sleep(patience::scaled(CLOSED));
    for connection in &mut held {
        connection.echo("still with its real server")?;
    }
    let open = open_windows(&director)?;
    ensure!(open == opened, "{open} of {opened} windows are open");
    Ok(())
}

fn a_new_service_waits_for_the_first_results_of_its_checks() -> Result<()> {
    let (lab, _servers) = start()?;
    // One takes its time: its first probe ends with the timeout.
    let rules =
        "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in tcp dport 80 drop";
    lab.real_server(3).run(["nft", rules])?.success()?;
    let health = "{ tcp: {}, interval: 4s, timeout: 4s, rise: 1, fall: 1 }";
    let service = Service::web("maglev", SERVERS - 1)
        .with("sorry_server", rip(SERVERS))
        .with("health", health);
    let director = begin(&lab, "director", &service.into(), Duration::ZERO)?;
    let waits = |state: &lbx_tests::server_states::ServerState| {
        state.state == "down"
            && state
                .reason
                .as_deref()
                .is_some_and(|reason| reason.contains("its service begins when"))
    };
    let passed = director.wait_state(80, rip(1), "waits", SOON, waits)?;
    ensure!(passed.effective_weight == 0, "{passed:?}");
    director.server_state(80, rip(3))?.expect_down("not probed yet")?;
    let sorry = director.json()?;
    ensure!(sorry["services"][0]["has_quorum"] == true, "{sorry:#}");
    let refused = lab
        .client()
        .enter(|| Connection::open_within(Duration::from_millis(500), 0, WEB))?;
    ensure!(refused.is_err(), "the service has begun");
    ensure!(!director.log().contains("up: health checks pass"), "{}", director.log());
    wait_up(&director, 80, [1, 2, 4])?;
    director.server_state(80, rip(3))?.expect_down("timed out")?;
    ensure!(open_windows(&director)? == 0, "a window was opened");
    lab.client().enter(|| Connection::open(0, WEB))??;
    Ok(())
}

fn a_service_begins_without_a_result_that_is_overdue() -> Result<()> {
    let (lab, _servers) = start()?;
    // It cannot be run, which says nothing of a real server.
    let command = lab.directory().join("no-program");
    std::fs::write(&command, "")?;
    let exec = format!("exec: {{ command: [{}] }}", command.display());
    let health = format!("{{ {exec}, interval: 500ms, timeout: 500ms }}");
    let service = Service::web("maglev", 2).with("health", health);
    let director = begin(&lab, "director", &service.into(), Duration::ZERO)?;
    let overdue = "first health check without a result after 1s; the service begins without it";
    for number in [1, 2] {
        let line = format!("real server {}: {overdue}", rip(number));
        wait::until_true(SOON, "the log says so", || Ok(director.log().contains(&line)))
            .with_context(|| director.log())?;
    }
    director.server_state(80, rip(1))?.expect_down("cannot probe")
}

/// The service of port 80 and 8080 becomes that of port 8080: another identity for the same connections.
fn a_service_in_use_does_not_begin_anew_with_another_first_port() -> Result<()> {
    let (lab, _servers) = start()?;
    let health = "{ tcp: {}, port: 80, interval: 500ms, timeout: 500ms }";
    let both = Service {
        ports: Some("[80, 8080]"),
        ..Service::web("maglev", SERVERS)
            .with("slots", SLOTS[0])
            .with("health", health)
    };
    let director = begin(&lab, "director", &both.into(), Duration::ZERO)?;
    wait_up(&director, 80, 1..=SERVERS)?;
    let web8080 = std::net::SocketAddrV4::new(VIP, 8080);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(lab.client().enter(|| Connection::open(0, web8080))??);
    }
    reload(&director, web(SLOTS[0]).on("tcp", 8080))?;
    for connection in &mut held {
        connection.echo("still with its real server")?;
    }
    director.server_state(8080, rip(1))?.expect("up")?;
    ensure!(open_windows(&director)? == 0, "a window was opened");
    thread::sleep(patience::scaled(Duration::from_secs(1)));
    ensure!(!director.log().contains(" down: "), "{}", director.log());
    for connection in &mut held {
        connection.echo("still there")?;
    }
    Ok(())
}
