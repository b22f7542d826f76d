use std::io::ErrorKind;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    PASSED, endpoint, hasty, probe, probe_through, servers,
    steering_stubs::{Untrue, Witness},
};
use crate::{
    desired::{Check, ExpectedBody, Http, Tls},
    health::{
        check::{CheckError, validate},
        failure::ProbeFailure,
        probe::{Outcome, ProbeSuccess, RequiredTraffic},
    },
};

/// What the file's `http: {}` means.
pub fn plain() -> Http {
    Http {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: None,
        headers: vec![],
        expected_status: vec![(200, 299)],
        expected_body: None,
        tls: None,
        weight_in_body: false,
    }
}

fn with_body(body: ExpectedBody) -> Http {
    Http {
        expected_body: Some(body),
        ..plain()
    }
}

fn matching(pattern: &str) -> Http {
    with_body(ExpectedBody::Regex(pattern.to_owned()))
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What a check makes of these bytes.
async fn judged(http: Http, answer: impl Into<Vec<u8>>) -> Outcome {
    let (port, _heads) = servers::http(answer).await;
    probe(&Check::Http(http), &endpoint(port)).await
}

/// The head of the request that a check sends, and the port.
async fn asked(http: Http) -> (String, u16) {
    let (port, mut heads) = servers::http(answer("200 OK", "")).await;
    assert_eq!(probe(&Check::Http(http), &endpoint(port)).await, PASSED);
    (heads.recv().await.unwrap(), port)
}

#[tokio::test]
async fn the_status_decides() {
    assert_eq!(judged(plain(), answer("200 OK", "hello")).await, PASSED);
    assert_eq!(judged(plain(), answer("299 Fine", "")).await, PASSED);
    let busy = answer("503 Service Unavailable", "");
    assert_eq!(
        judged(plain(), busy.clone()).await,
        Err(ProbeFailure::UnexpectedHttpStatus(503))
    );
    assert_eq!(
        judged(plain(), answer("300 Choices", "")).await,
        Err(ProbeFailure::UnexpectedHttpStatus(300))
    );
    let http = Http {
        expected_status: vec![(200, 200), (500, 503)],
        ..plain()
    };
    assert_eq!(judged(http.clone(), busy).await, PASSED);
    assert_eq!(
        judged(http.clone(), answer("504 Late", "")).await,
        Err(ProbeFailure::UnexpectedHttpStatus(504))
    );
    // What goes before the answer is none.
    let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{}", answer("201 Made", ""));
    assert_eq!(
        judged(http, continued).await,
        Err(ProbeFailure::UnexpectedHttpStatus(201))
    );
}

#[tokio::test]
async fn the_request_is_as_written() {
    let (head, port) = asked(plain()).await;
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "GET / HTTP/1.1\r\nuser-agent: lbx/{version}\r\naccept: */*\r\nconnection: close\r\nhost: 192.0.2.1:{port}\r\n\r\n"
    );
    assert_eq!(head, expected);

    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (head, _) = asked(Http {
        method: "POST".to_owned(),
        path: "/healthz?deep=1".to_owned(),
        host: Some("example.org".to_owned()),
        headers: vec![pair("X-A", "b"), pair("X-A", "c"), pair("Accept", "text/plain")],
        ..plain()
    })
    .await;
    assert!(
        head.starts_with("POST /healthz?deep=1 HTTP/1.1\r\nhost: example.org\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nx-a: b\r\nx-a: c\r\n"), "{head}");
    assert!(head.contains("\r\naccept: text/plain\r\n"), "{head}");
    assert!(!head.contains("*/*"), "{head}");
    assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head}");
}

#[tokio::test]
async fn head_has_no_body() {
    let head = Http {
        method: "HEAD".to_owned(),
        ..plain()
    };
    // A length, and nothing of that length.
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(judged(head.clone(), answer).await, PASSED);
    for http in [
        Http {
            weight_in_body: true,
            ..head.clone()
        },
        Http {
            expected_body: Some(ExpectedBody::Regex("x".to_owned())),
            ..head
        },
    ] {
        let error = validate(&Check::Http(http)).unwrap_err();
        assert!(matches!(error, CheckError::HeadHasNoBody));
    }
}

#[tokio::test]
async fn the_body_must_match() {
    let yes = answer("200 OK", "all is well\n");
    assert_eq!(judged(matching("is w[a-f]ll"), yes.clone()).await, PASSED);
    let no = Err(ProbeFailure::UnexpectedBody("nothing in it matches ^well".to_owned()));
    assert_eq!(judged(matching("^well"), yes).await, no);
    // Chunked, and ended by the connection's end.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall i\r\n6\r\ns well\r\n0\r\n\r\n";
    assert_eq!(judged(matching("is well$"), chunked).await, PASSED);
    assert_eq!(
        judged(matching("is well$"), "HTTP/1.0 200 OK\r\n\r\nall is well").await,
        PASSED
    );
}

