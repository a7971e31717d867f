//! The one owner of the ledger: every question about who may act goes through here, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::{EntryKey, Fleet, Ledger, Limits, PastAct, Proposal, Remediation, Survey};
use engine::{Admitted, admit};
use jiff::Timestamp;

/// Namespace and name of a policy.
pub(crate) type PolicyKey = (String, String);

/// All LatencyRemediations that are known, and the ledger over them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Keeper {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    ledger: Ledger,
    complete: bool,
    by_policy: BTreeMap<PolicyKey, BTreeMap<String, Remediation>>,
}

impl Kept {
    fn keep(&mut self, remediation: Remediation) {
        self.ledger.observe(&remediation);
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        self.by_policy.entry(policy).or_default().insert(remediation.name.clone(), remediation);
    }
}

impl Keeper {
    /// Starts from a consistent list: only now anything may be admitted.
    pub fn build(&self, remediations: Vec<Remediation>) {
        let mut kept = self.lock();
        *kept = Kept { complete: true, ..Kept::default() };
        for remediation in remediations {
            kept.keep(remediation);
        }
    }

    /// Takes in what was written, or what the watch showed.
    pub fn observe(&self, remediation: Remediation) {
        self.lock().keep(remediation);
    }

    /// The object has gone.
    pub fn forget(&self, key: &EntryKey) {
        let mut kept = self.lock();
        kept.ledger.forget(key);
        for ((namespace, _), known) in &mut kept.by_policy {
            if *namespace == key.0 {
                known.remove(&key.1);
            }
        }
        kept.by_policy.retain(|_, known| !known.is_empty());
    }

    /// Asks for admission. What is admitted holds its resource from now on.
    pub fn admit(
        &self,
        proposals: &[Proposal],
        leading: bool,
        limits: &Limits,
        survey: &Survey,
        now: Timestamp,
    ) -> Vec<Admitted> {
        let mut kept = self.lock();
        let fleet = Fleet { leading, ledger_complete: kept.complete };
        let (ledger, answers) = admit(proposals, &kept.ledger, fleet, limits, survey, now);
        kept.ledger = ledger;
        answers
    }

    /// Gives a reservation back: its object was certainly not created.
    pub fn release(&self, key: &EntryKey) {
        self.lock().ledger.release(key);
    }

    /// The ledger as it is, and whether it is whole.
    #[must_use]
    pub fn ledger(&self) -> (Ledger, bool) {
        let kept = self.lock();
        (kept.ledger.clone(), kept.complete)
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
