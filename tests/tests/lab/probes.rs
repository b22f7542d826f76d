//! Probes against real servers: whether the VIP is what they reach, and nothing else.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lbx::{
    dataplane::{clock, local::probes::SessionCounts, traffic_control::TcAttachment},
    desired::CheckedAddress,
    health::{ProbeEndpoint, ProbeFailure},
};
use lbx_common::{
    flow::TICK_MASK,
    maps::ABI,
    service::TCP,
    session::{FROM_VIP, LOCAL_SESSION, Session, SessionKey},
};
use lbx_tests::{
    bpffs,
    lab::{DIP, Lab, VIP, VIP6, rip},
    mac::Mac,
    manual_setup,
    nginx::Nginx,
    patience, payload,
    servers::{TcpServer, UdpServer},
};
use socket2::Type;

use crate::{
    prober::Prober,
    probing::{TIMEOUT, endpoint, endpoint6},
};

crate::harness::tests!(Lab:
    a_probe_reaches_the_vip_and_fails_without_it,
    so_it_does_over_ipv6,
    the_vip_may_be_the_directors_own_too,
    real_servers_may_be_on_another_nic_than_clients,
    a_closed_port_refuses,
    a_datagram_to_a_closed_port_is_refused,
    datagrams_reach_the_vip,
    a_large_datagram_comes_back_in_fragments,
    an_answer_from_the_rip_is_none_from_the_vip,
    without_the_program_nothing_is_vouched_for,
    filters_do_what_links_do,
    a_filter_that_is_there_is_left_alone,
    offloads_make_no_difference,
    two_real_servers_on_one_port_are_told_apart,
    a_thousand_probes_a_second_leave_nothing,
    a_probe_that_has_not_begun_keeps_its_port,
);

/// A lab whose first real server serves the VIP, and a director without a daemon.
fn scene() -> Result<(Prober, Nginx)> {
    let lab = Lab::new()?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    manual_setup::make_real_server(lab.real_server(1), VIP6)?;
    let nginx = Nginx::start(lab.real_server(1))?;
    Ok((Prober::start(lab, &["eth0"])?, nginx))
}

fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

fn served() -> Result<String, ProbeFailure> {
    Ok("rs1 nginx".to_owned())
}

fn a_probe_reaches_the_vip_and_fails_without_it() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let (rs1, endpoint) = (prober.lab.real_server(1), endpoint(1, 80));
    expect(&prober.page(&endpoint)?, &served())?;
    rs1.ip(&format!("address del {VIP}/32 dev lo"))?;
    expect(&prober.page(&endpoint)?, &Err(ProbeFailure::TimedOut(TIMEOUT)))?;
    // The real server itself is well.
    expect(
        &prober.page(&ProbeEndpoint {
            target: CheckedAddress::Rip,
            ..endpoint
        })?,
        &served(),
    )?;
    rs1.ip(&format!("address add {VIP}/32 dev lo"))?;
    expect(&prober.page(&endpoint)?, &served())
}

fn so_it_does_over_ipv6() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let (rs1, endpoint) = (prober.lab.real_server(1), endpoint6(1, 80));
    // What the kernel would not choose by itself has to be the source.
    prober
        .lab
        .director()
        .ip(&format!("address add {VIP6}/128 dev eth0 nodad preferred_lft 0"))?;
    expect(&prober.page(&endpoint)?, &served())?;
    rs1.ip(&format!("address del {VIP6}/128 dev lo"))?;
    expect(&prober.page(&endpoint)?, &Err(ProbeFailure::TimedOut(TIMEOUT)))?;
    expect(
        &prober.page(&ProbeEndpoint {
            target: CheckedAddress::Rip,
            ..endpoint
        })?,
        &served(),
    )
}

fn the_vip_may_be_the_directors_own_too() -> Result<()> {
    let (prober, _nginx) = scene()?;
    prober.lab.director().ip(&format!("address add {VIP}/32 dev eth0"))?;
    expect(&prober.page(&endpoint(1, 80))?, &served())
}

