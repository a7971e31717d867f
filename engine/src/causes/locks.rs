//! Who blocks whom.
//!
//! `pg_blocking_pids` also names sessions that are merely ahead in the queue, so the number of edges says nothing. What
//! counts is the root (it blocks and waits for nobody) and how many wait for it, directly or through others. A cycle, a
//! deadlock that PostgreSQL is about to break itself, has no root.

use std::collections::BTreeSet;

use crate::model::{PostgresFacts, Session};

/// The sessions that block others and wait for nobody.
pub(crate) fn roots(facts: &PostgresFacts) -> Vec<&Session> {
    let waiters: BTreeSet<i32> = facts.lock_waits.iter().map(|wait| wait.waiter).collect();
    let blockers: BTreeSet<i32> = facts.lock_waits.iter().map(|wait| wait.blocker).collect();
    blockers
        .difference(&waiters)
        .filter_map(|pid| facts.session(*pid))
        .filter(|session| !session.waits_for_lock)
        .collect()
}

/// The sessions that wait for `root`, directly or through others, by ascending pid.
pub(crate) fn victims<'a>(facts: &'a PostgresFacts, root: &Session) -> Vec<&'a Session> {
    let mut reached: BTreeSet<i32> = BTreeSet::from([root.identity.pid]);
    loop {
        let before = reached.len();
        for wait in &facts.lock_waits {
            if reached.contains(&wait.blocker) {
                reached.insert(wait.waiter);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    reached.remove(&root.identity.pid);
    reached.iter().filter_map(|pid| facts.session(*pid)).collect()
}

/// The root with the most victims; with equally many, the one whose victims wait longest.
pub(crate) fn worst_root(
    facts: &PostgresFacts,
    wanted: impl Fn(&Session) -> bool,
) -> Option<(&Session, Vec<&Session>)> {
    roots(facts)
        .into_iter()
        .filter(|root| wanted(root))
        .map(|root| (root, victims(facts, root)))
        .filter(|(_, victims)| !victims.is_empty())
        .min_by_key(|(_, victims)| {
            (std::cmp::Reverse(victims.len()), victims.iter().filter_map(|v| v.wait_start).min())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::Setup;
    use crate::model::{LockWait, Observed};

    /// Sessions with these pids, those in `waiting` waiting for a lock, and these waits.
    fn facts(pids: &[i32], waiting: &[i32], waits: &[(i32, i32)]) -> PostgresFacts {
        let setup = Setup::acting();
        let Some(Observed::Known { value, .. }) = setup.snapshot.databases.get("db") else {
            panic!("no facts")
        };
        let mut facts = value.clone();
        let session = facts.sessions[0].clone();
        facts.sessions = pids
            .iter()
            .map(|pid| {
                let mut session = session.clone();
                session.identity.pid = *pid;
                session.waits_for_lock = waiting.contains(pid);
                session
            })
            .collect();
        facts.lock_waits =
            waits.iter().map(|(waiter, blocker)| LockWait { waiter: *waiter, blocker: *blocker }).collect();
        facts
    }

    fn pids(sessions: &[&Session]) -> Vec<i32> {
        sessions.iter().map(|session| session.identity.pid).collect()
    }

    #[test]
    fn the_root_of_a_chain_is_the_one_that_waits_for_nobody_and_all_behind_it_are_its_victims() {
        let facts = facts(&[1, 2, 3, 4], &[2, 3, 4], &[(2, 1), (3, 2), (4, 3), (4, 2)]);
        assert_eq!(pids(&roots(&facts)), [1]);
        assert_eq!(pids(&victims(&facts, roots(&facts)[0])), [2, 3, 4]);
    }

    #[test]
    fn a_cycle_a_prepared_transaction_and_a_blocker_that_waits_itself_are_no_roots() {
        assert!(roots(&facts(&[1, 2], &[1, 2], &[(1, 2), (2, 1)])).is_empty());
        assert!(roots(&facts(&[2], &[2], &[(2, 0)])).is_empty());
        // Its own wait lies beyond the bound on waits, but it is seen to wait.
        assert!(roots(&facts(&[1, 2], &[1, 2], &[(2, 1)])).is_empty());
    }

    #[test]
    fn the_worst_root_has_the_most_victims() {
        let facts = facts(&[1, 2, 3, 4, 5], &[3, 4, 5], &[(3, 1), (4, 2), (5, 2)]);
        let (root, victims) = worst_root(&facts, |_| true).unwrap();
        assert_eq!((root.identity.pid, victims.len()), (2, 2));
    }
}
