//! Why it is slow. One file a cause, one line of [`CAUSES`] each.
//!
//! A detector looks at a [`Case`] and says what it found. How sure that is, whether it is advice, and what explains it is
//! decided in here, from the table.

mod background_load;
mod blocking_query;
mod cache_evicting;
mod case;
pub(crate) mod cold_cache;
mod connections_exhausted;
mod explain;
mod idle_in_transaction;
mod pool_starved;
mod redis_clients_exhausted;
mod runaway_query;
mod slow_redis;
mod trouble;
pub(crate) mod workers_saturated;

pub use trouble::DatabaseTrouble;

use jiff::Timestamp;

use self::case::{Case, Found};
use crate::model::{
    Confidence, Coverage, Dependency, DependencyKind, Finding, Memory, Observed, Policy, Snapshot, Thresholds,
};

/// A line of the table.
#[derive(Debug)]
pub struct Cause {
    /// Its name, as policies and people write it.
    pub name: &'static str,
    /// When it is found, in one sentence for the documentation.
    pub found_when: &'static str,
    /// Causes that are mere symptoms of this one, and how the places of both must be linked.
    pub explains: &'static [(&'static str, Along)],
    /// The same seen from the symptom: causes of which this one is a mere symptom. A relation is in one row of the table, in the
    /// row of the cause that was added last.
    pub explained_by: &'static [(&'static str, Along)],
    /// The defaults of what `diagnosis.thresholds[]` may set for it. A dimension without a default is not used.
    pub thresholds: Thresholds,
    /// The operator never acts on it: it escalates to on-call.
    pub advice: bool,
    /// It stops what adds load however sure it is that it causes the breach.
    pub blocks_load: bool,
    /// A setting without which it is not looked for.
    pub needs: Option<Need>,
    /// Looks.
    pub(crate) diagnose: fn(&Case<'_>) -> Vec<Found>,
}

impl Cause {
    /// A cause that has no thresholds and explains nothing: each cause says only where it differs.
    const DEFAULT: Self = Self {
        name: "",
        found_when: "",
        explains: &[],
        explained_by: &[],
        thresholds: Thresholds::NONE,
        advice: false,
        blocks_load: false,
        needs: None,
        diagnose: |_| Vec::new(),
    };
}

impl Cause {
    /// The names of all symptoms of this cause, whichever row of the table says so.
    pub fn symptoms(&self) -> impl Iterator<Item = &'static str> {
        CAUSES.iter().map(|cause| cause.name).filter(|name| links(self.name, name).next().is_some())
    }
}

/// How the places of a root and of its symptom must be linked, by the rows of both; nothing where one does not explain the other.
fn links(root: &str, symptom: &str) -> impl Iterator<Item = Along> {
    let row = |name: &str, relations: fn(&Cause) -> &'static [(&'static str, Along)]| {
        cause(name).map_or(&[] as &[_], relations)
    };
    let below = row(root, |cause| cause.explains).iter().filter(move |(name, _)| *name == symptom);
    let above = row(symptom, |cause| cause.explained_by).iter().filter(move |(name, _)| *name == root);
    below.chain(above).map(|(_, along)| *along)
}

/// How the place of a symptom is linked with the place of its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// Both are in the same data store, or both at the target.
    Same,
    /// The symptom is in a pool that stands in front of the root's database.
    InFront,
    /// The symptom is at the target, the root in one of its data stores.
    Target,
}

/// A setting of a policy without which a cause is not looked for.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Its path.
    pub setting: &'static str,
    /// Whether a policy has it.
    pub is_set: fn(&Policy) -> bool,
}