fn real_servers_may_be_on_another_nic_than_clients() -> Result<()> {
    const SECOND: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 2, 2), Ipv4Addr::new(192, 168, 2, 185)];
    let [dip, rip] = SECOND;
    let lab = Lab::builder()
        .host("director", &[DIP, dip])
        .host("rs1", &[rip])
        .build()?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    let _nginx = Nginx::start(lab.real_server(1))?;
    // Its answers to the VIP's clients go by whatever way the director is.
    let prober = Prober::start(lab, &["eth0", "eth1"])?;
    let endpoint = ProbeEndpoint {
        rip: rip.into(),
        source: dip.into(),
        mac: Mac::of(rip).0,
        ..endpoint(1, 80)
    };
    expect(&prober.page(&endpoint)?, &served())
}

fn a_closed_port_refuses() -> Result<()> {
    let (prober, _nginx) = scene()?;
    for endpoint in [endpoint(1, 81), endpoint6(1, 81)] {
        expect(&prober.page(&endpoint)?, &Err(ProbeFailure::Refused))?;
    }
    Ok(())
}

fn a_datagram_to_a_closed_port_is_refused() -> Result<()> {
    let (prober, _nginx) = scene()?;
    for endpoint in [endpoint(1, 53), endpoint6(1, 53)] {
        // The error comes from the VIP, and is about a packet to the VIP.
        expect(&prober.ask(&endpoint)?, &Err(ProbeFailure::Refused))?;
    }
    Ok(())
}

fn datagrams_reach_the_vip() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let rs1 = prober.lab.real_server(1);
    let _servers = [UdpServer::start(rs1, (VIP, 53))?, UdpServer::start(rs1, (VIP6, 53))?];
    for endpoint in [endpoint(1, 53), endpoint6(1, 53)] {
        expect(&prober.ask(&endpoint)?, &Ok("rs1 question".to_owned()))?;
    }
    Ok(())
}

fn a_large_datagram_comes_back_in_fragments() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let _server = UdpServer::start(prober.lab.real_server(1), (VIP, 53))?;
    let question = "q".repeat(4_000);
    let answer = prober.inside(|| prober.exchange(&endpoint(1, 53), question.as_bytes()))?;
    expect(&answer, &Ok(format!("rs1 {question}")))
}

fn an_answer_from_the_rip_is_none_from_the_vip() -> Result<()> {
    let (prober, _nginx) = scene()?;
    // Bound to no address, it answers from the real server's own.
    let socket = prober.lab.real_server(1).enter(|| UdpSocket::bind("0.0.0.0:53"))??;
    let answering = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)
    });
    let (vip, rip) = (VIP.into(), rip(1).into());
    expect(
        &prober.ask(&endpoint(1, 53))?,
        &Err(ProbeFailure::AnsweredFromRip { vip, rip }),
    )?;
    answering.join().expect("it does not panic")?;
    Ok(())
}

fn without_the_program_nothing_is_vouched_for() -> Result<()> {
    let (mut prober, _nginx) = scene()?;
    prober.see_to(&BTreeSet::new())?;
    // The RIP answers, and that says nothing.
    expect(&prober.page(&endpoint(1, 80))?, &Err(ProbeFailure::NotSteered))?;
    let devices = prober.devices(&["eth0"])?;
    prober.see_to(&devices)?;
    expect(&prober.page(&endpoint(1, 80))?, &served())?;
    // Somebody else takes it away; the next look finds that.
    let device = devices.first().context("no device")?;
    let pin = bpffs::pins_of(prober.lab.id()).join(format!("v{ABI}/egress_{device}"));
    let pin = pin.display().to_string();
    prober
        .lab
        .director()
        .run(["bpftool", "link", "detach", "pinned", &pin])?
        .success()?;
    expect(&prober.page(&endpoint(1, 80))?, &Err(ProbeFailure::NotSteered))?;
    prober.see_to(&devices)?;
    expect(&prober.page(&endpoint(1, 80))?, &served())?;
    Ok(())
}

