//! PostgreSQL servers: sessions that run, block and wait, by a clock of their own; signals that check whom they hit.

use std::collections::BTreeMap;

use engine::effects::{Inspection, Signal as How, SignalSession};
use engine::invariants::{Signal, SignalKind, Victim, What};
use engine::model::{
    Coverage, EntryKey, LockWait, NoData, NoDataReason, PostgresFacts, PostgresLook, ServerIdentity, Session,
    SessionIdentity, SessionState, Slots, UncommittedWrites, elapsed,
};
use jiff::Timestamp;

use super::setup::database_of;
use super::{World, instant};
use crate::exec::{Micros, SECOND};
use crate::planted;

/// A session, and how it behaves.
#[derive(Debug, Clone)]
pub struct Client {
    /// What the server shows of it.
    pub session: Session,
    /// It does not heed a cancel.
    pub deaf: bool,
    /// It begins another statement as soon as one has ended.
    pub restless: bool,
    /// All that use the database suffer from it.
    pub hurts: bool,
}

/// One database of one server.
#[derive(Debug)]
pub struct Database {
    /// Which server, which life of it.
    pub server: ServerIdentity,
    /// Its clock is ahead by so much.
    pub skew: i64,
    /// It replays another's log.
    pub standby: bool,
    /// It cannot be reached before then.
    pub down_until: Micros,
    /// It can be read in part only until then.
    pub partial_until: Micros,
    /// Its answers are lost until then.
    pub mute_until: Micros,
    /// Connections that belong to nobody in particular.
    pub idle_connections: u32,
    /// Its sessions.
    pub clients: BTreeMap<i32, Client>,
    /// Who waits for whom.
    pub waits: Vec<LockWait>,
    next_pid: i32,
}

/// What a new session does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conduct {
    /// Idle in a transaction instead of running a statement.
    pub idle: bool,
    /// Its transaction has written.
    pub wrote: bool,
    /// Its role is a superuser.
    pub privileged: bool,
    /// It is a backup.
    pub protected: bool,
    /// It runs maintenance.
    pub maintenance: bool,
    /// See [`Client::deaf`].
    pub deaf: bool,
    /// See [`Client::restless`].
    pub restless: bool,
    /// A role that nobody lists.
    pub foreign: bool,
}

/// What a signal's statement answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signalled {
    /// It was sent.
    Sent,
    /// Nobody matched.
    NotMatched,
    /// It was refused before anything was done.
    Refused,
    /// The answer is lost.
    Lost,
}

impl Database {
    /// A database in which nothing happens.
    #[must_use]
    pub fn new(system: &str, database: &str, peer: &str, skew: i64) -> Self {
        Self {
            server: ServerIdentity {
                system_identifier: system.to_owned(),
                database: database.to_owned(),
                peer: peer.to_owned(),
                started_at: shifted(0, skew),
            },
            skew,
            standby: false,
            down_until: 0,
            partial_until: 0,
            mute_until: 0,
            idle_connections: 20,
            clients: BTreeMap::new(),
            waits: Vec::new(),
            next_pid: 1000,
        }
    }

    /// The server's clock.
    #[must_use]
    pub fn clock(&self, now: Micros) -> Timestamp {
        shifted(now, self.skew)
    }

    /// A session begins.
    pub fn begin(&mut self, now: Micros, conduct: Conduct) -> i32 {
        self.next_pid += 1;
        let (pid, clock) = (self.next_pid, self.clock(now));
        let role = if conduct.privileged {
            "postgres"
        } else if conduct.foreign {
            "stranger"
        } else {
            "reporting"
        };
        let session = session(pid, role, &self.server.database, clock, conduct);
        let client = Client { session, deaf: conduct.deaf, restless: conduct.restless, hurts: !conduct.idle };
        self.clients.insert(pid, client);
        pid
    }

    /// Sessions of the application begin to wait for one.
    pub fn block(&mut self, now: Micros, blocker: i32, victims: u32) {
        let clock = self.clock(now);
        for _ in 0..victims {
            self.next_pid += 1;
            let waiter = self.next_pid;
            let mut session = session(waiter, "orders", &self.server.database, clock, Conduct::default());
            (session.waits_for_lock, session.wait_start) = (true, Some(clock));
            let client = Client { session, deaf: false, restless: false, hurts: false };
            self.clients.insert(waiter, client);
            self.waits.push(LockWait { waiter, blocker });
        }
    }

