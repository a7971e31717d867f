//! `IdleInTransaction`: a client opened a transaction, took locks or holds back the oldest snapshot, and went away.
//!
//! Its last statement is innocent, and cancelling does nothing: no statement runs.

use std::time::Duration;

use super::case::{Case, Found, Hurts, Store, on_our_clock};
use super::{Along, Cause};
use crate::dependencies::postgres::Postgres;
use crate::dependencies::postgres::locks;
use crate::model::{Evidence, PostgresFacts, SessionState, Thresholds, duration::human};

pub(super) const CAUSE: Cause = Cause {
    name: "IdleInTransaction",
    found_when: "a session that is idle in a transaction blocks others and waits for nobody itself, in two snapshots; or it has held the oldest snapshot (xmin) for long",
    explains: &[("ConnectionsExhausted", Along::Same), ("WorkersSaturated", Along::Target)],
    thresholds: Thresholds { older_than: Some(Duration::from_secs(60)), ..Thresholds::NONE },
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    let idle = |database: Store<'_, Postgres>| {
        let (read_at, facts) = database.facts.ok()?;
        let blocker = blocker(case, &database, read_at, facts);
        blocker.or_else(|| oldest_snapshot(case, &database, read_at, facts))
    };
    case.each::<Postgres>().filter_map(idle).collect()
}

fn blocker(
    case: &Case<'_>,
    database: &Store<'_, Postgres>,
    read_at: jiff::Timestamp,
    facts: &PostgresFacts,
) -> Option<Found> {
    let memory = database.memory?;
    let (root, victims) = locks::worst_root(facts, |root| {
        root.state == SessionState::IdleInTransaction && memory.root_twice(root)
    })?;
    let users = facts.users(&database.declared.client_roles);
    let ours = victims.iter().filter(|victim| users.contains(&victim.role)).count();
    let since = victims.iter().filter_map(|victim| victim.wait_start).min();
    let age = facts.age(root.state_change);
    let idle = human(age);
    // Who sets the threshold means it for this too; without one, `minIdle` of the action is what counts.
    let set = case.policy().thresholds.get(CAUSE.name).and_then(|set| set.older_than);
    Some(Found {
        subject: database.session(root),
        onset: since.map(|since| on_our_clock(read_at, facts.clock, since)),
        hurts: if ours > 0 { Hurts::Target } else { Hurts::Perhaps },
        advice: set.is_some_and(|set| age < set),
        evidence: vec![
            Evidence::new("idle for", idle.clone()),
            Evidence::new("sessions waiting", victims.len().to_string()),
            Evidence::new("of them the target's own", ours.to_string()),
            Evidence::new("it has written", if root.wrote { "yes" } else { "no" }),
        ],
        sentence: format!(
            "in {} pid {} (role {}) has been idle in a transaction for {idle} and blocks {} sessions, {ours} of them the \
             target's own; there is no statement that could be cancelled",
            database.name,
            root.identity.pid,
            root.role,
            victims.len(),
        ),
    })
}

fn oldest_snapshot(
    case: &Case<'_>,
    database: &Store<'_, Postgres>,
    read_at: jiff::Timestamp,
    facts: &PostgresFacts,
) -> Option<Found> {
    let holder =
        facts.sessions.iter().filter(|session| session.xmin_age.is_some()).max_by_key(|s| s.xmin_age)?;
    let idle = facts.age(holder.state_change);
    if holder.state != SessionState::IdleInTransaction || idle < case.thresholds(&CAUSE).older_than? {
        return None;
    }
    let age = holder.xmin_age.unwrap_or_default();
    Some(Found {
        subject: database.session(holder),
        onset: holder.xact_start.map(|start| on_our_clock(read_at, facts.clock, start)),
        hurts: Hurts::Perhaps,
        // Who only holds a snapshot back blocks nobody: what hurts is what vacuum could not remove, and people are told.
        advice: true,
        evidence: vec![
            Evidence::new("idle for", human(idle)),
            Evidence::new("age of its snapshot in transactions", age.to_string()),
        ],
        sentence: format!(
            "in {} pid {} (role {}) has been idle in a transaction for {} and holds the oldest snapshot, {age} transactions \
             old: vacuum cannot remove what was deleted since",
            database.name,
            holder.identity.pid,
            holder.role,
            human(idle),
        ),
    })
}