fn filters_do_what_links_do() -> Result<()> {
    let (mut prober, _nginx) = scene()?;
    let devices = prober.devices(&["eth0"])?;
    let filters = |prober: &Prober| -> Result<usize> {
        let tc = prober
            .lab
            .director()
            .run(["tc", "filter", "show", "dev", "eth0", "egress"])?
            .success()?;
        Ok(tc.lines().filter(|line| line.contains("lbx_egress")).count())
    };
    prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
    ensure!(filters(&prober)? == 1, "no filter");
    for endpoint in [endpoint(1, 80), endpoint6(1, 80)] {
        expect(&prober.page(&endpoint)?, &served())?;
    }
    // The next daemon takes its place, without a second one.
    prober.restart_by(TcAttachment::ClsactFilter, &["eth0"])?;
    ensure!(filters(&prober)? == 1, "not one filter");
    expect(&prober.page(&endpoint(1, 80))?, &served())?;
    // Links take the place of filters, and filters that of links.
    prober.see_to(&devices)?;
    ensure!(filters(&prober)? == 0, "the filter is still there");
    expect(&prober.page(&endpoint(1, 80))?, &served())?;
    prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
    prober.see_to_by(TcAttachment::ClsactFilter, &BTreeSet::new())?;
    ensure!(filters(&prober)? == 0, "the filter is still there");
    expect(&prober.page(&endpoint(1, 80))?, &Err(ProbeFailure::NotSteered))
}

fn a_filter_that_is_there_is_left_alone() -> Result<()> {
    let (mut prober, _nginx) = scene()?;
    let devices = prober.devices(&["eth0"])?;
    prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
    let mut monitor = prober.lab.director().enter(|| {
        Command::new("tc")
            .arg("monitor")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    })??;
    let told = (|| -> Result<()> {
        std::thread::sleep(patience::scaled(Duration::from_millis(500)));
        for _ in 0..3 {
            prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
        }
        let director = prober.lab.director();
        director
            .run(["tc", "filter", "del", "dev", "eth0", "egress", "pref", "76"])?
            .success()?;
        prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
        std::thread::sleep(patience::scaled(Duration::from_millis(500)));
        Ok(())
    })();
    monitor.kill()?;
    let output = monitor.wait_with_output()?;
    told?;
    let told = String::from_utf8_lossy(&output.stdout);
    // What was taken away is there again, once.
    let added = told
        .lines()
        .filter(|line| line.contains("lbx_egress") && !line.starts_with("deleted"));
    ensure!(added.count() == 1, "{told}");
    expect(&prober.page(&endpoint(1, 80))?, &served())
}

fn offloads_make_no_difference() -> Result<()> {
    let (prober, nginx) = scene()?;
    payload::write(&nginx.root().join("index.html"), 1)?;
    let hosts = [prober.lab.director(), prober.lab.real_server(1)];
    let whole = |endpoint: &ProbeEndpoint| -> Result<()> {
        let page = prober.inside(|| prober.fetch_bytes(endpoint))?;
        let length = page.as_ref().map(Vec::len);
        ensure!(length == Ok(1 << 20), "{length:?}");
        Ok(())
    };
    for (feature, on) in [
        ("tx", true),
        ("tx", false),
        ("tso", false),
        ("rx", false),
        ("gro", true),
        ("gro", false),
    ] {
        for host in hosts {
            host.set_offload("eth0", feature, on)?;
        }
        for endpoint in [endpoint(1, 80), endpoint6(1, 80)] {
            whole(&endpoint)?;
        }
    }
    // No checksum was wrong on the way.
    for host in hosts {
        let counters = host.enter(|| std::fs::read_to_string("/proc/net/snmp"))??;
        let tcp: Vec<_> = counters.lines().filter(|line| line.starts_with("Tcp:")).collect();
        let [names, values] = tcp[..] else { bail!("{counters}") };
        let errors = names
            .split(' ')
            .zip(values.split(' '))
            .find(|(name, _)| *name == "InCsumErrors");
        ensure!(errors == Some(("InCsumErrors", "0")), "{}: {errors:?}", host.name());
    }
    Ok(())
}

