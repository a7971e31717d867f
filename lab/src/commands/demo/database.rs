//! The application's database, and who may do what in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lab::{Error, Postgres, PostgresOptions, Result, Session, cpus, workspace};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

pub(super) const NAME: &str = "orders";
/// As whom the application connects.
pub(super) const APPLICATION: &str = "orders";
/// As whom the faults run.
pub(super) const REPORTING: &str = "reporting";
/// As whom the operator connects.
pub(super) const OPERATOR: &str = "latency_operator";

/// What differs from the laboratory's; demo/README.md says why.
const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "256MB"), ("max_worker_processes", "48"), ("max_parallel_workers", "40")];
/// How the server's log says that somebody else ended a statement or a session.
const SIGNALLED: [&str; 2] =
    ["canceling statement due to user request", "terminating connection due to administrator command"];

pub(super) struct Database {
    pub(super) server: Postgres,
    passwords: BTreeMap<&'static str, String>,
}

impl Database {
    /// Starts the server on one CPU of its own, and fills it.
    pub(super) async fn start(session: &Session, more_rows: Option<&str>) -> Result<Self> {
        let allowed = cpus::allowed();
        let cpu = allowed.last().copied().filter(|_| allowed.len() > 1);
        let options = PostgresOptions { cpu, ..Default::default() };
        let options = SETTINGS.iter().fold(options, |options, (name, value)| options.setting(*name, *value));
        let server = Postgres::start(session, options).await?;
        let mut passwords = BTreeMap::new();
        for role in [APPLICATION, REPORTING, OPERATOR] {
            passwords.insert(role, lab::password()?);
        }
        let database = Self { server, passwords };
        database.fill(more_rows).await?;
        match cpu {
            Some(cpu) => session.say(&format!("PostgreSQL is filled; it has CPU {cpu} alone")),
            None => session.say("PostgreSQL is filled; it shares the only CPU with everything else"),
        }
        Ok(database)
    }

    async fn fill(&self, more_rows: Option<&str>) -> Result<()> {
        self.server.execute("postgres", &format!("create database {NAME}")).await?;
        let mut connection = self.server.superuser(NAME).await?;
        for file in ["schema.sql", "seed.sql"].into_iter().chain(more_rows) {
            let sql = read(&format!("demo/sql/{file}"))?;
            self.run(&mut connection, &format!("running demo/sql/{file}"), sql).await?;
        }
        for (role, password) in &self.passwords {
            let sql = format!("alter role {role} password '{password}'");
            self.run(&mut connection, &format!("giving role {role} a password"), sql).await?;
        }
        self.run(&mut connection, "running vacuum analyze", "vacuum analyze".to_owned()).await?;
        connection.close().await.map_err(Error::request("closing a connection", self.server.log()))
    }

    async fn run(&self, connection: &mut PgConnection, doing: &str, sql: String) -> Result<()> {
        let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        done.map(drop).map_err(Error::request(doing, self.server.log()))
    }

    pub(super) async fn connect(&self, role: &str) -> Result<PgConnection> {
        self.server.connect(role, self.password(role), NAME).await
    }

    /// The password of one of the roles.
    pub(super) fn password(&self, role: &str) -> &str {
        self.passwords.get(role).map(String::as_str).unwrap_or_default()
    }

    /// Ends a session, as the people do who are on call.
    pub(super) async fn end(&self, pid: i32) -> Result<()> {
        let mut connection = self.server.superuser(NAME).await?;
        let sql = format!("select pg_terminate_backend({pid})");
        self.run(&mut connection, &format!("ending session {pid}"), sql).await
    }

    /// The process ids of all sessions that somebody cancelled or terminated, as the server itself tells it.
    pub(super) fn signalled(&self) -> Vec<i32> {
        signalled(&self.server.process().log_text())
    }
}

/// A file of the checkout.
pub(super) fn read(path: &str) -> Result<String> {
    let path: PathBuf = workspace::root().join(path);
    std::fs::read_to_string(&path).map_err(Error::path("reading", &path))
}

fn signalled(log: &str) -> Vec<i32> {
    let lines = log.lines().filter(|line| SIGNALLED.iter().any(|text| line.contains(text)));
    lines.filter_map(|line| line.split_once('[')?.1.split_once(']')?.0.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_else_ended_counts() {
        let log = "\
2026-11-23 07:00:00.1 UTC [41] user=orders db=orders app= ERROR:  canceling statement due to lock timeout
2026-11-23 07:00:00.2 UTC [42] user=reporting db=orders app=lab ERROR:  canceling statement due to user request
2026-11-23 07:00:00.3 UTC [43] user= db= app= FATAL:  terminating background worker \"parallel worker\" due to administrator command
2026-11-23 07:00:00.4 UTC [44] user=orders db=orders app= ERROR:  canceling statement due to statement timeout
";
        assert_eq!(signalled(log), [42]);
    }
}
