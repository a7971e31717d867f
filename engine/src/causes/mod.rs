//! Why it is slow. One file a cause, one line of [`CAUSES`] each.
//!
//! A detector looks at one database and says what it found; it never looks at what other detectors found. Which finding
//! is the root and which the symptom is decided here, by the `explains` of the table.

mod blocking_query;
mod cache_evicting;
pub(crate) mod cold_cache;
mod connections_exhausted;
mod idle_in_transaction;
mod redis_clients_exhausted;
pub(crate) mod runaway_query;
mod slow_redis;
pub(crate) mod workers_saturated;

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    CacheMemory, CacheTrend, Confidence, Coverage, DatabaseMemory, Finding, NoData, Observed, Policy,
    PostgresDependency, PostgresFacts, RedisDependency, RedisFacts, Snapshot, State, Subject, earlier,
    elapsed,
};

/// The name of the finding that there is none.
pub const NO_CAUSE_FOUND: &str = "NoCauseFound";

/// A line of the table.
#[derive(Debug)]
pub struct Cause {
    /// Its name, as policies and people write it.
    pub name: &'static str,
    /// When it is found, in one sentence for the documentation.
    pub found_when: &'static str,
    /// Causes that are mere symptoms of this one, when both are found in the same database, or the symptom at the target.
    pub explains: &'static [&'static str],
    /// The age that `diagnosis.thresholds[].olderThan` replaces, where the cause has one.
    pub older_than: Option<Duration>,
    /// The hit ratio (0 to 1) that `diagnosis.thresholds[].hitRatioBelow` replaces, where the cause has one.
    pub hit_ratio_below: Option<f64>,
    /// Looks.
    pub(crate) diagnose: Detector,
}

impl Cause {
    /// A cause that has no thresholds and explains nothing: each cause says only where it differs.
    const DEFAULT: Self = Self {
        name: "",
        found_when: "",
        explains: &[],
        older_than: None,
        hit_ratio_below: None,
        diagnose: Detector::Target(|_| None),
    };
}

