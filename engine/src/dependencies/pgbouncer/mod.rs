//! PgBouncer: what one look at its console shows, and which of its pools have let clients wait for how many looks.

mod declared;
mod facts;

pub use declared::PgBouncerDependency;
pub use facts::{
    LONG_WAIT, LimitKind, PgBouncerFacts, PgBouncerLook, Pool, PoolClients, PoolId, PoolServers, Share, Wait,
};

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Learning, Place};
use crate::base::{Target, earlier};
use crate::stats::{Held, LastTwo};

/// What a policy declares.
pub type Declared = PgBouncerDependency;
/// What one look shows.
pub type Facts = PgBouncerFacts;
/// What is remembered for one policy.
pub type Memory = PgBouncerMemory;

/// What is remembered of a PgBouncer: the last two looks, and the pools whose clients wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgBouncerMemory {
    looks: LastTwo<()>,
    waiting: Vec<Waiting>,
}

/// A pool whose clients wait for long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    pool: PoolId,
    wait: Wait,
    held: Held,
}

impl PgBouncerMemory {
    /// Takes in a look. The same look taken in twice is one look.
    pub fn learn(&mut self, at: Timestamp, look: &PgBouncerLook) {
        if self.looks.to().is_some_and(|latest| latest >= at) {
            return;
        }
        self.looks.note(at, ());
        let waiting = |pool: &Pool| {
            let wait = pool.wait()?;
            let mut held = self.held(&pool.id, wait);
            held.note(true, earlier(at, pool.clients.longest_wait));
            Some(Waiting { pool: pool.id.clone(), wait, held })
        };
        self.waiting = look.pools.iter().filter_map(waiting).collect();
    }

    /// For how many looks in a row, and since when, clients of that pool have waited for this reason.
    #[must_use]
    pub fn held(&self, pool: &PoolId, wait: Wait) -> Held {
        let is_it = |known: &&Waiting| known.pool == *pool && known.wait.is_like(wait);
        self.waiting.iter().find(is_it).map_or_else(Held::default, |known| known.held)
    }
}

/// See the module.
pub(crate) struct PgBouncer;

impl Kind for PgBouncer {
    type Declared = PgBouncerDependency;
    type Facts = PgBouncerFacts;
    type Memory = PgBouncerMemory;
    const BEARS_LOAD: bool = true;

    fn place(declared: &PgBouncerDependency) -> Place<'_> {
        Place::Store(&declared.secret)
    }

    fn workload(_: &PgBouncerFacts) -> Option<&Target> {
        None
    }

    fn roles(_: &PgBouncerDependency) -> &[String] {
        &[]
    }

    fn stands_before(declared: &PgBouncerDependency) -> Option<&str> {
        declared.database.as_deref()
    }

    fn partial(_: &PgBouncerFacts) -> Option<&str> {
        None
    }

    fn unreadable(facts: &PgBouncerFacts) -> &[String] {
        &facts.unreadable
    }

    fn learn(memory: &mut PgBouncerMemory, at: Timestamp, facts: &PgBouncerFacts, _: Learning) {
        memory.learn(at, facts);
    }

    /// A pool is starved in two looks.
    fn compared_since(memory: &PgBouncerMemory, _: &PgBouncerFacts, since: Timestamp, _: Duration) -> bool {
        memory.looks.from().is_some_and(|from| from >= since)
    }

    fn wants_within(_: Option<&PgBouncerMemory>, _: Duration, _: Duration) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::later;

    const SECOND: Duration = Duration::from_secs(1);

    /// A pool of two connections that nobody uses.
    pub(crate) fn pool() -> Pool {
        Pool {
            id: PoolId { name: "orders".into(), user: "orders".into() },
            database: "orders".into(),
            role: "orders".into(),
            clients: PoolClients::default(),
            servers: PoolServers::default(),
            size: 2,
            reserve: 0,
            database_limit: None,
            user_limit: None,
            paused: false,
            disabled: false,
        }
    }

    #[test]
    fn a_wait_has_held_since_its_client_came_and_ends_with_the_first_look_without_it() {
        let mut starved = pool();
        starved.servers.active = 2;
        starved.clients = PoolClients { active: 2, waiting: 1, longest_wait: 3 * SECOND };
        let look = |pool: &Pool| PgBouncerLook {
            version: "1.25.2".into(),
            pools: vec![pool.clone()],
            unreadable: vec![],
        };
        let reason = Wait::Starved(LimitKind::PoolSize);
        let mut memory = PgBouncerMemory::default();
        let start = Timestamp::UNIX_EPOCH;
        for at in [10, 10, 11] {
            memory.learn(later(start, at * SECOND), &look(&starved));
        }
        let held = memory.held(&starved.id, reason);
        assert_eq!((held.looks(), held.since()), (2, Some(later(start, 7 * SECOND))));
        assert_eq!(memory.held(&starved.id, Wait::Paused).looks(), 0);
        let since = |at| PgBouncer::compared_since(&memory, &look(&starved).into(), later(start, at), SECOND);
        assert!(since(10 * SECOND) && !since(11 * SECOND));
        let paused = Pool { paused: true, ..starved.clone() };
        memory.learn(later(start, 12 * SECOND), &look(&paused));
        assert_eq!(memory.held(&starved.id, reason).looks(), 0);
        assert_eq!(memory.held(&starved.id, Wait::Paused).looks(), 1);
        memory.learn(later(start, 13 * SECOND), &look(&pool()));
        assert_eq!(memory.held(&starved.id, Wait::Paused).looks(), 0);
    }
}