/// All causes, roots before symptoms. The order is the order in which people read them.
pub const CAUSES: &[Cause] = &[
    blocking_query::CAUSE,
    idle_in_transaction::CAUSE,
    runaway_query::CAUSE,
    connections_exhausted::CAUSE,
    pool_starved::CAUSE,
    background_load::CAUSE,
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

/// The thresholds of a cause: those that the policy sets, else its defaults.
#[must_use]
pub fn thresholds(policy: &Policy, cause: &Cause) -> Thresholds {
    policy.thresholds.get(cause.name).copied().unwrap_or(Thresholds::NONE).or(cause.thresholds)
}

/// The causes that are not looked for, each with the setting that is missing.
pub fn not_looked_for(policy: &Policy) -> impl Iterator<Item = (&'static str, &'static str)> {
    CAUSES.iter().filter_map(move |cause| {
        let need = cause.needs.filter(|need| !(need.is_set)(policy))?;
        Some((cause.name, need.setting))
    })
}

/// Everything that is found in a breach that began at `first_breached_at`, roots first, symptoms marked.
pub(crate) fn diagnose(snapshot: &Snapshot, state: &Memory, first_breached_at: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for cause in CAUSES {
        let case = Case { snapshot, state, first_breached_at, found: &findings };
        let found: Vec<Finding> = case.findings(cause).collect();
        if !found.is_empty() {
            findings.extend(found);
            findings.sort_by_cached_key(|finding| place(&snapshot.policy, finding));
        }
    }
    explain::explain(&snapshot.policy, &mut findings);
    findings
}

/// Where a finding is listed: one data store after the other, kind by kind, and the target last.
fn place(policy: &Policy, finding: &Finding) -> (bool, Option<(Option<DependencyKind>, String)>) {
    let dependency = finding.subject.as_ref().and_then(|subject| subject.dependency());
    let kind = |name: &str| policy.dependencies.get(name).map(Dependency::kind);
    (dependency.is_none(), dependency.map(|name| (kind(name), name.to_owned())))
}

/// Why not every declared database is known to be well, the first reason of them; none where all are: read in full, and
/// no [trouble found](trouble_in_databases) in them.
pub(crate) fn database_trouble(
    snapshot: &Snapshot,
    findings: &[Finding],
    cured: &str,
) -> Option<DatabaseTrouble> {
    for (database, _) in snapshot.policy.databases() {
        let database = database.clone();
        match snapshot.observations.postgres(&database) {
            Some(Ok((_, facts))) => {
                if let Coverage::Partial { grant } = &facts.coverage {
                    return Some(DatabaseTrouble::Partial { database, grant: grant.clone() });
                }
            }
            Some(Err(why)) => {
                return Some(DatabaseTrouble::Unreadable { database, why: why.clone() });
            }
            None => return Some(DatabaseTrouble::NotRead { database }),
        }
    }
    trouble_in_databases(findings, cured).next().map(DatabaseTrouble::from)
}

/// What was found in data stores at Likely or above, but for what `cured` explains. What [blocks load](Cause::blocks_load) counts
/// however sure it is that it causes the breach.
pub(crate) fn trouble_in_databases<'a>(
    findings: &'a [Finding],
    cured: &'a str,
) -> impl Iterator<Item = &'a Finding> + use<'a> {
    findings.iter().filter(move |finding| {
        let in_store = finding.subject.as_ref().is_some_and(|subject| subject.dependency().is_some());
        let blocks_load = cause(&finding.cause).is_some_and(|cause| cause.blocks_load);
        let sure = finding.confidence >= Confidence::Likely || blocks_load;
        let is_symptom = links(cured, &finding.cause).next().is_some();
        in_store && sure && finding.cause != cured && !is_symptom
    })
}

/// Whether every declared dependency could be read in full, and often enough since the breach began: only then does "nothing
/// found" mean that there is nothing to be found.
pub(crate) fn all_readable(snapshot: &Snapshot, state: &Memory, first_breached_at: Timestamp) -> bool {
    let window = snapshot.policy.evaluation.window;
    snapshot.policy.dependencies.keys().all(|name| {
        let facts = snapshot.observations.dependencies.get(name).and_then(Observed::known);
        let memory = state.dependencies.get(name);
        facts.zip(memory).is_some_and(|(facts, memory)| {
            facts.partial().is_none() && memory.compared_since(facts, first_breached_at, window)
        })
    })
}

#[cfg(test)]
mod cache_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::{Setup, finding};

    #[test]
    fn advice_and_symptoms_are_answered_by_no_rung() {
        let root = finding("RunawayQuery", Confidence::Certain);
        assert!(root.is_actionable_root());
        assert!(!Finding { advice: true, ..root.clone() }.is_actionable_root());
        assert!(!Finding { explained_by: Some("BlockingQuery".into()), ..root }.is_actionable_root());
    }

    #[test]
    fn a_policy_sets_a_threshold_dimension_by_dimension() {
        let mut policy = Setup::acting().snapshot.policy;
        let runaway = cause("RunawayQuery").unwrap();
        let age = |policy: &Policy| thresholds(policy, runaway).older_than.unwrap().as_secs();
        policy.thresholds.clear();
        assert_eq!(age(&policy), 30);
        let set = Thresholds { below: Some(0.5), ..Thresholds::NONE };
        policy.thresholds.insert("RunawayQuery".into(), set);
        assert_eq!(age(&policy), 30, "another dimension");
        let set = Thresholds { older_than: Some(std::time::Duration::from_secs(7)), ..set };
        policy.thresholds.insert("RunawayQuery".into(), set);
        assert_eq!(age(&policy), 7);
    }

    #[test]
    fn a_cause_that_is_not_looked_for_is_named_with_the_setting() {
        let mut policy = Setup::scaling().snapshot.policy;
        assert_eq!(not_looked_for(&policy).next(), None);
        policy.concurrency_per_pod = None;
        let named: Vec<_> = not_looked_for(&policy).collect();
        assert_eq!(named, [("WorkersSaturated", "spec.target.concurrencyPerPod")]);
    }
}
