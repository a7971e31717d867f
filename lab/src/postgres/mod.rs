//! A PostgreSQL server of a test's own: real, empty, ready in a fraction of a second.

mod data;
mod identifier;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::account::Account;
use crate::error::{Error, Result};
use crate::packages::{POSTGRESQL, Programs};
use crate::process::Process;
use crate::random;
use crate::session::Session;
use crate::spec::{Ending, Spec};

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";
/// What the laboratory's own connections call themselves.
pub const APPLICATION_NAME: &str = "lab";

/// A hundred times what it takes; recovery after a crash takes longer.
const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Settings for `postgresql.conf`, without quotes; they win over the laboratory's.
    pub settings: Vec<(String, String)>,
    /// How many connections it accepts.
    pub max_connections: u16,
    /// How clients prove who they are over TCP.
    pub auth: Auth,
    /// The one CPU that it has, as if that were a machine of its own; `None` for all.
    pub cpu: Option<u32>,
    /// The system identifier that it claims; `None` for one of its own. Clones share theirs, and nothing keeps a server
    /// from claiming another one's.
    pub system_identifier: Option<u64>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            max_connections: 100,
            auth: Auth::Password,
            cpu: None,
            system_identifier: None,
        }
    }
}

impl PostgresOptions {
    /// Adds a setting.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// How clients prove who they are over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// By password (SCRAM), as everywhere in earnest.
    Password,
    /// Not at all.
    Trust,
}

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Connections are ended, changes are written out.
    Fast,
    /// Everything is dropped; the next start recovers. What a power cut looks like, but orderly.
    Immediate,
    /// `kill -9`: the server and all its sessions are gone in mid-air.
    Kill,
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Postgres {
    session: Session,
    programs: Programs,
    account: Option<Account>,
    cpu: Option<u32>,
    folder: PathBuf,
    port: u16,
    password: String,
    process: Process,
}

impl Postgres {
    /// Starts a server with an empty cluster.
    pub async fn start(session: &Session, options: PostgresOptions) -> Result<Self> {
        let programs = Programs::find(session, &POSTGRESQL).await?.reachable(session).await?;
        let account = session.account().cloned();
        let (name, folder) = session.new_folder("postgres", account.as_ref())?;
        let port = session.free_port()?;
        data::create(session, &programs, &folder, port, &options).await?;
        let how = (account.as_ref(), options.cpu);
        let process = launch(session, &programs, how, name, &folder).await?;
        let password = random::password()?;
        let server = Self {
            session: session.clone(),
            programs,
            account,
            cpu: options.cpu,
            folder,
            port,
            password,
            process,
        };
        server.wait_until_ready().await?;
        let set_password = format!("alter role {SUPERUSER} password '{}'", server.password);
        server.execute(SUPERUSER, &set_password).await?;
        Ok(server)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for one user, with the password in it.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        let [user, password, database] = [user, password, database].map(percent_encode);
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL for the superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(SUPERUSER, &self.password, database)
    }

    /// The password of the superuser over TCP; no two servers have the same.
    pub fn superuser_password(&self) -> &str {
        &self.password
    }

    /// Opens a connection over TCP.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Result<PgConnection> {
        // All that sqlx would otherwise take from PGHOST and its likes is given.
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .password(password)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name(APPLICATION_NAME);
        let doing = format!("connecting to database {database} as {user}");
        PgConnection::connect_with(&options).await.map_err(Error::request(doing, self.log()))
    }

    /// Opens a connection as superuser, past every password, over the Unix socket.
    pub async fn superuser(&self, database: &str) -> Result<PgConnection> {
        let doing = format!("connecting to database {database} as superuser");
        self.try_superuser(database).await.map_err(Error::request(doing, self.log()))
    }

    /// Runs SQL as superuser: one statement, or many as one transaction (`create database` stands alone).
    pub async fn execute(&self, database: &str, sql: &str) -> Result<()> {
        let mut connection = self.superuser(database).await?;
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let doing = || format!("running {sql:?} in database {database}");
        connection.execute(statement).await.map_err(Error::request(doing(), self.log()))?;
        connection.close().await.map_err(Error::request(doing(), self.log()))
    }

    /// A client program of the same version (`psql`, `pgbench`, `pg_dump`) that connects as superuser.
    pub fn client(&self, program: &str) -> Spec {
        self.programs
            .spec(program, program)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", &self.password)
    }

    /// How a shell runs such a client program, to which the environment has to say where the server is.
    pub fn client_command(&self, program: &str) -> String {
        self.programs.command(program)
    }

    /// Stops the server; its data stays for [`Postgres::start_again`].
    pub async fn stop(&self, how: Stop) -> Result<ExitStatus> {
        match how {
            Stop::Fast => self.process.stop(Signal::INT, STOP_LIMIT).await,
            Stop::Immediate => self.process.stop(Signal::QUIT, STOP_LIMIT).await,
            Stop::Kill => self.process.kill().await,
        }
    }

    /// Starts the stopped server on its old port, with its data and settings.
    pub async fn start_again(&mut self) -> Result<()> {
        let name = self.process.name().to_owned();
        let how = (self.account.as_ref(), self.cpu);
        self.process = launch(&self.session, &self.programs, how, name, &self.folder).await?;
        self.wait_until_ready().await
    }

    /// Stops and starts again.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop(Stop::Fast).await?;
        self.start_again().await
    }

    /// Where the server logs, each line with time, process id, user, database and application name.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// The server's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What the server calls its version.
    pub fn version(&self) -> &str {
        &self.programs.version
    }

    async fn try_superuser(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(self.port)
            .username(SUPERUSER)
            .password(&self.password)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name(APPLICATION_NAME);
        PgConnection::connect_with(&options).await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let look = || async { self.try_superuser(SUPERUSER).await.ok() };
        let connection = self.process.ready("accepts connections", READY_LIMIT, look).await?;
        connection.close().await.map_err(Error::request("closing the first connection", self.log()))
    }
}

async fn launch(
    session: &Session,
    programs: &Programs,
    (account, cpu): (Option<&Account>, Option<u32>),
    name: String,
    folder: &Path,
) -> Result<Process> {
    let data = folder.join("data");
    let spec = programs
        .spec("postgres", "postgres")
        .arg("-D")
        .arg(&data)
        .account(account.cloned())
        .cpu(cpu)
        .ending(Ending::Quit)
        // Each of its children leaves its process group.
        .strays_in(&data);
    session.spawn_in(spec, name, folder).await
}

/// For the parts of a URL: whatever is not surely harmless is encoded.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_the_url() {
        assert_eq!(percent_encode("a/b@c:d ü%"), "a%2Fb%40c%3Ad%20%C3%BC%25");
    }
}
