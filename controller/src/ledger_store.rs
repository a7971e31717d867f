//! The one owner of the ledger: every question about which remediation may act goes through here, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::Proposal;
use engine::model::{Draining, EntryKey, Fleet, Ledger, Limits, PastAct, Remediation, Survey};
use engine::{Admitted, admit};
use jiff::Timestamp;

use crate::objects::{Stored, Version};
use crate::{PolicyKey, planted};

/// How a version of an object was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As the answer to a request, or as an event of the watch: it may be older than what is known.
    Event,
    /// In a whole list, with which a watch begins. It is the truth, also where the API server was restored to an older state
    /// and its versions with it.
    List,
}

/// All LatencyRemediations that are known, and the ledger over them.
#[derive(Default)]
pub struct LedgerStore {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Shared with its readers; it is copied only if it changes while one of them still holds it.
    ledger: Arc<Ledger>,
    complete: bool,
    by_policy: BTreeMap<PolicyKey, BTreeMap<String, Remediation>>,
    /// The newest version of each object, also of deleted ones.
    versions: BTreeMap<EntryKey, u64>,
}

/// Maximum number of versions of deleted objects to remember. A late answer is late by seconds.
const GONE: usize = 1_000;

impl Kept {
    /// Takes a version in unless a newer one is known. The answer to a write may come after the watch has shown a later one,
    /// and a remediation that is over must not be open again. (Versions of one API server are growing numbers: KEP-5504.)
    fn keep(&mut self, remediation: Remediation, version: Option<&Version>, freshness: Freshness) {
        let key = key_of(&remediation);
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        if planted::is("ledger_in_memory_only") && remediation.status.phase.is_terminal() {
            let known = self.by_policy.get(&policy).is_some_and(|kept| kept.contains_key(&remediation.name));
            if !known {
                return;
            }
        }
        if let Some(version) = version.and_then(Version::number) {
            let known = self.versions.get(&key).copied().unwrap_or_default();
            let kept = self.by_policy.get(&policy).is_some_and(|kept| kept.contains_key(&remediation.name));
            let gone = known > 0 && !kept;
            let late = version < known || (gone && version == known);
            if late && freshness == Freshness::Event && !planted::is("late_answer_sets_the_ledger_back") {
                return;
            }
            self.versions.insert(key, version);
        }
        Arc::make_mut(&mut self.ledger).observe(&remediation);
        self.by_policy.entry(policy).or_default().insert(remediation.name.clone(), remediation);
    }

    /// Forgets versions of deleted objects once there are many.
    fn prune_versions(&mut self) {
        let kept: usize = self.by_policy.values().map(BTreeMap::len).sum();
        if self.versions.len() > kept + GONE {
            let known: BTreeSet<EntryKey> =
                self.by_policy.values().flat_map(BTreeMap::values).map(key_of).collect();
            self.versions.retain(|key, _| known.contains(key));
        }
    }
}

fn key_of(remediation: &Remediation) -> EntryKey {
    (remediation.namespace.clone(), remediation.name.clone())
}

impl LedgerStore {
    /// Starts from a consistent list: only now anything may be admitted.
    pub fn build(&self, remediations: Vec<Remediation>) {
        let mut kept = self.lock();
        *kept = Kept { complete: true, ..Kept::default() };
        for remediation in remediations {
            kept.keep(remediation, None, Freshness::List);
        }
    }

    /// Takes in what was written, read, or shown by the watch.
    pub fn observe(&self, stored: &Stored<Remediation>, freshness: Freshness) {
        self.lock().keep(stored.value.clone(), Some(&stored.version), freshness);
    }

    /// The object was deleted.
    pub fn forget(&self, key: &EntryKey) {
        let mut kept = self.lock();
        Arc::make_mut(&mut kept.ledger).forget(key);
        for ((namespace, _), known) in &mut kept.by_policy {
            if *namespace == key.0 {
                known.remove(&key.1);
            }
        }
        kept.by_policy.retain(|_, known| !known.is_empty());
        kept.prune_versions();
    }

    /// Asks for admission. An admitted proposal holds its resource from now on.
    pub fn admit(
        &self,
        proposals: &[Proposal],
        leading: bool,
        draining: Option<Draining>,
        limits: &Limits,
        survey: &Survey,
        now: Timestamp,
    ) -> Vec<Admitted> {
        let mut kept = self.lock();
        if proposals.is_empty() {
            // Most evaluations ask for nothing: the ledger is not copied for them.
            Arc::make_mut(&mut kept.ledger).prune(now);
            return Vec::new();
        }
        let fleet = Fleet { leading, ledger_complete: kept.complete, draining };
        let (ledger, answers) = admit(proposals, &kept.ledger, fleet, limits, survey, now);
        kept.ledger = Arc::new(ledger);
        answers
    }

    /// Gives a reservation back, because its object was certainly not created.
    pub fn release(&self, key: &EntryKey) {
        Arc::make_mut(&mut self.lock().ledger).release(key);
    }

    /// The ledger, and whether it is complete.
    #[must_use]
    pub fn ledger(&self) -> (Arc<Ledger>, bool) {
        let kept = self.lock();
        (Arc::clone(&kept.ledger), kept.complete)
    }

    /// The remediations of a policy's open incident, and all others of the policy that are not over.
    #[must_use]
    pub fn of_policy(&self, policy: &PolicyKey, incident: Option<&str>) -> Vec<Remediation> {
        let kept = self.lock();
        let relevant = |r: &&Remediation| Some(r.spec.incident.as_str()) == incident || r.is_open();
        kept.by_policy
            .get(policy)
            .map(|known| known.values().filter(relevant).cloned().collect())
            .unwrap_or_default()
    }

