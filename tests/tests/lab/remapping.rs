//! Changes of what a service hashes are refused, and others are not; `lbx check` knows all fields.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{Connection, who_answers},
    cluster::{Cluster, Service},
    lab::{Lab, rip},
    lbx,
    servers::TcpServer,
    wait,
};

use crate::setup::{Site, WEB, reload};

crate::harness::tests!(Lbx:
    a_refused_remapping_changes_nothing,
    what_is_no_remapping_is_taken_under_open_connections,
    check_knows_all_fields,
);

const SOON: Duration = Duration::from_secs(2);

fn a_refused_remapping_changes_nothing() -> Result<()> {
    let service = Service::web("maglev", 3);
    let mut site = Site::start(service.clone(), |host| TcpServer::start(host, 80))?;
    let ports: Vec<u16> = (20_000..20_040).collect();
    let before = (who_answers(site.client(), WEB, &ports)?, site.director.list_text(&[])?);
    // Other changes in the same file are not taken either.
    let mut remapped = Service::web("sh", 2);
    remapped.servers[0].weight = 3;
    site.director.reload(&Cluster::from(remapped).to_string())?;
    wait::until_true(SOON, "the refusal", || {
        Ok(site.director.log().contains("hashes something else"))
    })?;
    ensure!(site.director.ended()?.is_none(), "the director has ended");
    ensure!(
        who_answers(site.client(), WEB, &ports)? == before.0,
        "connections have moved"
    );
    let table = site.director.list_text(&[])?;
    let shape = |table: &str| -> Vec<String> {
        let columns = |line: &str| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        table.lines().map(columns).collect()
    };
    ensure!(
        shape(&table) == shape(&before.1),
        "before\n{}\nafter\n{table}",
        before.1
    );
    site.director.expect_no_drops()
}

fn what_is_no_remapping_is_taken_under_open_connections() -> Result<()> {
    let site = Site::start(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    let open = |_| site.client().enter(|| Connection::open(0, WEB))?;
    let mut held = (0..4).map(open).collect::<Result<Vec<_>>>()?;
    let changes = [
        Service::web("wlc", 2),
        Service::web("wlc", 2).limit(1, 50, 20),
        Service::web("rr", 2).with("persistence", "{ timeout: 30, mask: 24 }"),
        Service::web("maglev", 2),
        Service::web("rr", 2),
    ];
    for change in changes {
        let scheduler = change.scheduler;
        reload(&site.director, change)?;
        ensure!(
            site.director.list()?[0].rest[0] == scheduler,
            "{:?}",
            site.director.list()?
        );
        for connection in &mut held {
            connection.echo("still there")?;
        }
        held.push(open(0)?);
    }
    site.director.expect_no_drops()
}

fn check_knows_all_fields() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.director();
    let file = host.directory().join("check.yaml");
    let check = |service: Service| {
        fs::write(&file, Cluster::from(service).to_string())?;
        let program = lbx::binary()?.display().to_string();
        host.run([&program, "--config", &file.display().to_string(), "check"])
    };
    let mut service = Service::web("wlc", 2)
        .with("persistence", "{ timeout: 30, mask: 24 }")
        .with("drain_persistence", false)
        .with("sorry_server", rip(3))
        .limit(1, 100, 80);
    service.ports = Some("[80, \"8000-8099\"]");
    let said = check(service.clone())?.success()?;
    for word in ["wlc", "8000-8099", "192.168.1.195"] {
        ensure!(said.contains(word), "no {word} in\n{said}");
    }
    let mixed = check(service.over_ipv6())?;
    ensure!(mixed.code() == Some(3), "{mixed}");
    ensure!(
        mixed.stderr.contains("sorry_server") && mixed.stderr.contains("IPv6"),
        "{mixed}"
    );
    Ok(())
}
