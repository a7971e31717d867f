//! What is remembered of each policy between two evaluations.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::State;
use engine::model::{ClosedIncident, Incident, Pause};
use jiff::Timestamp;

use super::schedule::{AT_ONCE, REST, until_turn};
use crate::PolicyKey;
use crate::objects::{StoredIncident, StoredPolicy, StoredReport, Version};
use crate::report::{IncidentReport, PolicyReport};

/// A policy's memory. It is locked for as long as an evaluation lasts.
pub(super) type Slot = Arc<futures::lock::Mutex<PolicyMemory>>;

/// The memories of all policies.
pub(crate) struct PolicyMemories {
    /// When the first turn began.
    begun: Duration,
    known: Mutex<HashMap<PolicyKey, Slot>>,
    /// Objects that cannot be decoded, with the generation of which that has been reported.
    undecodable: Mutex<HashMap<PolicyKey, i64>>,
}

impl PolicyMemories {
    pub(crate) fn new(begun: Duration) -> Self {
        Self { begun, known: Mutex::default(), undecodable: Mutex::default() }
    }

    fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The memory of this policy. It is empty where the policy is another one of the same name.
    pub(super) fn of(&self, object: &StoredPolicy) -> Slot {
        let (key, uid) = (object.key(), object.id.uid.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let other_life =
            known.get(&key).is_some_and(|slot| slot.try_lock().is_some_and(|memory| memory.uid != uid));
        if other_life {
            known.remove(&key);
        }
        known
            .entry(key.clone())
            .or_insert_with(|| Arc::new(futures::lock::Mutex::new(PolicyMemory::new(key, uid))))
            .clone()
    }

    /// Whether it has been reported of this generation that it cannot be decoded.
    pub(super) fn was_reported(&self, key: &PolicyKey, generation: i64) -> bool {
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).get(key) == Some(&generation)
    }