    /// All policies that have remediations, deleted policies included.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyKey> {
        self.lock().by_policy.keys().cloned().collect()
    }

    /// The remediations of a namespace, or of all, that are not over or have a rollback pending.
    #[must_use]
    pub fn unsettled(&self, namespace: Option<&str>) -> Vec<EntryKey> {
        let kept = self.lock();
        let here = |one: &&Remediation| namespace.is_none_or(|wanted| wanted == one.namespace);
        let known = kept.by_policy.values().flat_map(BTreeMap::values).filter(here);
        known.filter(|one| one.is_open() || one.owes()).map(key_of).collect()
    }

    /// All remediations of a policy.
    #[must_use]
    pub fn all_of(&self, policy: &PolicyKey) -> Vec<Remediation> {
        let kept = self.lock();
        kept.by_policy.get(policy).map(|known| known.values().cloned().collect()).unwrap_or_default()
    }

    /// What a policy did in the last 24 hours.
    #[must_use]
    pub fn history(&self, (namespace, name): &PolicyKey) -> Vec<PastAct> {
        self.lock().ledger.history(namespace, name)
    }

    /// The newest remediation of a policy.
    #[must_use]
    pub fn newest(&self, policy: &PolicyKey) -> Option<Remediation> {
        let kept = self.lock();
        kept.by_policy.get(policy)?.values().max_by_key(|r| (r.created_at, r.name.clone())).cloned()
    }

    /// Forgets what a whole list (of one namespace, or of all) does not show. An object that was created after `before` may be
    /// missing from the list without having been deleted.
    pub fn forget_unlisted(&self, namespace: Option<&str>, listed: &BTreeSet<EntryKey>, before: Timestamp) {
        let unlisted: Vec<EntryKey> = {
            let kept = self.lock();
            let here = |place: &str| namespace.is_none_or(|wanted| wanted == place);
            let known = kept.by_policy.values().flat_map(BTreeMap::values);
            known
                .filter(|remediation| here(&remediation.namespace) && remediation.created_at < before)
                .map(|remediation| (remediation.namespace.clone(), remediation.name.clone()))
                .filter(|key| !listed.contains(key))
                .collect()
        };
        for key in unlisted {
            self.forget(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::actions::Scale;
    use engine::effects::SetReplicas;
    use engine::model::{
        Action, Confidence, Phase, PolicyRef, RemediationSpec, RemediationStatus, ResourceKey, TargetKind,
        TargetRef, VerifySpec, WorkloadKey,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stored(phase: Phase, version: u64) -> Stored<Remediation> {
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        let workload = WorkloadKey { namespace: "shop".into(), target: target.clone(), uid: "w".into() };
        let spec = RemediationSpec {
            policy: PolicyRef { namespace: "shop".into(), name: "orders".into(), uid: "u".into() },
            target: target.clone(),
            incident: "orders-1".into(),
            rung: "grow".into(),
            attempt: 1,
            mode: engine::model::Mode::Auto,
            cause: "WorkersSaturated".into(),
            confidence: Confidence::Certain,
            reason: "it is full".into(),
            resource: ResourceKey::Workload(workload),
            cooldown: SECOND,
            deadline: SECOND,
            action: Action::Scale(Scale(SetReplicas { target, uid: "w".into(), from: 4, to: 6 })),
            verify: VerifySpec { after: SECOND, within: SECOND, window: SECOND, effect_within: None },
            undo: None,
        };
        let value = Remediation {
            namespace: "shop".into(),
            name: "orders-1-grow-1".into(),
            created_at: Timestamp::UNIX_EPOCH,
            deleting: false,
            held: false,
            spec,
            status: RemediationStatus { phase, ..RemediationStatus::default() },
        };
        Stored { value, uid: "r".into(), version: version.into(), other_finalizers: Vec::new() }
    }

    fn phase(store: &LedgerStore) -> Option<Phase> {
        store.newest(&("shop".into(), "orders".into())).map(|newest| newest.status.phase)
    }

    #[test]
    fn a_late_answer_changes_nothing_that_the_watch_has_shown() {
        let store = LedgerStore::default();
        store.observe(&stored(Phase::Refused, 12), Freshness::Event);
        store.observe(&stored(Phase::Admitted, 9), Freshness::Event);
        assert_eq!(phase(&store), Some(Phase::Refused));
        store.observe(&stored(Phase::Admitted, 13), Freshness::Event);
        assert_eq!(phase(&store), Some(Phase::Admitted));
        store.observe(&stored(Phase::Refused, 5), Freshness::List);
        assert_eq!(phase(&store), Some(Phase::Refused), "a whole list is the truth");
    }

    #[test]
    fn a_deleted_object_does_not_come_back_with_a_late_answer() {
        let store = LedgerStore::default();
        let completed = stored(Phase::Completed, 12);
        store.observe(&completed, Freshness::Event);
        store.forget(&key_of(&completed.value));
        store.observe(&completed, Freshness::Event);
        assert_eq!(phase(&store), None);
        store.observe(&stored(Phase::Admitted, 20), Freshness::Event);
        assert_eq!(phase(&store), Some(Phase::Admitted), "created again under its name");
    }

    #[test]
    fn versions_of_deleted_objects_are_not_kept_for_ever() {
        let store = LedgerStore::default();
        for number in 1..=3 * GONE as u64 {
            let mut completed = stored(Phase::Completed, number);
            completed.value.name = format!("r-{number}");
            store.observe(&completed, Freshness::Event);
            store.forget(&key_of(&completed.value));
        }
        assert!(store.lock().versions.len() <= GONE + 1);
    }
}
