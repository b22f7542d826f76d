//! Checks by TCP, HTTP, commands and ping: each passes, and fails for the right reason.

use std::fs;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{Lab, VIP, rip},
    nginx::Nginx,
    notifications::Script,
    process::Process,
    servers::TcpServer,
};
use nix::sys::signal::Signal;

use super::{DETECTED, SOON, expect_out_and_in, healthy, healthy_web, often, wait_up};
use crate::setup::{Site, expect_all, expect_turns};

crate::harness::tests!(Lbx:
    tcp_refused,
    http_with_the_wrong_status,
    http_with_other_statuses_and_headers,
    http_with_the_wrong_body,
    http_without_an_answer,
    a_command_that_fails,
    a_command_that_hangs,
    ping_without_an_answer,
    without_a_check_a_server_is_up,
);

fn tcp_refused() -> Result<()> {
    let service = Service::web("rr", 2).with("health", often("tcp: {}"));
    let mut site = healthy(service, |host| TcpServer::start(host, 80))?;
    let second = site.servers.pop();
    drop(second);
    site.director.wait_down(80, rip(2), "connection refused", DETECTED)?;
    site.servers.push(TcpServer::start(site.lab.real_server(2), 80)?);
    site.director.wait_for(80, rip(2), "up", SOON).map(drop)
}

fn http_with_the_wrong_status() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    let fail = || {
        site.servers[1].simulate_failure(true)?;
        Ok(())
    };
    let mend = || {
        expect_all(&site.pages(6)?, "rs1")?;
        site.servers[1].simulate_failure(false)
    };
    expect_out_and_in(&site.director, 80, rip(2), "wrong status 503", fail, mend)?;
    expect_turns(&site.pages(4)?, 2)
}

/// 503 may be what is asked for.
fn http_with_other_statuses_and_headers() -> Result<()> {
    let asked = "http: { path: /healthz, method: HEAD, host: web.example.org, headers: { X-Asked-By: lbx }, \
                 status: [204, \"500-599\"] }";
    let lab = Lab::new()?;
    let serve = |host: &_| {
        let nginx = Nginx::start(host)?;
        nginx.simulate_failure(true)?;
        Ok(nginx)
    };
    let cluster = Cluster::from(Service::web("rr", 2).with("health", often(asked)));
    let site = Site::start_in(lab, &cluster, serve)?;
    wait_up(&site.director, 80, [rip(1), rip(2)])?;
    let (fail, mend) = (
        || site.servers[1].simulate_failure(false),
        || site.servers[1].simulate_failure(true),
    );
    expect_out_and_in(&site.director, 80, rip(2), "wrong status 200", fail, mend)
}

fn http_with_the_wrong_body() -> Result<()> {
    let asked = often("http: { path: /healthz, body: { matches: \"^rs[12] is well$\" } }");
    let site = healthy(
        Service::web("rr", 2).with("health", asked.replace("well$", "well")),
        Nginx::start,
    )?;
    let page = site.servers[1].root().join("healthz");
    let (fail, mend) = (
        || Ok(fs::write(&page, "rs2 is tired\n")?),
        || Ok(fs::write(&page, "rs2 is well\n")?),
    );
    expect_out_and_in(&site.director, 80, rip(2), "wrong body", fail, mend)
}

/// The connection is made, by the kernel, and then nothing comes.
fn http_without_an_answer() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    let (fail, mend) = (
        || site.servers[1].signal(Signal::SIGSTOP),
        || site.servers[1].signal(Signal::SIGCONT),
    );
    expect_out_and_in(&site.director, 80, rip(2), "no complete answer", fail, mend)
}

/// A service checked by a script that does what the file `then` says.
fn with_command(then: &str) -> Result<(Site<Nginx>, Script)> {
    let lab = Lab::with_real_servers(1)?;
    let script = Script::create(
        lab.directory(),
        "check",
        &format!(". {}/then", lab.directory().display()),
    )?;
    fs::write(lab.directory().join("then"), then)?;
    let check = often(&format!(
        "exec: {{ command: {}, environment: {{ EXTRA: more }} }}",
        script.path().display()
    ));
    let service = Service::web("rr", 1).with("name", "web").with("health", check);
    let site = Site::start_in(lab, &service.into(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1)])?;
    Ok((site, script))
}

fn a_command_that_fails() -> Result<()> {
    let (site, script) = with_command("exit 0")?;
    let then = site.lab.directory().join("then");
    let (fail, mend) = (|| Ok(fs::write(&then, "exit 1")?), || Ok(fs::write(&then, "exit 0")?));
    expect_out_and_in(&site.director, 80, rip(1), "command ended with status 1", fail, mend)?;
    let runs = script.runs();
    let told = |name: &str, value: &str| runs.iter().all(|run| run.get(name) == value);
    ensure!(
        told("LBX_VIP", &VIP.to_string()) && told("LBX_RIP", &rip(1).to_string()) && told("LBX_PORT", "80"),
        "not told whom to ask: {:?}",
        runs.first()
    );
    ensure!(told("EXTRA", "more"), "not told what the file says: {:?}", runs.first());
    Ok(())
}

/// It is killed, with all that it has started.
fn a_command_that_hangs() -> Result<()> {
    let (site, _script) = with_command("exit 0")?;
    let then = site.lab.directory().join("then");
    let (fail, mend) = (
        || Ok(fs::write(&then, "sleep 4711 & wait")?),
        || Ok(fs::write(&then, "exit 0")?),
    );
    expect_out_and_in(&site.director, 80, rip(1), "no complete answer", fail, mend)?;
    let left = site
        .lab
        .director()
        .run(["ip", "netns", "pids", site.lab.director().namespace().name()])?
        .success()?;
    let hangs = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("4711"));
    ensure!(!left.lines().any(hangs), "what hung goes on");
    Ok(())
}

fn ping_without_an_answer() -> Result<()> {
    let site = healthy(Service::web("rr", 2).with("health", often("ping: {}")), Nginx::start)?;
    let mute = |mute: &'static str| {
        let host = site.lab.real_server(2);
        move || host.set_sysctl("ipv4/icmp_echo_ignore_all", mute)
    };
    expect_out_and_in(&site.director, 80, rip(2), "timed out", mute("1"), mute("0"))
}

fn without_a_check_a_server_is_up() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2).with("health", "none"));
    cluster.defaults = vec![("health", often("tcp: {}"))];
    cluster.services.push(Service::web("rr", 2).on("tcp", 8080));
    let nobody = |_: &_| Ok(None::<Process>);
    let site = Site::start_in(Lab::new()?, &cluster, nobody)?;
    site.director.wait_down(8080, rip(1), "connection refused", DETECTED)?;
    site.director.server_state(80, rip(1))?.expect("up")
}
