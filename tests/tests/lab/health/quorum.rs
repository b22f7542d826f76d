//! A service as a whole: when it is up, who is sorry when it is not, and who is told.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{Lab, VIP, rip},
    nginx::Nginx,
    notifications::{Run, Script},
    patience, wait,
};

use super::{DETECTED, RECOVERED, SOON, expect_said, page_check, wait_up};
use crate::setup::{Site, expect_all, expect_turns};

crate::harness::tests!(Lbx:
    the_sorry_server_takes_over_without_a_quorum,
    a_quorum_has_hysteresis,
    a_command_is_notified,
    a_lost_quorum_waits_for_no_slow_command,
    a_command_that_hangs_is_killed,
);

/// A web service on the first real servers, and one more of them that is sorry.
fn start(lab: Lab, service: Service) -> Result<Site<Nginx>> {
    let servers: Vec<_> = service.servers.iter().map(|server| server.address).collect();
    let service = service.with("name", "web").with("health", page_check());
    let site = Site::start_in(lab, &service.into(), Nginx::start)?;
    wait_up(&site.director, 80, servers)?;
    Ok(site)
}

/// Has the n-th real server, from 1, be ill and waits until it is down.
fn fail(site: &Site<Nginx>, number: u8) -> Result<()> {
    site.servers[usize::from(number) - 1].simulate_failure(true)?;
    site.director
        .wait_down(80, rip(number), "wrong status 503", DETECTED)
        .map(drop)
}

fn mend(site: &Site<Nginx>, number: u8) -> Result<()> {
    site.servers[usize::from(number) - 1].simulate_failure(false)?;
    site.director.wait_for(80, rip(number), "up", RECOVERED).map(drop)
}

fn the_sorry_server_takes_over_without_a_quorum() -> Result<()> {
    for scheduler in ["rr", "maglev"] {
        let service = Service::web(scheduler, 2)
            .with("quorum", 2)
            .with("sorry_server", rip(3));
        let site = start(Lab::with_real_servers(3)?, service)?;
        let normal = site.pages(12)?;
        ensure!(!normal.contains(&"rs3".to_owned()), "sorry for nothing: {normal:?}");
        fail(&site, 2)?;
        expect_said(&site.director, "quorum lost", "sorry server")?;
        expect_all(&site.pages(6)?, "rs3")?;
        // Those that are up are listed so: they are well.
        let state = site.director.server_state(80, rip(1))?;
        ensure!(state.state != "down", "{state:?}");
        let said = site.director.log().len();
        site.servers[1].simulate_failure(false)?;
        wait::until_true(RECOVERED, "the quorum is gained", || {
            Ok(site.director.log().split_off(said).contains("quorum gained"))
        })?;
        let normal = site.pages(12)?;
        ensure!(!normal.contains(&"rs3".to_owned()), "still sorry: {normal:?}");
    }
    Ok(())
}

/// Up from 3 on, down below 1.
fn a_quorum_has_hysteresis() -> Result<()> {
    let quorum = "{ weight: 2, hysteresis: 1 }";
    let service = Service::web("rr", 3)
        .with("quorum", quorum)
        .with("sorry_server", rip(4));
    let site = start(Lab::with_real_servers(4)?, service)?;
    expect_turns(&site.pages(6)?, 3)?;
    for number in [1, 2] {
        fail(&site, number)?;
    }
    expect_all(&site.pages(4)?, "rs3")?;
    fail(&site, 3)?;
    expect_all(&site.pages(4)?, "rs4")?;
    for number in [1, 2] {
        site.servers[number - 1].simulate_failure(false)?;
    }
    let well = |state: &lbx_tests::server_states::ServerState| state.state != "down";
    for number in [1, 2] {
        site.director.wait_state(80, rip(number), "is well", RECOVERED, well)?;
    }
    expect_all(&site.pages(4)?, "rs4")?;
    mend(&site, 3)?;
    expect_turns(&site.pages(6)?, 3)
}

/// What a command was told since then, when there is that much.
fn wait_notified(script: &Script, since: usize, count: usize) -> Result<Vec<Run>> {
    let told = wait::until(SOON, "the command is told", || {
        let runs = script.runs();
        Ok((runs.len() >= since + count).then_some(runs))
    });
    Ok(told
        .with_context(|| format!("only {:?}", script.runs()))?
        .split_off(since))
}

