//! Servers on loopback that do as told. They end with the test's runtime.

use std::net::{IpAddr, Ipv4Addr};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

pub async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port of TCP and UDP where nobody is. Both sockets were just there, so hardly anybody else gets it meanwhile.
pub async fn closed_port() -> u16 {
    let (_listener, port) = listener().await;
    port
}

/// An HTTP server that gives every connection the same bytes and closes it; with the heads of what was asked.
pub async fn http(answer: impl Into<Vec<u8>>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let (listener, port) = listener().await;
    let (sender, heads) = mpsc::unbounded_channel();
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Some(head) = head(&mut stream).await {
                // The test may not care.
                let _ = sender.send(head);
                say(stream, &answer).await;
            }
        }
    });
    (port, heads)
}

/// Reads a request up to its empty line.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Writes, and closes; the peer may have gone.
pub async fn say(mut stream: impl AsyncWrite + Unpin, answer: &[u8]) {
    if stream.write_all(answer).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// A server that takes connections and never says a word.
pub async fn mute() -> u16 {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    port
}

/// A UDP server that answers each datagram with those that `answers` makes of it.
pub async fn udp(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    udp_on(Ipv4Addr::LOCALHOST.into(), answers).await
}

pub async fn udp_on(ip: IpAddr, answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind((ip, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            for answer in answers(&buffer[..length]) {
                socket.send_to(&answer, peer).await.unwrap();
            }
        }
    });
    port
}