fn two_real_servers_on_one_port_are_told_apart() -> Result<()> {
    let lab = Lab::new()?;
    let mut servers = Vec::new();
    for host in lab.real_servers() {
        manual_setup::make_real_server(host, VIP)?;
        servers.push(TcpServer::start(host, 80)?);
    }
    let prober = Prober::start(lab, &["eth0"])?;
    // All at once, so that ports have every chance to collide.
    let talks = prober.inside(|| -> Result<Vec<(u8, TcpStream)>> {
        let mut talks = Vec::new();
        for round in 0..200 {
            let number = round % 2 + 1;
            let endpoint = endpoint(number, 80);
            let socket = prober
                .socket(&endpoint, Type::STREAM)
                .map_err(|failure| anyhow::anyhow!("{failure}"))?;
            socket.connect_timeout(&endpoint.peer().into(), Duration::from_secs(2))?;
            talks.push((number, socket.into()));
        }
        Ok(talks)
    })??;
    let ports: BTreeSet<_> = talks
        .iter()
        .filter_map(|(_, stream)| stream.local_addr().ok())
        .collect();
    ensure!(ports.len() == talks.len(), "ports are shared");
    for (number, stream) in &talks {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        ensure!(line == format!("rs{number}\n"), "{line} instead of rs{number}");
    }
    Ok(())
}

fn a_thousand_probes_a_second_leave_nothing() -> Result<()> {
    const PROBES: usize = 4_000;
    let lab = Lab::new()?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    let _server = TcpServer::start(lab.real_server(1), 80)?;
    let prober = Prober::start(lab, &["eth0"])?;
    let endpoint = ProbeEndpoint {
        timeout: Duration::from_secs(2),
        ..endpoint(1, 80)
    };
    let begun = Instant::now();
    let mut failed = Vec::new();
    prober.inside(|| {
        for number in 0..PROBES {
            failed.extend(prober.connect(&endpoint).err());
            if number % 250 == 0 {
                prober.probes().expire_leases_and_sessions(Instant::now()).ok();
            }
            let due = begun + Duration::from_millis(number as u64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    })?;
    let took = begun.elapsed();
    ensure!(
        failed.is_empty(),
        "{} of {PROBES} failed: {:?}",
        failed.len(),
        failed[0]
    );
    ensure!(
        took < patience::scaled(Duration::from_secs(8)),
        "{PROBES} probes took {took:?}"
    );
    for state in ["time-wait", "established", "close-wait", "fin-wait-1", "fin-wait-2"] {
        let sockets = prober.lab.director().run(["ss", "-Htan", "state", state])?.success()?;
        ensure!(sockets.is_empty(), "{state}: {sockets}");
    }
    // Ports are given back, and sessions forgotten; of a port nothing is left when it was found unused twice.
    for seconds in [30, 60] {
        prober
            .probes()
            .expire_leases_and_sessions(Instant::now() + Duration::from_secs(seconds))?;
    }
    let left = prober.probes().session_counts()?;
    expect(&left, &SessionCounts::default())
}

fn a_probe_that_has_not_begun_keeps_its_port() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let endpoint = ProbeEndpoint {
        timeout: Duration::from_secs(300),
        ..endpoint(1, 80)
    };
    let socket = prober
        .inside(|| prober.socket(&endpoint, Type::STREAM))?
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let port = socket.local_addr()?.as_socket().context("no address")?.port();
    let probes = prober.probes();
    // Somebody has had it, and another, long before.
    for port in [port, 9] {
        let key = SessionKey {
            direction: FROM_VIP,
            protocol: TCP,
            local_port: port.to_be_bytes(),
            ..SessionKey::default()
        };
        let ended = Session {
            session_kind: LOCAL_SESSION,
            fin_or_rst_sent: 1,
            updated_tick: clock::current_tick().wrapping_sub(1_000) & TICK_MASK,
            ..Session::default()
        };
        probes.insert_session(&key, &ended)?;
    }
    let mut left = Vec::new();
    for seconds in [30, 60, 90] {
        probes.expire_leases_and_sessions(Instant::now() + Duration::from_secs(seconds))?;
        left.push(probes.session_counts()?);
    }
    let of = |ports| SessionCounts {
        leased_ports: 1,
        sessions: 0,
        ports_with_sessions: ports,
    };
    expect(&left, &vec![of(2), of(1), of(1)])
}
