//! What the body of an HTTP answer must be.

use std::{fmt::Write, future::poll_fn, pin::Pin};

use hyper::body::{Body as _, Incoming};
use md5::Md5;
use regex::bytes::Regex;
use sha2::{Digest, Sha256};

use super::{CheckError, http_error::connection_failure};
use crate::{
    desired::{ExpectedBody, Http},
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeSuccess},
    },
};

/// What is looked for in a body.
#[derive(Debug)]
pub struct BodyMatcher {
    text: Option<Text>,
    weight: bool,
}

#[derive(Debug)]
enum Text {
    Matches(Regex),
    Sha256([u8; 32]),
    Md5([u8; 16]),
}

/// What was read of a body.
struct Content {
    bytes: Vec<u8>,
    /// Nothing of it is left.
    whole: bool,
}

impl BodyMatcher {
    /// What a check looks for; none: the body does not matter.
    ///
    /// # Errors
    /// The regular expression is none.
    pub fn new(http: &Http) -> Result<Option<Self>, CheckError> {
        let text = match &http.expected_body {
            Some(ExpectedBody::Regex(pattern)) => {
                let regex = Regex::new(pattern).map_err(|error| CheckError::Regex(error.to_string()))?;
                Some(Text::Matches(regex))
            }
            Some(ExpectedBody::Sha256(digest)) => Some(Text::Sha256(*digest)),
            Some(ExpectedBody::Md5(digest)) => Some(Text::Md5(*digest)),
            None => None,
        };
        let weight = http.weight_in_body;
        Ok((text.is_some() || weight).then_some(Self { text, weight }))
    }

    /// Reads a body and looks at it.
    ///
    /// # Errors
    /// It is lost on the way, or not as expected.
    pub async fn verify(&self, body: Incoming) -> Outcome {
        let content = read(body).await?;
        if let Some(text) = &self.text {
            text.judge(&content)?;
        }
        let weight = if self.weight {
            Some(weight(&content.bytes)?)
        } else {
            None
        };
        Ok(ProbeSuccess { weight })
    }
}

impl Text {
    fn judge(&self, content: &Content) -> Result<(), ProbeFailure> {
        match self {
            Self::Matches(regex) if regex.is_match(&content.bytes) => Ok(()),
            Self::Matches(regex) => Err(ProbeFailure::UnexpectedBody(format!("nothing in it matches {regex}"))),
            Self::Sha256(expected) => content.has_digest::<Sha256>("SHA-256", expected),
            Self::Md5(expected) => content.has_digest::<Md5>("MD5", expected),
        }
    }
}

impl Content {
    fn has_digest<D: Digest>(&self, name: &str, expected: &[u8]) -> Result<(), ProbeFailure> {
        if !self.whole {
            return Err(ProbeFailure::UnexpectedBody(format!(
                "larger than {} bytes",
                ExpectedBody::MAX_BODY_BYTES
            )));
        }
        let found = D::digest(&self.bytes);
        if found.as_slice() == expected {
            return Ok(());
        }
        Err(ProbeFailure::UnexpectedBody(format!(
            "its {name} is {}",
            hex(found.as_slice())
        )))
    }
}

/// The weight in a body: its first word, a number from 0 to 65535.
fn weight(body: &[u8]) -> Result<u16, ProbeFailure> {
    let word = body
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())
        .unwrap_or_default();
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.ok_or_else(|| {
        let shown = word[..word.len().min(32)].escape_ascii();
        ProbeFailure::UnexpectedBody(format!("\"{shown}\" is no weight from 0 to 65535"))
    })
}

/// Reads a body, but no more than [`ExpectedBody::MAX_BODY_BYTES`].
async fn read(mut body: Incoming) -> Result<Content, ProbeFailure> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(connection_failure)?.into_data() else {
            continue;
        };
        let room = ExpectedBody::MAX_BODY_BYTES - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok(Content { bytes, whole: false });
        }
    }
    Ok(Content { bytes, whole: true })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_is_the_weight() {
        assert_eq!(weight(b"100"), Ok(100));
        assert_eq!(weight(b" \r\n7 sessions\n"), Ok(7));
        assert_eq!(weight(b"0\n"), Ok(0));
        assert_eq!(weight(b"65535"), Ok(65535));
        for bad in [&b""[..], b"  ", b"65536", b"-1", b"75%", b"up", b"\xff"] {
            assert!(matches!(weight(bad), Err(ProbeFailure::UnexpectedBody(_))), "{bad:?}");
        }
    }

    #[test]
    fn digests_are_of_the_whole_body() {
        let hello = |whole| Content {
            bytes: b"hello".to_vec(),
            whole,
        };
        let md5 = [
            0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17, 0xc5, 0x92,
        ];
        assert_eq!(Text::Md5(md5).judge(&hello(true)), Ok(()));
        let cut = Text::Md5(md5).judge(&hello(false));
        assert_eq!(
            cut,
            Err(ProbeFailure::UnexpectedBody("larger than 1048576 bytes".to_owned()))
        );
        let wrong = Text::Md5([0; 16]).judge(&hello(true));
        let said = "its MD5 is 5d41402abc4b2a76b9719d911017c592";
        assert_eq!(wrong, Err(ProbeFailure::UnexpectedBody(said.to_owned())));
    }
}
