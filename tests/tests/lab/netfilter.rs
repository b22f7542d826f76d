//! Netfilter rules that match a VIP: no packet of its services gets there, and the director says so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{Lab, VIP, VIP6},
    lbx::Director,
    wait,
};

use crate::setup::{PAGE, reload, web};

crate::harness::tests!(Lbx:
    nftables_rules_that_match_a_vip_are_reported,
    rules_that_match_no_vip_are_not_reported,
    a_reload_reports_rules_too,
    rules_of_iptables_legacy_are_reported,
    a_rule_for_the_vip_stops_no_packet_of_a_service,
);

/// What the lines have in common.
const EVENT: &str = "rules match the VIP as destination: packets for its services do not pass netfilter";

fn nft(host: &Host, rules: &[&str]) -> Result<()> {
    let begin = [
        "add table inet filter",
        "add chain inet filter input { type filter hook input priority 0 ; }",
    ];
    for rule in begin.iter().chain(rules) {
        host.run(std::iter::once("nft").chain(rule.split(' ')))?
            .success()
            .with_context(|| (*rule).to_owned())?;
    }
    Ok(())
}

/// The lines of the log about rules, once there are so many.
fn lines(director: &Director, count: usize) -> Result<Vec<String>> {
    let found = || -> Vec<String> {
        let log = director.log();
        let lines = log.lines().filter(|line| line.contains(EVENT));
        lines.map(str::to_owned).collect()
    };
    wait::until_true(Duration::from_secs(5), "the rules are reported", || {
        Ok(found().len() >= count)
    })
    .with_context(|| director.log())?;
    Ok(found())
}

/// VIPs of both families.
fn both() -> Cluster {
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.services.push(Service::web("rr", 2).over_ipv6());
    cluster
}

/// An address, a prefix in a named set, a range in an anonymous one with a port, an allow-list that excludes others; the rules of
/// iptables-nft are such rules as well.
fn nftables_rules_that_match_a_vip_are_reported() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.director();
    nft(
        host,
        &[
            "add rule inet filter input ip daddr 192.168.1.160 tcp dport 80 drop",
            "add set inet filter allowed { type ipv4_addr ; flags interval ; }",
            "add element inet filter allowed { 192.168.1.128/25 }",
            "add rule inet filter input ip daddr != @allowed drop",
            "add rule inet filter input ip6 daddr . tcp dport { fd00:1::100-fd00:1::200 . 80-90 } accept",
        ],
    )?;
    host.run(["iptables-nft", "--append", "INPUT", "--destination", "192.168.0.0/16"])?
        .success()?;
    let director = Director::start(&lab, &both())?;
    let reported = lines(&director, 2)?;
    ensure!(reported.len() == 2, "{reported:#?}");
    let [first, second] = [VIP.to_string(), VIP6.to_string()].map(|vip| {
        let field = format!("vip={vip}");
        reported
            .iter()
            .find(|line| line.contains(&field))
            .cloned()
            .unwrap_or_default()
    });
    ensure!(
        first.contains("WARN") && first.matches("inet filter input handle").count() == 2,
        "{first}"
    );
    ensure!(first.contains("ip filter INPUT handle"), "{first}");
    ensure!(second.matches("inet filter input handle").count() == 1, "{second}");
    ensure!(
        second.contains("filter in front of the director or on the real servers"),
        "{second}"
    );
    Ok(())
}

fn rules_that_match_no_vip_are_not_reported() -> Result<()> {
    let lab = Lab::new()?;
    nft(
        lab.director(),
        &[
            "add rule inet filter input ip daddr 192.168.1.2 tcp dport 22 accept",
            "add rule inet filter input ip saddr 192.168.1.0/24 accept",
            "add rule inet filter input ip6 daddr fd00:2::/64 accept",
            "add rule inet filter input tcp dport 80 accept",
            "add table bridge filter",
            "add chain bridge filter forward { type filter hook forward priority 0 ; }",
            "add rule bridge filter forward ip daddr 192.168.1.160 accept",
        ],
    )?;
    let director = Director::start(&lab, &both())?;
    // The next one is reported, so the first look is over.
    nft(
        lab.director(),
        &["add rule inet filter input ip daddr 192.168.1.160 accept"],
    )?;
    reload(&director, both())?;
    let reported = lines(&director, 1)?;
    ensure!(
        reported.len() == 1 && reported[0].matches("handle").count() == 1,
        "{reported:#?}"
    );
    ensure!(!director.log().contains("rules not read"), "{}", director.log());
    Ok(())
}

fn a_reload_reports_rules_too() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    nft(
        site.lab.director(),
        &["add rule inet filter input ip6 daddr fd00:1::/64 accept"],
    )?;
    reload(&site.director, both())?;
    let reported = lines(&site.director, 1)?;
    ensure!(
        reported.len() == 1 && reported[0].contains(&format!("vip={VIP6}")),
        "{reported:#?}"
    );
    Ok(())
}

fn rules_of_iptables_legacy_are_reported() -> Result<()> {
    let lab = Lab::new()?;
    for rule in [
        "iptables-legacy --append INPUT --destination 192.168.1.0/24 --jump ACCEPT",
        "ip6tables-legacy --append INPUT ! --destination fd00:1::160 --jump DROP",
    ] {
        lab.director().run(rule.split(' '))?.success().context(rule)?;
    }
    let director = Director::start(&lab, &both())?;
    let reported = lines(&director, 2)?;
    let named = reported
        .iter()
        .filter(|line| line.contains("iptables-legacy rules match") && line.contains("filter INPUT 1"));
    ensure!(named.count() == 2 && reported.len() == 2, "{reported:#?}");
    Ok(())
}

/// What the warning says is so.
fn a_rule_for_the_vip_stops_no_packet_of_a_service() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    nft(
        site.lab.director(),
        &["add rule inet filter input ip daddr 192.168.1.160 counter drop"],
    )?;
    site.client().curl(PAGE)?;
    let rules = site.lab.director().run(["nft", "list", "ruleset"])?.success()?;
    ensure!(rules.contains("counter packets 0 bytes 0 drop"), "{rules}");
    Ok(())
}
