//! A bad statement in a database session of its own, and how that session ends.

use std::time::{Duration, SystemTime};

use lab::{Error, Result};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::task::JoinHandle;

use super::database::{self, Database, REPORTING};
use super::fault::{Ended, How};

/// A session that was begun. Dropping it closes its connection.
pub(super) struct Culprit {
    /// Its process id.
    pub(super) pid: i32,
    pub(super) begun: SystemTime,
    task: JoinHandle<Ended>,
}

impl Culprit {
    /// Runs a file one statement after the other, so that the server shows the culprit's own text. One that `stays` is
    /// left open after the last of them.
    pub(super) async fn begin(database: &Database, sql: &str, stays: bool) -> Result<Self> {
        let statements = statements(&database::read(sql)?);
        let mut connection = database.connect(REPORTING).await?;
        let doing = format!("asking for the process id of the session that runs {sql}");
        let pid = sqlx::query_scalar::<_, i32>("select pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::request(doing, database.server.log()))?;
        // A session that is idle is watched from another one: a question of its own would wake it up.
        let watch = if stays { Some(database.connect(REPORTING).await?) } else { None };
        let begun = SystemTime::now();
        let task = tokio::spawn(live(connection, pid, statements, watch));
        Ok(Self { pid, begun, task })
    }

    /// Waits for its end; to be asked once.
    pub(super) async fn ended(&mut self) -> Ended {
        let lost = |error: tokio::task::JoinError| Ended {
            at: SystemTime::now(),
            how: How::Told(error.to_string()),
        };
        (&mut self.task).await.unwrap_or_else(lost)
    }
}

impl Drop for Culprit {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(
    mut connection: PgConnection,
    pid: i32,
    statements: Vec<String>,
    mut watch: Option<PgConnection>,
) -> Ended {
    let mut error = None;
    for statement in statements {
        if let Err(failure) = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await {
            error = Some(said(&failure));
            break;
        }
    }
    if let (Some(watch), None) = (&mut watch, &error) {
        until_gone(watch, pid).await;
        error = connection.execute("select 1").await.err().map(|failure| said(&failure));
    }
    Ended { at: SystemTime::now(), how: error.map_or(How::ByItself, How::Told) }
}

/// PostgreSQL's own words, where it has said any.
fn said(failure: &sqlx::Error) -> String {
    failure.as_database_error().map_or_else(|| failure.to_string(), |error| error.message().to_owned())
}

/// Waits until there is no such session.
async fn until_gone(watch: &mut PgConnection, pid: i32) {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let there = "select exists (select from pg_stat_activity where pid = $1)";
    loop {
        looks.tick().await;
        match sqlx::query_scalar::<_, bool>(there).bind(pid).fetch_one(&mut *watch).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// The statements of a file that has no semicolon within any of them.
pub(super) fn statements(sql: &str) -> Vec<String> {
    let without_comments: Vec<&str> =
        sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let text = without_comments.join("\n");
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}
