//! `IdleInTransaction`: a client opened a transaction, took locks or holds back the oldest snapshot, and went away.
//!
//! Its last statement is innocent, and cancelling does nothing: no statement runs.

use std::time::Duration;

use super::{Cause, Database, Detector};
use crate::dependencies::postgres::locks;
use crate::model::{Evidence, Finding, PostgresFacts, Session, SessionState, Subject, duration::human};

pub(super) const CAUSE: Cause = Cause {
    name: "IdleInTransaction",
    found_when: "a session that is idle in a transaction blocks others and waits for nobody itself, in two snapshots; or it has held the oldest snapshot (xmin) for long",
    explains: &["ConnectionsExhausted", "WorkersSaturated"],
    older_than: Some(Duration::from_secs(60)),
    diagnose: Detector::Database(diagnose),
    ..Cause::DEFAULT
};

fn diagnose(database: &Database<'_>) -> Option<Finding> {
    let (_, facts) = database.facts.ok()?;
    blocker(database, facts).or_else(|| oldest_snapshot(database, facts))
}

fn blocker(database: &Database<'_>, facts: &PostgresFacts) -> Option<Finding> {
    let (read_at, _) = database.facts.ok()?;
    let memory = database.memory?;
    let (root, victims) = locks::worst_root(facts, |root| {
        root.state == SessionState::IdleInTransaction && memory.root_twice(root)
    })?;
    let users = facts.users(&database.declared.users);
    let ours = victims.iter().filter(|victim| users.contains(&victim.role)).count();
    let since = victims.iter().filter_map(|victim| victim.wait_start).min();
    let onset = since.map(|since| database.on_our_clock(read_at, facts, since));
    let age = facts.age(root.state_change);
    let idle = human(age);
    let evidence = vec![
        Evidence::new("idle for", idle.clone()),
        Evidence::new("sessions waiting", victims.len().to_string()),
        Evidence::new("of them the target's own", ours.to_string()),
        Evidence::new("it has written", if root.wrote { "yes" } else { "no" }),
    ];
    let sentence = format!(
        "in {} pid {} (role {}) has been idle in a transaction for {idle} and blocks {} sessions, {ours} of them the \
         target's own; there is no statement that could be cancelled",
        database.name,
        root.identity.pid,
        root.role,
        victims.len(),
    );
    // Who sets the threshold means it for this too; without one, `minIdle` of the action is what counts.
    let old_enough = age >= database.policy.older_than(CAUSE.name, Duration::ZERO);
    let found = finding(database, root, onset, Some(ours), evidence, sentence);
    Some(Finding { advice: found.advice || !old_enough, ..found })
}

fn oldest_snapshot(database: &Database<'_>, facts: &PostgresFacts) -> Option<Finding> {
    let (read_at, _) = database.facts.ok()?;
    let holder =
        facts.sessions.iter().filter(|session| session.xmin_age.is_some()).max_by_key(|s| s.xmin_age)?;
    let threshold = database.policy.older_than(CAUSE.name, CAUSE.older_than?);
    let idle = facts.age(holder.state_change);
    if holder.state != SessionState::IdleInTransaction || idle < threshold {
        return None;
    }
    let onset = holder.xact_start.map(|start| database.on_our_clock(read_at, facts, start));
    let age = holder.xmin_age.unwrap_or_default();
    let evidence = vec![
        Evidence::new("idle for", human(idle)),
        Evidence::new("age of its snapshot in transactions", age.to_string()),
    ];
    let sentence = format!(
        "in {} pid {} (role {}) has been idle in a transaction for {} and holds the oldest snapshot, {age} transactions \
         old: vacuum cannot remove what was deleted since",
        database.name,
        holder.identity.pid,
        holder.role,
        human(idle),
    );
    Some(finding(database, holder, onset, None, evidence, sentence))
}

fn finding(
    database: &Database<'_>,
    session: &Session,
    onset: Option<jiff::Timestamp>,
    victims: Option<usize>,
    evidence: Vec<Evidence>,
    sentence: String,
) -> Finding {
    let blocks = victims.is_some();
    Finding {
        cause: CAUSE.name.into(),
        confidence: database.confidence(onset, victims.is_some_and(|ours| ours > 0)),
        // Who only holds a snapshot back blocks nobody: what hurts is what vacuum could not remove, and people are told.
        advice: !blocks,
        subject: Some(Subject::Session {
            dependency: database.name.to_owned(),
            session: session.identity.clone(),
        }),
        onset,
        evidence,
        sentence,
        explained_by: None,
    }
}
