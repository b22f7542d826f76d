//! What the tests of health use, proven without lbx: servers that fail as they are told to, and clients that notice.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lbx_tests::{
    cgroup::Cgroup,
    dns::DnsServer,
    host::Host,
    lab::{Lab, VIP, rip},
    load::Load,
    nginx::Nginx,
    patience,
    process::{self, Process},
    servers::TcpServer,
    tls::Authority,
    wait,
    wrk::Wrk,
};

crate::harness::tests!(Lab:
    a_page_can_be_ill,
    tls_is_trusted_by_name_and_authority,
    dns_names_come_and_go,
    load_tells_when_and_by_whom_requests_fail,
    wrk_counts_pages_and_failures,
    an_open_door_takes_a_thousand_connections,
    a_program_in_a_control_group,
    processor_time_is_told,
);

/// How soon anything here has happened.
const SOON: Duration = Duration::from_secs(5);

fn status_of(client: &Host, url: &str, options: &[&str]) -> Result<String> {
    let line = [
        "curl",
        "--silent",
        "--output",
        "/dev/null",
        "--max-time",
        "5",
        "--write-out",
        "%{http_code}",
    ];
    Ok(client.run(line.iter().chain(options).chain(&[url]))?.stdout)
}

fn a_page_can_be_ill() -> Result<()> {
    let lab = Lab::new()?;
    let mut nginx = Nginx::start(lab.real_server(1))?;
    let url = format!("http://{}/healthz", rip(1));
    ensure!(lab.client().curl(&url)? == "rs1 is well");
    nginx.simulate_failure(true)?;
    ensure!(status_of(lab.client(), &url, &[])? == "503");
    ensure!(lab.client().curl(&format!("http://{}/", rip(1)))? == "rs1 nginx");
    nginx.simulate_failure(false)?;
    ensure!(status_of(lab.client(), &url, &[])? == "200");
    nginx.kill()?;
    ensure!(status_of(lab.client(), &url, &[])? == "000");
    let _again = Nginx::start(lab.real_server(1))?;
    ensure!(lab.client().curl(&url)? == "rs1 is well");
    Ok(())
}

fn tls_is_trusted_by_name_and_authority() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::create(lab.directory())?;
    let _nginx = Nginx::start_with(lab.real_server(1), &authority.issue("web.example.org")?)?;
    let ask = |name: &str, options: &[&str]| {
        let to = format!("{name}:443:{}", rip(1));
        let options = [&["--resolve", &to], options].concat();
        status_of(lab.client(), &format!("https://{name}/"), &options)
    };
    let file = authority.file().display().to_string();
    ensure!(ask("web.example.org", &["--cacert", &file])? == "200", "not trusted");
    ensure!(ask("other.example.org", &["--cacert", &file])? == "000", "of any name");
    ensure!(ask("web.example.org", &[])? == "000", "trusted by the system");
    ensure!(
        ask("other.example.org", &["--insecure"])? == "200",
        "not even without trust"
    );
    Ok(())
}

fn dns_names_come_and_go() -> Result<()> {
    const WWW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let lab = Lab::new()?;
    let dns = DnsServer::start(lab.real_server(1), WWW)?;
    let address = SocketAddrV4::new(rip(1), 53);
    let wait_for = |what: &str, expected: (u8, Option<Ipv4Addr>)| {
        wait::until_true(SOON, what, || {
            Ok(lab.client().enter(|| look_up(address, "www.example.org"))?? == expected)
        })
    };
    wait_for("the name is found", (0, Some(WWW)))?;
    let nobody = lab.client().enter(|| look_up(address, "nobody.example.org"))??;
    ensure!(nobody == (3, None), "{nobody:?}");
    dns.rename(Some(VIP))?;
    wait_for("the name leads elsewhere", (0, Some(VIP)))?;
    dns.rename(None)?;
    wait_for("the name is gone", (3, None))
}

