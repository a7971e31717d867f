//! The index over all LatencyRemediations by the resource that they affect: locks, rests and counts live here, so that
//! they hold across policies, restarts, leaders, and delete and recreate of a policy.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ActionKind, Budget, BudgetUsage, Candidate, Limits, Outcome, PastAct, Phase, PolicyRef, Remediation,
    ResourceKey, Survey, elapsed, later,
};

/// Namespace and name of a LatencyRemediation.
pub type EntryKey = (String, String);

/// What the ledger keeps of one LatencyRemediation. Dry runs have no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    pub policy: PolicyRef,
    /// The incident's name.
    pub incident: String,
    /// The rung's name.
    pub rung: String,
    /// What it does.
    pub kind: ActionKind,
    /// What it affects.
    pub resource: ResourceKey,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// It holds the resource.
    pub open: bool,
    /// What it did has to be taken back.
    pub owes: bool,
    /// Something was done, or may have been; not merely tried.
    pub done: bool,
    /// When an effect may have reached the world, if it may have.
    pub acted_at: Option<Timestamp>,
    /// When it was last taken back by a step.
    pub stepped_at: Option<Timestamp>,
    /// The resource's rest after it.
    pub cooldown: Duration,
    /// Since when it is admitted by this process and not yet seen as an object.
    pub reserved_at: Option<Timestamp>,
}

impl Entry {
    fn of(remediation: &Remediation) -> Self {
        Self {
            policy: remediation.spec.policy.clone(),
            incident: remediation.spec.incident.clone(),
            rung: remediation.spec.rung.clone(),
            kind: remediation.spec.action.kind(),
            resource: remediation.spec.resource.clone(),
            outcome: remediation.status.outcome,
            open: remediation.is_open(),
            owes: remediation.owes(),
            done: remediation.status.acted_at.is_some()
                || matches!(remediation.status.phase, Phase::Executing | Phase::OutcomeUnknown),
            acted_at: remediation.may_have_acted_at(),
            stepped_at: remediation.status.undo.as_ref().and_then(|undo| undo.stepped_at),
            cooldown: remediation.spec.cooldown,
            reserved_at: None,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    entries: BTreeMap<EntryKey, Entry>,
}

impl Ledger {
    /// The ledger of a new leader, from a consistent list.
    #[must_use]
    pub fn from_list<'a>(remediations: impl IntoIterator<Item = &'a Remediation>) -> Self {
        let mut ledger = Self::default();
        for remediation in remediations {
            ledger.observe(remediation);
        }
        ledger
    }

    /// Takes in what the watch showed. A reservation of ours becomes an entry like any other.
    pub fn observe(&mut self, remediation: &Remediation) {
        if remediation.spec.is_dry_run() {
            return;
        }
        let key = (remediation.namespace.clone(), remediation.name.clone());
        self.entries.insert(key, Entry::of(remediation));
    }

    /// The object is gone: it holds nothing any more, but what it did still counts until its windows have passed. Its name
    /// is free for another one, so what is left of it stands under a name that no object can have.
    pub fn forget(&mut self, key: &EntryKey) {
        if let Some(mut entry) = self.entries.remove(key)
            && let Some(acted_at) = entry.acted_at
        {
            entry.open = false;
            entry.owes = false;
            entry.reserved_at = None;
            self.entries.insert((key.0.clone(), format!("{} (deleted, acted at {acted_at})", key.1)), entry);
        }
    }

    /// Holds the resource for a candidate until its object is seen.
    pub fn reserve(&mut self, candidate: &Candidate, now: Timestamp) {
        self.entries.insert(
            (candidate.policy.namespace.clone(), candidate.object_name()),
            Entry {
                policy: candidate.policy.clone(),
                incident: candidate.incident.clone(),
                rung: candidate.rung.clone(),
                kind: candidate.action.kind(),
                resource: candidate.resource.clone(),
                outcome: None,
                open: true,
                owes: false,
                done: false,
                acted_at: None,
                stepped_at: None,
                cooldown: candidate.cooldown,
                reserved_at: Some(now),
            },
        );
    }

    /// Whether an object of that name is there, as far as the watch has shown.
    #[must_use]
    pub fn knows(&self, key: &EntryKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Gives a reservation back: its object was certainly not created.
    pub fn release(&mut self, key: &EntryKey) {
        if self.entries.get(key).is_some_and(|entry| entry.reserved_at.is_some()) {
            self.entries.remove(key);
        }
    }

    /// Drops what no window counts any more, and reservations whose object was never seen: whether it was created could
    /// not be said then, and if it was, the watch would have shown it since.
    pub fn prune(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| match (entry.reserved_at, entry.acted_at) {
            (Some(at), _) => elapsed(now, at) < UNSEEN,
            (None, Some(at)) if !entry.open && !entry.owes => elapsed(now, at) < LONGEST_COOLDOWN,
            (None, _) => entry.open || entry.owes,
        });
    }

    /// All entries but one's own, with their keys.
    pub fn others<'a>(&'a self, own: &'a EntryKey) -> impl Iterator<Item = (&'a EntryKey, &'a Entry)> {
        self.entries.iter().filter(move |(key, _)| *key != own)
    }