/// What a detector looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Detector {
    /// One database.
    Database(fn(&Database<'_>) -> Option<Finding>),
    /// One Redis server.
    Cache(fn(&Cache<'_>) -> Option<Finding>),
    /// The target as a whole, and what was found in the databases.
    Target(fn(&Whole<'_>) -> Option<Finding>),
}

/// All causes, roots before symptoms. The order is the order in which people read them.
pub const CAUSES: &[Cause] = &[
    blocking_query::CAUSE,
    idle_in_transaction::CAUSE,
    runaway_query::CAUSE,
    connections_exhausted::CAUSE,
    cold_cache::CAUSE,
    cache_evicting::CAUSE,
    slow_redis::CAUSE,
    redis_clients_exhausted::CAUSE,
    workers_saturated::CAUSE,
];

/// The cause of that name.
#[must_use]
pub fn cause(name: &str) -> Option<&'static Cause> {
    CAUSES.iter().find(|cause| cause.name == name)
}

/// One database, as a detector sees it.
pub(crate) struct Database<'a> {
    /// The dependency's name in the policy.
    pub(crate) name: &'a str,
    /// What the policy says about it.
    pub(crate) declared: &'a PostgresDependency,
    /// The policy, for its thresholds and its window.
    pub(crate) policy: &'a Policy,
    /// What was read, and when.
    pub(crate) facts: Result<(Timestamp, &'a PostgresFacts), &'a NoData>,
    /// The last two looks.
    pub(crate) memory: Option<&'a DatabaseMemory>,
    /// The first Breached reading.
    pub(crate) first_breached_at: Timestamp,
}

/// One Redis server, as a detector sees it.
pub(crate) struct Cache<'a> {
    /// The dependency's name in the policy.
    pub(crate) name: &'a str,
    /// What the policy says about it.
    pub(crate) declared: &'a RedisDependency,
    /// The policy, for its thresholds and its window.
    pub(crate) policy: &'a Policy,
    /// What was read, and when.
    pub(crate) facts: Result<(Timestamp, &'a RedisFacts), &'a NoData>,
    /// What is remembered of it.
    pub(crate) memory: Option<&'a CacheMemory>,
    /// How it does.
    pub(crate) trend: Option<CacheTrend>,
    /// The first Breached reading.
    pub(crate) first_breached_at: Timestamp,
}

impl Cache<'_> {
    /// What its findings point at.
    fn subject(&self) -> Subject {
        Subject::Dependency { dependency: self.name.to_owned() }
    }

    /// Likely where it began no earlier than the breach can have: the metrics and the data store agree in time. Never
    /// Certain: whose lookups fail cannot be seen.
    fn confidence(&self, onset: Option<Timestamp>) -> Confidence {
        let began = onset.is_some_and(|onset| onset >= earliest(self.policy, self.first_breached_at));
        if began { Confidence::Likely } else { Confidence::Possible }
    }
}

/// What was there, harmless, before this cannot have caused a breach that was first seen then: the reading judged a window,
/// and clocks and scrapes differ.
fn earliest(policy: &Policy, first_breached_at: Timestamp) -> Timestamp {
    earlier(first_breached_at, policy.evaluation.window.saturating_add(SLACK))
}

/// Everything, as a detector of the target sees it.
pub(crate) struct Whole<'a> {
    /// What was read.
    pub(crate) snapshot: &'a Snapshot,
    /// What is remembered.
    pub(crate) state: &'a State,
    /// What was found in the databases.
    pub(crate) findings: &'a [Finding],
}

/// A lag between metrics and databases that is normal: scrape, evaluation and clocks.
const SLACK: Duration = Duration::from_secs(60);

impl Database<'_> {
    /// An instant of the server's clock on the operator's: as long before the reading as the server says.
    pub(crate) fn on_our_clock(
        &self,
        read_at: Timestamp,
        facts: &PostgresFacts,
        then: Timestamp,
    ) -> Timestamp {
        earlier(read_at, elapsed(facts.clock, then))
    }

    /// How sure it is that something that began at `onset` causes this breach.
    ///
    /// It cannot have caused it if it was there, harmless, well before: the earliest instant that counts is the first
    /// Breached reading less the window that it judged less [`SLACK`]. `hurts` is the second half of Certain: the
    /// target's own sessions are its victims, or it takes most of the active time in two snapshots.
    pub(crate) fn confidence(&self, onset: Option<Timestamp>, hurts: bool) -> Confidence {
        let earliest = earliest(self.policy, self.first_breached_at);
        match onset {
            Some(onset) if onset >= earliest && hurts => Confidence::Certain,
            Some(onset) if onset >= earliest => Confidence::Likely,
            _ => Confidence::Possible,
        }
    }
}

/// Everything that is found in a breach that began at `first_breached_at`, roots first, symptoms marked.
pub(crate) fn diagnose(snapshot: &Snapshot, state: &State, first_breached_at: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, declared) in snapshot.policy.databases() {
        let facts = match snapshot.databases.get(name) {
            Some(Observed::Known { at, value }) => Ok((*at, value)),
            Some(Observed::Missing(no_data)) => Err(no_data),
            None => continue,
        };
        let memory = state.databases.get(name);
        let database =
            Database { name, declared, policy: &snapshot.policy, facts, memory, first_breached_at };
        let found = CAUSES.iter().filter_map(|cause| match cause.diagnose {
            Detector::Database(diagnose) => diagnose(&database),
            Detector::Cache(_) | Detector::Target(_) => None,
        });
        findings.extend(explain(found.collect()));
    }
    for (name, declared) in snapshot.policy.caches() {
        let facts = match snapshot.caches.get(name) {
            Some(Observed::Known { at, value }) => Ok((*at, value)),
            Some(Observed::Missing(no_data)) => Err(no_data),
            None => continue,
        };
        let memory = state.caches.get(name);
        let trend = memory.and_then(CacheMemory::trend);
        let policy = &snapshot.policy;
        let cache = Cache { name, declared, policy, facts, memory, trend, first_breached_at };
        let found = CAUSES.iter().filter_map(|cause| match cause.diagnose {
            Detector::Cache(diagnose) => diagnose(&cache),
            Detector::Database(_) | Detector::Target(_) => None,
        });
        findings.extend(explain(found.collect()));
    }
    let whole = Whole { snapshot, state, findings: &findings };
    let found = CAUSES.iter().filter_map(|cause| match cause.diagnose {
        Detector::Database(_) | Detector::Cache(_) => None,
        Detector::Target(diagnose) => diagnose(&whole),
    });
    let found: Vec<Finding> = found.collect();
    findings.extend(found.into_iter().map(|symptom| explained(symptom, &findings)).collect::<Vec<_>>());
    findings
}

/// Marks what is found at the target and is a mere symptom of what was found in a database.
fn explained(mut symptom: Finding, roots: &[Finding]) -> Finding {
    let root = roots
        .iter()
        .filter(|root| root.confidence >= Confidence::Likely && root.explained_by.is_none())
        .filter_map(|root| cause(&root.cause))
        .find(|root| root.explains.contains(&&*symptom.cause));
    symptom.explained_by = root.map(|root| root.name.into());
    symptom
}

