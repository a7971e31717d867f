//! One diagnosis snapshot of a PostgreSQL database, in one statement: sessions, locks, slots, the server's clock.
//!
//! `pg_stat_activity` is read once and reused; `pg_blocking_pids`, which takes the lock manager's locks, is called for
//! waiting sessions only, and for at most 64 of them. The result is bounded; of a long queue those edges are kept that lead
//! to its root: for each waiter who blocks without waiting, then who has waited longest. No query text leaves the server.

use std::collections::BTreeMap;

use engine::effects::{Inspection, SignalSession};
use engine::model::{
    Coverage, LockWait, NoData, NoDataReason, Observed, PostgresFacts, PostgresLook, ServerIdentity, Session,
    SessionIdentity, SessionState, Slots,
};
use serde::Deserialize;
use sqlx::Row;

use super::dependencies::{Access, DependencyReader, Stores};
use crate::clock::Clock;
use crate::connections::postgres::clean;
use crate::connections::sql::{instant, maintenance, micros, protected, strong_lock};
use crate::connections::{self, postgres};

/// The oldest server that can be diagnosed: `query_id`, `waitstart`.
const OLDEST: u32 = 140_000;

/// The version comes first and alone: an older server does not know the columns of the snapshot.
const VERSION: &str = "SELECT current_setting('server_version_num')::int4";

