use std::net::{Ipv4Addr, Ipv6Addr};

use domain::{
    base::{
        Message, MessageBuilder, Name, Serial, Ttl,
        iana::{Rcode, Rtype},
    },
    rdata::{A, Aaaa, Soa},
};

use super::{PASSED, aim_at, endpoint, hasty, probe, probe_through, servers, steering_stubs::Untrue};
use crate::{
    desired::{Check, Dns},
    health::{
        check::{CheckError, validate},
        failure::ProbeFailure,
        probe::Outcome,
    },
};

/// What the file's `dns: {}` means.
fn root() -> Dns {
    Dns {
        name: ".".to_owned(),
        record_type: "SOA".to_owned(),
        rcode: "NOERROR".to_owned(),
        answer: None,
    }
}

fn looking_for(kind: &str, answer: &str) -> Dns {
    Dns {
        name: "www.example.org".to_owned(),
        record_type: kind.to_owned(),
        answer: Some(answer.to_owned()),
        ..root()
    }
}

/// A server of www.example.org and the root.
fn answer(asked: &[u8]) -> Vec<u8> {
    let asked = Message::from_octets(asked).expect("a message");
    assert!(!asked.header().qr() && asked.header().rd());
    let question = asked.sole_question().expect("one question");
    let name = question.qname().to_string();
    let known = ["", ".", "www.example.org"].contains(&name.as_str());
    let rcode = if known { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut answer = MessageBuilder::new_vec().start_answer(&asked, rcode).unwrap();
    let (owner, ttl) = (question.qname(), Ttl::from_secs(60));
    match question.qtype() {
        Rtype::A if known => {
            for last in [1, 2] {
                answer.push((owner, ttl, A::from_octets(192, 0, 2, last))).unwrap();
            }
        }
        Rtype::AAAA if known => {
            let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
            answer.push((owner, ttl, Aaaa::new(address))).unwrap();
        }
        Rtype::SOA if known => {
            let name = |name: &str| -> Name<Vec<u8>> { name.parse().unwrap() };
            let (main, mailbox) = (name("ns.example.org"), name("admin.example.org"));
            let soa = Soa::new(main, mailbox, Serial(7), ttl, ttl, ttl, ttl);
            answer.push((owner, ttl, soa)).unwrap();
        }
        _ => {}
    }
    answer.finish()
}

async fn judged(dns: Dns) -> Outcome {
    let port = servers::udp(|asked| vec![answer(asked)]).await;
    probe(&Check::Dns(dns), &endpoint(port)).await
}

#[tokio::test]
async fn any_answer_without_error_passes() {
    assert_eq!(judged(root()).await, PASSED);
    let name = "www.example.org.".to_owned();
    let record_type = "TXT".to_owned();
    assert_eq!(
        judged(Dns {
            name,
            record_type,
            ..root()
        })
        .await,
        PASSED
    );
}

#[tokio::test]
async fn ipv6_passes_too() {
    let ip = Ipv6Addr::LOCALHOST.into();
    let port = servers::udp_on(ip, |asked| vec![answer(asked)]).await;
    assert_eq!(probe(&Check::Dns(root()), &aim_at(ip, port)).await, PASSED);
}

#[tokio::test]
async fn the_response_code_decides() {
    let unknown = Dns {
        name: "unknown.example.org".to_owned(),
        ..root()
    };
    let outcome = judged(unknown.clone()).await;
    assert_eq!(outcome, Err(ProbeFailure::Rcode("NXDOMAIN".to_owned())));
    let rcode = "nxdomain".to_owned();
    assert_eq!(judged(Dns { rcode, ..unknown }).await, PASSED);
    let rcode = "REFUSED".to_owned();
    let outcome = judged(Dns { rcode, ..root() }).await;
    assert_eq!(outcome, Err(ProbeFailure::Rcode("NOERROR".to_owned())));
}

#[tokio::test]
async fn one_of_the_answers_must_be_the_expected() {
    assert_eq!(judged(looking_for("A", "192.0.2.2")).await, PASSED);
    assert_eq!(judged(looking_for("AAAA", "2001:DB8:0:0::1")).await, PASSED);
    let soa = "ns.example.org. ADMIN.example.org 7 60 60 60 60";
    assert_eq!(judged(looking_for("SOA", soa)).await, PASSED);
    let outcome = judged(looking_for("A", "192.0.2.3")).await;
    assert_eq!(
        outcome,
        Err(ProbeFailure::UnexpectedReply("192.0.2.1, 192.0.2.2".to_owned()))
    );
    let outcome = judged(looking_for("MX", "10 mail.example.org")).await;
    assert_eq!(outcome, Err(ProbeFailure::UnexpectedReply("no MX record".to_owned())));
}

#[tokio::test]
async fn what_is_cut_off_passes_if_nobody_looks_for_it() {
    let port = servers::udp(|asked| {
        let asked = Message::from_octets(asked).unwrap();
        let mut answer = MessageBuilder::new_vec().start_answer(&asked, Rcode::NOERROR).unwrap();
        answer.header_mut().set_tc(true);
        vec![answer.finish()]
    })
    .await;
    assert_eq!(probe(&Check::Dns(root()), &endpoint(port)).await, PASSED);
    let outcome = probe(&Check::Dns(looking_for("A", "192.0.2.1")), &endpoint(port)).await;
    assert_eq!(
        outcome,
        Err(ProbeFailure::UnexpectedReply("no A record, cut off".to_owned()))
    );
}

#[tokio::test]
async fn answers_to_others_are_no_answers() {
    let another = |asked: &[u8]| {
        let mut answer = answer(asked);
        answer[0] ^= 1;
        answer
    };
    let port = servers::udp(move |asked| vec![another(asked), vec![], answer(asked)]).await;
    assert_eq!(probe(&Check::Dns(root()), &endpoint(port)).await, PASSED);
    let endpoint = hasty(servers::udp(move |asked| vec![another(asked)]).await);
    let outcome = probe(&Check::Dns(root()), &endpoint).await;
    assert_eq!(outcome, Err(ProbeFailure::TimedOut(endpoint.timeout)));
}

#[tokio::test]
async fn what_is_no_answer_fails() {
    let echo = servers::udp(|asked| vec![asked.to_vec()]).await;
    let outcome = probe(&Check::Dns(root()), &endpoint(echo)).await;
    assert_eq!(
        outcome,
        Err(ProbeFailure::MalformedReply("a question came back".to_owned()))
    );
    let short = servers::udp(|asked| vec![asked[..5].to_vec()]).await;
    let outcome = probe(&Check::Dns(root()), &endpoint(short)).await;
    assert!(matches!(outcome, Err(ProbeFailure::MalformedReply(_))), "{outcome:?}");
    // One record promised, none there.
    let cut = servers::udp(|asked| {
        let mut answer = answer(asked);
        answer.truncate(asked.len());
        vec![answer]
    })
    .await;
    let outcome = probe(&Check::Dns(looking_for("A", "192.0.2.1")), &endpoint(cut)).await;
    assert!(matches!(outcome, Err(ProbeFailure::MalformedReply(_))), "{outcome:?}");
}

#[tokio::test]
async fn nobody_there_refuses() {
    let endpoint = aim_at(Ipv4Addr::LOCALHOST.into(), servers::closed_port().await);
    assert_eq!(probe(&Check::Dns(root()), &endpoint).await, Err(ProbeFailure::Refused));
}

#[tokio::test]
async fn steering_has_the_last_word() {
    let port = servers::udp(|asked| vec![answer(asked)]).await;
    let outcome = probe_through(&Untrue, &Check::Dns(root()), &endpoint(port)).await;
    assert_eq!(outcome, Err(ProbeFailure::NotSteered));
}

#[test]
fn what_is_no_question_is_refused() {
    let refused = |dns| validate(&Check::Dns(dns)).unwrap_err();
    for name in ["a..b", &"x".repeat(64)] {
        let name = name.to_owned();
        assert!(matches!(refused(Dns { name, ..root() }), CheckError::InvalidDnsName(_)));
    }
    let record_type = "SOAP".to_owned();
    assert!(matches!(
        refused(Dns { record_type, ..root() }),
        CheckError::UnknownRecordType(_)
    ));
    let rcode = "FINE".to_owned();
    assert!(matches!(refused(Dns { rcode, ..root() }), CheckError::Rcode(_)));
}
