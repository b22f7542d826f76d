//! TLS of checks.
//!
//! Sessions are not resumed: a certificate that has run out must be seen, and a ticket of one real server says nothing
//! about the next.

use std::{io, path::Path, sync::Arc};

use hyper::http::uri::Authority;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        client::{Resumption, danger::ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, IpAddr, ServerName, pem::PemObject},
    },
};

use super::{
    CheckError,
    certificate::{self, NoCertVerifier, TrustedCertVerifier},
};
use crate::{
    desired::Tls,
    health::{failure::ProbeFailure, probe::ProbeEndpoint},
};

/// What all probes of a check have in common.
pub struct TlsClient {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the authorities. `host`: the `Host` header of the check.
    ///
    /// # Errors
    /// What is wrong with the name or the authorities.
    pub fn new(tls: &Tls, host: Option<&str>) -> Result<Self, CheckError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| CheckError::Tls(error.to_string()))?;
        let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
            let (roots, listed) = authorities(tls.ca_file.as_deref())?;
            let trusted = TrustedCertVerifier::new(roots, listed, provider);
            Arc::new(trusted.map_err(|error| CheckError::Tls(error.to_string()))?)
        } else {
            Arc::new(NoCertVerifier(provider))
        };
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: server_name(tls, host)?,
        })
    }

    /// Makes the connection a secret one.
    ///
    /// # Errors
    /// The server is not who it should be, or does not talk TLS.
    pub async fn handshake<'a>(
        &self,
        endpoint: &ProbeEndpoint,
        stream: &'a mut TcpStream,
    ) -> Result<TlsStream<&'a mut TcpStream>, ProbeFailure> {
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| ServerName::IpAddress(IpAddr::from(endpoint.probed_address())));
        self.connector
            .connect(name, stream)
            .await
            .map_err(|error| tls_failure(&error))
    }
}

/// The name to ask for and to verify; none: the address. Names are asked for by SNI, addresses are not (RFC 6066 §3).
///
/// # Errors
/// It is no name.
pub fn server_name(tls: &Tls, host: Option<&str>) -> Result<Option<ServerName<'static>>, CheckError> {
    let (name, written) = match (&tls.server_name, host) {
        (Some(name), _) => (name.clone(), name.as_str()),
        (None, Some(host)) => (without_port(host)?, host),
        (None, None) => return Ok(None),
    };
    let name = ServerName::try_from(name).map_err(|_| CheckError::ServerName(written.to_owned()))?;
    Ok(Some(name))
}

/// The host of a `Host` header.
fn without_port(host: &str) -> Result<String, CheckError> {
    let authority: Authority = host.parse().map_err(|_| CheckError::ServerName(host.to_owned()))?;
    Ok(authority.host().trim_matches(['[', ']']).to_owned())
}

/// The authorities, and the certificates of the file, if there is one.
fn authorities(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), CheckError> {
    let mut roots = RootCertStore::empty();
    let mut listed = Vec::new();
    let Some(file) = file else {
        // Some of a system's may be broken; what matters is whether there are any.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() {
            Err(CheckError::NoSystemCas)
        } else {
            Ok((roots, listed))
        };
    };
    let bad = |why: String| CheckError::UnreadableCaFile {
        file: file.to_owned(),
        why,
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
        listed.push(certificate);
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok((roots, listed))
}

/// What an error of the connection means, whether TLS or what is below has failed.
#[must_use]
pub fn tls_failure(error: &io::Error) -> ProbeFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => ProbeFailure::Tls(certificate::tls_error_text(error)),
        None => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).into(),
            None => io::Error::new(error.kind(), error.to_string()).into(),
        },
    }
}
