//! The director as a client of its own VIPs.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{CLIENT, VIP, VIP6},
    nginx::Nginx,
    patience,
    servers::{TcpServer, UdpServer},
};

use crate::{
    prober::{Balanced, Prober},
    setup::{PAGE, PAGE6, WEB, WEB6, expect_all},
};

crate::harness::tests!(Lab:
    the_director_gets_pages_of_its_own_vip_in_turn,
    so_does_a_process_in_a_container,
    sockets_of_other_namespaces_are_left_alone,
    a_connection_shows_the_vip,
    so_it_does_over_ipv6_and_to_mapped_addresses,
    datagrams_show_the_vip,
    datagrams_over_ipv6_show_the_vip,
    whoever_else_a_socket_asks_the_vip_answers,
    a_service_can_keep_the_director_out,
    without_a_real_server_it_is_refused,
    what_hashes_sends_the_director_somewhere_too,
    connections_and_packets_count,
    a_connection_goes_on_when_the_daemon_is_killed_and_started,
    without_the_hooks_the_vip_is_the_directors_own,
);

fn web(scheduler: &'static str) -> Result<Balanced<Nginx>> {
    Prober::balancing(Service::web(scheduler, 2), Nginx::start)
}

impl Prober {
    /// Who answers the director that many requests.
    fn pages(&self, url: &str, count: usize) -> Result<Vec<String>> {
        let page = |_| Ok(self.lab.director().curl(url)?.replace(" nginx", ""));
        (0..count).map(page).collect()
    }

    /// Connects from the director, and reads who has answered.
    fn greeted(&self, to: impl Into<SocketAddr>) -> Result<(TcpStream, String)> {
        let to = to.into();
        let stream = self.inside(|| TcpStream::connect_timeout(&to, patience::scaled(Duration::from_secs(2))))??;
        stream.set_read_timeout(Some(patience::scaled(Duration::from_secs(2))))?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok((stream, line.trim_end().to_owned()))
    }

    fn udp(&self, from: &str) -> Result<UdpSocket> {
        let socket = self.inside(|| UdpSocket::bind(from))??;
        socket.set_read_timeout(Some(patience::scaled(Duration::from_secs(2))))?;
        Ok(socket)
    }
}

fn the_director_gets_pages_of_its_own_vip_in_turn() -> Result<()> {
    let scene = web("rr")?;
    let pages = scene.prober.pages(PAGE, 6)?;
    ensure!(pages == ["rs1", "rs2", "rs1", "rs2", "rs1", "rs2"], "{pages:?}");
    Ok(())
}

/// A child of the root of the cgroups, as a container has one.
struct Cgroup(PathBuf);

impl Cgroup {
    fn create(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = mount.and_then(|line| line.split(' ').nth(1)).context("no cgroup2")?;
        let path = PathBuf::from(root).join(name).join("inner");
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
        self.0.parent().map(fs::remove_dir);
    }
}

fn so_does_a_process_in_a_container() -> Result<()> {
    let scene = web("rr")?;
    let cgroup = Cgroup::create(scene.prober.lab.id())?;
    let script = format!(
        "echo $$ >{}/cgroup.procs && curl -sSf --max-time 3 {PAGE} && curl -sSf --max-time 3 {PAGE}",
        cgroup.0.display()
    );
    let pages = scene.prober.lab.director().run(["sh", "-c", &script])?.success()?;
    ensure!(pages == "rs1 nginx\nrs2 nginx\n", "{pages}");
    Ok(())
}

fn sockets_of_other_namespaces_are_left_alone() -> Result<()> {
    let scene = web("rr")?;
    // On a real server the VIP is its own.
    let host = scene.prober.lab.real_server(2);
    let pages = (0..4).map(|_| host.curl(PAGE)).collect::<Result<Vec<_>>>()?;
    expect_all(&pages, "rs2 nginx")
}

