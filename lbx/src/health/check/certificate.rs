//! Verification of server certificates.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Accepts certificates that an authority of the file has issued, and those that are in the file themselves: a self-signed
/// one is often a CA certificate at the same time (`openssl req -x509` makes such), which no chain may end in (RFC 5280
/// section 6.1.4). Name and validity count for both.
#[derive(Debug)]
pub struct TrustedCertVerifier {
    chain: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl TrustedCertVerifier {
    /// For the certificates of a file.
    ///
    /// # Errors
    /// There is none.
    pub fn new(
        roots: RootCertStore,
        listed: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { chain, listed })
    }
}

impl ServerCertVerifier for TrustedCertVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Validity is verified before anything else (check_issuer_independent_properties in rustls-webpki).
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.listed.iter().any(|listed| listed == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Accepts any certificate (`verify: false`). The signature over the handshake is not verified either: it proves nothing
/// about an unverified key, and certificates that cannot be parsed pass too.
#[derive(Debug)]
pub struct NoCertVerifier(pub Arc<CryptoProvider>);

impl ServerCertVerifier for NoCertVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake failed, in an operator's words.
#[must_use]
pub fn tls_error_text(error: &rustls::Error) -> String {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::InvalidMessage(_) => "the server does not speak TLS on this port".to_owned(),
        Error::PeerIncompatible(why) => format!("the server supports no TLS version or cipher of lbx: {why:?}"),
        Error::AlertReceived(alert) => format!("the server refused the handshake: {alert:?}"),
        error => error.to_string(),
    }
}

fn certificate_reason(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "certificate of an unknown issuer: name its authority, or the certificate itself, in authorities".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet: is this host's clock right?".to_owned()
        }
        CertificateError::NotValidForName => "certificate not valid for the name: see server_name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "certificate not valid for name {}: it is for {}",
            expected.to_str(),
            if presented.is_empty() {
                "none".to_owned()
            } else {
                presented.join(", ")
            }
        ),
        CertificateError::BadEncoding => "certificate cannot be read".to_owned(),
        CertificateError::BadSignature => "certificate with a wrong signature".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not one of a server (extended key usage)".to_owned()
        }
        // The only one that operators meet in the field: a self-signed certificate that is not in the file.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is a CA's own: put the certificate itself into authorities".to_owned()
        }
        error => format!("certificate not accepted: {error}"),
    }
}
