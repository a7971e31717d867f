//! Who blocks whom.
//!
//! `pg_blocking_pids` also names sessions that are merely ahead in the queue, so the number of edges says nothing. What
//! counts is the root (it blocks and waits for nobody) and how many wait for it, directly or through others. A cycle, a
//! deadlock that PostgreSQL is about to break itself, has no root.

use std::collections::{BTreeMap, BTreeSet};

use super::{PostgresLook, Session};

/// The sessions that block others and wait for nobody.
pub(crate) fn roots(facts: &PostgresLook) -> Vec<&Session> {
    let waiters: BTreeSet<i32> = facts.lock_waits.iter().map(|wait| wait.waiter).collect();
    let blockers: BTreeSet<i32> = facts.lock_waits.iter().map(|wait| wait.blocker).collect();
    blockers
        .difference(&waiters)
        .filter_map(|pid| facts.session(*pid))
        .filter(|session| !session.waits_for_lock)
        .collect()
}

/// Who waits for whom, by the one who is waited for: a server may show a thousand waits, in any order.
struct Queue<'a> {
    waiters: BTreeMap<i32, Vec<i32>>,
    sessions: BTreeMap<i32, &'a Session>,
}

impl<'a> Queue<'a> {
    fn of(facts: &'a PostgresLook) -> Self {
        let mut waiters: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for wait in &facts.lock_waits {
            waiters.entry(wait.blocker).or_default().push(wait.waiter);
        }
        // Of several rows with one pid the first counts, as everywhere.
        let sessions = facts.sessions.iter().rev().map(|session| (session.identity.pid, session)).collect();
        Self { waiters, sessions }
    }

    /// The sessions that wait for `root`, directly or through others, by ascending pid.
    fn behind(&self, root: &Session) -> Vec<&'a Session> {
        let mut reached: BTreeSet<i32> = BTreeSet::new();
        let mut next = vec![root.identity.pid];
        while let Some(pid) = next.pop() {
            if reached.insert(pid) {
                next.extend(self.waiters.get(&pid).into_iter().flatten());
            }
        }
        reached.remove(&root.identity.pid);
        reached.iter().filter_map(|pid| self.sessions.get(pid).copied()).collect()
    }
}

/// The root with the most victims; with equally many, the one whose victims wait longest.
pub(crate) fn worst_root(
    facts: &PostgresLook,
    wanted: impl Fn(&Session) -> bool,
) -> Option<(&Session, Vec<&Session>)> {
    let queue = Queue::of(facts);
    roots(facts)
        .into_iter()
        .filter(|root| wanted(root))
        .map(|root| (root, queue.behind(root)))
        .filter(|(_, victims)| !victims.is_empty())
        .min_by_key(|(_, victims)| {
            (std::cmp::Reverse(victims.len()), victims.iter().filter_map(|v| v.wait_start).min())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependencies::postgres::LockWait;
    use crate::guards::testing::Setup;

    /// Sessions with these pids, those in `waiting` waiting for a lock, and these waits.
    fn facts(pids: &[i32], waiting: &[i32], waits: &[(i32, i32)]) -> crate::model::PostgresFacts {
        let setup = Setup::acting();
        let (_, facts) = setup.snapshot.observations.postgres("db").unwrap().unwrap();
        let mut facts = facts.clone();
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
        assert_eq!(pids(&Queue::of(&facts).behind(roots(&facts)[0])), [2, 3, 4]);
    }

    #[test]
    fn a_cycle_a_prepared_transaction_and_a_blocker_that_waits_itself_are_no_roots() {
        assert!(roots(&facts(&[1, 2], &[1, 2], &[(1, 2), (2, 1)])).is_empty());
        assert!(roots(&facts(&[2], &[2], &[(2, 0)])).is_empty());
        // Its own wait lies beyond the bound on waits, but it is seen to wait.
        assert!(roots(&facts(&[1, 2], &[1, 2], &[(2, 1)])).is_empty());
    }

    /// As many waits as a snapshot may have: half of them a chain, each link of which blocks the next one and comes before
    /// it, and as many roots at its end. Going through all waits once more for each link of each root takes seconds, at each look.
    #[test]
    fn many_roots_of_a_long_chain_are_looked_through() {
        let links: Vec<i32> = (1..512).collect();
        let blockers: Vec<i32> = (1001..1512).collect();
        let mut waits: Vec<(i32, i32)> = links.iter().map(|link| (*link, link + 1)).collect();
        waits.extend(blockers.iter().map(|root| (512, *root)));
        let waiting: Vec<i32> = (1..=512).collect();
        let facts = facts(&[waiting.clone(), blockers].concat(), &waiting, &waits);
        let (root, victims) = worst_root(&facts, |_| true).unwrap();
        assert_eq!((root.identity.pid, victims.len()), (1001, 512));
    }

    #[test]
    fn the_worst_root_has_the_most_victims() {
        let facts = facts(&[1, 2, 3, 4, 5], &[3, 4, 5], &[(3, 1), (4, 2), (5, 2)]);
        let (root, victims) = worst_root(&facts, |_| true).unwrap();
        assert_eq!((root.identity.pid, victims.len()), (2, 2));
    }
}
