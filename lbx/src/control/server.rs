//! The daemon's end of the control socket.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::timeout,
};

use super::{Request, Response};

/// A request and where its answers go. The client is gone when the channel is closed.
#[derive(Debug)]
pub struct IncomingRequest {
    /// What is asked.
    pub request: Request,
    /// Where answers go.
    pub responses: mpsc::Sender<Response>,
}

/// Answers that may wait for a slow client; beyond that, trace lines are lost to it.
const QUEUE: usize = 1_024;
/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request in bytes.
const REQUEST_MAX: u64 = 64 * 1_024;

/// A listening control socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.path);
    }
}

/// Listens on a path and hands calls on. The caller holds the lock of the name: a file that is there already is a dead
/// daemon's.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: PathBuf) -> io::Result<(ControlSocket, mpsc::Receiver<IncomingRequest>)> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let (calls, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, calls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket: cannot accept a connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok((ControlSocket { path }, receiver))
}

/// Serves one client. Whatever it does wrong ends with it.
async fn serve(stream: UnixStream, calls: mpsc::Sender<IncomingRequest>) {
    if let Err(error) = converse(stream, calls).await {
        tracing::debug!(%error, "control client");
    }
}

async fn converse(stream: UnixStream, calls: mpsc::Sender<IncomingRequest>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    let mut line = String::new();
    timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            return write(
                &mut writer,
                &Response::Error(format!(
                    "request not understood, is the director of another version? {error}"
                )),
            )
            .await;
        }
    };
    let (answers, mut receiver) = mpsc::channel(QUEUE);
    if calls
        .send(IncomingRequest {
            request,
            responses: answers,
        })
        .await
        .is_err()
    {
        return Ok(());
    }
    let mut rest = Vec::new();
    loop {
        tokio::select! {
            answer = receiver.recv() => match answer {
                Some(answer) => write(&mut writer, &answer).await?,
                None => return Ok(()),
            },
            // A client that closes its end wants no more.
            _closed = reader.read_buf(&mut rest) => return Ok(()),
        }
    }
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