/// Why not every declared database is known to be well, the first reason of them; none where all are: read in full, and
/// no [trouble found](trouble_in_databases) in them.
pub(crate) fn database_trouble(snapshot: &Snapshot, findings: &[Finding], cured: &str) -> Option<String> {
    for (name, _) in snapshot.policy.databases() {
        match snapshot.databases.get(name) {
            Some(Observed::Known { value, .. }) => {
                if let Coverage::Partial { grant } = &value.coverage {
                    return Some(format!("{name} can be read in part only; run: {grant}"));
                }
            }
            Some(Observed::Missing(no_data)) => return Some(format!("{name} cannot be read: {no_data}")),
            None => return Some(format!("{name} has not been read")),
        }
    }
    let trouble = trouble_in_databases(findings, cured).next();
    trouble.map(|finding| format!("{} ({}): {}", finding.cause, finding.confidence, finding.sentence))
}

/// What was found in databases at Likely or above, but for what `cured` explains. Hardly a free connection is trouble
/// however sure it is that it causes the breach.
pub(crate) fn trouble_in_databases<'a>(
    findings: &'a [Finding],
    cured: &'a str,
) -> impl Iterator<Item = &'a Finding> + use<'a> {
    let explains = cause(cured).map_or(&[] as &[&str], |cause| cause.explains);
    findings.iter().filter(move |finding| {
        let in_database = finding.subject.as_ref().is_some_and(|subject| subject.dependency().is_some());
        let sure = finding.confidence >= Confidence::Likely || finding.cause == connections_exhausted::NAME;
        in_database && sure && finding.cause != cured && !explains.contains(&&*finding.cause)
    })
}

/// Marks what another finding of the same database explains. A cause explains only when it is at least Likely, and only
/// if nothing explains it in turn.
fn explain(mut findings: Vec<Finding>) -> Vec<Finding> {
    let explainers: Vec<&Cause> = findings
        .iter()
        .filter(|finding| finding.confidence >= Confidence::Likely)
        .filter_map(|finding| cause(&finding.cause))
        .collect();
    for finding in &mut findings {
        let root = explainers.iter().find(|root| {
            root.explains.contains(&&*finding.cause)
                && !explainers.iter().any(|other| other.explains.contains(&root.name))
        });
        finding.explained_by = root.map(|root| root.name.into());
    }
    findings
}

/// Whether every declared database could be read in full, twice, since the breach began: only then does "nothing found"
/// mean that there is nothing to be found.
pub(crate) fn all_readable(snapshot: &Snapshot, state: &State, first_breached_at: Timestamp) -> bool {
    snapshot.policy.databases().all(|(name, _)| {
        let full = snapshot
            .databases
            .get(name)
            .and_then(Observed::known)
            .is_some_and(|facts| facts.coverage == Coverage::Full);
        let from = state.databases.get(name).and_then(|memory| memory.looks.from());
        let twice = from.is_some_and(|from| from >= first_breached_at);
        full && twice
    }) && snapshot.policy.caches().all(|(name, _)| {
        let readable = snapshot.caches.get(name).and_then(Observed::known).is_some();
        let compared = state.caches.get(name).and_then(CacheMemory::trend);
        readable && compared.is_some_and(|trend| trend.to >= first_breached_at)
    })
}

#[cfg(test)]
mod cache_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(cause: &'static str, confidence: Confidence) -> Finding {
        Finding {
            cause: cause.into(),
            confidence,
            advice: false,
            subject: None,
            onset: None,
            evidence: vec![],
            sentence: String::new(),
            explained_by: None,
        }
    }

    #[test]
    fn a_root_that_is_likely_explains_its_symptoms_and_no_rung_answers_them() {
        let explained = explain(vec![
            finding("BlockingQuery", Confidence::Likely),
            finding("ConnectionsExhausted", Confidence::Possible),
        ]);
        assert!(explained[0].is_actionable_root());
        assert_eq!(explained[1].explained_by.as_deref(), Some("BlockingQuery"));
        assert!(!explained[1].is_actionable_root());
        let unsure = explain(vec![
            finding("BlockingQuery", Confidence::Possible),
            finding("ConnectionsExhausted", Confidence::Possible),
        ]);
        assert!(unsure[1].is_actionable_root());
    }

    #[test]
    fn advice_is_answered_by_no_rung() {
        let mut advice = finding("RunawayQuery", Confidence::Certain);
        advice.advice = true;
        assert!(!advice.is_actionable_root());
    }

    #[test]
    fn every_name_in_the_table_is_known_and_nobody_explains_himself() {
        for cause in CAUSES {
            assert!(
                cause
                    .explains
                    .iter()
                    .all(|name| super::cause(name).is_some_and(|other| other.name != cause.name))
            );
        }
    }
}
