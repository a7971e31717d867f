//! What one diagnosis snapshot of a PostgreSQL database says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::{Shared, elapsed};

/// The share of the active time that is most of it.
const DOMINANT: f64 = 0.5;
/// With fewer active sessions a database is not busy, whoever has them.
const BUSY: u32 = 4;

/// Which server, and which life of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// `pg_control_system().system_identifier`: self-reported, and shared by clones.
    pub system_identifier: String,
    /// The database that we are connected to.
    pub database: String,
    /// The address and port that we connected to.
    pub peer: String,
    /// When its postmaster started: another instant means a restart or another server.
    pub started_at: Timestamp,
}

/// Whether we may read other roles' sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// All sessions are readable.
    Full,
    /// Some are not: those of other roles, or those that do not say what they are doing. They may hide anything.
    Partial {
        /// The statement that an administrator runs to change that.
        grant: String,
    },
}

/// Connection slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// `max_connections` less what is reserved for superusers and by `reserved_connections`.
    pub usable: u32,
    /// Client backends that are connected.
    pub used: u32,
}

/// The state column of `pg_stat_activity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionState {
    /// Runs a statement, or waits in one.
    Active,
    /// Waits for the client's next statement, outside a transaction.
    Idle,
    /// Waits for the client's next statement, inside a transaction (aborted ones included).
    IdleInTransaction,
    /// Anything else (`fastpath function call`, `disabled`, or not readable).
    Other,
}

/// What tells one statement of one backend from every other. Timestamps are the server's, to the microsecond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionIdentity {
    /// The backend's process id; reused by the system.
    pub pid: i32,
    /// When the backend started; with the pid it names a session.
    pub backend_start: Timestamp,
    /// When its current (or last) statement started; with the two above it names a statement.
    pub query_start: Timestamp,
}

impl SessionIdentity {
    /// The session without its statement.
    #[must_use]
    pub fn session(&self) -> (i32, Timestamp) {
        (self.pid, self.backend_start)
    }
}

impl fmt::Display for SessionIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (its statement of {:.3})", self.pid, self.query_start)
    }
}

/// A client backend, as far as it matters for a diagnosis. The text of its query is not here, and never is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Which session, and which statement.
    pub identity: SessionIdentity,
    /// The role that it logged in as.
    pub role: String,
    /// The database that it is connected to.
    pub database: String,
    /// What it calls itself, cut to 64 characters. Chosen by the client: for showing and protecting, never for selecting.
    pub application: String,
    /// What it is doing.
    pub state: SessionState,
    /// When the transaction started.
    pub xact_start: Option<Timestamp>,
    /// When the state last changed: since when an idle transaction is idle.
    pub state_change: Timestamp,
    /// Whether it waits for a heavyweight lock.
    pub waits_for_lock: bool,
    /// Since when it waits for that lock (`pg_locks.waitstart`).
    pub wait_start: Option<Timestamp>,
    /// Whether its transaction has written (it has a transaction id).
    pub wrote: bool,
    /// Age in transactions of the oldest snapshot that it holds back, if it holds one.
    pub xmin_age: Option<u64>,
    /// Its role is a superuser or may replicate.
    pub privileged: bool,
    /// Its statement is DDL, maintenance, a bulk copy or the end of a transaction.
    pub maintenance: bool,
    /// It is a backup or management tool, or its role is a member of `latency_protected`.
    pub protected: bool,
    /// The query id, or a hash of the text where the server computes none.
    pub fingerprint: String,
}

/// One session waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockWait {
    /// The session that waits.
    pub waiter: i32,
    /// A session that it waits for; 0 is a prepared transaction.
    pub blocker: i32,
}

/// What one look at a database says: kept once for all policies on it.
pub type PostgresFacts = Shared<PostgresLook>;

/// One diagnosis snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresLook {
    /// Which server.
    pub server: ServerIdentity,
    /// `server_version_num`.
    pub version: u32,
    /// The server's clock when the snapshot was taken.
    pub clock: Timestamp,
    /// The server replays another's log: nothing may be done here.
    pub standby: bool,
    /// The role that we are connected as.
    pub connected_as: String,
    /// The same as it has to be typed in SQL, quoted by the server where it must be.
    pub grantee: String,
    /// How much we may read.
    pub coverage: Coverage,
    /// Whether our role may signal other roles' backends (`pg_signal_backend`).
    pub may_signal: bool,
    /// Connection slots.
    pub slots: Slots,
    /// Summed age in seconds of the active client backends that do not wait for a lock, over all databases of the server.
    pub active_seconds: f64,
    /// Client backends that run a statement and do not wait for a lock, over all databases of the server.
    #[serde(default)]
    pub active: u32,
    /// How many of them each role has: of the 64 roles that have most.
    #[serde(default)]
    pub active_by_role: BTreeMap<String, u32>,
    /// The sessions that matter: the oldest active ones, idle transactions, and all that block or wait. Bounded.
    pub sessions: Vec<Session>,
    /// Who waits for whom.
    pub lock_waits: Vec<LockWait>,
    /// The bound on sessions or waits was reached: what is missing may matter.
    pub truncated: bool,
}

impl PostgresLook {
    /// The session of that process id.
    #[must_use]
    pub fn session(&self, pid: i32) -> Option<&Session> {
        self.sessions.iter().find(|s| s.identity.pid == pid)
    }

    /// How long ago, by the server's clock, `then` was when the snapshot was taken.
    #[must_use]
    pub fn age(&self, then: Timestamp) -> Duration {
        elapsed(self.clock, then)
    }

    /// The session that took at least half of the active time of the client backends that do not wait for a lock.
    #[must_use]
    pub fn dominant(&self) -> Option<&Session> {
        self.sessions
            .iter()
            .filter(|session| session.state == SessionState::Active && !session.waits_for_lock)
            .max_by_key(|session| self.age(session.identity.query_start))
            .filter(|session| self.share(session) >= DOMINANT)
    }

    /// How many active sessions these roles have.
    #[must_use]
    pub fn active_of(&self, roles: &[String]) -> u32 {
        roles.iter().filter_map(|role| self.active_by_role.get(role)).sum()
    }

    /// The role that has more than half of the active sessions, where there are at least four.
    #[must_use]
    pub fn busiest(&self) -> Option<&str> {
        let most = self.active_by_role.iter().max_by_key(|(_, active)| **active);
        let (role, _) =
            most.filter(|(_, own)| self.active >= BUSY && u64::from(**own) * 2 > u64::from(self.active))?;
        Some(role)
    }

    /// The share that a session's statement has in the active time (0 to 1).
    #[must_use]
    pub fn share(&self, session: &Session) -> f64 {
        let own = self.age(session.identity.query_start).as_secs_f64();
        if self.active_seconds > 0.0 { (own / self.active_seconds).min(1.0) } else { 0.0 }
    }

    /// The roles that the target connects as: those that the policy names, else our own.
    #[must_use]
    pub fn users<'a>(&'a self, named: &'a [String]) -> &'a [String] {
        if named.is_empty() { std::slice::from_ref(&self.connected_as) } else { named }
    }
}