    /// A session's statement ends; a restless one begins the next at once, another one goes.
    pub fn end(&mut self, now: Micros, pid: i32) {
        let clock = self.clock(now);
        let Some(client) = self.clients.get_mut(&pid) else { return };
        if client.restless {
            client.session.identity.query_start = clock;
            (client.session.xact_start, client.session.state_change) = (Some(clock), clock);
            return;
        }
        self.clients.remove(&pid);
        self.free(pid);
    }

    fn free(&mut self, pid: i32) {
        let freed: Vec<i32> = self.waits.iter().filter(|w| w.blocker == pid).map(|w| w.waiter).collect();
        self.waits.retain(|wait| wait.blocker != pid && wait.waiter != pid);
        for waiter in freed {
            self.clients.remove(&waiter);
        }
    }

    /// The server is restarted, or another one takes over behind its address.
    pub fn restart(&mut self, now: Micros, standby: bool) {
        self.clients.clear();
        self.waits.clear();
        (self.server.started_at, self.standby) = (self.clock(now), standby);
    }

    /// Whether those who use it suffer.
    #[must_use]
    pub fn hurts(&self) -> bool {
        !self.waits.is_empty() || self.clients.values().any(|client| client.hurts)
    }

    /// One diagnosis snapshot.
    #[must_use]
    pub fn facts(&self, now: Micros, used: u32) -> PostgresFacts {
        let clock = self.clock(now);
        let active =
            |client: &&Client| client.session.state == SessionState::Active && !client.session.waits_for_lock;
        let ages = self
            .clients
            .values()
            .filter(active)
            .map(|client| elapsed(clock, client.session.identity.query_start).as_secs_f64());
        let mut active_by_role = BTreeMap::<String, u32>::new();
        for client in self.clients.values().filter(active) {
            *active_by_role.entry(client.session.role.clone()).or_default() += 1;
        }
        PostgresLook {
            server: self.server.clone(),
            version: 160_000,
            clock,
            standby: self.standby,
            connected_as: "latency_operator".into(),
            grantee: "latency_operator".into(),
            coverage: if now < self.partial_until {
                Coverage::Partial { grant: "GRANT pg_read_all_stats TO latency_operator".into() }
            } else {
                Coverage::Full
            },
            may_signal: true,
            slots: Slots { usable: 100, used },
            active_seconds: ages.sum::<f64>() + 0.5,
            active: active_by_role.values().sum(),
            active_by_role,
            sessions: self.clients.values().map(|client| client.session.clone()).collect(),
            lock_waits: self.waits.clone(),
            truncated: false,
        }
        .into()
    }

    /// Whether the statement runs, or the session is there.
    #[must_use]
    pub fn runs(&self, signal: &SignalSession) -> bool {
        let session = &signal.target.session;
        self.clients.get(&session.pid).is_some_and(|client| {
            let known = &client.session;
            let same = known.identity.backend_start == session.backend_start;
            let runs =
                known.identity.query_start == session.query_start && known.state == SessionState::Active;
            same && (runs || signal.signal.ends_session())
        })
    }

    /// The statement that signals: whether somebody matches all of it.
    fn matches(
        &self,
        signal: &SignalSession,
        protected_roles: &[String],
        fence: Timestamp,
        now: Micros,
    ) -> bool {
        let target = &signal.target;
        let Some(Client { session: found, .. }) = self.clients.get(&target.session.pid) else { return false };
        if planted::is("signal_by_pid") {
            return true;
        }
        let in_state = match signal.signal {
            How::Cancel | How::Terminate => found.state == SessionState::Active,
            How::TerminateIdle(since) => {
                found.state == SessionState::IdleInTransaction && found.state_change == since
            }
        };
        let server = self.standby
            || self.server.started_at != target.server.started_at
            || self.server.system_identifier != target.server.system_identifier;
        in_state
            && found.identity == target.session
            && found.role == target.role
            && !protected_roles.contains(&found.role)
            && found.database == target.server.database
            && (target.writes == UncommittedWrites::RollBack || !found.wrote)
            && !found.privileged
            && !found.maintenance
            && !found.protected
            && !server
            && (self.clock(now) < fence || planted::is("signal_without_fence"))
    }
}

