//! `RunawayQuery`: one statement takes most of the database's active time.

use std::time::Duration;

use super::{Cause, Database, Detector};
use crate::model::{Coverage, Evidence, Finding, Subject, duration::human, ratio};

pub(super) const CAUSE: Cause = Cause {
    name: "RunawayQuery",
    found_when: "a statement has been running for long, waits for no lock, and takes at least half of the summed active time of all client sessions",
    explains: &["WorkersSaturated"],
    older_than: Some(Duration::from_secs(30)),
    diagnose: Detector::Database(diagnose),
    ..Cause::DEFAULT
};

/// From this age on people are told (unless the threshold for acting is lower).
const ADVICE_FROM: Duration = Duration::from_secs(5);
fn diagnose(database: &Database<'_>) -> Option<Finding> {
    let (read_at, facts) = database.facts.ok()?;
    let session = facts.dominant()?;
    let age = facts.age(session.identity.query_start);
    let threshold = database.policy.older_than(CAUSE.name, CAUSE.older_than?);
    if age < threshold.min(ADVICE_FROM) {
        return None;
    }
    let onset = database.on_our_clock(read_at, facts, session.identity.query_start);
    let share = ratio::percent(facts.share(session));
    // Where other roles' sessions cannot be read, their active time is missing from the sum: the share is too large.
    let most = facts.coverage == Coverage::Full
        && database.memory.is_some_and(|memory| memory.dominant_twice(&session.identity));
    Some(Finding {
        cause: CAUSE.name.into(),
        confidence: database.confidence(Some(onset), most),
        advice: age < threshold,
        subject: Some(Subject::Session {
            dependency: database.name.to_owned(),
            session: session.identity.clone(),
        }),
        onset: Some(onset),
        evidence: vec![
            Evidence::new("running for", human(age)),
            Evidence::new("share of the active time", share.clone()),
            Evidence::new("application", session.application.clone()),
            Evidence::new("statement", session.fingerprint.clone()),
        ],
        sentence: format!(
            "in {} the statement of pid {} (role {}) has been running for {} and takes {share} of the active time",
            database.name,
            session.identity.pid,
            session.role,
            human(age),
        ),
        explained_by: None,
    })
}
