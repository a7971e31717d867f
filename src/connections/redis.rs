//! One connection to one Redis server, kept open.
//!
//! Commands run in a task of their own: a caller that gives up does not break the connection in the middle of an answer. A
//! connection whose answer did not come is thrown away. The sockets and TLS are opened here and not by the client library, so
//! that no more is read than an answer of ours can have, and so that what goes wrong can be told apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, SecretKeys};
use k8s_openapi::ByteString;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerError, Value};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::RedisCredentials;
use super::bounded::{Bounded, Gauge, Trouble, tls_error};
use super::hidden::without;
use super::postgres::clean;
use super::registry::Store;

/// We give up waiting for answers after this.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// We give up connecting and logging in after this.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A server that could not be reached is left alone for so long.
const RETRY: Duration = Duration::from_secs(1);
/// What one call may bring: several times what a busy server says, its slow log included.
const MOST_BYTES: usize = 1024 * 1024;
/// What a login may bring.
const MOST_LOGIN_BYTES: usize = 64 * 1024;
/// The first byte of an alert of TLS, where an answer of Redis was expected.
const TLS_ALERT: u8 = 0x15;
/// What an answer of Redis may begin with.
const TYPES: &[u8] = b"+-:$*_,#!=(%~|>";

/// The rights that looking needs, as `ACL SETUSER` takes them.
pub const RIGHTS: &str = "+ping +info +slowlog|get";

/// A command with its arguments. Its text is a constant of this program.
pub type Command = &'static [&'static str];

/// What the server has answered.
#[derive(Debug)]
pub struct Answer {
    /// One for each command, in their order; a refusal is one as well.
    pub values: Vec<Value>,
    /// From the first byte sent to the last one read.
    pub took: Duration,
    /// The address and port that the connection was made to.
    pub peer: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    credentials: Arc<RedisCredentials>,
    slot: Arc<tokio::sync::Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    failed: Option<(Instant, NoData)>,
}

struct Open {
    connection: MultiplexedConnection,
    driver: Driver,
    gauge: Arc<Gauge>,
    peer: String,
}