const SNAPSHOT: &str = concat!(
    "WITH a AS MATERIALIZED (
  SELECT a.pid, a.datname, a.usename, left(a.application_name, 64) AS application, a.state, a.wait_event_type,
    a.backend_start, a.xact_start, coalesce(a.query_start, a.backend_start) AS query_start,
    coalesce(a.state_change, a.backend_start) AS state_change, a.backend_xid IS NOT NULL AS wrote,
    age(a.backend_xmin) AS xmin_age, coalesce(r.rolsuper OR r.rolreplication, true) AS privileged,
    coalesce(a.query_id::text, 'md5:' || left(md5(a.query), 12)) AS fingerprint, ",
    // The text is looked at where it matters only: matching it is the dearest part of the statement.
    "((a.state = 'active' OR a.state LIKE 'idle in transaction%') AND ",
    maintenance!(),
    ") AS maintenance, ",
    protected!(),
    " AS protected
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
), waiting AS MATERIALIZED (
  SELECT pid, pg_blocking_pids(pid) AS blockers FROM a WHERE wait_event_type = 'Lock' ORDER BY query_start LIMIT 64
), edges AS (
  SELECT w.pid AS waiter, b.pid AS blocker, row_number() OVER (
      PARTITION BY w.pid ORDER BY coalesce(q.wait_event_type = 'Lock', false), q.query_start NULLS FIRST, b.pid) AS place
  FROM waiting w CROSS JOIN LATERAL (SELECT DISTINCT unnest(w.blockers) AS pid) b LEFT JOIN a q ON q.pid = b.pid
), waits AS (
  SELECT waiter, blocker FROM edges ORDER BY place, waiter LIMIT 1024
), locks AS MATERIALIZED (
  SELECT l.pid, l.granted, l.waitstart FROM pg_locks l WHERE NOT l.granted OR (",
    strong_lock!(),
    ")
), since AS (
  SELECT pid, min(waitstart) AS waitstart FROM locks WHERE NOT granted GROUP BY pid
), relevant AS (
  SELECT waiter AS pid FROM waits UNION SELECT blocker FROM waits
  UNION (SELECT pid FROM a WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'
         ORDER BY query_start LIMIT 32)
  UNION (SELECT pid FROM a WHERE state LIKE 'idle in transaction%' ORDER BY state_change LIMIT 32)
  UNION (SELECT pid FROM a WHERE xmin_age IS NOT NULL ORDER BY xmin_age DESC LIMIT 4)
)
SELECT json_build_object(
  'clock', ",
    micros!("clock_timestamp()"),
    ", 'started', ",
    micros!("pg_postmaster_start_time()"),
    ", 'standby', pg_is_in_recovery(),
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'database', current_database(), 'user', current_user, 'quoted_user', quote_ident(current_user),
  'reads_all', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  'may_signal', pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
  'usable_slots', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  'used_slots', CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN (SELECT count(*) + 1 FROM a)
    ELSE greatest((SELECT sum(numbackends) FROM pg_stat_database), (SELECT count(*) + 1 FROM a)) END,
  'untracked', (SELECT count(*) FROM a WHERE state = 'disabled'),
  'active_seconds', (SELECT coalesce(sum(extract(epoch FROM clock_timestamp() - query_start)), 0) FROM a
    WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'),
  'active', (SELECT count(*) FROM a WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'),
  'active_by_role', (SELECT coalesce(json_object_agg(usename, sessions), '{}') FROM (SELECT usename, count(*) AS sessions FROM a
    WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock' AND usename IS NOT NULL
    GROUP BY usename ORDER BY count(*) DESC, usename LIMIT 64) r),
  'waiting', (SELECT count(*) FROM a WHERE wait_event_type = 'Lock'),
  'lock_waits', (SELECT coalesce(json_agg(json_build_array(waiter, blocker)), '[]') FROM waits),
  'sessions', (SELECT coalesce(json_agg(json_build_object(
      'pid', a.pid, 'database', a.datname, 'role', a.usename, 'application', a.application, 'state', a.state,
      'waits_for_lock', coalesce(a.wait_event_type = 'Lock', false), 'backend_start', ",
    micros!("a.backend_start"),
    ", 'xact_start', ",
    micros!("a.xact_start"),
    ", 'query_start', ",
    micros!("a.query_start"),
    ", 'state_change', ",
    micros!("a.state_change"),
    ", 'wait_start', ",
    micros!("s.waitstart"),
    ", 'wrote', a.wrote, 'xmin_age', a.xmin_age, 'privileged', a.privileged, 'maintenance', coalesce(a.maintenance, true)
      OR (a.state LIKE 'idle in transaction%' AND a.pid IN (SELECT pid FROM locks WHERE granted)),
      'protected', coalesce(a.protected, true), 'fingerprint', coalesce(a.fingerprint, '')
    )), '[]') FROM a JOIN relevant USING (pid) LEFT JOIN since s ON s.pid = a.pid)
)::text"
);

/// Whether a statement still runs; no row where its session has gone. What may not be read is NULL, the start included.
const LOOK: &str = concat!(
    "SELECT state, ",
    micros!("query_start"),
    " AS query_start FROM pg_stat_activity WHERE pid = $1 AND (backend_start IS NULL OR ",
    micros!("backend_start"),
    " = $2)"
);

/// The `LIMIT`s of the statement: edges, and sessions (64 waiting, those that block them, 68 that are just busy).
const MOST_WAITS: usize = 1024;
const MOST_SESSIONS: usize = 64 + MOST_WAITS + 68;
/// Roles that are counted.
const MOST_ROLES: usize = 64;
/// Several times what so many sessions take.
const MOST_TEXT: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Raw {
    clock: i64,
    started: i64,
    standby: bool,
    system_identifier: String,
    database: String,
    user: String,
    /// The user as it has to be typed in SQL.
    quoted_user: String,
    reads_all: bool,
    may_signal: bool,
    usable_slots: i64,
    used_slots: i64,
    /// Sessions that do not say what they are doing, because `track_activities` is off for them.
    untracked: i64,
    active_seconds: f64,
    active: i64,
    active_by_role: BTreeMap<String, i64>,
    waiting: i64,
    lock_waits: Vec<(i32, i32)>,
    sessions: Vec<RawSession>,
}

#[derive(Debug, Deserialize)]
struct RawSession {
    pid: i32,
    database: Option<String>,
    role: Option<String>,
    application: Option<String>,
    state: Option<String>,
    waits_for_lock: bool,
    backend_start: i64,
    xact_start: Option<i64>,
    query_start: i64,
    state_change: i64,
    wait_start: Option<i64>,
    wrote: bool,
    xmin_age: Option<i64>,
    privileged: bool,
    maintenance: bool,
    protected: bool,
    fingerprint: String,
}

/// PostgreSQL databases.
pub struct Postgres;

impl DependencyReader for Postgres {
    type Store = connections::Postgres;
    type Facts = PostgresFacts;
    const SOURCE: &'static str = "postgres";

    async fn look(
        connection: &connections::Postgres,
        clock: Clock,
        _: Option<PostgresFacts>,
    ) -> Observed<PostgresFacts> {
        match snapshot(connection).await {
            Ok(facts) => Observed::Known { at: clock.now(), value: facts },
            Err(no_data) => Observed::Missing(no_data),
        }
    }
}

impl Stores<Postgres> {
    /// What has become of the session that is signalled, live; of its statement, where that is cancelled.
    pub async fn session(&self, namespace: &str, signal: &SignalSession) -> Inspection {
        let (Access { secrets, registry, .. }, target) = (&self.access, &signal.target);
        let secret = &target.secret;
        let credentials = match secrets.credentials::<connections::Postgres>(namespace, secret).await {
            Ok(credentials) => credentials,
            Err(no_data) => return Inspection::Unreadable(no_data),
        };
        let connection = registry.connection::<connections::Postgres>(&credentials);
        let session = &target.session;
        let seen = if signal.signal.ends_session() {
            look_at_session(&connection, session).await
        } else {
            look_at_statement(&connection, session).await
        };
        if let Inspection::Unreadable(_) = &seen {
            secrets.doubt(namespace, secret);
        }
        seen
    }
}

/// What has become of a statement, live: it is gone when its session has gone or does anything else.
pub async fn look_at_statement(connection: &postgres::Postgres, session: &SessionIdentity) -> Inspection {
    let runs = |state: &str, start: Option<i64>| {
        state == "active" && start == Some(session.query_start.as_microsecond())
    };
    match state_of(connection, session).await {
        Ok(Some((state, _))) if state == "disabled" => {
            let detail = "the session does not say what it is doing; set track_activities = on";
            Inspection::Unreadable(NoData::new(NoDataReason::PermissionDenied, detail))
        }
        Ok(Some((state, start))) if runs(&state, start) => Inspection::Running,
        Ok(_) => Inspection::Gone,
        Err(no_data) => Inspection::Unreadable(no_data),
    }
}

/// What has become of a session, live, whatever it does.
pub async fn look_at_session(connection: &postgres::Postgres, session: &SessionIdentity) -> Inspection {
    match state_of(connection, session).await {
        Ok(Some(_)) => Inspection::Running,
        Ok(None) => Inspection::Gone,
        Err(no_data) => Inspection::Unreadable(no_data),
    }
}

/// The state of a session and the start of its statement; `None` where there is no such session.
async fn state_of(
    connection: &postgres::Postgres,
    session: &SessionIdentity,
) -> Result<Option<(String, Option<i64>)>, NoData> {
    let statement = sqlx::query(LOOK).bind(session.pid).bind(session.backend_start.as_microsecond());
    let answer = connection.run(statement).await.map_err(postgres::Failure::no_data)?;
    let Some(row) = answer.rows.first() else { return Ok(None) };
    let state: Option<String> = row.try_get(0).unwrap_or_default();
    let Some(state) = state else {
        let detail = "the session's state may not be read; run: GRANT pg_read_all_stats";
        return Err(NoData::new(NoDataReason::PermissionDenied, detail));
    };
    Ok(Some((state, row.try_get(1).unwrap_or_default())))
}

/// One diagnosis snapshot.
///
/// # Errors
/// The database cannot be reached, is too old, refuses, or answers with something else.
pub async fn snapshot(connection: &postgres::Postgres) -> Result<PostgresFacts, NoData> {
    let version = version(connection).await?;
    let answer = connection.run(sqlx::query(SNAPSHOT)).await.map_err(postgres::Failure::no_data)?;
    let text: String =
        answer.rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(|| {
            NoData::new(NoDataReason::BadAnswer, "the diagnosis statement returned nothing")
        })?;
    understood(&text, version, answer.peer)
}

/// What the statement's text says. Its own limits are checked: a server that exceeds them is no PostgreSQL.
///
/// # Errors
/// The text is something else.
pub fn understood(text: &str, version: u32, peer: String) -> Result<PostgresFacts, NoData> {
    if text.len() > MOST_TEXT {
        let detail = format!("the diagnosis statement returned {} bytes, more than it can", text.len());
        return Err(NoData::new(NoDataReason::BadAnswer, detail));
    }
    let raw: Raw = serde_json::from_str(text).map_err(|error| {
        let error = clean(&error.to_string());
        let detail = format!("the diagnosis statement returned something else: {error}");
        NoData::new(NoDataReason::BadAnswer, detail)
    })?;
    if raw.lock_waits.len() > MOST_WAITS || raw.sessions.len() > MOST_SESSIONS {
        let (waits, sessions) = (raw.lock_waits.len(), raw.sessions.len());
        let detail = format!(
            "the diagnosis statement returned {waits} waits and {sessions} sessions, more than it can"
        );
        return Err(NoData::new(NoDataReason::BadAnswer, detail));
    }
    facts(raw, version, peer).ok_or_else(|| {
        NoData::new(NoDataReason::BadAnswer, "the server returned a time outside of all calendars")
    })
}

async fn version(connection: &postgres::Postgres) -> Result<u32, NoData> {
    let answer = connection.run(sqlx::query(VERSION)).await.map_err(postgres::Failure::no_data)?;
    let version: i32 = answer.rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default();
    let version = u32::try_from(version).unwrap_or_default();
    if version < OLDEST {
        let detail =
            format!("the server is PostgreSQL {}, the oldest that can be diagnosed is 14", version / 10_000);
        return Err(NoData::new(NoDataReason::UnsupportedVersion, detail));
    }
    Ok(version)
}

fn facts(raw: Raw, version: u32, peer: String) -> Option<PostgresFacts> {
    let truncated = raw.waiting >= 64 || raw.lock_waits.len() >= MOST_WAITS;
    let grantee = clean(&raw.quoted_user);
    let coverage = if !raw.reads_all {
        Coverage::Partial { grant: format!("GRANT pg_read_all_stats TO {grantee}") }
    } else if raw.untracked > 0 {
        Coverage::Partial { grant: "ALTER SYSTEM SET track_activities = on".to_owned() }
    } else {
        Coverage::Full
    };
    let look = PostgresLook {
        server: ServerIdentity {
            system_identifier: name(Some(raw.system_identifier)),
            database: name(Some(raw.database)),
            peer,
            started_at: instant(raw.started)?,
        },
        version,
        clock: instant(raw.clock)?,
        standby: raw.standby,
        connected_as: name(Some(raw.user)),
        grantee,
        coverage,
        may_signal: raw.may_signal,
        slots: Slots {
            usable: u32::try_from(raw.usable_slots).unwrap_or_default(),
            used: u32::try_from(raw.used_slots).unwrap_or_default(),
        },
        active_seconds: raw.active_seconds.max(0.0),
        active: u32::try_from(raw.active).unwrap_or_default(),
        active_by_role: raw
            .active_by_role
            .into_iter()
            .take(MOST_ROLES)
            .map(|(role, active)| (name(Some(role)), u32::try_from(active).unwrap_or_default()))
            .collect(),
        sessions: raw.sessions.into_iter().filter_map(session).collect(),
        lock_waits: raw
            .lock_waits
            .into_iter()
            .map(|(waiter, blocker)| LockWait { waiter, blocker })
            .collect(),
        truncated,
    };
    Some(look.into())
}

/// A name that PostgreSQL could have, of at most 64 bytes: whatever else a server says goes into objects and logs as well.
fn name(raw: Option<String>) -> String {
    raw.unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect()
}

fn session(raw: RawSession) -> Option<Session> {
    let state = match raw.state.as_deref() {
        Some("active") => SessionState::Active,
        Some("idle") => SessionState::Idle,
        Some("idle in transaction" | "idle in transaction (aborted)") => SessionState::IdleInTransaction,
        _ => SessionState::Other,
    };
    Some(Session {
        identity: SessionIdentity {
            pid: raw.pid,
            backend_start: instant(raw.backend_start)?,
            query_start: instant(raw.query_start)?,
        },
        role: name(raw.role),
        database: name(raw.database),
        application: name(raw.application),
        state,
        xact_start: raw.xact_start.and_then(instant),
        state_change: instant(raw.state_change)?,
        waits_for_lock: raw.waits_for_lock,
        wait_start: raw.wait_start.and_then(instant),
        wrote: raw.wrote,
        xmin_age: raw.xmin_age.and_then(|age| u64::try_from(age).ok()),
        privileged: raw.privileged,
        maintenance: raw.maintenance,
        protected: raw.protected,
        fingerprint: name(Some(raw.fingerprint)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sessions: usize, waits: usize) -> String {
        let session = serde_json::json!({
            "pid": 1, "waits_for_lock": false, "backend_start": 0, "query_start": 0, "state_change": 0, "wrote": false,
            "privileged": false, "maintenance": false, "protected": false, "fingerprint": "f",
            "role": format!("role\n{}", "x".repeat(1000)),
        });
        serde_json::json!({
            "clock": 0, "started": 0, "standby": false, "system_identifier": "1", "database": "d", "user": "u",
            "quoted_user": "u", "reads_all": true, "may_signal": true, "usable_slots": 1, "used_slots": 1,
            "untracked": 0, "active_seconds": 0.0, "active": 0, "active_by_role": {}, "waiting": 0, "lock_waits": vec![(1, 2); waits],
            "sessions": vec![session; sessions],
        })
        .to_string()
    }

    #[test]
    fn more_than_the_statement_can_return_is_no_answer_and_names_are_cut() {
        let read = |text: &str| understood(text, 150_000, String::new());
        let facts = read(&answer(MOST_SESSIONS, MOST_WAITS)).unwrap();
        assert_eq!(facts.sessions[0].role, format!("role{}", "x".repeat(60)));
        for text in [
            answer(MOST_SESSIONS + 1, 0),
            answer(0, MOST_WAITS + 1),
            format!("{}{}", answer(0, 0), " ".repeat(MOST_TEXT)),
        ] {
            assert_eq!(read(&text).unwrap_err().reason, NoDataReason::BadAnswer);
        }
    }
}
