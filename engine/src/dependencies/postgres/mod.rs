//! PostgreSQL: what one look shows, who blocks whom in it, and what two looks in a row have in common.

mod declared;
mod facts;
pub(crate) mod locks;
mod memory;

pub use declared::PostgresDependency;
pub use facts::{
    Coverage, LockWait, PostgresFacts, PostgresLook, ServerIdentity, Session, SessionIdentity, SessionState,
    Slots,
};
pub use memory::{DatabaseGlance, DatabaseMemory, TransactionIdentity};

use std::time::Duration;

use jiff::Timestamp;

use super::{Kind, Learning, Place};
use crate::base::Target;

/// What a policy declares.
pub type Declared = PostgresDependency;
/// What one look shows.
pub type Facts = PostgresFacts;
/// What is remembered for one policy.
pub type Memory = DatabaseMemory;

/// See the module.
pub(crate) struct Postgres;

impl Kind for Postgres {
    type Declared = PostgresDependency;
    type Facts = PostgresFacts;
    type Memory = DatabaseMemory;
    const BEARS_LOAD: bool = true;

    fn place(declared: &PostgresDependency) -> Place<'_> {
        Place::Store(&declared.secret)
    }

    fn workload(_: &PostgresFacts) -> Option<&Target> {
        None
    }

    fn roles(_: &PostgresDependency) -> &[String] {
        &[]
    }

    fn stands_before(_: &PostgresDependency) -> Option<&str> {
        None
    }

    fn partial(facts: &PostgresFacts) -> Option<&str> {
        match &facts.coverage {
            Coverage::Full => None,
            Coverage::Partial { grant } => Some(grant),
        }
    }

    fn unreadable(_: &PostgresFacts) -> &[String] {
        &[]
    }

    fn learn(memory: &mut DatabaseMemory, at: Timestamp, facts: &PostgresFacts, _: Learning) {
        memory.learn(at, facts);
    }

    /// Roots and dominant statements take two looks.
    fn compared_since(memory: &DatabaseMemory, _: &PostgresFacts, since: Timestamp, _: Duration) -> bool {
        memory.looks.from().is_some_and(|from| from >= since)
    }

    fn wants_within(_: Option<&DatabaseMemory>, _: Duration, _: Duration) -> Option<Duration> {
        None
    }
}
