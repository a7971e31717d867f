//! What breaks the API: a bad statement in a session of its own, and how that session ends.

use std::time::{Duration, SystemTime};

use lab::{Error, Result};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::task::JoinHandle;

use super::database::{self, Database, REPORTING};

/// What to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// A report without its join condition takes the database's CPU: every page is slow.
    Runaway,
    /// A batch keeps locks that every payment needs: payments fail, and everybody queues behind them.
    Blocker,
    /// A console locks the rows of every payment and is forgotten, in the middle of its transaction.
    Idle,
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runaway => "runaway",
            Self::Blocker => "blocker",
            Self::Idle => "idle",
        }
    }

    /// One sentence for people.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Runaway => {
                "a report without its join condition takes the database's CPU: every page is slow"
            }
            Self::Blocker => {
                "a batch keeps locks that every payment needs: payments fail, and everybody queues behind them"
            }
            Self::Idle => {
                "somebody locks the rows of every payment, has a look at one, and goes to lunch in the middle of the \
                 transaction: there is no statement to cancel"
            }
        }
    }

    /// In PostgreSQL's words, what becomes of its session when it is healed.
    pub(super) fn ends_with(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "canceling statement due to user request",
            Self::Idle => "terminating connection due to administrator command",
        }
    }

    /// What the operator has done to it when it is healed.
    pub(super) fn cured_by(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "cancelled the one statement that broke it",
            Self::Idle => "ended the one session that broke it",
        }
    }

    pub(super) fn sql(self) -> String {
        format!("demo/sql/fault-{}.sql", self.name())
    }

    pub(super) fn policy(self) -> String {
        format!("demo/policies/{}.yaml", self.name())
    }

    /// All, for those who want to see the others too.
    pub(super) const ALL: [Self; 3] = [Self::Runaway, Self::Blocker, Self::Idle];
}

/// A fault that was begun. Dropping it closes its connection.
pub(super) struct Running {
    /// The process id of its session.
    pub(super) pid: i32,
    pub(super) begun: SystemTime,
    task: JoinHandle<Ended>,
}

/// How the fault's session came to its end.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) at: SystemTime,
    /// What PostgreSQL said; `None` when the last statement ended by itself.
    pub(super) error: Option<String>,
}

/// Begins a fault: one statement after the other, so that the server shows the culprit's own text.
pub(super) async fn begin(database: &Database, fault: Fault) -> Result<Running> {
    let statements = statements(&database::read(&fault.sql())?);
    let mut connection = database.connect(REPORTING).await?;
    let doing = format!("asking for the process id of the session that runs {}", fault.sql());
    let pid = sqlx::query_scalar::<_, i32>("select pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .map_err(Error::request(doing, database.server.log()))?;
    // A session that is idle is watched from another one: a question of its own would wake it up.
    let mut watch = match fault {
        Fault::Runaway | Fault::Blocker => None,
        Fault::Idle => Some(database.connect(REPORTING).await?),
    };
    let begun = SystemTime::now();
    let task = tokio::spawn(async move {
        let mut error = None;
        for statement in statements {
            if let Err(failure) = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await {
                let told = failure.as_database_error().map(|error| error.message().to_owned());
                error = Some(told.unwrap_or_else(|| failure.to_string()));
                break;
            }
        }
        if let (Some(watch), None) = (&mut watch, &error) {
            until_gone(watch, pid).await;
            let failure = connection.execute("select 1").await.err();
            error = failure.map(|failure| match failure.as_database_error() {
                Some(error) => error.message().to_owned(),
                None => failure.to_string(),
            });
        }
        Ended { at: SystemTime::now(), error }
    });
    Ok(Running { pid, begun, task })
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

impl Running {
    /// Waits for its end; to be asked once.
    pub(super) async fn ended(&mut self) -> Ended {
        let lost =
            |error: tokio::task::JoinError| Ended { at: SystemTime::now(), error: Some(error.to_string()) };
        (&mut self.task).await.unwrap_or_else(lost)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The statements of a file that has no semicolon within any of them.
fn statements(sql: &str) -> Vec<String> {
    let without_comments: Vec<&str> =
        sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let text = without_comments.join("\n");
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_files_and_what_hurts_is_in_them() {
        for fault in Fault::ALL {
            let statements = statements(&database::read(&fault.sql()).unwrap());
            let hurts = match fault {
                Fault::Runaway | Fault::Blocker => "select count(*)",
                Fault::Idle => "update ",
            };
            assert!(statements.len() > 1 && statements.iter().any(|one| one.starts_with(hurts)), "{fault:?}");
            let commits = statements.iter().any(|one| one.starts_with("commit"));
            assert!(!commits || fault != Fault::Idle, "it would not be idle in its transaction");
            assert!(database::read(&fault.policy()).unwrap().contains("kind: LatencyPolicy"));
        }
    }
}