fn a_command_is_notified() -> Result<()> {
    let lab = Lab::new()?;
    let script = Script::create(lab.directory(), "notify", "")?;
    let command = format!("[{}, about, web]", script.path().display());
    let service = Service::weighted("wrr", &[3, 1])
        .with("quorum", 4)
        .with("notify", command);
    let site = start(lab, service)?;
    std::thread::sleep(patience::scaled(Duration::from_millis(500)));
    let since = script.runs().len();
    let first = script.runs();
    let start = first.iter().find(|run| run.get("LBX_EVENT") == "director_start");
    let start = start.with_context(|| format!("no start: {first:?}"))?;
    ensure!(
        start.get("LBX_SERVICE").is_empty() && start.get("LBX_NAME") == site.director.name(),
        "{start:?}"
    );
    fail(&site, 2)?;
    // They run at the same time.
    let in_order = |mut runs: Vec<Run>| {
        runs.sort_by_key(|run| !run.get("LBX_EVENT").starts_with("server"));
        runs
    };
    let runs = in_order(wait_notified(&script, since, 2)?);
    let events: Vec<_> = runs.iter().map(|run| run.get("LBX_EVENT")).collect();
    ensure!(events == ["server_down", "quorum_lost"], "{runs:?}");
    let down = [
        ("LBX_NAME", site.director.name().to_owned()),
        ("LBX_SERVICE", "web".to_owned()),
        ("LBX_VIP", VIP.to_string()),
        ("LBX_PORT", "80".to_owned()),
        ("LBX_PROTOCOL", "tcp".to_owned()),
        ("LBX_RIP", rip(2).to_string()),
        ("LBX_WEIGHT", "1".to_owned()),
        ("LBX_REASON", "wrong status 503".to_owned()),
    ];
    for (name, value) in down {
        ensure!(runs[0].get(name) == value, "{name} is not {value}: {:?}", runs[0]);
    }
    ensure!(runs.iter().all(|run| run.arguments == "about web"), "{runs:?}");
    let lost = &runs[1];
    ensure!(
        lost.get("LBX_SERVICE") == "web" && lost.get("LBX_RIP").is_empty(),
        "{lost:?}"
    );
    mend(&site, 2)?;
    let runs = in_order(wait_notified(&script, since + 2, 2)?);
    let events: Vec<_> = runs
        .iter()
        .map(|run| (run.get("LBX_EVENT"), run.get("LBX_REASON")))
        .collect();
    ensure!(events == [("server_up", ""), ("quorum_gained", "")], "{runs:?}");
    // The stop waits for the last command.
    let mut director = site.director;
    director.stop(nix::sys::signal::Signal::SIGTERM)?;
    let last = script.runs().pop().context("no run")?;
    ensure!(last.get("LBX_EVENT") == "director_stop", "{last:?}");
    Ok(())
}

/// Ten commands of three seconds are under way: that the service is down is notified at once.
fn a_lost_quorum_waits_for_no_slow_command() -> Result<()> {
    let lab = Lab::with_real_servers(2)?;
    let script = Script::create(lab.directory(), "notify", "[ \"$LBX_EVENT\" = server_down ] && sleep 3")?;
    let path = script.path().display();
    let site = start(lab, Service::web("rr", 2).with("notify", path))?;
    fail(&site, 1)?;
    fail(&site, 2)?;
    let events = || -> Vec<String> {
        script
            .runs()
            .iter()
            .map(|run| run.get("LBX_EVENT").to_owned())
            .collect()
    };
    wait::until_true(SOON, "both are down", || {
        Ok(events().iter().filter(|event| *event == "server_down").count() == 2)
    })?;
    let begun = std::time::Instant::now();
    wait::until_true(SOON, "the lost quorum is notified", || {
        Ok(events().contains(&"quorum_lost".to_owned()))
    })?;
    ensure!(
        begun.elapsed() < patience::scaled(Duration::from_secs(2)),
        "only after {:?}",
        begun.elapsed()
    );
    Ok(())
}

/// It holds up nobody.
fn a_command_that_hangs_is_killed() -> Result<()> {
    let lab = Lab::new()?;
    let script = Script::create(lab.directory(), "notify", "sleep 4711")?;
    let notify = format!("{{ command: {}, timeout: 1s }}", script.path().display());
    let site = start(lab, Service::web("rr", 2).with("notify", notify))?;
    fail(&site, 2)?;
    mend(&site, 2)?;
    let events = |runs: Vec<Run>| {
        runs.iter()
            .map(|run| run.get("LBX_EVENT").to_owned())
            .collect::<Vec<_>>()
    };
    wait::until_true(SOON, "the command is told both", || {
        let events = events(script.runs());
        Ok(events.ends_with(&["server_down".to_owned(), "server_up".to_owned()]))
    })
    .with_context(|| format!("{:?}", events(script.runs())))?;
    expect_said(&site.director, "notify", "killed")
}