/// The response code and the address of the last answer, if it ends in one (RFC 1035).
fn look_up(server: SocketAddrV4, name: &str) -> Result<(u8, Option<Ipv4Addr>)> {
    let mut question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend(b"\0\0\x01\0\x01");
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(patience::scaled(SOON)))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    let answers = u16::from_be_bytes([buffer[6], buffer[7]]);
    let address = buffer[..length].last_chunk::<4>().filter(|_| answers > 0);
    Ok((buffer[3] & 0xf, address.map(|octets| Ipv4Addr::from(*octets))))
}

fn load_tells_when_and_by_whom_requests_fail() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    let target = SocketAddrV4::new(server.address(), 80);
    for kept in [false, true] {
        let mut nginx = Nginx::start(server)?;
        let start = if kept { Load::start_kept } else { Load::start };
        let load = start(lab.client(), target, 4);
        load.run_on(100)?;
        load.so_far().expect_no_failure()?;
        let killed = Instant::now();
        nginx.kill()?;
        load.wait_until("requests fail", |report| report.failures.len() > 8)?;
        let failures = load.finish().failures;
        let slack = patience::scaled(Duration::from_millis(100));
        ensure!(
            failures.iter().all(|failure| failure.began + slack > killed),
            "{failures:?}"
        );
        let known = failures
            .iter()
            .filter(|failure| failure.server.as_deref() == Some("rs1 nginx"))
            .count();
        // The connections that were open, and no later one.
        ensure!(known == if kept { 4 } else { 0 }, "{failures:?}");
    }
    Ok(())
}

fn wrk_counts_pages_and_failures() -> Result<()> {
    let lab = Lab::new()?;
    let mut nginx = Nginx::start(lab.real_server(1))?;
    let url = format!("http://{}/", rip(1));
    for (name, kept) in [("kept", true), ("single", false)] {
        let count = Wrk::start(lab.client(), name, &url, 8, kept, 1)?.finish()?;
        ensure!(
            count.failed == 0 && count.answered > 0 && count.rate > 0.0,
            "{name}: {count:?}"
        );
    }
    let load = Wrk::start(lab.client(), "failing", &url, 8, true, 2)?;
    std::thread::sleep(patience::scaled(Duration::from_secs(1)));
    nginx.kill()?;
    let count = load.finish()?;
    ensure!(count.failed > 0 && count.answered > 0, "{count:?}");
    Ok(())
}

fn an_open_door_takes_a_thousand_connections() -> Result<()> {
    let lab = Lab::new()?;
    let target = SocketAddrV4::new(rip(1), 80);
    let door = TcpServer::open_door(lab.real_server(1), 80)?;
    lab.client().enter(|| -> Result<()> {
        for _ in 0..1_000 {
            std::net::TcpStream::connect_timeout(&target.into(), patience::scaled(SOON))?;
        }
        Ok(())
    })??;
    wait::until_true(SOON, "all are counted", || Ok(door.taken() == 1_000))
}

fn a_program_in_a_control_group() -> Result<()> {
    let lab = Lab::new()?;
    let cgroup = Cgroup::create(lab.id())?;
    let mut command = lab.client().command("cat");
    command.arg("/proc/self/cgroup");
    cgroup.enclose(&mut command)?;
    let shown = process::run(&mut command, SOON)?.success()?;
    ensure!(shown.lines().any(|line| line == format!("0::/{}", lab.id())), "{shown}");
    Ok(())
}

fn processor_time_is_told() -> Result<()> {
    let lab = Lab::new()?;
    let log = lab.directory().join("busy.log");
    let busy = Process::spawn("busy", Command::new("sh").args(["-c", "while :; do :; done"]), &log)?;
    let idle = Process::spawn("idle", Command::new("sleep").arg("100"), &log)?;
    wait::until_true(SOON, "a busy program takes its time", || {
        Ok(busy.processor_time()? >= Duration::from_millis(200))
    })?;
    ensure!(idle.processor_time()? < Duration::from_millis(100));
    Ok(())
}
