//! Whether an HTTP/1.1 request is answered as expected, over TLS or not.
//!
//! Redirects are not followed: their status is the answer. The body is read only where something is expected of it.

use std::pin::pin;

use hyper::{
    HeaderMap, Method, Uri,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
    http::uri::PathAndQuery,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    CheckError,
    body::BodyMatcher,
    http_error::connection_failure,
    socket::{Session, WithoutShutdown},
    tls,
};
use crate::{
    desired::Http,
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess, RequiredTraffic},
    },
};

/// Bytes of status line and headers that are read at most.
const LARGEST_HEAD: usize = 64 << 10;

/// What all probes of a check send and expect.
#[derive(Debug)]
pub struct PreparedHttpCheck {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    status: Vec<(u16, u16)>,
    body: Option<BodyMatcher>,
    tls: Option<tls::TlsClient>,
}

/// Whether the check can be made as it is written. Reads no file.
///
/// # Errors
/// What is wrong with it.
pub fn validate(http: &Http) -> Result<(), CheckError> {
    method(&http.method)?;
    uri(&http.path)?;
    headers(http)?;
    let body = BodyMatcher::new(http)?;
    if body.is_some() && http.method == Method::HEAD.as_str() {
        return Err(CheckError::HeadHasNoBody);
    }
    match &http.tls {
        Some(tls) => tls::server_name(tls, http.host.as_deref()).map(drop),
        None => Ok(()),
    }
}

impl PreparedHttpCheck {
    /// Makes what all probes have in common. Reads the authorities.
    ///
    /// # Errors
    /// What is wrong with the check, or with the authorities.
    pub fn new(http: &Http) -> Result<Self, CheckError> {
        let tls = match &http.tls {
            Some(tls) => Some(tls::TlsClient::new(tls, http.host.as_deref())?),
            None => None,
        };
        Ok(Self {
            method: method(&http.method)?,
            uri: uri(&http.path)?,
            headers: headers(http)?,
            status: http.expected_status.clone(),
            body: BodyMatcher::new(http)?,
            tls,
        })
    }

    /// The request for one real server.
    fn to(&self, endpoint: &ProbeEndpoint) -> Result<hyper::Request<String>, ProbeFailure> {
        let mut request = hyper::Request::new(String::new());
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        if !self.headers.contains_key(header::HOST) {
            let host = HeaderValue::try_from(authority(endpoint, self.tls.is_some()));
            let host = host.map_err(|error| ProbeFailure::CannotProbe(error.to_string()))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }
}

fn method(method: &str) -> Result<Method, CheckError> {
    Method::from_bytes(method.as_bytes()).map_err(|_| CheckError::InvalidHttpMethod(method.to_owned()))
}

fn uri(path: &str) -> Result<Uri, CheckError> {
    let bad = || CheckError::InvalidHttpPath(path.to_owned());
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad());
    }
    let path: PathAndQuery = path.parse().map_err(|_| bad())?;
    Ok(Uri::from(path))
}

/// The headers that are the same for all real servers: those of the file, then ours where they say nothing.
fn headers(http: &Http) -> Result<HeaderMap, CheckError> {
    let host = http.host.iter().map(|host| ("host", host.as_str()));
    let written = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in host.chain(written) {
        let bad = || CheckError::Header {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let header = HeaderName::try_from(name).map_err(|_| bad())?;
        headers.append(header, HeaderValue::try_from(value).map_err(|_| bad())?);
    }
    let ours = [
        (header::USER_AGENT, concat!("lbx/", env!("CARGO_PKG_VERSION"))),
        (header::ACCEPT, "*/*"),
        (header::CONNECTION, "close"),
    ];
    for (name, value) in ours {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // RFC 9110 §8.6: a POST without content says so.
    if http.method == Method::POST.as_str() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(headers)
}

/// What stands in `Host` where the file says nothing (RFC 9110 §7.2): the address, and the port unless it is the usual.
fn authority(endpoint: &ProbeEndpoint, tls: bool) -> String {
    let address = match endpoint.probed_address() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    match (endpoint.port, tls) {
        (80, false) | (443, true) => address,
        (port, _) => format!("{address}:{port}"),
    }
}

/// Probes once.
///
/// # Errors
/// Why the answer is not as expected.
pub async fn run(request: &PreparedHttpCheck, endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering) -> Outcome {
    let (session, mut stream) = Session::tcp(endpoint, steering)?;
    let outcome = match session.wait_connected(&stream).await {
        Ok(()) => {
            let talk = talk(request, endpoint, &mut stream);
            session
                .deadline
                .run_with_timeout(ProbeFailure::IncompleteReply, talk)
                .await
        }
        Err(failure) => Err(failure),
    };
    session.close(stream, outcome, RequiredTraffic::BothWays)
}

async fn talk(request: &PreparedHttpCheck, endpoint: &ProbeEndpoint, stream: &mut TcpStream) -> Outcome {
    match &request.tls {
        Some(tls) => exchange(request, endpoint, tls.handshake(endpoint, stream).await?).await,
        None => exchange(request, endpoint, stream).await,
    }
}

async fn exchange(
    request: &PreparedHttpCheck,
    endpoint: &ProbeEndpoint,
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Outcome {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LARGEST_HEAD);
    let (mut sender, connection) = builder
        .handshake(WithoutShutdown::new(io))
        .await
        .map_err(connection_failure)?;
    let question = request.to(endpoint)?;
    let mut ask = pin!(async move {
        let response = sender.send_request(question).await.map_err(connection_failure)?;
        judge(request, response).await
    });
    // Its end, an error too, comes to the one who asks; dropped then, so that no answer is waited for in vain.
    let mut drive = pin!(async move { drop(connection.await) });
    tokio::select! {
        biased;
        outcome = &mut ask => outcome,
        () = &mut drive => ask.await,
    }
}

async fn judge(request: &PreparedHttpCheck, response: hyper::Response<hyper::body::Incoming>) -> Outcome {
    let status = response.status().as_u16();
    if !request.status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
        return Err(ProbeFailure::UnexpectedHttpStatus(status));
    }
    match &request.body {
        Some(expected) => expected.verify(response.into_body()).await,
        None => Ok(ProbeSuccess::default()),
    }
}