fn shifted(now: Micros, skew: i64) -> Timestamp {
    let at = instant(now);
    Timestamp::from_microsecond(at.as_microsecond().saturating_add(skew)).unwrap_or(at)
}

fn session(pid: i32, role: &str, database: &str, clock: Timestamp, conduct: Conduct) -> Session {
    let began = engine::model::earlier(clock, std::time::Duration::from_secs(60));
    Session {
        identity: SessionIdentity { pid, backend_start: began, query_start: clock },
        role: role.to_owned(),
        database: database.to_owned(),
        application: "app".into(),
        state: if conduct.idle { SessionState::IdleInTransaction } else { SessionState::Active },
        xact_start: Some(clock),
        state_change: clock,
        waits_for_lock: false,
        wait_start: None,
        wrote: conduct.wrote,
        xmin_age: None,
        privileged: conduct.privileged,
        maintenance: conduct.maintenance,
        protected: conduct.protected,
        fingerprint: "q".into(),
    }
}

impl World {
    /// The signal's statement arrives.
    pub fn signal(
        &mut self,
        place: usize,
        signal: &SignalSession,
        fence: Timestamp,
        key: &EntryKey,
    ) -> Signalled {
        let now = self.now;
        let Some(database) = self.databases.get_mut(place) else { return Signalled::Refused };
        if now < database.down_until {
            return Signalled::Refused;
        }
        let mute = now < database.mute_until;
        let answer = |answer: Signalled| if mute { Signalled::Lost } else { answer };
        if !database.matches(signal, &["postgres".to_owned()], fence, now) {
            return answer(Signalled::NotMatched);
        }
        let pid = signal.target.session.pid;
        let Some(client) = database.clients.get(&pid).cloned() else { return answer(Signalled::NotMatched) };
        let terminates = signal.signal.ends_session();
        let fact = Signal {
            kind: if terminates { SignalKind::Terminate } else { SignalKind::Cancel },
            system_identifier: database.server.system_identifier.clone(),
            database: client.session.database.clone(),
            started_at: Some(database.server.started_at),
            standby: Some(database.standby),
            pid,
            backend_start: Some(client.session.identity.backend_start),
            query_start: Some(client.session.identity.query_start),
            victim: Some(Victim {
                role: client.session.role.clone(),
                untouchable: client.session.privileged,
                protected: client.session.protected || client.session.maintenance,
                wrote: client.session.wrote,
            }),
            remediation: Some(key.clone()),
        };
        if terminates || !client.deaf {
            database.clients.remove(&pid);
            database.free(pid);
        }
        self.tell(What::Signal(fact));
        self.acted(key);
        self.refresh();
        answer(Signalled::Sent)
    }

    /// What has become of the session that is signalled.
    #[must_use]
    pub fn session(&self, signal: &SignalSession) -> Inspection {
        let unreadable = |reason| Inspection::Unreadable(NoData::new(reason, "it cannot be asked for"));
        match database_of(&signal.target.secret.name).and_then(|place| self.databases.get(place)) {
            Some(database) if self.now >= database.down_until.max(database.mute_until) => {
                if database.runs(signal) { Inspection::Running } else { Inspection::Gone }
            }
            Some(_) | None => unreadable(NoDataReason::Unreachable),
        }
    }

    /// Connections of a database that are in use: those of its sessions, of pods, and of others.
    #[must_use]
    pub fn connections(&self, place: usize) -> u32 {
        let Some(database) = self.databases.get(place) else { return 0 };
        let pods: u32 = self
            .targets
            .iter()
            .filter(|t| t.database == place)
            .map(|t| t.ready * t.connections_per_pod)
            .sum();
        let sessions = u32::try_from(database.clients.len()).unwrap_or(u32::MAX);
        (database.idle_connections + pods).saturating_add(sessions).min(100)
    }

    /// Short for a database's answer at this instant.
    #[must_use]
    pub fn answer_time(&mut self) -> Micros {
        let slow = self.dice.percent(2);
        if slow { self.dice.between(SECOND / 2, 2 * SECOND) } else { self.dice.between(1_000, 20_000) }
    }
}
