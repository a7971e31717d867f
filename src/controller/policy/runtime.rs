//! What is remembered of each policy between two evaluations.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{ClosedIncident, Incident, State};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{LatencyIncident, LatencyIncidentStatus, LatencyPolicy, LatencyPolicyStatus};
use crate::controller::keeper::PolicyKey;

/// All policies. Cheap to clone.
#[derive(Clone, Default)]
pub struct Runtimes {
    known: Arc<Mutex<HashMap<PolicyKey, Arc<tokio::sync::Mutex<Runtime>>>>>,
    /// Objects that cannot be decoded, with the generation of which that has been said.
    undecodable: Arc<Mutex<HashMap<PolicyKey, i64>>>,
}

impl Runtimes {
    /// What is remembered of this policy; nothing yet where it is another one of the same name.
    pub(super) fn of(&self, object: &LatencyPolicy) -> Arc<tokio::sync::Mutex<Runtime>> {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let uid = object.uid().unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let other_life =
            known.get(&key).is_some_and(|r| r.try_lock().is_ok_and(|runtime| runtime.uid != uid));
        if other_life {
            known.remove(&key);
        }
        known
            .entry(key.clone())
            .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Runtime::new(key, uid))))
            .clone()
    }

    /// Whether it has been said of this generation that it cannot be decoded.
    pub(super) fn was_told(&self, key: &PolicyKey, generation: i64) -> bool {
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).get(key) == Some(&generation)
    }

    /// Notes that it has.
    pub(super) fn told(&self, key: PolicyKey, generation: i64) {
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).insert(key, generation);
    }

    /// All that something is remembered of.
    pub fn known(&self) -> Vec<PolicyKey> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let undecodable = self.undecodable.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys().chain(undecodable.keys()).cloned().collect()
    }

    /// Whether this is what is remembered of the policy, and not what was before it was deleted.
    pub(super) fn remembers(&self, key: &PolicyKey, runtime: &Arc<tokio::sync::Mutex<Runtime>>) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|known| Arc::ptr_eq(known, runtime))
    }

    /// The policy has gone.
    pub fn forget(&self, key: &PolicyKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The open incident, as this process last wrote it.
pub(super) struct OpenIncident {
    pub(super) facts: Incident,
    /// As it was last read or written.
    pub(super) object: LatencyIncident,
    /// What its status should say: ahead of the object while a write has failed.
    pub(super) story: LatencyIncidentStatus,
}

/// The last incident, closed.
pub(super) struct ClosedStory {
    pub(super) last: OpenIncident,
    pub(super) at: Timestamp,
}

impl ClosedStory {
    /// What the engine wants to know of it.
    pub(super) fn facts(&self) -> ClosedIncident {
        ClosedIncident { incident: self.last.facts.clone(), at: self.at }
    }
}

/// One policy.
pub(super) struct Runtime {
    key: PolicyKey,
    uid: String,
    state: State,
    /// The version of the object that was evaluated last: generation and annotations.
    evaluated: Option<(i64, BTreeMap<String, String>)>,
    due: Option<Instant>,
    /// The highest number that an incident of this policy is known to have.
    pub(super) ordinal: u64,
    /// A number that was taken, and whose incident could not be created yet.
    pub(super) reserved: Option<u64>,
    /// Whether the open incident of an earlier leader has been looked for.
    pub(super) adopted: bool,
    pub(super) incident: Option<OpenIncident>,
    /// The last one, as long as a breach may open it again.
    pub(super) closed: Option<ClosedStory>,
    /// The policy's object as this process last wrote its status.
    pub(super) written: Option<LatencyPolicy>,
}

impl Runtime {
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
            written: None,
        }
    }

    pub(super) fn key(&self) -> &PolicyKey {
        &self.key
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn remember(&mut self, state: State) {
        self.state = state;
    }

    /// How long it is until the next evaluation. Our own status writes wake the controller; they are no reason to look.
    pub(super) fn not_due(&self, object: &LatencyPolicy) -> Option<Duration> {
        let due = self.due?;
        let (generation, annotations) = self.evaluated.as_ref()?;
        let unchanged =
            object.metadata.generation == Some(*generation) && *object.annotations() == *annotations;
        due.checked_duration_since(Instant::now()).filter(|wait| unchanged && !wait.is_zero())
    }

    /// Notes that this version is being evaluated.
    pub(super) fn evaluating(&mut self, object: &LatencyPolicy) {
        self.evaluated = Some((object.metadata.generation.unwrap_or_default(), object.annotations().clone()));
    }

    /// The time to the next evaluation, `pause` after this one was started. After the first one it is a share of that,
    /// different for each policy: a thousand that were found together are not looked at together for ever.
    pub(super) fn schedule(&mut self, started: Instant, pause: Duration) -> Duration {
        let first = self.due.is_none();
        let pause = if first { pause.mul_f64(self.share()) } else { pause };
        let now = Instant::now();
        let due = (started + pause).max(now + Duration::from_millis(10));
        self.due = Some(due);
        due - now
    }

    /// A share from 0.1 to 1 that differs from policy to policy.
    fn share(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        self.uid.hash(&mut hasher);
        let share = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
        0.1 + 0.9 * f64::from(share) / 1000.0
    }

    /// The status that was written last, by this process or another one.
    pub(super) fn last_status(&self, object: &LatencyPolicy) -> LatencyPolicyStatus {
        self.newest(object).status.clone().unwrap_or_default()
    }

    /// The newest version of the object that this process has: what it wrote itself, unless the watch shows another spec.
    pub(super) fn newest<'a>(&'a self, object: &'a LatencyPolicy) -> &'a LatencyPolicy {
        match &self.written {
            Some(written) if written.metadata.generation >= object.metadata.generation => written,
            _ => object,
        }
    }
}
