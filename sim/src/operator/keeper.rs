//! The one owner of the ledger: mirrors `src/controller/keeper.rs`.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::{Draining, EntryKey, Fleet, Ledger, Limits, PastAct, Proposal, Remediation, Survey};
use engine::{Admitted, admit};
use jiff::Timestamp;

use crate::planted;
use crate::world::api::Stored;

/// Namespace and name of a policy.
pub type PolicyKey = (String, String);

/// How a version of an object came to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// As the answer to a request, or as news of the watch: it may be older than what is known.
    Changed,
    /// In a whole list: it is how things are.
    Listed,
}

/// So many versions of what has gone are remembered.
const GONE: usize = 1_000;

/// All LatencyRemediations that are known, and the ledger over them.
#[derive(Default)]
pub struct Keeper {
    ledger: Ledger,
    complete: bool,
    by_policy: BTreeMap<PolicyKey, BTreeMap<String, Remediation>>,
    /// The newest version that was seen of each, also of those that have gone.
    versions: BTreeMap<EntryKey, u64>,
}

impl Keeper {
    /// Starts from a consistent list.
    pub fn build(&mut self, remediations: Vec<Remediation>) {
        *self = Self { complete: true, ..Self::default() };
        for remediation in remediations {
            self.keep(remediation, None, News::Listed);
        }
    }

    /// Takes in what was written, or what the watch showed, with its version.
    pub fn observe(&mut self, stored: &Stored, news: News) {
        self.keep(stored.object.clone(), Some(stored.version), news);
    }

    /// Takes it in unless something newer is known.
    fn keep(&mut self, remediation: Remediation, version: Option<u64>, news: News) {
        let known = || self.by_policy.values().any(|known| known.contains_key(&remediation.name));
        if planted::is("ledger_in_memory_only") && remediation.status.phase.is_terminal() && !known() {
            return;
        }
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        if let Some(version) = version {
            let key = (remediation.namespace.clone(), remediation.name.clone());
            let known = self.versions.get(&key).copied().unwrap_or_default();
            let kept = self.by_policy.get(&policy).is_some_and(|kept| kept.contains_key(&remediation.name));
            let gone = known > 0 && !kept;
            let late = news == News::Changed && (version < known || (gone && version == known));
            if late && !planted::is("late_answer_sets_the_ledger_back") {
                return;
            }
            self.versions.insert(key, version);
        }
        self.ledger.observe(&remediation);
        self.by_policy.entry(policy).or_default().insert(remediation.name.clone(), remediation);
    }

    /// The object has gone.
    pub fn forget(&mut self, key: &EntryKey) {
        self.ledger.forget(key);
        for ((namespace, _), known) in &mut self.by_policy {
            if *namespace == key.0 {
                known.remove(&key.1);
            }
        }
        self.by_policy.retain(|_, known| !known.is_empty());
        self.prune_versions();
    }

    /// Versions of what has gone are of use for a short while.
    fn prune_versions(&mut self) {
        let kept: usize = self.by_policy.values().map(BTreeMap::len).sum();
        if self.versions.len() > kept + GONE {
            let key = |one: &Remediation| (one.namespace.clone(), one.name.clone());
            let known: BTreeSet<EntryKey> =
                self.by_policy.values().flat_map(BTreeMap::values).map(key).collect();
            self.versions.retain(|key, _| known.contains(key));
        }
    }

    /// Asks for admission.
    pub fn admit(
        &mut self,
        proposals: &[Proposal],
        leading: bool,
        draining: Option<Draining>,
        limits: &Limits,
        survey: &Survey,
        now: Timestamp,
    ) -> Vec<Admitted> {
        let fleet = Fleet { leading, ledger_complete: self.complete, draining };
        let (ledger, answers) = admit(proposals, &self.ledger, fleet, limits, survey, now);
        self.ledger = ledger;
        answers
    }

    /// Gives a reservation back.
    pub fn release(&mut self, key: &EntryKey) {
        self.ledger.release(key);
    }

    /// The ledger, and whether it is whole.
    #[must_use]
    pub fn ledger(&self) -> (&Ledger, bool) {
        (&self.ledger, self.complete)
    }

    /// A policy's remediations that matter to it.
    #[must_use]
    pub fn of_policy(&self, policy: &PolicyKey, incident: Option<&str>) -> Vec<Remediation> {
        let relevant = |r: &&Remediation| Some(r.spec.incident.as_str()) == incident || r.is_open();
        let known = self.by_policy.get(policy);
        known.map(|known| known.values().filter(relevant).cloned().collect()).unwrap_or_default()
    }

    /// All policies that have remediations.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyKey> {
        self.by_policy.keys().cloned().collect()
    }

    /// All remediations of a policy.
    #[must_use]
    pub fn all_of(&self, policy: &PolicyKey) -> Vec<Remediation> {
        self.by_policy.get(policy).map(|known| known.values().cloned().collect()).unwrap_or_default()
    }

    /// What a policy did in the last 24 hours.
    #[must_use]
    pub fn history(&self, (namespace, name): &PolicyKey) -> Vec<PastAct> {
        self.ledger.history(namespace, name)
    }

    /// Forgets what a whole list does not show.
    pub fn forget_unlisted(&mut self, listed: &BTreeSet<EntryKey>, before: Timestamp) {
        let unlisted: Vec<EntryKey> = self
            .by_policy
            .values()
            .flat_map(BTreeMap::values)
            .filter(|remediation| remediation.created_at < before)
            .map(|remediation| (remediation.namespace.clone(), remediation.name.clone()))
            .filter(|key| !listed.contains(key))
            .collect();
        for key in unlisted {
            self.forget(&key);
        }
    }
}