fn a_connection_shows_the_vip() -> Result<()> {
    let scene = Prober::balancing(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    for expected in ["rs1", "rs2"] {
        let (mut stream, name) = scene.prober.greeted(WEB)?;
        ensure!(name == expected, "{name} has answered");
        ensure!(stream.peer_addr()? == SocketAddr::from(WEB), "{:?}", stream.peer_addr());
        // More than one packet each way, and more than one segment in each.
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut writer = stream.try_clone()?;
        let mut received = vec![0; sent.len()];
        std::thread::scope(|scope| -> Result<()> {
            let writing = scope.spawn(|| writer.write_all(&sent));
            stream.read_exact(&mut received)?;
            writing.join().expect("it does not panic")?;
            Ok(())
        })?;
        ensure!(sent == received, "the echo is another");
    }
    Ok(())
}

fn so_it_does_over_ipv6_and_to_mapped_addresses() -> Result<()> {
    let scene = Prober::balancing(Service::web("rr", 2).over_ipv6(), |host| TcpServer::start(host, 80))?;
    for expected in ["rs1", "rs2"] {
        let (stream, name) = scene.prober.greeted(WEB6)?;
        ensure!(name == expected, "{name} has answered");
        ensure!(
            stream.peer_addr()? == SocketAddr::from(WEB6),
            "{:?}",
            stream.peer_addr()
        );
    }
    drop(scene);
    let scene = web("rr")?;
    let pages = scene.prober.pages("http://[::ffff:192.168.1.160]/", 2)?;
    ensure!(pages == ["rs1", "rs2"], "{pages:?}");
    let mapped: IpAddr = VIP.to_ipv6_mapped().into();
    let stream = scene.prober.inside(|| TcpStream::connect((mapped, 80)))??;
    ensure!(stream.peer_addr()?.ip() == mapped, "{:?}", stream.peer_addr());
    Ok(())
}

fn echoes(service: Service, vip: IpAddr) -> Result<Balanced<UdpServer>> {
    Prober::balancing(service.on("udp", 53), |host| UdpServer::start(host, (vip, 53)))
}

fn talk(socket: &UdpSocket, to: SocketAddr) -> Result<String> {
    let mut buffer = [0; 64];
    socket.send_to(b"question", to)?;
    let (length, from) = socket.recv_from(&mut buffer)?;
    ensure!(from == to, "{from} has answered and not {to}");
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn datagrams_show(scene: &Balanced<UdpServer>, any: &str, vip: IpAddr) -> Result<()> {
    let to = SocketAddr::new(vip, 53);
    let socket = scene.prober.udp(any)?;
    // A socket keeps its real server.
    let answers = (0..4).map(|_| talk(&socket, to)).collect::<Result<Vec<_>>>()?;
    expect_all(&answers, "rs1 question")?;
    let other = scene.prober.udp(any)?;
    ensure!(talk(&other, to)? == "rs2 question", "rs1 again");
    let connected = scene.prober.udp(any)?;
    scene.prober.inside(|| connected.connect(to))??;
    ensure!(connected.peer_addr()? == to, "{:?}", connected.peer_addr());
    connected.send(b"question")?;
    let mut buffer = [0; 64];
    let (length, from) = connected.recv_from(&mut buffer)?;
    ensure!(from == to && &buffer[..length] == b"rs1 question", "{from}");
    Ok(())
}

fn datagrams_show_the_vip() -> Result<()> {
    let scene = echoes(Service::web("rr", 2), VIP.into())?;
    datagrams_show(&scene, "0.0.0.0:0", VIP.into())
}

fn datagrams_over_ipv6_show_the_vip() -> Result<()> {
    let scene = echoes(Service::web("rr", 2).over_ipv6(), VIP6.into())?;
    datagrams_show(&scene, "[::]:0", IpAddr::from(VIP6))?;
    ensure!(scene.prober.pages(PAGE6, 1).is_err(), "TCP is answered");
    Ok(())
}

fn whoever_else_a_socket_asks_the_vip_answers() -> Result<()> {
    let scene = echoes(Service::web("rr", 2), VIP.into())?;
    let vip = SocketAddr::new(VIP.into(), 53);
    let socket = scene.prober.udp("0.0.0.0:0")?;
    let mut buffer = [0; 64];
    // It asks another in the middle, who does not answer, and has the answer of the VIP only then.
    for _ in 0..2 {
        socket.send_to(b"question", vip)?;
        socket.send_to(b"question", (CLIENT, 9))?;
        let (length, from) = socket.recv_from(&mut buffer)?;
        ensure!(from == vip && &buffer[..length] == b"rs1 question", "{from}");
    }
    Ok(())
}

/// How a connection of the director to its VIP ends at once.
fn refusal(prober: &Prober) -> Result<ErrorKind> {
    let tried = prober.inside(|| TcpStream::connect_timeout(&WEB.into(), patience::scaled(Duration::from_secs(2))))?;
    Ok(tried.err().context("a connection")?.kind())
}

fn a_service_can_keep_the_director_out() -> Result<()> {
    let scene = Prober::balancing(Service::web("rr", 2).with("local", false), Nginx::start)?;
    // Nobody listens on the director itself.
    let kind = refusal(&scene.prober)?;
    ensure!(kind == ErrorKind::ConnectionRefused, "{kind}");
    let listener = TcpServer::start(scene.prober.lab.director(), 80)?;
    let (_, name) = scene.prober.greeted(WEB)?;
    ensure!(name == "director", "{name} has answered");
    drop(listener);
    Ok(())
}

fn without_a_real_server_it_is_refused() -> Result<()> {
    let scene = Prober::balancing(Service::weighted("rr", &[0, 0]), Nginx::start)?;
    let kind = refusal(&scene.prober)?;
    ensure!(kind == ErrorKind::ConnectionRefused, "{kind}");
    // Whoever listens on the director gets nothing that is for real servers.
    let _listener = TcpServer::start(scene.prober.lab.director(), 80)?;
    let kind = refusal(&scene.prober)?;
    ensure!(kind == ErrorKind::ConnectionRefused, "{kind}");
    Ok(())
}

fn what_hashes_sends_the_director_somewhere_too() -> Result<()> {
    for scheduler in ["maglev", "mh", "sh", "dh", "wlc", "p2c"] {
        let scene = web(scheduler)?;
        let pages = scene.prober.pages(PAGE, 24)?;
        let by_address = matches!(scheduler, "mh" | "sh" | "dh");
        let by_first = pages.iter().filter(|page| **page == pages[0]).count();
        match scheduler {
            "maglev" | "p2c" => ensure!(by_first < 24, "{scheduler}: always {}", pages[0]),
            _ if by_address => ensure!(by_first == 24, "{scheduler}: {pages:?}"),
            _ => {}
        }
    }
    Ok(())
}

fn connections_and_packets_count() -> Result<()> {
    let mut scene = web("rr")?;
    scene.prober.pages(PAGE, 4)?;
    let (whole, members) = scene.prober.traffic()?;
    ensure!(whole.connections == 4, "{whole:?}");
    // SYN, ACK, request, FIN and what acknowledges.
    ensure!((16..64).contains(&whole.packets) && whole.bytes > 4 * 200, "{whole:?}");
    ensure!(whole.fin_rst_packets >= 4, "{whole:?}");
    ensure!(members.iter().all(|member| member.connections == 2), "{members:?}");
    ensure!(
        members.iter().map(|member| member.packets).sum::<u64>() == whole.packets,
        "{members:?}"
    );
    Ok(())
}

fn a_connection_goes_on_when_the_daemon_is_killed_and_started() -> Result<()> {
    let mut scene = Prober::balancing(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    let (mut stream, name) = scene.prober.greeted(WEB)?;
    scene.prober.restart(&["eth0"])?;
    let mut echo = [0; 5];
    stream.write_all(b"still")?;
    stream.read_exact(&mut echo)?;
    ensure!(
        &echo == b"still" && stream.peer_addr()? == SocketAddr::from(WEB),
        "{echo:?}"
    );
    let (_, next) = scene.prober.greeted(WEB)?;
    ensure!(next != name, "{next} again");
    Ok(())
}

fn without_the_hooks_the_vip_is_the_directors_own() -> Result<()> {
    let mut scene = web("rr")?;
    scene.prober.pages(PAGE, 1)?;
    scene.prober.with(|dataplane| dataplane.set_local_vip_access(false))??;
    let kind = refusal(&scene.prober)?;
    ensure!(kind == ErrorKind::ConnectionRefused, "{kind}");
    scene.prober.with(|dataplane| dataplane.set_local_vip_access(true))??;
    scene.prober.pages(PAGE, 1)?;
    Ok(())
}
