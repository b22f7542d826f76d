//! HTTPS against servers with certificates made on the spot.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::sync::mpsc;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{PASSED, endpoint, http::plain, probe, servers};
use crate::{
    desired::{Check, Http, Tls},
    health::{
        check::{CheckError, PreparedCheck, validate},
        failure::ProbeFailure,
    },
};

/// An authority, and the file that says so.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = std::env::temp_dir().join(format!("lbx-authority-{}-{number}.pem", std::process::id()));
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// An HTTPS server with a certificate for these names, that sends the names it is asked for by SNI.
    async fn server(&self, params: CertificateParams) -> (u16, mpsc::UnboundedReceiver<Option<String>>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        serve(certificate.der(), &key).await
    }
}

/// An HTTPS server with a certificate, that sends the names it is asked for by SNI.
async fn serve(certificate: &CertificateDer<'static>, key: &KeyPair) -> (u16, mpsc::UnboundedReceiver<Option<String>>) {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = servers::listener().await;
    let (sender, names) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client may find the certificate wanting.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = sender.send(stream.get_ref().1.server_name().map(str::to_owned));
            if servers::head(&mut stream).await.is_some() {
                servers::say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    (port, names)
}

impl Drop for Authority {
    fn drop(&mut self) {
        // A file in the directory for such.
        let _ = fs::remove_file(&self.file);
    }
}

fn names(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn https(host: Option<&str>, authorities: Option<&Path>, verify: bool) -> Http {
    Http {
        host: host.map(str::to_owned),
        tls: Some(Tls {
            server_name: None,
            verify,
            ca_file: authorities.map(Path::to_owned),
        }),
        ..plain()
    }
}

fn named(http: Http, name: &str) -> Http {
    let tls = http.tls.map(|tls| Tls {
        server_name: Some(name.to_owned()),
        ..tls
    });
    Http { tls, ..http }
}

#[track_caller]
fn assert_tls(outcome: &crate::health::Outcome, why: &str) {
    match outcome {
        Err(ProbeFailure::Tls(said)) if said.contains(why) => {}
        other => panic!("{other:?} instead of TLS: {why}"),
    }
}

#[tokio::test]
async fn a_trusted_server_of_that_name_passes() {
    let authority = Authority::new();
    let (port, mut asked) = authority.server(names(&["example.org", "other.example"])).await;
    let endpoint = endpoint(port);
    let file = Some(authority.file.as_path());
    // The host without its port is the name.
    let http = https(Some("example.org:8443"), file, true);
    assert_eq!(probe(&Check::Http(http.clone()), &endpoint).await, PASSED);
    assert_eq!(asked.recv().await.unwrap().as_deref(), Some("example.org"));
    // A name of its own goes before it.
    let http = named(http, "other.example");
    assert_eq!(probe(&Check::Http(http), &endpoint).await, PASSED);
    assert_eq!(asked.recv().await.unwrap().as_deref(), Some("other.example"));
}

#[tokio::test]
async fn without_a_name_the_address_is_verified() {
    let authority = Authority::new();
    let file = Some(authority.file.as_path());
    let check = Check::Http(https(None, file, true));
    let (port, mut asked) = authority.server(names(&["192.0.2.1"])).await;
    assert_eq!(probe(&check, &endpoint(port)).await, PASSED);
    assert_eq!(asked.recv().await.unwrap(), None);
    let (port, _) = authority.server(names(&["192.0.2.2"])).await;
    assert_tls(&probe(&check, &endpoint(port)).await, "not valid for name");
}

#[tokio::test]
async fn wrong_certificates_fail_unless_nobody_looks() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let file = Some(authority.file.as_path());
    let check = Check::Http(https(Some("example.org"), file, true));
    let mut old = names(&["example.org"]);
    old.not_after = date_time_ymd(2020, 1, 1);
    for (who, params, why) in [
        (&authority, names(&["example.com"]), "not valid for name"),
        (&stranger, names(&["example.org"]), "unknown issuer"),
        (&authority, old, "expired"),
    ] {
        let (port, _asked) = who.server(params).await;
        assert_tls(&probe(&check, &endpoint(port)).await, why);
        let unverified = Check::Http(https(Some("example.org"), None, false));
        assert_eq!(probe(&unverified, &endpoint(port)).await, PASSED, "{why}");
    }
}

/// As `openssl req -x509` makes them: the server's certificate is that of an authority too.
#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_in_the_file() {
    let server = |params: &dyn Fn(&mut CertificateParams)| {
        let mut own = names(&["example.org"]);
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params(&mut own);
        let key = KeyPair::generate().unwrap();
        (own.self_signed(&key).unwrap(), key)
    };
    let check = |name: &str, file: &Path| Check::Http(https(Some(name), Some(file), true));
    let file = std::env::temp_dir().join(format!("lbx-self-signed-{}.pem", std::process::id()));
    let other = Authority::new();
    let (certificate, key) = server(&|_| {});
    fs::write(&file, other.issuer.pem() + &certificate.pem()).unwrap();
    let (port, _asked) = serve(certificate.der(), &key).await;
    assert_eq!(probe(&check("example.org", &file), &endpoint(port)).await, PASSED);
    assert_tls(&probe(&check("example.com", &file), &endpoint(port)).await, "it is for");
    assert_tls(
        &probe(&check("example.org", &other.file), &endpoint(port)).await,
        "a CA's own",
    );
    // Another one with the same name is not the one in the file.
    let (imposter, key) = server(&|_| {});
    let (port, _asked) = serve(imposter.der(), &key).await;
    assert_tls(
        &probe(&check("example.org", &file), &endpoint(port)).await,
        "a CA's own",
    );
    // One that has run out stays so.
    let (old, key) = server(&|params| params.not_after = date_time_ymd(2020, 1, 1));
    fs::write(&file, old.pem()).unwrap();
    let (port, _asked) = serve(old.der(), &key).await;
    assert_tls(&probe(&check("example.org", &file), &endpoint(port)).await, "expired");
    fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn a_server_without_tls_fails() {
    let (listener, port) = servers::listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            servers::say(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let check = Check::Http(https(None, None, false));
    assert_tls(&probe(&check, &endpoint(port)).await, "does not speak TLS");
}

#[test]
fn authorities_must_be_there() {
    let file = Path::new("/nonexistent/ca.pem");
    let error = PreparedCheck::new(&Check::Http(https(None, Some(file), true))).unwrap_err();
    assert!(matches!(error, CheckError::UnreadableCaFile { .. }), "{error}");
    // Something else in it.
    let file = std::env::temp_dir().join(format!("lbx-key-{}.pem", std::process::id()));
    fs::write(&file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = PreparedCheck::new(&Check::Http(https(None, Some(&file), true))).unwrap_err();
    fs::remove_file(&file).unwrap();
    assert!(error.to_string().ends_with("there is no certificate in it"), "{error}");
    // Nobody looks, so nothing is read.
    let file = Path::new("/nonexistent/ca.pem");
    assert!(PreparedCheck::new(&Check::Http(https(None, Some(file), false))).is_ok());
}

#[test]
fn names_must_be_names() {
    for host in ["exa mple.org", "a:b:c", "under_score!.org"] {
        let error = validate(&Check::Http(https(Some(host), None, true))).unwrap_err();
        assert!(matches!(error, CheckError::ServerName(_)), "{host}: {error}");
    }
    for host in [
        "example.org",
        "example.org:443",
        "[2001:db8::1]:443",
        "[2001:db8::1]",
        "192.0.2.1:8443",
    ] {
        validate(&Check::Http(https(Some(host), None, true))).unwrap();
    }
    validate(&Check::Http(named(https(None, None, true), "2001:db8::1"))).unwrap();
}