    /// How much of a budget is used at `now`, by the same count as the guard's.
    #[must_use]
    pub fn usage(&self, budget: &Budget, now: Timestamp) -> BudgetUsage {
        let counted = || self.entries.values().filter(|entry| budget.applies(&entry.policy.namespace));
        BudgetUsage {
            actions: in_the_last_hour(counted(), now),
            open: open_among(counted()),
            frozen: budget.frozen(now),
        }
    }

    /// What a policy of that namespace and name did, as far as any window counts it, oldest first. By name and not by uid: a
    /// policy that is deleted and created again has the same history.
    #[must_use]
    pub fn history(&self, namespace: &str, policy: &str) -> Vec<PastAct> {
        let own = |entry: &&Entry| entry.policy.namespace == namespace && entry.policy.name == policy;
        let mut acts: Vec<PastAct> = self
            .entries
            .values()
            .filter(own)
            .filter(|entry| entry.done)
            .filter_map(|entry| {
                Some(PastAct {
                    acted_at: entry.acted_at?,
                    incident: entry.incident.clone(),
                    kind: entry.kind,
                    resource: entry.resource.clone(),
                    healed: entry.outcome == Some(Outcome::Healed),
                })
            })
            .collect();
        acts.sort();
        acts
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// So long a reservation holds its resource without an object: many times what a watch lags behind.
const UNSEEN: Duration = Duration::from_secs(300);

/// The longest `cooldown` that a policy can ask for: one that comes later may look back so far.
pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(24 * 3600);

/// The window of the budgets.
const HOUR: Duration = Duration::from_secs(3600);

/// How many of `entries` count in the budget window that ends at `now`: those that may have acted in it, and those that
/// are open and may act yet.
pub(crate) fn in_the_last_hour<'a>(entries: impl Iterator<Item = &'a Entry>, now: Timestamp) -> u32 {
    let counted = entries
        .filter(|entry| match entry.acted_at {
            Some(at) => elapsed(now, at) < HOUR,
            None => entry.open,
        })
        .count();
    u32::try_from(counted).unwrap_or(u32::MAX)
}

/// How many of `entries` are open.
pub(crate) fn open_among<'a>(entries: impl Iterator<Item = &'a Entry>) -> u32 {
    u32::try_from(entries.filter(|entry| entry.open).count()).unwrap_or(u32::MAX)
}

/// What is known about the operator's replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// This process holds the Lease, provably, by its monotonic clock.
    pub leading: bool,
    /// The ledger was built from a consistent list by this leader.
    pub ledger_complete: bool,
    /// The Lease is marked: the operator is being uninstalled. A mark that is over means nothing.
    pub draining: Option<Draining>,
}

/// The operator is being uninstalled: nothing is begun, and what is owed is taken back while there is time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Draining {
    /// What has not been taken back by then stays, and people are told how to do it.
    pub until: Timestamp,
}

impl Draining {
    /// So long nothing is begun after the end: whoever uninstalls has yet to delete the operator. After that the mark is one
    /// of an uninstallation that was given up.
    pub const LINGERS: Duration = Duration::from_secs(120);

    /// From when on it is as if there had never been a mark.
    #[must_use]
    pub fn over_at(self) -> Timestamp {
        later(self.until, Self::LINGERS)
    }

