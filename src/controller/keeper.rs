//! The one owner of the ledger: every question about who may act goes through here, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::{Draining, EntryKey, Fleet, Ledger, Limits, PastAct, Proposal, Remediation, Survey};
use engine::{Admitted, admit};
use jiff::Timestamp;

/// Namespace and name of a policy.
pub(crate) type PolicyKey = (String, String);

/// How a version of an object came to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// As the answer to a request, or as news of the watch: it may be older than what is known.
    Changed,
    /// In a whole list, with which a watch begins: it is how things are, also where the API server was set back to an older
    /// state and its versions with it.
    Listed,
}

/// All LatencyRemediations that are known, and the ledger over them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Keeper {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// Whoever reads it keeps what it was: it is copied only where it changes meanwhile.
    ledger: Arc<Ledger>,
    complete: bool,
    by_policy: BTreeMap<PolicyKey, BTreeMap<String, Remediation>>,
    /// The newest resourceVersion that was seen of each, also of those that have gone.
    versions: BTreeMap<EntryKey, u64>,
}

/// So many versions of what has gone are remembered: an answer that is late is so by seconds.
const GONE: usize = 1_000;

impl Kept {
    /// Takes it in unless something newer is known: the answer to a write may come after what the watch shows of a later one,
    /// and what is over must not be open again. (Versions of one API server are numbers that grow: KEP-5504.)
    fn keep(&mut self, remediation: Remediation, version: Option<&str>, news: News) {
        let key = key_of(&remediation);
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            let known = self.versions.get(&key).copied().unwrap_or_default();
            let kept = self.by_policy.get(&policy).is_some_and(|kept| kept.contains_key(&remediation.name));
            let gone = known > 0 && !kept;
            if news == News::Changed && (version < known || (gone && version == known)) {
                return;
            }
            self.versions.insert(key, version);
        }
        Arc::make_mut(&mut self.ledger).observe(&remediation);
        self.by_policy.entry(policy).or_default().insert(remediation.name.clone(), remediation);
    }

    /// Versions of what has gone are of use for a short while.
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

impl Keeper {
    /// Starts from a consistent list: only now anything may be admitted.
    pub fn build(&self, remediations: Vec<Remediation>) {
        let mut kept = self.lock();
        *kept = Kept { complete: true, ..Kept::default() };
        for remediation in remediations {
            kept.keep(remediation, None, News::Listed);
        }
    }

    /// Takes in what was written, or what the watch showed, with its resourceVersion.
    pub fn observe(&self, remediation: Remediation, version: Option<&str>, news: News) {
        self.lock().keep(remediation, version, news);
    }

    /// The object has gone.
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

    /// Asks for admission. What is admitted holds its resource from now on.
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
        let fleet = Fleet { leading, ledger_complete: kept.complete, draining };
        let (ledger, answers) = admit(proposals, &kept.ledger, fleet, limits, survey, now);
        kept.ledger = Arc::new(ledger);
        answers
    }

    /// Gives a reservation back: its object was certainly not created.
    pub fn release(&self, key: &EntryKey) {
        Arc::make_mut(&mut self.lock().ledger).release(key);
    }

    /// The ledger as it is, and whether it is whole.
    #[must_use]
    pub fn ledger(&self) -> (Arc<Ledger>, bool) {
        let kept = self.lock();
        (Arc::clone(&kept.ledger), kept.complete)
    }

    /// A policy's remediations that matter to it: those of the open incident, and all that are not over.
    #[must_use]
    pub fn of_policy(&self, policy: &PolicyKey, incident: Option<&str>) -> Vec<Remediation> {
        let kept = self.lock();
        let relevant = |r: &&Remediation| Some(r.spec.incident.as_str()) == incident || r.is_open();
        kept.by_policy
            .get(policy)
            .map(|known| known.values().filter(relevant).cloned().collect())
            .unwrap_or_default()
    }

    /// All policies that have remediations, those that are gone included.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyKey> {
        self.lock().by_policy.keys().cloned().collect()
    }

    /// Those of a namespace, or of all, that are not over or owe something.
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

    /// Forgets what a whole list (of one namespace, or of all) does not show. What was created after `before` may be missing
    /// from it without having gone.
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
    use engine::model::Phase;

    use super::*;

    fn stored(phase: Phase) -> Remediation {
        let object = serde_json::json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation",
            "metadata": {
                "name": "orders-api-1-cancel-1", "namespace": "shop", "creationTimestamp": "2026-11-24T11:57:25Z",
            },
            "spec": {
                "policyRef": {"name": "orders-api", "uid": "u"}, "incident": "orders-api-1", "rung": "cancel",
                "attempt": 1, "cause": "RunawayQuery", "confidence": "Certain", "reason": "it runs", "dryRun": false,
                "cooldown": "10s", "deadline": "5s", "verify": {"after": "1s", "window": "5s", "within": "20s"},
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
                "action": {"type": "CancelQueries", "cancelQuery": {
                    "dependency": "db", "secretRef": {"name": "orders-db"}, "writers": "Allow",
                    "server": {
                        "database": "orders", "peer": "10.0.0.1:5432", "systemIdentifier": "1",
                        "startedAt": "2026-11-24T11:57:07Z",
                    },
                    "session": {
                        "pid": 1, "role": "reporting", "fingerprint": "md5:1",
                        "backendStart": "2026-11-24T11:57:17Z", "queryStart": "2026-11-24T11:57:18Z",
                    },
                }},
            },
        });
        let object = serde_json::from_value(object).expect("an object");
        let mut remediation = crate::api::convert::remediation(&object).expect("it is understood");
        remediation.status.phase = phase;
        remediation
    }

    fn phase(keeper: &Keeper) -> Option<Phase> {
        let remediation = stored(Phase::Admitted);
        let policy = (remediation.namespace, remediation.spec.policy.name);
        keeper.newest(&policy).map(|newest| newest.status.phase)
    }

    #[test]
    fn an_answer_that_comes_late_undoes_nothing_that_the_watch_has_shown() {
        let keeper = Keeper::default();
        keeper.observe(stored(Phase::Refused), Some("12"), News::Changed);
        keeper.observe(stored(Phase::Admitted), Some("9"), News::Changed);
        assert_eq!(phase(&keeper), Some(Phase::Refused));
        keeper.observe(stored(Phase::Admitted), Some("13"), News::Changed);
        assert_eq!(phase(&keeper), Some(Phase::Admitted));
        keeper.observe(stored(Phase::Refused), Some("5"), News::Listed);
        assert_eq!(phase(&keeper), Some(Phase::Refused), "a whole list is how things are");
    }

    #[test]
    fn what_has_gone_does_not_come_back_with_a_late_answer() {
        let keeper = Keeper::default();
        let remediation = stored(Phase::Completed);
        keeper.observe(remediation.clone(), Some("12"), News::Changed);
        keeper.forget(&key_of(&remediation));
        keeper.observe(remediation.clone(), Some("12"), News::Changed);
        assert_eq!(phase(&keeper), None);
        keeper.observe(stored(Phase::Admitted), Some("20"), News::Changed);
        assert_eq!(phase(&keeper), Some(Phase::Admitted), "created again under its name");
    }

    #[test]
    fn versions_of_what_has_gone_are_not_kept_for_ever() {
        let keeper = Keeper::default();
        for number in 1..=3 * GONE {
            let mut remediation = stored(Phase::Completed);
            remediation.name = format!("r-{number}");
            keeper.observe(remediation.clone(), Some(&number.to_string()), News::Changed);
            keeper.forget(&key_of(&remediation));
        }
        assert!(keeper.lock().versions.len() <= GONE + 1);
    }
}
