//! One connection to the admin console of a PgBouncer, kept open.
//!
//! The console looks like a database called `pgbouncer`, and understands only single commands of the simple protocol: no
//! parameters, no settings of the session, no prepared statement. Every command runs in a task of its own, so that a caller that
//! gives up does not break the connection in the middle of an answer; a connection whose answer did not come is thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, SecretKeys};
use futures::TryStreamExt;
use k8s_openapi::ByteString;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{Column, ConnectOptions, Connection, Row};

use super::credentials::Usual;
use super::hidden::without;
use super::postgres::clean;
use super::registry::Store;
use super::{Credentials, SslMode};

/// The virtual database that is the console, and the port of a PgBouncer that does not say another one.
const USUAL: Usual = Usual { port: 6432, database: Some("pgbouncer") };
/// We give up waiting for an answer after this.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// We give up connecting, logging in and asking for the version after this.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A console that could not be reached is left alone for so long.
const RETRY: Duration = Duration::from_secs(1);
/// Several times what a PgBouncer with very many pools answers.
const MOST_ROWS: usize = 10_000;
/// Several times what any version has.
const MOST_COLUMNS: usize = 128;
/// PostgreSQL's own limit of names, and ample for a number.
const MOST_LETTERS: usize = 64;

/// A row: what is not NULL, by the name of its column.
pub type Record = BTreeMap<String, String>;

/// What a command has answered.
#[derive(Debug)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<Record>,
    /// The version of the PgBouncer that the connection was made to, such as `1.25.2`.
    pub version: String,
}

/// Why there are no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It has answered with an error; the connection goes on.
    Refused(NoData),
    /// There is no connection, or the answer did not come.
    Broken(NoData),
}

impl Failure {
    /// The reason, whatever happened to the connection.
    #[must_use]
    pub fn no_data(self) -> NoData {
        match self {
            Self::Refused(no_data) | Self::Broken(no_data) => no_data,
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct PgBouncer {
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
    version: String,
}

impl Store for PgBouncer {
    type Credentials = Credentials;

    fn understand(
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Credentials, NoData> {
        Credentials::read_with(&USUAL, namespace, name, keys, data)
    }

    fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, slot: Arc::default() }
    }
}

impl PgBouncer {
    /// Runs one command, which only reads.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(&self, command: &'static str) -> Result<Answer, Failure> {
        let (credentials, slot) = (self.credentials.clone(), self.slot.clone());
        let task = tokio::spawn(async move { slot.lock().await.run(&credentials, command).await });
        task.await.unwrap_or_else(|_| {
            let detail = "the task that asked the console was stopped";
            Err(Failure::Broken(NoData::new(NoDataReason::QueryFailed, detail)))
        })
    }
}

impl Slot {
    async fn run(&mut self, credentials: &Credentials, command: &'static str) -> Result<Answer, Failure> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect(credentials).await.map_err(Failure::Broken)?,
        };
        let answered = tokio::time::timeout(ANSWER_WITHIN, ask(&mut open.connection, command)).await;
        match answered.unwrap_or_else(|_| Err(Trouble::Silent)) {
            Ok(rows) => {
                let version = open.version.clone();
                self.open = Some(open);
                Ok(Answer { rows, version })
            }
            Err(Trouble::Server(sqlx::Error::Database(error))) => {
                let said = said(credentials, &error.message());
                self.open = Some(open);
                let detail = format!("{} refused {command}: {said}", place(credentials));
                Err(Failure::Refused(NoData::new(NoDataReason::QueryFailed, detail)))
            }
            Err(trouble) => Err(Failure::Broken(broken(credentials, &trouble))),
        }
    }

    async fn connect(&mut self, credentials: &Credentials) -> Result<Open, NoData> {
        if let Some((at, no_data)) = &self.failed
            && at.elapsed() < RETRY
        {
            return Err(no_data.clone());
        }
        let connected =
            tokio::time::timeout(CONNECT_WITHIN, connect(credentials)).await.unwrap_or_else(|_| {
                let (place, limit) = (place(credentials), CONNECT_WITHIN.as_secs());
                let detail = format!("{place} did not take a connection within {limit} s");
                Err(NoData::new(NoDataReason::Timeout, detail))
            });
        self.failed = connected.as_ref().err().map(|no_data| (Instant::now(), no_data.clone()));
        connected
    }
}

/// Why a command has no rows.
enum Trouble {
    /// No answer came in time.
    Silent,
    /// More came than a console says.
    TooMuch,
    /// An error of the server, or of the connection to it.
    Server(sqlx::Error),
}

async fn ask(connection: &mut PgConnection, command: &'static str) -> Result<Vec<Record>, Trouble> {
    let mut rows = Vec::new();
    let mut answer = sqlx::raw_sql(command).fetch(connection);
    while let Some(row) = answer.try_next().await.map_err(Trouble::Server)? {
        if rows.len() >= MOST_ROWS {
            return Err(Trouble::TooMuch);
        }
        rows.push(record(&row));
    }
    Ok(rows)
}