impl Open {
    /// Sends all commands before it waits. The client's own pipelines would not tell an answer that cannot be understood from a
    /// connection that was closed.
    async fn ask(&mut self, commands: Vec<Cmd>) -> Result<Vec<Value>, RedisError> {
        let asked = commands.into_iter().map(|command| {
            let mut connection = self.connection.clone();
            async move { connection.send_packed_command(&command).await }
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }
}

/// The task that reads and writes; it ends with its connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is read from and written to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Store for Redis {
    type Credentials = RedisCredentials;

    fn understand(
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<RedisCredentials, NoData> {
        RedisCredentials::read(namespace, name, keys, data)
    }

    fn new(credentials: Arc<RedisCredentials>) -> Self {
        Self { credentials, slot: Arc::default() }
    }
}

impl Redis {
    /// Where and as whom it logs in.
    #[must_use]
    pub fn credentials(&self) -> &RedisCredentials {
        &self.credentials
    }

    /// Sends commands at once, and waits for all answers. They only read: sending them again does no harm.
    ///
    /// # Errors
    /// There is no connection, or the answers did not come. That the server refuses a command is an answer.
    pub async fn run(&self, commands: &'static [Command]) -> Result<Answer, NoData> {
        let (credentials, slot) = (self.credentials.clone(), self.slot.clone());
        let task = tokio::spawn(async move { slot.lock().await.run(&credentials, commands).await });
        task.await.unwrap_or_else(|_| {
            Err(NoData::new(NoDataReason::QueryFailed, "the task that asked the server was stopped"))
        })
    }
}

impl Slot {
    async fn run(&mut self, credentials: &RedisCredentials, commands: &[Command]) -> Result<Answer, NoData> {
        let mut open = match self.open.take() {
            // Idle connections are closed by servers that are set so; that is no news.
            Some(open) if !open.driver.0.is_finished() => open,
            _ => self.connect(credentials).await?,
        };
        let commands = commands.iter().map(|command| Cmd::new().arg(*command).clone());
        open.gauge.allow(MOST_BYTES);
        let started = Instant::now();
        match tokio::time::timeout(ANSWER_WITHIN, open.ask(commands.collect())).await {
            Ok(Ok(values)) => {
                let answer = Answer { values, took: started.elapsed(), peer: open.peer.clone() };
                self.open = Some(open);
                Ok(answer)
            }
            Ok(Err(error)) => Err(broken(credentials, &open.gauge, &error)),
            Err(_) => {
                let detail =
                    format!("{} did not answer within {} s", credentials.place(), ANSWER_WITHIN.as_secs());
                Err(NoData::new(NoDataReason::Timeout, detail))
            }
        }
    }

    async fn connect(&mut self, credentials: &RedisCredentials) -> Result<Open, NoData> {
        if let Some((at, no_data)) = &self.failed
            && at.elapsed() < RETRY
        {
            return Err(no_data.clone());
        }
        let connected =
            tokio::time::timeout(CONNECT_WITHIN, connect(credentials)).await.unwrap_or_else(|_| {
                let hint =
                    if credentials.tls { "; if it does not speak TLS, mend tls in the Secret" } else { "" };
                let (place, limit) = (credentials.place(), CONNECT_WITHIN.as_secs());
                let detail = format!("{place} did not take a connection within {limit} s{hint}");
                Err(NoData::new(NoDataReason::Timeout, detail))
            });
        self.failed = connected.as_ref().err().map(|no_data| (Instant::now(), no_data.clone()));
        connected
    }
}

async fn connect(credentials: &RedisCredentials) -> Result<Open, NoData> {
    let place = credentials.place();
    let unreachable = |detail: String| NoData::new(NoDataReason::Unreachable, detail);
    let found = tokio::net::lookup_host((credentials.host.as_str(), credentials.port)).await;
    let found: Vec<SocketAddr> = found
        .map_err(|error| {
            unreachable(format!("the name {} cannot be resolved: {}", credentials.host, cut(&error)))
        })?
        .collect();
    let cannot = |error: std::io::Error| unreachable(format!("{place} cannot be reached: {}", cut(&error)));
    let stream = TcpStream::connect(&*found).await.map_err(cannot)?;
    stream.set_nodelay(true).map_err(cannot)?;
    let peer = stream.peer_addr().map_err(cannot)?.to_string();
    let stream: Box<dyn Stream> =
        if credentials.tls { Box::new(encrypted(credentials, stream).await?) } else { Box::new(stream) };

    let gauge = Arc::new(Gauge::default());
    gauge.allow(MOST_LOGIN_BYTES);
    // We log in ourselves: who answers to a password with its own words may repeat it, and nothing but what we need is sent.
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let bounded = Bounded::new(stream, gauge.clone());
    let made = MultiplexedConnection::new_with_config(&info, bounded, config).await;
    let (connection, driver) = made.map_err(|error| broken(credentials, &gauge, &error))?;
    let mut open = Open { connection, driver: Driver(tokio::spawn(driver)), gauge, peer };
    log_in(&mut open, credentials).await?;
    Ok(open)
}

async fn log_in(open: &mut Open, credentials: &RedisCredentials) -> Result<(), NoData> {
    let mut commands = Vec::new();
    let asks = credentials.user.is_some() || credentials.password.is_some();
    if asks {
        let password = credentials.password.as_deref().unwrap_or_default();
        commands.push(redis::cmd("AUTH").arg(credentials.user.as_deref()).arg(password).clone());
    }
    if credentials.database != 0 {
        commands.push(redis::cmd("SELECT").arg(credentials.database).clone());
    }
    let answered = open.ask(commands).await;
    let answers = answered.map_err(|error| broken(credentials, &open.gauge, &error))?;
    let mut answers = answers.iter();
    if asks {
        entered(credentials, answers.next())?;
    }
    if credentials.database != 0 {
        selected(credentials, answers.next())?;
    }
    Ok(())
}

/// What the answer to AUTH means. It is never repeated: it may hold what it was asked.
fn entered(credentials: &RedisCredentials, answer: Option<&Value>) -> Result<(), NoData> {
    let error = match answer {
        Some(Value::Okay) => return Ok(()),
        Some(Value::ServerError(error)) => error,
        _ => return Err(no_redis(credentials)),
    };
    let details = error.details().unwrap_or_default();
    if is_full(error) || matches!(error.code(), "DENIED" | "LOADING" | "BUSY") {
        return Err(refusal(credentials, "AUTH", error));
    }
    let fix = if details.contains("without any password configured") {
        "it wants no password; take user and password out of the Secret"
    } else {
        "mend user and password in the Secret"
    };
    let detail = format!("{} refused user {}; {fix}", credentials.place(), credentials.user());
    Err(NoData::new(NoDataReason::AuthenticationFailed, detail))
}

fn selected(credentials: &RedisCredentials, answer: Option<&Value>) -> Result<(), NoData> {
    let (place, database) = (credentials.place(), credentials.database);
    match answer {
        Some(Value::Okay) => Ok(()),
        Some(Value::ServerError(error)) if error.code() == "NOPERM" => {
            let user = credentials.user();
            let detail = format!(
                "user {user} may not select database {database} of {place}; run: ACL SETUSER {user} +select"
            );
            Err(NoData::new(NoDataReason::PermissionDenied, detail))
        }
        Some(Value::ServerError(error)) if error.code() == "ERR" && !is_full(error) => {
            let detail = format!("{place} has no database {database}; mend db in the Secret");
            Err(NoData::new(NoDataReason::SecretInvalid, detail))
        }
        Some(Value::ServerError(error)) => Err(refusal(credentials, "SELECT", error)),
        _ => Err(no_redis(credentials)),
    }
}

/// What it means that the server refuses a command. Its own words are cut, and the password is taken out of them.
pub(crate) fn refusal(credentials: &RedisCredentials, command: &str, error: &ServerError) -> NoData {
    let (place, user) = (credentials.place(), credentials.user());
    let (reason, detail) = match error.code() {
        "NOAUTH" | "WRONGPASS" => (
            NoDataReason::AuthenticationFailed,
            format!("{place} asks for a password; mend user and password in the Secret"),
        ),
        // Whoever comes from elsewhere is turned away until there is a password.
        "DENIED" => (
            NoDataReason::AuthenticationFailed,
            format!("{place} runs in protected mode; give it a password, and the Secret too"),
        ),
        "NOPERM" => (
            NoDataReason::PermissionDenied,
            format!("user {user} of {place} may not run {command}; run: ACL SETUSER {user} {RIGHTS}"),
        ),
        "LOADING" => (NoDataReason::Loading, format!("{place} is loading its data after a start")),
        "BUSY" => (NoDataReason::Timeout, format!("{place} runs a script and answers nobody meanwhile")),
        _ if is_full(error) => (
            NoDataReason::ConnectionsExhausted,
            format!("{place} has as many clients as it may have (maxclients)"),
        ),
        _ => {
            let said = said(credentials, error);
            (NoDataReason::QueryFailed, format!("{place} refused {command}: {said}"))
        }
    };
    NoData::new(reason, detail)
}

/// The server's words, without the password and not for long.
pub(crate) fn said(credentials: &RedisCredentials, error: &ServerError) -> String {
    let words = format!("{} {}", error.code(), error.details().unwrap_or_default());
    clean(&without(credentials.password.as_slice(), &words))
}

/// It answers to whoever comes that there are too many, and hangs up.
fn is_full(error: &ServerError) -> bool {
    error.code() == "ERR" && error.details().is_some_and(|said| said.starts_with("max number of clients"))
}

/// Why there is no connection any more.
fn broken(credentials: &RedisCredentials, gauge: &Gauge, error: &RedisError) -> NoData {
    let place = credentials.place();
    match gauge.trouble() {
        Some(Trouble::TooMuch) => {
            let detail = format!("{place} answers with more than {} MiB", MOST_BYTES / 1024 / 1024);
            NoData::new(NoDataReason::BadAnswer, detail)
        }
        Some(Trouble::Tls(error)) => tls_failed(&place, &error),
        Some(Trouble::Closed) => hung_up(credentials, &gauge.head(), false),
        None => hung_up(credentials, &gauge.head(), error.kind() == ErrorKind::Parse),
    }
}

/// The same, from the first words that it has ever said: some servers say why, unasked, and hang up. What stands after the
/// end is not understood either; `garbled` is what came before.
fn hung_up(credentials: &RedisCredentials, head: &[u8], garbled: bool) -> NoData {
    let place = credentials.place();
    if let Ok(Value::ServerError(said)) = redis::parse_redis_value(head)
        && (is_full(&said) || said.code() == "DENIED")
    {
        return refusal(credentials, "anything", &said);
    }
    if head.first() == Some(&TLS_ALERT) {
        let detail = format!("{place} speaks TLS; set tls: \"true\" (or rediss://) in the Secret");
        return NoData::new(NoDataReason::TlsFailed, detail);
    }
    // The parser's words would quote the answer.
    if garbled || head.first().is_some_and(|first| !TYPES.contains(first)) {
        return no_redis(credentials);
    }
    let hint = if head.is_empty() && !credentials.tls {
        " without a word; if it speaks TLS, set tls: \"true\" (or rediss://) in the Secret"
    } else {
        ""
    };
    NoData::new(NoDataReason::Unreachable, format!("{place} closed the connection{hint}"))
}

fn no_redis(credentials: &RedisCredentials) -> NoData {
    let detail = format!("what {} answers is not what Redis would answer", credentials.place());
    NoData::new(NoDataReason::BadAnswer, detail)
}

fn tls_failed(place: &str, error: &str) -> NoData {
    let detail = format!("TLS with {place} failed: {}; check tls and ca.crt in the Secret", clean(error));
    NoData::new(NoDataReason::TlsFailed, detail)
}

async fn encrypted(
    credentials: &RedisCredentials,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, NoData> {
    let place = credentials.place();
    let name = ServerName::try_from(credentials.host.clone()).map_err(|_| {
        NoData::new(NoDataReason::SecretInvalid, format!("{place} is no name that a certificate can have"))
    })?;
    let trusted = trusted(credentials).await?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_failed(&place, &error.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        match tls_error(&error) {
            Some(tls) => tls_failed(&place, &tls.to_string()),
            None => {
                let detail = format!("{place} closed the connection before TLS was set up: {}", cut(&error));
                NoData::new(NoDataReason::Unreachable, detail)
            }
        }
    })
}

/// Whom we trust: those whom the Secret names, or those whom the system trusts.
async fn trusted(credentials: &RedisCredentials) -> Result<RootCertStore, NoData> {
    let mut trusted = RootCertStore::empty();
    let Some(ca) = &credentials.ca else {
        // It reads files.
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        trusted.add_parsable_certificates(found.map(|found| found.certs).unwrap_or_default());
        return Ok(trusted);
    };
    let named: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca).collect();
    let added = named
        .ok()
        .filter(|named| !named.is_empty())
        .is_some_and(|named| named.into_iter().all(|certificate| trusted.add(certificate).is_ok()));
    if added {
        return Ok(trusted);
    }
    let detail = format!("key ca.crt of the Secret for {} has no certificates in it", credentials.place());
    Err(NoData::new(NoDataReason::SecretInvalid, detail))
}

fn cut(error: &dyn std::fmt::Display) -> String {
    clean(&error.to_string())
}
