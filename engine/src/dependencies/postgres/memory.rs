//! What is remembered of a database: the last two looks, as far as they are compared, and since when one role is busiest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PostgresLook, Session, SessionIdentity, locks};
use crate::base::Shared;
use crate::stats::{Held, LastTwo};

/// What tells one transaction of one session from the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionIdentity {
    /// Process id and start of the session.
    pub session: (i32, Timestamp),
    /// When the transaction began.
    pub xact_start: Option<Timestamp>,
}

impl TransactionIdentity {
    /// That of a session as it is now.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self { session: session.identity.session(), xact_start: session.xact_start }
    }
}

/// What one look at a database showed, as far as the next look is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseGlance {
    /// The transactions that block others and wait for nobody. Not the statements: a blocker may run many. Not the sessions
    /// either: locks are held as long as the transaction, and one that takes the same hot lock again and again is no blocker.
    pub roots: Vec<TransactionIdentity>,
    /// The session that took most of the active time, if one did.
    pub dominant: Option<SessionIdentity>,
}

impl DatabaseGlance {
    /// That of a look.
    #[must_use]
    pub fn of(look: &PostgresLook) -> Self {
        Self {
            roots: locks::roots(look).into_iter().map(TransactionIdentity::of).collect(),
            dominant: look.dominant().map(|session| session.identity.clone()),
        }
    }
}

/// A role that had more than half of the active sessions in the last looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Busiest {
    role: String,
    held: Held,
}

/// The last looks at a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseMemory {
    /// The last two.
    pub looks: LastTwo<Shared<DatabaseGlance>>,
    #[serde(default)]
    busiest: Option<Busiest>,
}

impl DatabaseMemory {
    /// Takes in a look. The same look taken in twice is one look.
    pub fn learn(&mut self, at: Timestamp, look: &PostgresLook) {
        if self.looks.to().is_none_or(|latest| latest < at) {
            self.looks.note(at, DatabaseGlance::of(look).into());
            self.learn_busiest(at, look.busiest());
        }
    }

    fn learn_busiest(&mut self, at: Timestamp, role: Option<&str>) {
        let before = self.busiest.take().filter(|before| Some(before.role.as_str()) == role);
        self.busiest = role.map(|role| {
            let mut busiest =
                before.unwrap_or_else(|| Busiest { role: role.to_owned(), held: Held::default() });
            busiest.held.note(true, at);
            busiest
        });
    }

    /// Since when, and in how many looks in a row, one of these roles has had more than half of the active sessions; none where
    /// it did not in the last look.
    #[must_use]
    pub fn busiest_of(&self, roles: &[String]) -> Option<&Held> {
        self.busiest.as_ref().filter(|busiest| roles.contains(&busiest.role)).map(|busiest| &busiest.held)
    }

    /// Whether the session was a root in both looks, in the same transaction.
    #[must_use]
    pub fn root_twice(&self, session: &Session) -> bool {
        let transaction = TransactionIdentity::of(session);
        self.looks.both(|glance| glance.roots.contains(&transaction))
    }

    /// Whether the session took most of the active time in both looks.
    #[must_use]
    pub fn dominant_twice(&self, session: &SessionIdentity) -> bool {
        self.looks.both(|glance| glance.dominant.as_ref() == Some(session))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::later;
    use crate::dependencies::postgres::LockWait;
    use crate::guards::testing::Setup;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_root_twice_is_the_same_transaction_twice() {
        let setup = Setup::acting();
        let (_, facts) = setup.snapshot.observations.postgres("db").unwrap().unwrap();
        let look = |session: &Session| {
            let mut look = facts.clone();
            look.sessions = vec![session.clone()];
            look.lock_waits = vec![LockWait { waiter: -1, blocker: session.identity.pid }];
            look
        };
        let mut session = facts.sessions[0].clone();
        let mut memory = DatabaseMemory::default();
        session.xact_start = Some(setup.now);
        memory.learn(setup.now, &look(&session));
        memory.learn(setup.now, &look(&session));
        assert!(!memory.root_twice(&session), "the same look twice");
        memory.learn(later(setup.now, SECOND), &look(&session));
        session.identity.query_start = later(setup.now, SECOND);
        assert!(memory.root_twice(&session), "another statement of the same transaction");
        session.xact_start = Some(later(setup.now, SECOND));
        memory.learn(later(setup.now, 2 * SECOND), &look(&session));
        assert!(!memory.root_twice(&session), "a hot session, not a blocker");
    }

    #[test]
    fn a_role_is_busiest_as_long_as_it_has_more_than_half_of_at_least_four() {
        let setup = Setup::acting();
        let (_, facts) = setup.snapshot.observations.postgres("db").unwrap().unwrap();
        let roles = ["celery".to_owned()];
        let mut memory = DatabaseMemory::default();
        let mut looks = 0;
        let mut seen = |celery: u32, orders: u32| {
            let mut look = facts.clone();
            look.active = celery + orders;
            look.active_by_role = [("celery".into(), celery), ("orders".into(), orders)].into();
            looks += 1;
            memory.learn(later(setup.now, looks * SECOND), &look);
            memory.busiest_of(&roles).map(|held| (held.looks(), held.since()))
        };
        assert_eq!(seen(3, 0), None, "three are not many");
        assert_eq!(seen(2, 2), None, "half is not more than half");
        let since = Some(later(setup.now, 3 * SECOND));
        assert_eq!(seen(3, 1), Some((1, since)));
        assert_eq!(seen(30, 10), Some((2, since)));
        assert_eq!(seen(3, 4), None);
        assert_eq!(seen(3, 1), Some((1, Some(later(setup.now, 6 * SECOND)))));
        assert_eq!(memory.busiest_of(&["orders".to_owned()]), None);
    }
}
