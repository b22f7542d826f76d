//! Whether a DNS question is answered as expected, over UDP (RFC 1035).
//!
//! Recursion is desired, as clients do: an authoritative server takes no notice. An answer that did not fit (TC) passes
//! by its response code; text that is looked for must be in what did fit.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    str::FromStr,
};

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName,
        iana::{Rcode, Rtype},
    },
    rdata::AllRecordData,
};
use tokio::net::UdpSocket;

use super::{CheckError, socket::Session};
use crate::{
    desired::Dns,
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess, RequiredTraffic},
    },
};

/// Largest answer over UDP without EDNS in bytes (RFC 1035 §4.2.1), which the question does not offer.
const LARGEST: usize = 512;

/// What all probes of a check ask and expect.
#[derive(Debug)]
pub struct PreparedDnsCheck {
    /// The message; its id is not set.
    message: Vec<u8>,
    kind: Rtype,
    rcode: Rcode,
    answer: Option<String>,
}

impl PreparedDnsCheck {
    /// Makes the message.
    ///
    /// # Errors
    /// Name, type or response code is none.
    pub fn new(dns: &Dns) -> Result<Self, CheckError> {
        let bad = || CheckError::InvalidDnsName(dns.name.clone());
        let name = Name::<Vec<u8>>::from_str(&dns.name).map_err(|_| bad())?;
        let kind =
            Rtype::from_str(&dns.record_type).map_err(|_| CheckError::UnknownRecordType(dns.record_type.clone()))?;
        let rcode = Rcode::from_str(&dns.rcode.to_ascii_uppercase());
        let rcode = rcode.map_err(|_| CheckError::Rcode(dns.rcode.clone()))?;
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question.push((name, kind)).map_err(|_| bad())?;
        Ok(Self {
            message: question.finish(),
            kind,
            rcode,
            answer: dns.answer.clone(),
        })
    }
}

/// Whether this is the name of a record type, or `TYPE` and its number.
#[must_use]
pub fn is_record_type(word: &str) -> bool {
    Rtype::from_str(word).is_ok()
}

/// Whether this is the name of a response code.
#[must_use]
pub fn is_rcode(word: &str) -> bool {
    Rcode::from_str(&word.to_ascii_uppercase()).is_ok()
}

/// Probes once.
///
/// # Errors
/// Why the answer is not as expected.
pub async fn run(question: &PreparedDnsCheck, endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    let (session, socket) = Session::udp(endpoint, steering)?;
    let ask = ask(question, &socket);
    let outcome = session.deadline.run_with_timeout(ProbeFailure::TimedOut, ask).await;
    session.close(socket, outcome, RequiredTraffic::BothWays)
}

async fn ask(question: &PreparedDnsCheck, socket: &UdpSocket) -> Outcome {
    let mut message = question.message.clone();
    let [id @ .., _, _, _, _, _, _] = RandomState::new().hash_one(0).to_be_bytes();
    message[..2].copy_from_slice(&id);
    socket.send(&message).await?;
    let mut buffer = [0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        // Late answers to an earlier socket with this port are ignored.
        if answer.starts_with(&id) {
            return judge(question, answer);
        }
    }
}

fn judge(question: &PreparedDnsCheck, answer: &[u8]) -> Outcome {
    let garbled = |why: &dyn std::fmt::Display| ProbeFailure::MalformedReply(why.to_string());
    let message = Message::from_octets(answer).map_err(|error| garbled(&error))?;
    if !message.header().qr() {
        return Err(garbled(&"a question came back"));
    }
    let rcode = message.header().rcode();
    if rcode != question.rcode {
        return Err(ProbeFailure::Rcode(rcode.to_string()));
    }
    let Some(expected) = &question.answer else {
        return Ok(ProbeSuccess::default());
    };
    let mut found = Vec::new();
    for record in message.answer().map_err(|error| garbled(&error))? {
        let record = record.map_err(|error| garbled(&error))?;
        if record.rtype() != question.kind && question.kind != Rtype::ANY {
            continue;
        }
        let record = record.into_any_record::<AllRecordData<_, ParsedName<_>>>();
        let data = record.map_err(|error| garbled(&error))?.data().to_string();
        if same(&data, expected) {
            return Ok(ProbeSuccess::default());
        }
        found.push(data);
    }
    let cut = if message.header().tc() { ", cut off" } else { "" };
    Err(ProbeFailure::UnexpectedReply(match found.as_slice() {
        [] => format!("no {} record{cut}", question.kind),
        found => format!("{}{cut}", found.join(", ")),
    }))
}

/// Whether two texts of record data mean the same: addresses by value, all else by words, without regard to case, final
/// dots of names, and quotes.
fn same(found: &str, expected: &str) -> bool {
    if let (Ok(found), Ok(expected)) = (found.parse::<IpAddr>(), expected.parse::<IpAddr>()) {
        return found == expected;
    }
    let words = |text: &str| -> Vec<String> {
        text.split_ascii_whitespace()
            .map(|word| {
                let word = word.trim_matches('"');
                word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase()
            })
            .collect()
    };
    words(found) == words(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_data_is_compared_by_meaning() {
        assert!(same("2001:db8::1", "2001:DB8:0::1"));
        assert!(same("10 mail.example.org.", "10 mail.Example.org"));
        assert!(same("\"v=spf1 -all\"", "v=spf1 -all"));
        assert!(!same("192.0.2.1", "192.0.2.10"));
        assert!(!same("10 mail.example.org.", "20 mail.example.org"));
    }
}