    /// Notes that it has been reported.
    pub(super) fn reported(&self, key: PolicyKey, generation: i64) {
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).insert(key, generation);
    }

    /// The remembered policies of a namespace, or of all, that a whole list does not show.
    pub(super) fn unlisted(&self, namespace: Option<&str>, listed: &BTreeSet<PolicyKey>) -> Vec<PolicyKey> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let undecodable = self.undecodable.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |key: &&PolicyKey| namespace.is_none_or(|wanted| wanted == key.0);
        let all: BTreeSet<&PolicyKey> = known.keys().chain(undecodable.keys()).filter(here).collect();
        all.into_iter().filter(|key| !listed.contains(*key)).cloned().collect()
    }

    /// Whether this is what is remembered of the policy, and not the memory of an earlier one.
    pub(super) fn remembers(&self, key: &PolicyKey, slot: &Slot) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|known| Arc::ptr_eq(known, slot))
    }

    /// The policy is gone.
    pub(super) fn forget(&self, key: &PolicyKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The open incident, as this process last wrote it.
pub(super) struct OpenIncident {
    pub(super) facts: Incident,
    /// As it was last read or written.
    pub(super) object: Box<StoredIncident>,
    /// What its status should say: ahead of the object while a write has failed.
    pub(super) report: Box<IncidentReport>,
}

/// The last incident, closed.
pub(super) struct LastIncident {
    pub(super) last: OpenIncident,
    pub(super) at: Timestamp,
}

impl LastIncident {
    /// What the engine wants to know of it.
    pub(super) fn facts(&self) -> ClosedIncident {
        ClosedIncident { incident: self.last.facts.clone(), at: self.at }
    }
}

/// What is remembered of one policy.
pub(super) struct PolicyMemory {
    pub(super) key: PolicyKey,
    uid: String,
    pub(super) state: State,
    /// What was evaluated last: the generation of the spec, and the pause on the policy.
    evaluated: Option<(i64, Option<Pause>)>,
    due: Option<Duration>,
    /// The highest number that an incident of this policy is known to have.
    pub(super) ordinal: u64,
    /// A number that was taken, and whose incident could not be created yet.
    pub(super) reserved: Option<u64>,
    /// Whether the open incident of an earlier leader has been looked for.
    pub(super) adopted: bool,
    pub(super) incident: Option<OpenIncident>,
    /// The last one, as long as a breach may open it again.
    pub(super) closed: Option<LastIncident>,
    /// The last one was found closed, not closed by this process, and an earlier leader may yet write to it.
    pub(super) unconfirmed: bool,
    /// The policy's status as this process last wrote it, until the watch shows the same.
    written: Option<Box<StoredReport>>,
}

impl PolicyMemory {
    fn new(key: PolicyKey, uid: String) -> Self {
        Self {
            key,
            uid,
            state: State::default(),
            evaluated: None,
            due: None,
            ordinal: 0,
            reserved: None,
            adopted: false,
            incident: None,
            closed: None,
            unconfirmed: false,
            written: None,
        }
    }

    /// How long it is until the next evaluation. Our own status writes wake the controller; they are no reason to evaluate.
    pub(super) fn not_due(&self, object: &StoredPolicy, now: Duration) -> Option<Duration> {
        let due = self.due?;
        let (generation, pause) = self.evaluated.as_ref()?;
        let unchanged = object.generation == *generation && object.pause == *pause;
        due.checked_sub(now).filter(|wait| unchanged && !wait.is_zero())
    }

    /// How long a policy that has never been evaluated waits for that, where many are as new as it is.
    pub(super) fn first_evaluation(
        &mut self,
        memories: &PolicyMemories,
        pause: Duration,
        now: Duration,
    ) -> Option<Duration> {
        if self.evaluated.is_some() {
            return None;
        }
        if self.due.is_none() && memories.len() > AT_ONCE {
            self.schedule(memories, pause, now);
        }
        self.due?.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// How long ago the next evaluation was due; nothing for the first, and for one that comes earlier.
    pub(super) fn late(&self, now: Duration) -> Option<Duration> {
        now.checked_sub(self.due?)
    }

    /// Notes that this version is being evaluated.
    pub(super) fn evaluating(&mut self, object: &StoredPolicy) {
        self.evaluated = Some((object.generation, object.pause.clone()));
    }

    /// The time to the next evaluation: the next turn of its namespace, a `pause` after the last one.
    pub(super) fn schedule(&mut self, memories: &PolicyMemories, pause: Duration, now: Duration) -> Duration {
        let since = (now + REST).saturating_sub(memories.begun);
        let wait = REST + until_turn(&self.key.0, memories.len(), pause, since);
        self.due = Some(now + wait);
        wait
    }

    /// Keeps the status as it is since a write.
    pub(super) fn wrote(&mut self, written: Option<StoredReport>) {
        self.written = written.map(Box::new);
    }

    /// Forgets what was written once the watch shows the same.
    pub(super) fn caught_up(&mut self, object: &StoredPolicy) {
        self.written.take_if(|written| written.version == object.version);
    }

    /// The newest status that this process knows of, and the policy's version: what it wrote itself, unless the watch shows
    /// another spec.
    pub(super) fn newest<'a>(&'a self, object: &'a StoredPolicy) -> (&'a PolicyReport, &'a Version) {
        match &self.written {
            Some(written) if written.generation >= object.generation => (&written.report, &written.version),
            _ => (&object.report, &object.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::model::PolicyRef;

    use super::*;
    use crate::conditions::Stalled;
    use crate::objects::Rejected;

    const PAUSE: Duration = Duration::from_secs(15);

    fn policy(name: &str, version: u64) -> StoredPolicy {
        StoredPolicy {
            id: PolicyRef { namespace: "shop".into(), name: name.into(), uid: "u".into() },
            generation: 1,
            version: version.into(),
            deleting: false,
            pause: None,
            spec: Err(Rejected { why: Stalled::InvalidSpec, message: String::new() }),
            report: PolicyReport::default(),
        }
    }

    #[test]
    fn a_written_status_is_the_newest_until_the_watch_shows_it() {
        let mut memory = PolicyMemory::new(("shop".into(), "orders".into()), "u".into());
        memory.wrote(Some(policy("orders", 8).stored_report()));
        let version = |memory: &PolicyMemory| memory.newest(&policy("orders", 7)).1.number();
        memory.caught_up(&policy("orders", 7));
        assert_eq!(version(&memory), Some(8), "the watch is behind");
        memory.caught_up(&policy("orders", 8));
        assert_eq!(version(&memory), Some(7), "nothing is kept any more");
    }

    #[test]
    fn of_very_many_policies_each_waits_for_its_turn() {
        let memories = PolicyMemories::new(Duration::ZERO);
        let first = |number: usize| {
            let slot = memories.of(&policy(&format!("web-{number}"), 1));
            slot.try_lock().unwrap().first_evaluation(&memories, PAUSE, Duration::ZERO)
        };
        assert!((0..AT_ONCE).all(|number| first(number).is_none()));
        let waits: Vec<_> = (AT_ONCE..AT_ONCE + 3).map(first).collect();
        assert!(waits.iter().all(|wait| wait.is_some_and(|wait| wait < 2 * PAUSE)), "{waits:?}");
        let slot = memories.of(&policy(&format!("web-{AT_ONCE}"), 1));
        let mut memory = slot.try_lock().unwrap();
        let due = memory.due.unwrap();
        assert_eq!(memory.first_evaluation(&memories, PAUSE, due), None, "its turn has come");
    }
}