    /// Whether it still says something at `now`.
    #[must_use]
    pub fn holds(self, now: Timestamp) -> bool {
        now < self.over_at()
    }

    /// Whether there is no time left to take anything back.
    #[must_use]
    pub fn is_late(self, now: Timestamp) -> bool {
        now >= self.until
    }
}

impl Fleet {
    /// The mark on the Lease, if it still says something at `now`.
    #[must_use]
    pub fn draining(self, now: Timestamp) -> Option<Draining> {
        self.draining.filter(|draining| draining.holds(now))
    }
}

/// What the guards of admission look at.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// All remediations by resource. The candidate's own entry is not counted.
    pub ledger: &'a Ledger,
    /// The operator's replicas.
    pub fleet: Fleet,
    /// The ceilings.
    pub limits: &'a Limits,
    /// All policies together.
    pub survey: &'a Survey,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::Setup;

    fn ledger(phase: Phase, acted_ago: Option<Duration>) -> (Ledger, EntryKey, Timestamp) {
        let setup = Setup::acting();
        let mut remediation = setup.remediation();
        remediation.status.phase = phase;
        remediation.status.acted_at = acted_ago.map(|ago| crate::model::earlier(setup.now, ago));
        let key = (remediation.namespace.clone(), remediation.name.clone());
        (Ledger::from_list([&remediation]), key, setup.now)
    }

    #[test]
    fn what_was_done_counts_although_its_object_was_deleted_and_holds_nothing_any_more() {
        let (mut ledger, key, _) = ledger(Phase::Verifying, Some(HOUR / 2));
        ledger.forget(&key);
        assert_eq!(ledger.others(&key).map(|(_, entry)| entry.open).collect::<Vec<_>>(), [false]);
        let (mut untouched, key, _) = self::ledger(Phase::Admitted, None);
        untouched.forget(&key);
        assert!(untouched.is_empty());
    }

    #[test]
    fn what_failed_before_anything_was_sent_is_no_history() {
        for (phase, acted_ago, counts) in [
            (Phase::Failed, None, 0),
            (Phase::Failed, Some(HOUR), 1),
            (Phase::OutcomeUnknown, None, 1),
            (Phase::Completed, Some(HOUR), 1),
        ] {
            let setup = Setup::acting();
            let mut remediation = setup.remediation();
            remediation.status.phase = phase;
            remediation.status.acted_at = acted_ago.map(|ago| crate::model::earlier(setup.now, ago));
            remediation.status.executing = Some(crate::model::Executing {
                holder: "a".into(),
                epoch: 1,
                started_at: crate::model::earlier(setup.now, HOUR),
                deadline: Duration::from_secs(5),
            });
            let policy = &setup.candidate.policy;
            let history = Ledger::from_list([&remediation]).history(&policy.namespace, &policy.name);
            assert_eq!(history.len(), counts, "{phase} {acted_ago:?}");
        }
    }

    #[test]
    fn what_is_open_is_never_pruned_and_what_no_window_counts_is() {
        for (phase, ago, kept) in [
            (Phase::Admitted, None, true),
            (Phase::Executing, Some(HOUR * 24), true),
            (Phase::Completed, Some(HOUR * 23), true),
            (Phase::Completed, Some(HOUR * 24), false),
            (Phase::Refused, None, false),
        ] {
            let (mut ledger, _, now) = ledger(phase, ago);
            ledger.prune(now);
            assert_eq!(!ledger.is_empty(), kept, "{phase} {ago:?}");
        }
    }

    #[test]
    fn a_reservation_lives_until_the_object_is_seen_or_it_is_given_back() {
        let setup = Setup::acting();
        let key = (setup.candidate.policy.namespace.clone(), setup.candidate.object_name());
        let mut ledger = Ledger::default();
        ledger.reserve(&setup.candidate, setup.now);
        ledger.prune(later(setup.now, UNSEEN - Duration::from_secs(1)));
        assert_eq!(ledger.len(), 1);
        let mut never_seen = ledger.clone();
        never_seen.prune(later(setup.now, UNSEEN));
        assert!(never_seen.is_empty(), "it would hold the resource for ever");
        ledger.observe(&setup.remediation());
        ledger.release(&key);
        assert_eq!(ledger.len(), 1, "an object is not a reservation any more");
    }
}
