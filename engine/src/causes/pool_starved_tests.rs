//! A pool that starves, and what looks like it.

use super::*;
use crate::causes::diagnose;
use crate::dependencies::pgbouncer::tests::pool;
use crate::dependencies::pgbouncer::{PgBouncerDependency, PgBouncerFacts, PgBouncerLook, PoolClients};
use crate::guards::testing::Setup;
use crate::model::{
    Confidence, Dependency, Facts, Finding, Learning, LockWait, Memory, Observed, Session, earlier, later,
};

const SECOND: Duration = Duration::from_secs(1);

/// A breached policy whose target connects through a pool in front of `db`.
struct Pooler {
    setup: Setup,
    state: Memory,
    pool: Pool,
    session: Session,
}

impl Pooler {
    fn before_the_database() -> Self {
        let mut setup = Setup::acting();
        let session = setup.postgres().sessions.remove(0);
        let mut pooler = Self { setup, state: Memory::default(), pool: pool(), session };
        pooler.declare(Some("orders"), Some("db"));
        pooler
    }

    fn declare(&mut self, pool_name: Option<&str>, database: Option<&str>) {
        let declared = PgBouncerDependency {
            secret: "orders-pgbouncer".into(),
            pool_name: pool_name.map(Into::into),
            database: database.map(Into::into),
        };
        self.setup.snapshot.policy.dependencies.insert("pool".into(), Dependency::PgBouncer(declared));
    }

    /// All of its connections are in use, and clients wait.
    fn starve(&mut self) {
        self.pool.servers.active = self.pool.size;
        self.pool.clients = PoolClients { active: 2, waiting: 6, longest_wait: 2 * SECOND };
    }

    /// A second passes, and everything is read.
    fn look(&mut self) -> Option<Finding> {
        let now = later(self.setup.now, SECOND);
        self.setup.look_again(now);
        let look =
            PgBouncerLook { version: "1.25.2".into(), pools: vec![self.pool.clone()], unreadable: vec![] };
        let facts = Facts::PgBouncer(PgBouncerFacts::from(look));
        let learning = Learning { window: self.setup.snapshot.policy.evaluation.window, healthy: false };
        let read = Observed::Known { at: now, value: facts };
        self.setup.snapshot.observations.dependencies.insert("pool".into(), read);
        for (name, read) in self.setup.snapshot.observations.dependencies.iter() {
            let memory = self.state.dependencies.entry(name.clone()).or_default();
            memory.learn(now, read.as_result().ok(), learning);
        }
        self.found(CAUSE.name)
    }

    fn looks(&mut self, count: usize) -> Option<Finding> {
        (0..count).map(|_| self.look()).last().flatten()
    }

    fn found(&self, cause: &str) -> Option<Finding> {
        let first = self.setup.situation.breach.as_ref().map_or(self.setup.now, |breach| breach.first_at);
        let findings = diagnose(&self.setup.snapshot, &self.state, first);
        findings.into_iter().find(|finding| finding.cause == cause)
    }

    /// A session of the pool's in the database.
    fn session(&mut self, pid: i32, state: SessionState) -> &mut Session {
        let now = self.setup.now;
        let mut session = self.session.clone();
        session.identity.pid = pid;
        (session.role, session.database) = (self.pool.role.clone(), self.pool.database.clone());
        (session.state, session.state_change) = (state, earlier(now, 4 * SECOND));
        let sessions = &mut self.setup.postgres().sessions;
        sessions.push(session);
        sessions.last_mut().unwrap()
    }
}

#[test]
fn clients_that_wait_in_two_looks_with_the_pool_full_starve_and_it_is_said_who_holds_it() {
    let mut pooler = Pooler::before_the_database();
    assert_eq!(pooler.look(), None);
    pooler.starve();
    pooler.setup.postgres().active_seconds = 1000.0;
    pooler.session(1, SessionState::IdleInTransaction);
    pooler.session(2, SessionState::Active);
    pooler.session(3, SessionState::Active).role = "reporting".into();
    assert_eq!(pooler.look(), None, "once is a burst");
    let found = pooler.look().unwrap();
    assert_eq!((found.confidence, found.advice), (Confidence::Certain, false));
    assert!(
        found.sentence.starts_with("in pool 6 clients of pool orders of user orders wait"),
        "{}",
        found.sentence
    );
    for words in [
        "for 2s",
        "2 of the 2 server connections that pool_size allows",
        "1 are idle in a transaction",
        "1 run a query",
    ] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    // The first client of the first look has waited for two seconds then.
    assert_eq!(found.onset, Some(earlier(pooler.setup.now, 3 * SECOND)));
    assert!(found.is_actionable_root());
    // One of them takes most of the active time.
    pooler.setup.postgres().active_seconds = 10.0;
    assert_eq!(pooler.looks(2).unwrap().explained_by.as_deref(), Some("RunawayQuery"));
}