/// Every column as text: the console answers in text, whatever type it says.
fn record(row: &PgRow) -> Record {
    let text = |column: &sqlx::postgres::PgColumn| {
        let text: Option<String> = row.try_get_unchecked(column.ordinal()).ok()?;
        Some((cut(column.name()), cut(&text?)))
    };
    row.columns().iter().take(MOST_COLUMNS).filter_map(text).collect()
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_LETTERS).collect()
}

async fn connect(credentials: &Credentials) -> Result<Open, NoData> {
    let mut connection = match PgConnection::connect_with(&options(credentials)).await {
        Ok(connection) => connection,
        Err(error) => return Err(not_connected(credentials, &error)),
    };
    let rows = match ask(&mut connection, "SHOW VERSION").await {
        Ok(rows) => rows,
        Err(Trouble::Server(sqlx::Error::Database(_))) => return Err(no_console(credentials)),
        Err(trouble) => return Err(broken(credentials, &trouble)),
    };
    let version = rows.first().and_then(|row| row.values().next()).and_then(|text| version(text));
    version.map(|version| Open { connection, version }).ok_or_else(|| no_console(credentials))
}

/// `1.25.2` of `PgBouncer 1.25.2`.
fn version(text: &str) -> Option<String> {
    let version = text.strip_prefix("PgBouncer ")?.split_whitespace().next()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
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
        // It refuses a login with a setting that it does not know, and this is one.
        .extra_float_digits(None)
        .disable_statement_logging();
    if let Some(password) = &credentials.password {
        options = options.password(password);
    }
    if let Some(ca) = &credentials.ca {
        options = options.ssl_root_cert_from_pem(ca.clone());
    }
    options
}

/// Why there is no connection.
fn not_connected(credentials: &Credentials, error: &sqlx::Error) -> NoData {
    let (place, user) = (place(credentials), &credentials.user);
    if let sqlx::Error::Database(error) = error {
        let message = said(credentials, &error.message());
        let (reason, fix) = refused_login(error.code().as_deref(), error.message());
        return NoData::new(reason, format!("{place} refused user {user}: {message}{fix}"));
    }
    if let sqlx::Error::Tls(error) = error {
        let error = said(credentials, &error);
        let detail = format!("TLS with {place} failed: {error}; check sslmode and ca.crt in the Secret");
        return NoData::new(NoDataReason::TlsFailed, detail);
    }
    let detail = format!("{place} cannot be reached: {}", said(credentials, error));
    NoData::new(NoDataReason::Unreachable, detail)
}

/// What it means that a login is refused. Most errors of PgBouncer have the same code, so its words decide.
fn refused_login(code: Option<&str>, message: &str) -> (NoDataReason, &'static str) {
    let fix_login = "; correct user and password in the Secret";
    match code {
        Some("3D000") => (
            NoDataReason::BadAnswer,
            "; a PgBouncer always has this database, so this is another server: name PgBouncer's own host and port",
        ),
        Some("28P01" | "28000") => (NoDataReason::AuthenticationFailed, fix_login),
        Some("53300") => (NoDataReason::ConnectionsExhausted, ""),
        _ if message.contains("not allowed") => {
            (NoDataReason::PermissionDenied, "; add the user to stats_users in pgbouncer.ini")
        }
        _ if message.contains("authentication failed") || message.contains("no such user") => {
            (NoDataReason::AuthenticationFailed, fix_login)
        }
        _ if message.contains("no more connections allowed") => (NoDataReason::ConnectionsExhausted, ""),
        _ => (NoDataReason::Unreachable, ""),
    }
}

fn no_console(credentials: &Credentials) -> NoData {
    let place = place(credentials);
    let detail = format!(
        "{place} is no PgBouncer: it does not answer SHOW VERSION as one does; name PgBouncer's own host and port"
    );
    NoData::new(NoDataReason::BadAnswer, detail)
}

fn broken(credentials: &Credentials, trouble: &Trouble) -> NoData {
    let place = place(credentials);
    match trouble {
        Trouble::Silent => {
            let detail = format!("{place} did not answer within {} s", ANSWER_WITHIN.as_secs());
            NoData::new(NoDataReason::Timeout, detail)
        }
        Trouble::TooMuch => {
            let detail = format!("{place} answers with more than {MOST_ROWS} rows");
            NoData::new(NoDataReason::BadAnswer, detail)
        }
        Trouble::Server(error) => {
            let detail = format!("the connection to {place} broke: {}", said(credentials, error));
            NoData::new(NoDataReason::Unreachable, detail)
        }
    }
}

fn place(credentials: &Credentials) -> String {
    format!("{}:{}", credentials.host, credentials.port)
}

/// What the other side says, cut, and without the password.
fn said(credentials: &Credentials, words: &dyn std::fmt::Display) -> String {
    clean(&without(credentials.password.as_slice(), &words.to_string()))
}