#[tokio::test]
async fn no_more_of_the_body_is_read_than_allowed() {
    let mut large = vec![b'x'; ExpectedBody::MAX_BODY_BYTES];
    let digest: [u8; 32] = Sha256::digest(&large).into();
    let answer = |body: &[u8]| [b"HTTP/1.0 200 OK\r\n\r\n", body].concat();
    assert_eq!(
        judged(with_body(ExpectedBody::Sha256(digest)), answer(&large)).await,
        PASSED
    );
    assert_eq!(judged(matching("x$"), answer(&large)).await, PASSED);
    large.push(b'!');
    let why = format!("larger than {} bytes", ExpectedBody::MAX_BODY_BYTES);
    let outcome = judged(with_body(ExpectedBody::Sha256(digest)), answer(&large)).await;
    assert_eq!(outcome, Err(ProbeFailure::UnexpectedBody(why)));
    let why = "nothing in it matches !".to_owned();
    assert_eq!(
        judged(matching("!"), answer(&large)).await,
        Err(ProbeFailure::UnexpectedBody(why))
    );
}

#[tokio::test]
async fn the_body_may_hold_the_weight() {
    let http = Http {
        weight_in_body: true,
        ..plain()
    };
    let weight = Some(30);
    assert_eq!(
        judged(http.clone(), answer("200 OK", "30\n")).await,
        Ok(ProbeSuccess { weight })
    );
    let outcome = judged(http, answer("200 OK", "75%\n")).await;
    let why = "\"75%\" is no weight from 0 to 65535".to_owned();
    assert_eq!(outcome, Err(ProbeFailure::UnexpectedBody(why)));
}

#[tokio::test]
async fn what_is_cut_short_or_no_http_fails() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is well";
    assert_eq!(judged(matching("well"), cut).await, Err(ProbeFailure::ConnectionClosed));
    assert_eq!(
        judged(plain(), "HTTP/1.1 200 OK\r\nContent-").await,
        Err(ProbeFailure::ConnectionClosed)
    );
    assert_eq!(judged(plain(), "").await, Err(ProbeFailure::ConnectionClosed));
    let outcome = judged(plain(), "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n").await;
    assert!(matches!(outcome, Err(ProbeFailure::MalformedReply(_))), "{outcome:?}");
    let endless = [b"HTTP/1.1 200 OK\r\nX-A: ".to_vec(), vec![b'x'; 100 << 10]].concat();
    let outcome = judged(plain(), endless).await;
    assert!(matches!(outcome, Err(ProbeFailure::MalformedReply(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_slow_and_not_silent() {
    let endpoint = hasty(servers::mute().await);
    let outcome = probe(&Check::Http(plain()), &endpoint).await;
    assert_eq!(outcome, Err(ProbeFailure::IncompleteReply(endpoint.timeout)));
    assert!(!outcome.unwrap_err().is_unresponsive());
    let https = Http {
        tls: Some(Tls {
            server_name: None,
            verify: false,
            ca_file: None,
        }),
        ..plain()
    };
    let outcome = probe(&Check::Http(https), &endpoint).await;
    assert_eq!(outcome, Err(ProbeFailure::IncompleteReply(endpoint.timeout)));
}

#[tokio::test]
async fn nobody_there_refuses() {
    let port = servers::closed_port().await;
    assert_eq!(
        probe(&Check::Http(plain()), &endpoint(port)).await,
        Err(ProbeFailure::Refused)
    );
}

#[tokio::test]
async fn steering_has_the_last_word() {
    let (port, _heads) = servers::http(answer("200 OK", "")).await;
    let check = Check::Http(plain());
    let outcome = probe_through(&Untrue, &check, &endpoint(port)).await;
    assert_eq!(outcome, Err(ProbeFailure::NotSteered));
    let witness = Witness::default();
    assert_eq!(probe_through(&witness, &check, &endpoint(port)).await, PASSED);
    assert!(matches!(
        witness.0.lock().unwrap()[..],
        [(_, RequiredTraffic::BothWays)]
    ));
}

#[test]
fn what_is_no_request_is_refused() {
    let refused = |http| validate(&Check::Http(http)).unwrap_err().to_string();
    let method = "GE T".to_owned();
    assert_eq!(refused(Http { method, ..plain() }), "bad HTTP method \"GE T\"");
    for path in ["", "healthz", "/a b", "/ä", "http://example.org/"] {
        let path = path.to_owned();
        assert!(refused(Http { path, ..plain() }).starts_with("bad path"));
    }
    for (name, value) in [("X A", "b"), ("", "b"), ("X-A", "b\nc")] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        assert!(refused(Http { headers, ..plain() }).starts_with("bad HTTP header"));
    }
    let host = Some("a\r\nb".to_owned());
    assert!(refused(Http { host, ..plain() }).starts_with("bad HTTP header \"host\""));
    assert!(refused(matching("(")).starts_with("bad regular expression"));
}

/// Who ends a connection first has it in TIME_WAIT.
#[tokio::test]
async fn the_probe_does_not_end_the_connection_but_by_reset() {
    let (listener, port) = servers::listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        servers::head(&mut stream).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.read_u8().await.unwrap_err().kind()
    };
    let check = Check::Http(matching("ok"));
    let endpoint = endpoint(port);
    let (outcome, end) = tokio::join!(probe(&check, &endpoint), server);
    assert_eq!(outcome, PASSED);
    assert_eq!(end, ErrorKind::ConnectionReset);
}
