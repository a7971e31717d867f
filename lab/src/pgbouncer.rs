//! A PgBouncer of a test's own: real, in front of a PostgreSQL server, ready in a fraction of a second.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::account::Account;
use crate::error::{Error, Result};
use crate::files;
use crate::packages::{PGBOUNCER, Programs};
use crate::postgres::APPLICATION_NAME;
use crate::process::Process;
use crate::random;
use crate::session::Session;

/// The administrator of every pooler: the laboratory itself.
pub const ADMIN: &str = "lab";
/// The database that is the admin console.
pub const CONSOLE: &str = "pgbouncer";

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a pooler is started.
#[derive(Debug, Clone, Default)]
pub struct PgBouncerOptions {
    /// Its databases, each with a connection string: `("orders", "host=127.0.0.1 port=5432 dbname=orders")`.
    pub databases: Vec<(String, String)>,
    /// Users with their passwords. It logs in to PostgreSQL as the user that has come, with the same password.
    pub users: Vec<(String, String)>,
    /// Those of them that may read statistics in the console, and nothing else.
    pub stats_users: Vec<String>,
    /// Settings for the section `[pgbouncer]`; they win over the laboratory's.
    pub settings: Vec<(String, String)>,
}

impl PgBouncerOptions {
    /// Adds a database of that server, under the same name.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>, port: u16) -> Self {
        let name = name.into();
        let behind = format!("host=127.0.0.1 port={port} dbname={name}");
        self.databases.push((name, behind));
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Adds a user who may read statistics.
    #[must_use]
    pub fn stats_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let name = name.into();
        self.stats_users.push(name.clone());
        self.user(name, password)
    }

    /// Adds a setting, such as `default_pool_size`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A running (or stopped) pooler.
#[derive(Debug)]
pub struct PgBouncer {
    session: Session,
    programs: Programs,
    account: Option<Account>,
    folder: PathBuf,
    port: u16,
    password: String,
    process: Process,
}

impl PgBouncer {
    /// Starts a pooler, in `pool_mode = transaction`, and waits until its console answers.
    pub async fn start(session: &Session, options: PgBouncerOptions) -> Result<Self> {
        let programs = Programs::find(session, &PGBOUNCER).await?.reachable(session).await?;
        let account = session.account().cloned();
        let (name, folder) = session.new_folder("pgbouncer", account.as_ref())?;
        let (port, password) = (session.free_port()?, random::password()?);
        let users = options.users.iter().map(|(name, password)| (name.as_str(), password.as_str()));
        let users: String = users
            .chain([(ADMIN, password.as_str())])
            .map(|(name, password)| format!("{} {}\n", quoted(name), quoted(password)))
            .collect();
        for (file, text) in [("users.txt", users), ("pgbouncer.ini", config_text(&folder, port, &options))] {
            let path = folder.join(file);
            files::replace(&path, text.as_bytes())?;
            if let Some(account) = &account {
                std::os::unix::fs::chown(&path, Some(account.uid), Some(account.gid))
                    .map_err(Error::path("handing over", &path))?;
            }
        }
        let process = launch(session, &programs, account.as_ref(), name, &folder).await?;
        let pooler = Self { session: session.clone(), programs, account, folder, port, password, process };
        pooler.wait_until_it_answers().await?;
        Ok(pooler)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Opens a client's connection. Statements with parameters need prepared ones, which a pool of transactions may not have:
    /// use `sqlx::raw_sql`.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Result<PgConnection> {
        let doing = format!("connecting to database {database} of PgBouncer as {user}");
        self.try_connect(user, password, database).await.map_err(Error::request(doing, self.log()))
    }

    /// Runs one command in the console, as administrator.
    pub async fn execute(&self, command: &str) -> Result<()> {
        let mut connection = self.connect(ADMIN, &self.password, CONSOLE).await?;
        let doing = || format!("running {command:?} in the console");
        let command = sqlx::raw_sql(AssertSqlSafe(command.to_owned()));
        connection.execute(command).await.map_err(Error::request(doing(), self.log()))?;
        connection.close().await.map_err(Error::request(doing(), self.log()))
    }

    /// Stops the pooler; it can be started again on its port.
    pub async fn stop(&self) -> Result<ExitStatus> {
        // What TERM does depends on the version; this one ends it at once in all of them.
        self.process.stop(Signal::QUIT, STOP_LIMIT).await
    }

    /// Starts the stopped pooler on its old port, with its settings.
    pub async fn start_again(&mut self) -> Result<()> {
        let name = self.process.name().to_owned();
        self.process =
            launch(&self.session, &self.programs, self.account.as_ref(), name, &self.folder).await?;
        self.wait_until_it_answers().await
    }

    /// Stops and starts again.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Lets it hang: the kernel accepts connections, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Goes on after [`PgBouncer::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// What the pooler calls its version.
    pub fn version(&self) -> &str {
        &self.programs.version
    }

    async fn try_connect(&self, user: &str, password: &str, database: &str) -> sqlx::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .password(password)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            // It refuses parameters that it does not know.
            .extra_float_digits(None)
            .application_name(APPLICATION_NAME);
        PgConnection::connect_with(&options).await
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let look = || async { self.try_connect(ADMIN, &self.password, CONSOLE).await.ok() };
        let connection = self.process.ready("answers", READY_LIMIT, look).await?;
        connection.close().await.map_err(Error::request("closing the first connection", self.log()))
    }
}

async fn launch(
    session: &Session,
    programs: &Programs,
    account: Option<&Account>,
    name: String,
    folder: &Path,
) -> Result<Process> {
    let spec = programs
        .spec("pgbouncer", "pgbouncer")
        .arg(folder.join("pgbouncer.ini"))
        // It refuses to run as root.
        .account(account.cloned());
    session.spawn_in(spec, name, folder).await
}

fn config_text(folder: &Path, port: u16, options: &PgBouncerOptions) -> String {
    let mut lines = vec!["[databases]".to_owned()];
    lines.extend(options.databases.iter().map(|(name, behind)| format!("{name} = {behind}")));
    lines.extend([
        "[pgbouncer]".to_owned(),
        "listen_addr = 127.0.0.1".to_owned(),
        format!("listen_port = {port}"),
        "unix_socket_dir =".to_owned(),
        "auth_type = scram-sha-256".to_owned(),
        format!("auth_file = {}", folder.join("users.txt").display()),
        format!("admin_users = {ADMIN}"),
        format!("stats_users = {}", options.stats_users.join(", ")),
        "pool_mode = transaction".to_owned(),
        "server_tls_sslmode = disable".to_owned(),
    ]);
    lines.extend(options.settings.iter().map(|(name, value)| format!("{name} = {value}")));
    lines.join("\n") + "\n"
}

/// As the file of users has text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_the_file_of_users() {
        assert_eq!(quoted(r#"a "b"#), r#""a ""b""#);
    }
}