#[test]
fn without_the_name_of_the_pool_the_clients_may_be_those_of_others() {
    let mut pooler = Pooler::before_the_database();
    pooler.declare(None, None);
    pooler.starve();
    let found = pooler.looks(2).unwrap();
    assert_eq!(found.confidence, Confidence::Likely);
    assert!(!found.sentence.contains("idle in a transaction"), "{}", found.sentence);
    pooler.declare(Some("another"), None);
    assert_eq!(pooler.look(), None, "not the target's pool");
    // The database says who its clients are.
    for (role, confidence) in [("reporting", Confidence::Likely), ("orders", Confidence::Certain)] {
        for name in [Some("orders"), None] {
            pooler.declare(name, Some("db"));
            pooler.pool.role = role.into();
            assert_eq!(pooler.looks(2).unwrap().confidence, confidence, "{role} {name:?}");
        }
    }
}

#[test]
fn a_pool_that_starved_long_before_the_breach_did_not_cause_it() {
    let mut pooler = Pooler::before_the_database();
    pooler.starve();
    pooler.pool.clients.longest_wait = Duration::from_secs(3600);
    assert_eq!(pooler.looks(2).unwrap().confidence, Confidence::Possible);
}

#[test]
fn connected_clients_and_short_waits_are_innocent() {
    let mut pooler = Pooler::before_the_database();
    pooler.starve();
    pooler.pool.clients = PoolClients { active: 5000, waiting: 0, longest_wait: Duration::ZERO };
    assert_eq!(pooler.looks(3), None, "they are connected");
    pooler.pool.clients = PoolClients { active: 2, waiting: 50, longest_wait: Duration::from_millis(900) };
    assert_eq!(pooler.looks(3), None, "they wait for a moment");
    for _ in 0..3 {
        pooler.starve();
        assert_eq!(pooler.look(), None, "one look");
        pooler.pool.clients.waiting = 0;
        assert_eq!(pooler.look(), None, "one look");
    }
}

#[test]
fn a_pool_that_gets_no_connection_and_one_that_is_paused_are_said_and_are_not_starved() {
    let mut pooler = Pooler::before_the_database();
    pooler.starve();
    (pooler.pool.servers.active, pooler.pool.servers.login) = (0, 1);
    assert_eq!(pooler.look(), None);
    let not_full = pooler.look().unwrap();
    assert_eq!((not_full.confidence, not_full.advice), (Confidence::Possible, true));
    assert!(
        not_full
            .sentence
            .contains("the pool is not full (0 of 2 server connections are open, 1 are logging in)")
    );

    pooler.starve();
    pooler.pool.paused = true;
    assert_eq!(pooler.look(), None, "another reason");
    let paused = pooler.look().unwrap();
    assert_eq!((paused.confidence, paused.advice), (Confidence::Possible, true));
    assert!(paused.sentence.contains("somebody has paused it"), "{}", paused.sentence);
}

#[test]
fn behind_a_blocked_database_it_is_a_symptom() {
    let mut pooler = Pooler::before_the_database();
    pooler.starve();
    let blocker = pooler.session(1, SessionState::Active);
    blocker.role = "reporting".into();
    let victim = pooler.session(2, SessionState::Active);
    victim.waits_for_lock = true;
    victim.wait_start = Some(victim.state_change);
    pooler.setup.postgres().lock_waits = vec![LockWait { waiter: 2, blocker: 1 }];
    let starved = pooler.looks(2).unwrap();
    assert_eq!(pooler.found("BlockingQuery").unwrap().explained_by, None);
    assert_eq!(starved.explained_by.as_deref(), Some("BlockingQuery"));
    assert!(starved.sentence.contains("1 wait for a lock"), "{}", starved.sentence);
    // Without the declared database nothing ties them.
    pooler.declare(Some("orders"), None);
    assert_eq!(pooler.look().unwrap().explained_by, None);
}
