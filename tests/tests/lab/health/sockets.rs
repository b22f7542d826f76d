//! Notifications to a Unix datagram socket or a FIFO.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{Lab, VIP, rip},
    nginx::Nginx,
    patience, wait,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use serde_json::{Value, json};

use super::{DETECTED, RECOVERED, SOON, page_check, wait_up};
use crate::setup::{PAGE, Site};

crate::harness::tests!(Lbx:
    a_datagram_socket_is_notified,
    a_fifo_is_notified,
    a_reader_that_is_missing_or_slow_stops_nothing,
);

/// A web service of weights 3 and 1 that notifies this path, and is down without one of them.
fn start(lab: Lab, path: &Path) -> Result<Site<Nginx>> {
    let service = Service::weighted("wrr", &[3, 1])
        .with("name", "web")
        .with("health", page_check())
        .with("quorum", 4)
        .with("notify", format!("{{ socket: {} }}", path.display()));
    let site = Site::start_in(lab, &service.into(), Nginx::start)?;
    wait_up(&site.director, 80, [1, 2].map(rip))?;
    Ok(site)
}

fn fail_and_recover(site: &Site<Nginx>) -> Result<()> {
    site.servers[1].simulate_failure(true)?;
    site.director.wait_down(80, rip(2), "wrong status 503", DETECTED)?;
    site.servers[1].simulate_failure(false)?;
    site.director.wait_for(80, rip(2), "up", RECOVERED).map(drop)
}

/// What was read until now, a line each.
fn events(lines: &str) -> Result<Vec<Value>> {
    ensure!(lines.is_empty() || lines.ends_with('\n'), "not whole: {lines:?}");
    let read = |line| serde_json::from_str(line).with_context(|| format!("{line:?}"));
    lines.lines().map(read).collect()
}

/// Everything that a real server's failure and recovery and a stop notify, in this order: what concerns the service first.
fn expect_story(name: &str, events: &[Value]) -> Result<()> {
    let kinds: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let begun = kinds.iter().position(|kind| *kind == "server_down").unwrap_or(1) - 1;
    let expected = [
        "quorum_lost",
        "server_down",
        "quorum_gained",
        "server_up",
        "director_stop",
    ];
    ensure!(kinds[begun..] == expected, "{kinds:?}");
    ensure!(kinds[..begun].contains(&"director_start"), "{kinds:?}");
    let mut down = events[begun + 1].clone();
    let time = down["time"].take();
    ensure!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
    let expected = json!({
        "event": "server_down", "name": name, "service": "web", "vip": VIP, "port": 80, "protocol": "tcp",
        "rip": rip(2), "weight": 1, "reason": "wrong status 503", "time": null,
    });
    ensure!(down == expected, "{down:#}");
    let stop = &events[begun + 4];
    ensure!(
        stop["name"] == name && stop["service"].is_null() && stop["rip"].is_null(),
        "{stop:#}"
    );
    Ok(())
}

fn a_datagram_socket_is_notified() -> Result<()> {
    let lab = Lab::new()?;
    let path = lab.directory().join("events.sock");
    let reader = UnixDatagram::bind(&path)?;
    reader.set_read_timeout(Some(SOON))?;
    let mut site = start(lab, &path)?;
    fail_and_recover(&site)?;
    site.director.stop(Signal::SIGTERM)?;
    let mut found = Vec::new();
    while found.last().is_none_or(|last: &Value| last["event"] != "director_stop") {
        let mut datagram = [0; 4096];
        let length = reader
            .recv(&mut datagram)
            .with_context(|| format!("after {found:#?}"))?;
        let [event] = events(std::str::from_utf8(&datagram[..length])?)?
            .try_into()
            .map_err(|events| anyhow::anyhow!("one line a datagram: {events:?}"))?;
        found.push(event);
    }
    expect_story(site.director.name(), &found)
}

fn a_fifo_is_notified() -> Result<()> {
    let lab = Lab::new()?;
    let path = lab.directory().join("events.fifo");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut options = OpenOptions::new();
    let mut reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
    let mut site = start(lab, &path)?;
    fail_and_recover(&site)?;
    site.director.stop(Signal::SIGTERM)?;
    let mut lines = String::new();
    reader.read_to_string(&mut lines)?;
    expect_story(site.director.name(), &events(&lines)?)
}

fn a_reader_that_is_missing_or_slow_stops_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let path = lab.directory().join("events.sock");
    let mut site = start(lab, &path)?;
    fail_and_recover(&site)?;
    let lost = |site: &Site<Nginx>| site.director.log().matches("notify: notification lost (").count();
    let log = site.director.log();
    ensure!(
        log.contains("(there is no such socket or FIFO: start its reader)") && lost(&site) == 1,
        "{log}"
    );
    // A queue of few datagrams that nobody takes.
    let slow = UnixDatagram::bind(&path)?;
    let filler = UnixDatagram::unbound()?;
    fail_and_recover(&site)?;
    wait::until_true(SOON, "notifications are delivered again", || {
        Ok(site.director.log().contains("notify: delivered again"))
    })?;
    filler.set_nonblocking(true)?;
    while filler.send_to(b"filler\n", &path).is_ok() {}
    fail_and_recover(&site)?;
    let log = site.director.log();
    ensure!(
        log.contains("(full: its reader is too slow)") && lost(&site) == 2,
        "{log}"
    );
    site.client().curl(PAGE)?;
    let begun = Instant::now();
    site.director.stop(Signal::SIGTERM)?;
    let taken = begun.elapsed();
    ensure!(
        taken < patience::scaled(Duration::from_secs(5)),
        "the stop took {taken:?}"
    );
    drop(slow);
    Ok(())
}
