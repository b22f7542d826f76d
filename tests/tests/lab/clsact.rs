//! Where the kernel has no links for tc: what becomes of the queueing discipline that filters need.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use lbx::dataplane::{Dataplane, traffic_control::TcAttachment};
use lbx_tests::{host::Host, lab::Lab};

use crate::prober::Prober;

crate::harness::tests!(Lab:
    clsact_goes_with_the_last_filter_of_lbx,
    clsact_of_a_killed_daemon_goes_with_the_next,
    clsact_goes_where_a_link_takes_the_place_of_a_filter,
    clsact_of_others_stays,
    clsact_with_a_filter_of_others_stays,
);

/// Filters of a lab's director, by a data plane without a daemon.
struct Scene {
    prober: Prober,
    eth0: u32,
    host: Host,
}

impl Scene {
    fn new() -> Result<Self> {
        let prober = Prober::start(Lab::new()?, &[])?;
        let host = prober.lab.director().clone();
        let eth0 = host.interface_index("eth0")?;
        Ok(Self { prober, eth0, host })
    }

    fn set_egress(&mut self, devices: &[u32]) -> Result<()> {
        let devices: BTreeSet<u32> = devices.iter().copied().collect();
        self.prober.see_to_by(TcAttachment::ClsactFilter, &devices)
    }

    fn guard(&mut self) -> Result<()> {
        let eth0 = self.eth0;
        self.prober
            .with(|dataplane| dataplane.drop_vip_packets_with(TcAttachment::ClsactFilter, eth0))??;
        Ok(())
    }

    /// Does as a daemon that ends as it should.
    fn remove(&mut self) -> Result<()> {
        let dataplane = self.prober.take_dataplane().context("it has ended already")?;
        self.host.enter(|| dataplane.detach_and_unpin())??;
        Ok(())
    }

    fn tc(&self, words: &str) -> Result<String> {
        self.host.run(["tc"].into_iter().chain(words.split(' ')))?.success()
    }

    /// Whether eth0 has clsact must be this.
    fn expect_clsact(&self, there: bool, when: &str) -> Result<()> {
        let shown = self.tc("qdisc show dev eth0")?;
        ensure!(shown.contains("clsact") == there, "{when}: {shown}");
        Ok(())
    }
}

fn clsact_goes_with_the_last_filter_of_lbx() -> Result<()> {
    let mut scene = Scene::new()?;
    let eth0 = scene.eth0;
    scene.expect_clsact(false, "before")?;
    scene.set_egress(&[eth0])?;
    scene.expect_clsact(true, "with the egress program")?;
    scene.set_egress(&[])?;
    scene.expect_clsact(false, "without the egress program")?;
    scene.guard()?;
    scene.set_egress(&[eth0])?;
    scene.prober.with(Dataplane::stop_dropping_vip_packets)?;
    scene.expect_clsact(true, "with the egress program, after the guard")?;
    scene.guard()?;
    scene.set_egress(&[])?;
    scene.expect_clsact(true, "with the guard, after the egress program")?;
    scene.prober.with(Dataplane::stop_dropping_vip_packets)?;
    scene.expect_clsact(false, "after the guard")?;
    // Both at once, as a stop while the mode changes.
    scene.set_egress(&[eth0])?;
    scene.guard()?;
    scene.remove()?;
    scene.expect_clsact(false, "after the end")
}

fn clsact_of_a_killed_daemon_goes_with_the_next() -> Result<()> {
    let mut scene = Scene::new()?;
    let eth0 = scene.eth0;
    scene.set_egress(&[eth0])?;
    scene.prober.restart_by(TcAttachment::ClsactFilter, &["eth0"])?;
    scene.expect_clsact(true, "with the next daemon")?;
    scene.remove()?;
    scene.expect_clsact(false, "after its end")
}

/// TCX: Linux 6.6.
fn clsact_goes_where_a_link_takes_the_place_of_a_filter() -> Result<()> {
    let mut scene = Scene::new()?;
    let eth0 = scene.eth0;
    scene.set_egress(&[eth0])?;
    scene.prober.see_to(&[eth0].into())?;
    scene.expect_clsact(false, "with a link")?;
    // Of a killed daemon, whose environment was another.
    scene.set_egress(&[eth0])?;
    scene.prober.restart(&["eth0"])?;
    scene.expect_clsact(false, "with a link of the next daemon")
}

fn clsact_of_others_stays() -> Result<()> {
    let mut scene = Scene::new()?;
    let eth0 = scene.eth0;
    scene.tc("qdisc add dev eth0 clsact")?;
    scene.guard()?;
    scene.set_egress(&[eth0])?;
    scene.prober.with(Dataplane::stop_dropping_vip_packets)?;
    scene.set_egress(&[])?;
    scene.expect_clsact(true, "without the egress program")?;
    scene.set_egress(&[eth0])?;
    scene.remove()?;
    scene.expect_clsact(true, "after the end")
}

fn clsact_with_a_filter_of_others_stays() -> Result<()> {
    for direction in ["ingress", "egress"] {
        let mut scene = Scene::new()?;
        let eth0 = scene.eth0;
        scene.set_egress(&[eth0])?;
        // In a chain of its own, which a look at the first one alone would not find.
        let filter = format!("tc filter add dev eth0 {direction} chain 7 bpf bytecode");
        let words = filter.split(' ').chain(["1,6 0 0 0,", "flowid", "1:1"]);
        scene.host.run(words)?.success()?;
        scene.set_egress(&[])?;
        scene.expect_clsact(true, direction)?;
        scene.set_egress(&[eth0])?;
        scene.remove()?;
        scene.expect_clsact(true, direction)?;
        let shown = scene.tc(&format!("filter show dev eth0 {direction}"))?;
        ensure!(shown.contains("bytecode") && !shown.contains("lbx"), "{shown}");
    }
    Ok(())
}
