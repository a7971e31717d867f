//! One request to a user's Service, over a connection of its own, timed part by part and bounded in every direction.
//!
//! It goes to an address that [`Services`](super::Services) has let through, and nowhere else: redirects are not followed. The
//! policy's author chooses the path; the headers are always the same. What is answered is thrown away, but for
//! [`fetch`]. The certificate of an HTTPS server is not verified, as the kubelet's probes do not: it is not issued for a Pod's address, and nothing secret
//! is sent.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use engine::model::{Scheme, Timing, duration::human};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::text::shown;

/// So much of an answer's body is read; what is longer is cut off.
pub const LARGEST_BODY: usize = 1 << 20;
/// The head of an answer may be so long.
const LARGEST_HEAD: usize = 64 << 10;
/// A path may be so long.
pub const LONGEST_PATH: usize = 1024;

const AGENT: &str = concat!("latency-operator/", env!("CARGO_PKG_VERSION"));

/// The path of a request with its query: all that a policy's author writes into one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UrlPath(String);

impl UrlPath {
    /// A path that can be sent as it is.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, String> {
        let is_sent = |letter: &char| {
            letter.is_ascii_graphic() && !matches!(letter, '#' | '\\' | '"' | '<' | '>' | '`')
        };
        if !path.starts_with('/') {
            return Err("a path begins with /, for example /api/health".to_owned());
        }
        // Some servers take the part after it for a host.
        if path.starts_with("//") {
            return Err("a path begins with one /, not with two".to_owned());
        }
        if path.len() > LONGEST_PATH {
            return Err(format!("it is longer than {LONGEST_PATH} letters"));
        }
        match path.chars().find(|letter| !is_sent(letter)) {
            None => Ok(Self(path.to_owned())),
            Some(letter) => {
                Err(format!("{letter:?} cannot be sent in a path; percent-encode it, as %20 for a space"))
            }
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Get {
    /// An address that may be asked.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// By what name the server is asked.
    pub host: String,
    /// What is asked for.
    pub path: UrlPath,
}

/// What was answered. Whether it is good is the caller's business: a redirect and an error are answers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long it took.
    pub timing: Timing,
    /// The body was longer than [`LARGEST_BODY`] and was not read to its end.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection: refused, or no route. Nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// No connection stood in time. Nothing was sent.
    #[error("no connection within {}", human(*.0))]
    ConnectTimeout(Duration),
    /// TLS could not be agreed on. Nothing was sent but its beginning.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection stood, and the answer was not there in time, or not all of it.
    #[error("no answer within {}", human(.0.total))]
    TimedOut(Timing),
    /// The connection was closed before the answer was complete.
    #[error("the connection was closed before the answer was complete")]
    BrokenOff,
    /// What came is no HTTP, or its head is too long.
    #[error("no HTTP answer: {0}")]
    NotHttp(String),
}

/// Asks once, and waits for the whole answer, connecting included, no longer than `timeout`. The body is thrown away.
///
/// # Errors
/// There was no answer, or it was not complete in time.
pub async fn get(request: &Get, timeout: Duration) -> Result<Answer, Failure> {
    send(request, timeout, &mut Body { kept: None, most: LARGEST_BODY }).await
}

/// As [`get`], with the body up to `most` bytes; of a longer one nothing is returned.
///
/// # Errors
/// There was no answer, or it was not complete in time.
pub async fn fetch(request: &Get, timeout: Duration, most: usize) -> Result<(Answer, Vec<u8>), Failure> {
    let mut body = Body { kept: Some(Vec::new()), most };
    let answer = send(request, timeout, &mut body).await?;
    let kept = if answer.cut { None } else { body.kept };
    Ok((answer, kept.unwrap_or_default()))
}

/// What is read of a body.
struct Body {
    /// The bytes, where somebody wants them.
    kept: Option<Vec<u8>>,
    /// So many are read.
    most: usize,
}

async fn send(request: &Get, timeout: Duration, body: &mut Body) -> Result<Answer, Failure> {
    let started = Instant::now();
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(request.address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failure::Unreachable(why(&error))),
        Err(_) => return Err(Failure::ConnectTimeout(timeout)),
    };
    let connect = started.elapsed();
    let mut timing = Timing { connect, tls: None, first_byte: None, total: connect };
    let exchange = secured(request, stream, started, (&mut timing, body));
    let answered = tokio::time::timeout(timeout.saturating_sub(connect), exchange).await;
    timing.total = started.elapsed();
    match answered {
        Ok(answered) => answered.map(|(status, cut)| Answer { status, timing, cut }),
        Err(_) => Err(Failure::TimedOut(timing)),
    }
}

/// A failed connection in a few words, without addresses: they differ from Pod to Pod.
fn why(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let kind = error.kind();
    if kind == ErrorKind::ConnectionRefused {
        return "it was refused".to_owned();
    }
    if matches!(kind, ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) {
        return "there is no route".to_owned();
    }
    shown(&error.to_string(), 100)
}

/// Status, and whether the body was cut off.
type Said = Result<(u16, bool), Failure>;

async fn secured(
    request: &Get,
    stream: TcpStream,
    started: Instant,
    (timing, body): (&mut Timing, &mut Body),
) -> Said {
    match request.scheme {
        Scheme::Http => exchange(request, stream, started, (timing, body)).await,
        Scheme::Https => {
            let config = TLS.as_ref().map_err(|why| Failure::Tls(why.clone()))?;
            let name = ServerName::try_from(request.host.clone())
                .map_err(|error| Failure::Tls(error.to_string()))?;
            let connecting = TlsConnector::from(config.clone()).connect(name, stream);
            let stream = connecting.await.map_err(|error| Failure::Tls(shown(&error.to_string(), 100)))?;
            timing.tls = Some(started.elapsed());
            exchange(request, stream, started, (timing, body)).await
        }
    }
}

/// By what name the Pods of a Service are asked.
#[must_use]
pub fn host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

async fn exchange(
    request: &Get,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    started: Instant,
    (timing, body): (&mut Timing, &mut Body),
) -> Said {
    let sent = hyper::Request::get(request.path.as_str())
        .header(HOST, &request.host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::NotHttp(error.to_string()))?;
    let opening = http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = opening.await.map_err(|error| failed(&error))?;
    let answering = async {
        let response = sender.send_request(sent).await.map_err(|error| failed(&error))?;
        timing.first_byte = Some(started.elapsed());
        let status = response.status().as_u16();
        let cut = drain(response.into_body(), body).await?;
        Ok((status, cut))
    };
    // Whatever the connection has to say, it says it to whoever waits for the answer.
    let carrying = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        said = answering => said,
        never = carrying => never,
    }
}

/// Reads a body, and keeps it only where somebody wants it; whether it was cut off.
async fn drain(mut body: Incoming, Body { kept, most }: &mut Body) -> Result<bool, Failure> {
    let mut read: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if read > *most {
            return Ok(true);
        }
        if let (Some(kept), Some(data)) = (kept.as_mut(), frame.data_ref()) {
            kept.extend_from_slice(data);
        }
    }
    Ok(false)
}

fn failed(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_too_large() {
        return Failure::NotHttp(shown(&error.to_string(), 100));
    }
    Failure::BrokenOff
}

/// TLS without knowing the other side.
static TLS: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
});

/// Takes any certificate; whoever shows it must have its key all the same.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
