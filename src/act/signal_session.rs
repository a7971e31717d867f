//! Signalling one session: cancelling its statement, or ending it.
//!
//! Matching and signalling are one statement in a transaction of its own. Two statements would leave a gap in which the
//! backend begins an innocent query; and inside a transaction `pg_stat_activity` is a cached copy.
//!
//! That copy is made when the statement begins to read it, and the rules (roles, memberships, regular expressions) take
//! their time after that. So the copy is thrown away once they have all been asked, and who it is, is looked up again
//! with nothing but the signal behind it. What remains is the instant between that look and the signal:
//! `pg_cancel_backend` and `pg_terminate_backend` know processes, not statements.

use engine::advance::EffectReport;
use engine::effects::{Signal, SignalSession};
use engine::model::UncommittedWrites;
use jiff::Timestamp;
use sqlx::Row;

use crate::connections::postgres::{Failure, Statement, clean};
use crate::connections::sql::{maintenance, micros, protected, strong_lock};
use crate::connections::{Postgres, Registry, Secrets};

/// Whether the session is still in the state in which it is signalled. `$11` is since when it is idle in its transaction;
/// NULL where its statement is meant, which then must be running.
macro_rules! in_state {
    ($unchanged:expr) => {
        concat!(
            "CASE WHEN $11::bigint IS NULL THEN a.state = 'active' ELSE a.state LIKE 'idle in transaction%' AND ",
            $unchanged,
            " END"
        )
    };
}

macro_rules! signal {
    ($function:literal) => {
        concat!(
            "WITH matched AS MATERIALIZED (
  SELECT a.pid, a.backend_start, a.query_start, a.state_change FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.pid = $1 AND a.pid <> pg_backend_pid() AND ",
            micros!("a.backend_start"),
            " = $2 AND ",
            micros!("a.query_start"),
            " = $3
    AND a.usename = $4 AND a.usename <> ALL($5) AND a.datname = current_database() AND a.datname = $6
    AND a.backend_type = 'client backend' AND a.leader_pid IS NULL AND ",
            in_state!(concat!(micros!("a.state_change"), " = $11::bigint")),
            "
    AND ($7 OR a.backend_xid IS NULL) AND NOT r.rolsuper AND NOT r.rolreplication
    AND NOT ",
            maintenance!(),
            " AND NOT ",
            protected!(),
            " AND NOT ($11::bigint IS NOT NULL AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND ",
            strong_lock!(),
            "))",
            " AND NOT pg_is_in_recovery() AND ",
            micros!("pg_postmaster_start_time()"),
            " = $8 AND (SELECT system_identifier::text FROM pg_control_system()) = $9
    AND ",
            micros!("clock_timestamp()"),
            " < $10
), again AS MATERIALIZED (
  SELECT *, pg_stat_clear_snapshot() FROM matched
)
SELECT ",
            $function,
            "(a.pid) FROM again CROSS JOIN LATERAL pg_stat_get_activity(again.pid) a
WHERE ",
            // Instants as they are: arithmetic takes longer, and here every microsecond counts.
            in_state!("a.state_change = again.state_change"),
            " AND a.backend_start = again.backend_start AND a.query_start = again.query_start"
        )
    };
}

const CANCEL: &str = signal!("pg_cancel_backend");
const TERMINATE: &str = signal!("pg_terminate_backend");

/// Signals the session if everything is still as it was decided, and the fence has not passed on the
/// server's clock.
pub async fn signal(
    secrets: &Secrets,
    registry: &Registry,
    namespace: &str,
    signal: &SignalSession,
    protected_roles: &[String],
    fence: Timestamp,
) -> EffectReport {
    let credentials = match secrets.credentials::<Postgres>(namespace, &signal.target.secret).await {
        Ok(credentials) => credentials,
        Err(no_data) => return EffectReport::Refused(no_data.to_string()),
    };
    signal_on(&registry.connection::<Postgres>(&credentials), signal, protected_roles, fence).await
}

/// The same over a connection.
pub async fn signal_on(
    connection: &Postgres,
    signal: &SignalSession,
    protected_roles: &[String],
    fence: Timestamp,
) -> EffectReport {
    match connection.run(statement(signal, protected_roles, fence)).await {
        Ok(answer) => match answer.rows.first().map(|row| row.try_get::<bool, _>(0)) {
            Some(Ok(true)) => EffectReport::Sent,
            Some(Ok(false)) => EffectReport::NotMatched("the backend had gone".to_owned()),
            Some(Err(error)) => EffectReport::Lost(clean(&error.to_string())),
            None => EffectReport::NotMatched(
                "the session had gone or begun something else, or was no longer what it had been".to_owned(),
            ),
        },
        Err(Failure::NotSent(no_data) | Failure::Refused(no_data)) => {
            EffectReport::Refused(no_data.to_string())
        }
        Err(Failure::Lost(no_data)) => EffectReport::Lost(no_data.to_string()),
    }
}

fn statement(signal: &SignalSession, protected_roles: &[String], fence: Timestamp) -> Statement {
    let (sql, idle_since) = match signal.signal {
        Signal::Cancel => (CANCEL, None),
        Signal::Terminate => (TERMINATE, None),
        Signal::TerminateIdle(since) => (TERMINATE, Some(since.as_microsecond())),
    };
    let target = &signal.target;
    sqlx::query(sql)
        .bind(target.session.pid)
        .bind(target.session.backend_start.as_microsecond())
        .bind(target.session.query_start.as_microsecond())
        .bind(target.role.clone())
        .bind(protected_roles.to_vec())
        .bind(target.server.database.clone())
        .bind(target.writes == UncommittedWrites::RollBack)
        .bind(target.server.started_at.as_microsecond())
        .bind(target.server.system_identifier.clone())
        .bind(fence.as_microsecond())
        .bind(idle_since)
}
