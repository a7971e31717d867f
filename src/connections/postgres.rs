//! One connection to one PostgreSQL database, kept open.
//!
//! Every statement runs in a task of its own: a caller that gives up does not break the connection in the middle of an
//! answer. The server bounds each statement (`statement_timeout`, `lock_timeout`), the client bounds it again, and a
//! connection whose answer did not come is thrown away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, SecretKeys};
use k8s_openapi::ByteString;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection};

use super::hidden::without;
use super::registry::Store;
use super::{Credentials, SslMode};

/// The server gives up a statement of ours after this.
const STATEMENT_TIMEOUT: &str = "3s";
/// The server gives up waiting for a lock after this.
const LOCK_TIMEOUT: &str = "500ms";
/// We give up a statement after this: later than the server, so that its answer is not taken for a broken connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// We give up connecting after this.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A database that could not be reached is left alone for so long.
const RETRY: Duration = Duration::from_secs(1);

/// A statement with its parameters. Its text is a constant of this program.
pub type Statement = Query<'static, sqlx::Postgres, PgArguments>;

/// Why there are no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There is no connection: the statement was not sent.
    NotSent(NoData),
    /// The server has answered with an error: the statement was not carried out.
    Refused(NoData),
    /// It was sent, and the answer did not come: it may have been carried out.
    Lost(NoData),
}

impl Failure {
    /// The reason, whatever happened to the statement.
    #[must_use]
    pub fn no_data(self) -> NoData {
        match self {
            Self::NotSent(no_data) | Self::Refused(no_data) | Self::Lost(no_data) => no_data,
        }
    }
}

/// What a statement has answered.
#[derive(Debug)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<PgRow>,
    /// The addresses that the host's name stood for when the connection was made.
    pub peer: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    credentials: Arc<Credentials>,
    slot: Arc<tokio::sync::Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    failed: Option<(Instant, NoData)>,
}

struct Open {
    connection: PgConnection,
    peer: String,
}

impl Store for Postgres {
    type Credentials = Credentials;

    fn understand(
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Credentials, NoData> {
        Credentials::read(namespace, name, keys, data)
    }

    fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, slot: Arc::default() }
    }
}

impl Postgres {
    /// The role that it logs in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.credentials.user
    }

    /// Runs one statement in a transaction of its own. Statements of one connection follow one another.
    ///
    /// # Errors
    /// See [`Failure`]; only after [`Failure::Lost`] the statement may have been carried out.
    pub async fn run(&self, statement: Statement) -> Result<Answer, Failure> {
        let (credentials, slot) = (self.credentials.clone(), self.slot.clone());
        let task = tokio::spawn(async move { slot.lock().await.run(&credentials, statement).await });
        task.await.unwrap_or_else(|_| {
            Err(Failure::Lost(NoData::new(
                NoDataReason::QueryFailed,
                "the task that ran the statement was stopped",
            )))
        })
    }
}

impl Slot {
    async fn run(&mut self, credentials: &Credentials, statement: Statement) -> Result<Answer, Failure> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect(credentials).await.map_err(Failure::NotSent)?,
        };
        match tokio::time::timeout(ANSWER_WITHIN, statement.fetch_all(&mut open.connection)).await {
            Ok(Ok(rows)) => {
                let peer = open.peer.clone();
                self.open = Some(open);
                Ok(Answer { rows, peer })
            }
            Ok(Err(sqlx::Error::Database(error))) => {
                let failure = refused(credentials, &*error);
                // Class 57 is the server's own doing: shutting down, terminated by an administrator, a time limit.
                if error.code().is_none_or(|code| !code.starts_with("57P")) {
                    self.open = Some(open);
                }
                Err(failure)
            }
            Ok(Err(error)) => Err(Failure::Lost(NoData::new(
                NoDataReason::Unreachable,
                format!("the connection broke: {}", said(credentials, &error)),
            ))),
            Err(_) => {
                let detail = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
                Err(Failure::Lost(NoData::new(NoDataReason::Timeout, detail)))
            }
        }
    }

    async fn connect(&mut self, credentials: &Credentials) -> Result<Open, NoData> {
        if let Some((at, no_data)) = &self.failed
            && at.elapsed() < RETRY
        {
            return Err(no_data.clone());
        }
        let place = format!("{}:{}", credentials.host, credentials.port);
        let connected =
            tokio::time::timeout(CONNECT_WITHIN, connect(credentials)).await.unwrap_or_else(|_| {
                let detail =
                    format!("{place} did not take a connection within {} s", CONNECT_WITHIN.as_secs());
                Err(NoData::new(NoDataReason::Timeout, detail))
            });
        self.failed = connected.as_ref().err().map(|no_data| (Instant::now(), no_data.clone()));
        connected
    }
}

