//! The operator's end of the control socket.

use std::{io, path::Path};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{DEFAULT_NAME, Request, Response};

/// Why the daemon does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No director listens on its socket.
    #[error(
        "no director named {name} is running: start one with `sudo lbx --config lb.yaml{}`, or name another with --name",
        name_option(name)
    )]
    NotRunning {
        /// The name asked for.
        name: String,
    },
    /// The socket cannot be used.
    #[error("cannot connect to the director ({path})")]
    Unreachable {
        /// Its socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The socket is root's.
    #[error("control socket {path}: permission denied: run lbx as root")]
    NotPermitted {
        /// Its socket.
        path: String,
    },
    /// The connection broke.
    #[error("connection to the director lost")]
    ConnectionLost(#[from] io::Error),
    /// The daemon is of another version.
    #[error("the director's answer cannot be read: is it of another version?")]
    UndecodableResponse(#[from] serde_json::Error),
    /// It refuses.
    #[error("the director reports: {0}")]
    RequestRejected(String),
}

/// A request under way.
#[derive(Debug)]
pub struct ResponseStream {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// Closing it would end the responses.
    _writer: OwnedWriteHalf,
}

/// Asks the daemon of a name.
///
/// # Errors
/// None of that name runs, or it cannot be reached.
pub async fn send_request(name: &str, path: &Path, request: &Request) -> Result<ResponseStream, ClientError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ClientError::of(source, name, path))?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    Ok(ResponseStream {
        lines: BufReader::new(reader).lines(),
        _writer: writer,
    })
}

impl ResponseStream {
    /// The next answer; none when the daemon has no more.
    ///
    /// # Errors
    /// The connection broke, or the daemon refuses.
    pub async fn next(&mut self) -> Result<Option<Response>, ClientError> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        match serde_json::from_str(&line)? {
            Response::Error(reason) => Err(ClientError::RequestRejected(reason)),
            answer => Ok(Some(answer)),
        }
    }
}

impl ClientError {
    /// Why a socket cannot be connected to.
    fn of(source: io::Error, name: &str, path: &Path) -> Self {
        match source.kind() {
            // A socket without a listener is that of a director that was killed.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotRunning { name: name.to_owned() },
            io::ErrorKind::PermissionDenied => Self::NotPermitted {
                path: path.display().to_string(),
            },
            _ => Self::Unreachable {
                path: path.display().to_string(),
                source,
            },
        }
    }
}

/// What a command line needs for a director that has not the usual name.
fn name_option(name: &str) -> String {
    if name == DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_that_does_not_run_is_named_with_the_command_that_starts_it() {
        let path = Path::new("/run/lbx/web.sock");
        let error =
            |kind: io::ErrorKind, name| format!("{:#}", anyhow::Error::from(ClientError::of(kind.into(), name, path)));
        assert_eq!(
            error(io::ErrorKind::NotFound, "lbx"),
            "no director named lbx is running: start one with `sudo lbx --config lb.yaml`, or name another with --name"
        );
        assert_eq!(
            error(io::ErrorKind::ConnectionRefused, "web"),
            "no director named web is running: start one with `sudo lbx --config lb.yaml --name web`, or name another with --name"
        );
        assert!(error(io::ErrorKind::PermissionDenied, "web").contains("run lbx as root"));
    }
}
