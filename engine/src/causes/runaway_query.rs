//! `RunawayQuery`: one statement takes most of the database's active time.

use std::time::Duration;

use super::case::{Case, Found, Hurts, Store, on_our_clock};
use super::{Along, Cause};
use crate::dependencies::postgres::Postgres;
use crate::model::{Coverage, Evidence, Thresholds, duration::human, ratio};

pub(super) const CAUSE: Cause = Cause {
    name: "RunawayQuery",
    found_when: "a statement has been running for long, waits for no lock, and takes at least half of the summed active time of all client sessions",
    explains: &[("WorkersSaturated", Along::Target)],
    thresholds: Thresholds { older_than: Some(Duration::from_secs(30)), ..Thresholds::NONE },
    diagnose,
    ..Cause::DEFAULT
};

/// From this age on people are told (unless the threshold for acting is lower).
const ADVICE_FROM: Duration = Duration::from_secs(5);

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    let older_than = case.thresholds(&CAUSE).older_than;
    let dominant = |database| dominant(&database, older_than.unwrap_or(ADVICE_FROM));
    case.each::<Postgres>().filter_map(dominant).collect()
}

fn dominant(database: &Store<'_, Postgres>, threshold: Duration) -> Option<Found> {
    let (read_at, facts) = database.facts.ok()?;
    let session = facts.dominant()?;
    let age = facts.age(session.identity.query_start);
    if age < threshold.min(ADVICE_FROM) {
        return None;
    }
    let share = ratio::percent(facts.share(session));
    // Where other roles' sessions cannot be read, their active time is missing from the sum: the share is too large.
    let most = facts.coverage == Coverage::Full
        && database.memory.is_some_and(|memory| memory.dominant_twice(&session.identity));
    Some(Found {
        subject: database.session(session),
        onset: Some(on_our_clock(read_at, facts.clock, session.identity.query_start)),
        hurts: if most { Hurts::Target } else { Hurts::Perhaps },
        advice: age < threshold,
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
    })
}
