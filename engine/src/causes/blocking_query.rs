//! `BlockingQuery`: a running statement holds a lock that others wait for.

use super::case::{Case, Found, Hurts, Store, on_our_clock};
use super::{Along, Cause};
use crate::dependencies::postgres::Postgres;
use crate::dependencies::postgres::locks;
use crate::model::{Evidence, SessionState, duration::human};

pub(super) const CAUSE: Cause = Cause {
    name: "BlockingQuery",
    found_when: "a session with a running statement blocks others, waits for nobody itself, and was such a root in two snapshots",
    explains: &[("ConnectionsExhausted", Along::Same), ("WorkersSaturated", Along::Target)],
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    case.each::<Postgres>().filter_map(|database| blocker(&database)).collect()
}

fn blocker(database: &Store<'_, Postgres>) -> Option<Found> {
    let (read_at, facts) = database.facts.ok()?;
    let memory = database.memory?;
    let (root, victims) =
        locks::worst_root(facts, |root| root.state == SessionState::Active && memory.root_twice(root))?;
    let users = facts.users(&database.declared.client_roles);
    let ours = victims.iter().filter(|victim| users.contains(&victim.role)).count();
    let since = victims.iter().filter_map(|victim| victim.wait_start).min();
    let waited = since.map_or("an unknown time".to_owned(), |since| human(facts.age(since)));
    let age = root.xact_start.map_or("unknown".to_owned(), |start| human(facts.age(start)));
    let hurts_us = ours > 0 || memory.dominant_twice(&root.identity);
    Some(Found {
        subject: database.session(root),
        onset: since.map(|since| on_our_clock(read_at, facts.clock, since)),
        hurts: if hurts_us { Hurts::Target } else { Hurts::Perhaps },
        advice: false,
        evidence: vec![
            Evidence::new("sessions waiting", victims.len().to_string()),
            Evidence::new("of them the target's own", ours.to_string()),
            Evidence::new("longest wait", waited.clone()),
            Evidence::new("age of the blocking transaction", age.clone()),
            Evidence::new("it has written", if root.wrote { "yes" } else { "no" }),
            Evidence::new("statement", root.fingerprint.clone()),
        ],
        sentence: format!(
            "in {} the running statement of pid {} (role {}, transaction {age} old) blocks {} sessions, \
             {ours} of them the target's own, for up to {waited}",
            database.name,
            root.identity.pid,
            root.role,
            victims.len(),
        ),
    })
}