async fn connect(credentials: &Credentials) -> Result<Open, NoData> {
    let place = format!("{}:{}", credentials.host, credentials.port);
    let peer = addresses(credentials).await.map_err(|error| {
        NoData::new(
            NoDataReason::Unreachable,
            format!("the name {} cannot be resolved: {}", credentials.host, cut(&error)),
        )
    })?;
    match PgConnection::connect_with(&options(credentials)).await {
        Ok(connection) => Ok(Open { connection, peer }),
        Err(sqlx::Error::Database(error)) => Err(refused_login(credentials, &place, &*error)),
        Err(sqlx::Error::Tls(error)) => {
            let detail = format!(
                "TLS with {place} failed: {}; check sslmode and ca.crt in the Secret",
                said(credentials, &error)
            );
            Err(NoData::new(NoDataReason::TlsFailed, detail))
        }
        Err(error) => {
            let detail = format!("{place} cannot be reached: {}", said(credentials, &error));
            Err(NoData::new(NoDataReason::Unreachable, detail))
        }
    }
}

/// The addresses behind the host's name, in order: what tells servers of different namespaces apart.
async fn addresses(credentials: &Credentials) -> std::io::Result<String> {
    let found = tokio::net::lookup_host((credentials.host.as_str(), credentials.port)).await?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort();
    found.dedup();
    Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn options(credentials: &Credentials) -> PgConnectOptions {
    let mode = match credentials.ssl_mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&credentials.host)
        .port(credentials.port)
        .database(&credentials.database)
        .username(&credentials.user)
        .ssl_mode(mode)
        .application_name("latency-operator")
        // A tenant can plant functions of the same name in other schemas.
        .options([
            ("search_path", "pg_catalog"),
            // Backslashes in our patterns are backslashes, whatever the database's default is.
            ("standard_conforming_strings", "on"),
            // Between two looks the connection waits.
            ("idle_session_timeout", "0"),
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", "10s"),
            ("default_transaction_read_only", "on"),
        ])
        .disable_statement_logging();
    if let Some(password) = &credentials.password {
        options = options.password(password);
    }
    if let Some(ca) = &credentials.ca {
        options = options.ssl_root_cert_from_pem(ca.clone());
    }
    options
}

fn refused_login(credentials: &Credentials, place: &str, error: &dyn sqlx::error::DatabaseError) -> NoData {
    let message = said(credentials, &error.message());
    // The words are translated, the name of the function that said them is not.
    let routine = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    let (reason, fix) = match error.code().as_deref() {
        Some("28P01" | "28000") => {
            (NoDataReason::AuthenticationFailed, "; mend user and password in the Secret")
        }
        // The limit of our own role says nothing about the server.
        Some("53300") if routine == Some("InitializeSessionUserId") => {
            (NoDataReason::PermissionDenied, "; raise the role's CONNECTION LIMIT")
        }
        Some("53300") => (NoDataReason::ConnectionsExhausted, ""),
        Some("3D000") => (NoDataReason::SecretInvalid, "; mend the database's name in the Secret"),
        Some("42501") => (NoDataReason::PermissionDenied, "; GRANT CONNECT ON DATABASE to it"),
        // A setting of the connection that came with the oldest supported version.
        Some("42704") => (NoDataReason::UnsupportedVersion, "; the oldest that can be diagnosed is 14"),
        _ => (NoDataReason::Unreachable, ""),
    };
    NoData::new(reason, format!("{place} refused role {}: {message}{fix}", credentials.user))
}

fn refused(credentials: &Credentials, error: &dyn sqlx::error::DatabaseError) -> Failure {
    let message = said(credentials, &error.message());
    match error.code().as_deref() {
        // A time limit strikes anywhere in a statement, also after it has done its work.
        Some("57014") => Failure::Lost(NoData::new(NoDataReason::Timeout, message)),
        Some(code) if code.starts_with("57P") => {
            Failure::Lost(NoData::new(NoDataReason::Unreachable, message))
        }
        Some("42501") => Failure::Refused(NoData::new(NoDataReason::PermissionDenied, message)),
        Some(code) => {
            Failure::Refused(NoData::new(NoDataReason::QueryFailed, format!("{message} (SQLSTATE {code})")))
        }
        None => Failure::Refused(NoData::new(NoDataReason::QueryFailed, message)),
    }
}

/// A message of the other side: it may be anybody's, so it is cut and has no control characters.
pub(crate) fn clean(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn cut(error: &dyn std::fmt::Display) -> String {
    clean(&error.to_string())
}

/// What the other side says, cut, and without the password: whoever asked for it in clear text may repeat it.
fn said(credentials: &Credentials, words: &dyn std::fmt::Display) -> String {
    clean(&without(credentials.password.as_slice(), &words.to_string()))
}
