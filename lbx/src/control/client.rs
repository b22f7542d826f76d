//! The operator's end of the control socket.

use std::{io, path::Path};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{Answer, Request};

/// Why the daemon does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no director named {name} is running ({path})")]
    NotRunning {
        /// The name asked for.
        name: String,
        /// Its socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The socket is root's.
    #[error("not permitted: asking the director needs root ({path})")]
    NotPermitted {
        /// Its socket.
        path: String,
    },
    /// The connection broke.
    #[error("the director broke off")]
    Broken(#[from] io::Error),
    /// The daemon is of another version.
    #[error("the director's answer cannot be read: is it of another version?")]
    Foreign(#[from] serde_json::Error),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
}

/// A request under way.
#[derive(Debug)]
pub struct Conversation {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// Closing it would end the conversation.
    _writer: OwnedWriteHalf,
}

/// Asks the daemon of a name.
///
/// # Errors
/// None of that name runs, or it cannot be reached.
pub async fn ask(name: &str, path: &Path, request: &Request) -> Result<Conversation, ClientError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ClientError::NotRunning {
            name: name.to_owned(),
            path: path.display().to_string(),
            source,
        })?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    Ok(Conversation {
        lines: BufReader::new(reader).lines(),
        _writer: writer,
    })
}

impl Conversation {
    /// The next answer; none when the daemon has no more.
    ///
    /// # Errors
    /// The connection broke, or the daemon refuses.
    pub async fn next(&mut self) -> Result<Option<Answer>, ClientError> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        match serde_json::from_str(&line)? {
            Answer::Error(reason) => Err(ClientError::Refused(reason)),
            answer => Ok(Some(answer)),
        }
    }
}
