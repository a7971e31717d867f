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

/// The policies of a namespace look at the same moment, so that what they ask for can be asked together; the namespaces take
/// turns. So many turns an interval has at least.
const TURNS: usize = 10;
/// There are as many turns as it takes for so many policies in each.
const AT_ONE_TURN: usize = 128;
/// So many are looked at as soon as they are known; of more, each waits for the turn of its namespace: a backend could not
/// answer for ten thousand at once.
const AT_ONCE: usize = 1_000;
/// What has been looked at is not looked at again at once.
const PAUSE: Duration = Duration::from_millis(10);

/// All policies. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes {
    /// When the first turn began.
    begun: Instant,
    known: Arc<Mutex<HashMap<PolicyKey, Arc<tokio::sync::Mutex<Runtime>>>>>,
    /// Objects that cannot be decoded, with the generation of which that has been said.
    undecodable: Arc<Mutex<HashMap<PolicyKey, i64>>>,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self { begun: Instant::now(), known: Arc::default(), undecodable: Arc::default() }
    }
}

impl Runtimes {
    /// How long it is from `now` to the next turn of a namespace, where each has one in every `pause`.
    pub(super) fn turn(&self, namespace: &str, pause: Duration, now: Instant) -> Duration {
        let policies = self.known.lock().unwrap_or_else(PoisonError::into_inner).len();
        turn(namespace, turns(policies), pause, now.saturating_duration_since(self.begun))
    }

    /// Whether more policies are known than are looked at at once.
    fn crowded(&self) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len() > AT_ONCE
    }

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
    pub(super) object: Box<LatencyIncident>,
    /// What its status should say: ahead of the object while a write has failed.
    pub(super) story: Box<LatencyIncidentStatus>,
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
    /// It was found, not closed by ourselves, and others may yet write to it.
    pub(super) unconfirmed: bool,
    /// The policy's object as this process last wrote its status, until the watch shows the same.
    written: Option<Box<LatencyPolicy>>,
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
            unconfirmed: false,
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

    /// How long one that has never been evaluated waits for that, where many are as new as it is.
    pub(super) fn first_look(&mut self, runtimes: &Runtimes, pause: Duration) -> Option<Duration> {
        if self.evaluated.is_some() {
            return None;
        }
        if self.due.is_none() && runtimes.crowded() {
            self.schedule(runtimes, pause);
        }
        self.due?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }

    /// How long ago the next evaluation was due; nothing for the first, and for one that comes earlier.
    pub(super) fn late(&self) -> Option<Duration> {
        Instant::now().checked_duration_since(self.due?)
    }

    /// Notes that this version is being evaluated.
    pub(super) fn evaluating(&mut self, object: &LatencyPolicy) {
        self.evaluated = Some((object.metadata.generation.unwrap_or_default(), object.annotations().clone()));
    }

    /// The time to the next evaluation: the next turn of its namespace, a `pause` after the last one.
    pub(super) fn schedule(&mut self, runtimes: &Runtimes, pause: Duration) -> Duration {
        let now = Instant::now();
        let wait = PAUSE + runtimes.turn(&self.key.0, pause, now + PAUSE);
        self.due = Some(now + wait);
        wait
    }

    /// Keeps the object as it is since a write.
    pub(super) fn wrote(&mut self, written: Option<LatencyPolicy>) {
        self.written = written.map(|mut written| {
            // Who has changed what is longer than the rest of it.
            written.metadata.managed_fields = None;
            Box::new(written)
        });
    }

    /// Forgets what was written once the watch shows the same: it is kept once, not twice.
    pub(super) fn caught_up(&mut self, object: &LatencyPolicy) {
        self.written.take_if(|written| written.resource_version() == object.resource_version());
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

/// How many turns there are in an interval.
fn turns(policies: usize) -> u64 {
    let mut turns = TURNS;
    while turns * AT_ONE_TURN < policies {
        turns *= 2;
    }
    turns as u64
}

/// The time from `since` the first turn to the next one of that namespace.
fn turn(namespace: &str, turns: u64, pause: Duration, since: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    namespace.hash(&mut hasher);
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let pause = nanos(pause).max(1);
    let turn = (pause / turns) * (hasher.finish() % turns);
    let passed = nanos(since) % pause;
    Duration::from_nanos(if passed <= turn { turn - passed } else { turn + (pause - passed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(15);

    #[test]
    fn a_namespace_has_its_turn_once_in_each_pause_whenever_it_was_looked_at() {
        let first = turn("shop", 10, PAUSE, Duration::ZERO);
        assert!(first < PAUSE);
        for millis in [0, 1, 3_000, 14_999, 15_000, 100_000, 3_600_000] {
            let since = Duration::from_millis(millis);
            let wait = turn("shop", 10, PAUSE, since);
            assert!(wait < PAUSE, "{wait:?}");
            let passed = (since + wait - first).as_nanos();
            assert_eq!(passed % PAUSE.as_nanos(), 0, "{since:?}: {wait:?}");
        }
    }

    #[test]
    fn what_was_written_is_the_newest_until_the_watch_shows_it_and_is_not_kept_twice() {
        let object = |version: &str| -> LatencyPolicy {
            let metadata = serde_json::json!({
                "name": "orders-api", "resourceVersion": version, "generation": 1,
                "managedFields": [{"manager": "team"}],
            });
            let spec = serde_json::json!({"targetRef": {"name": "orders-api"}});
            serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let mut runtime = Runtime::new(("shop".to_owned(), "orders-api".to_owned()), "u".to_owned());
        runtime.wrote(Some(object("8")));
        let version = |runtime: &Runtime| runtime.newest(&object("7")).resource_version();
        runtime.caught_up(&object("7"));
        assert_eq!(version(&runtime).as_deref(), Some("8"), "the watch is behind");
        assert!(runtime.newest(&object("7")).metadata.managed_fields.is_none());
        runtime.caught_up(&object("8"));
        assert_eq!(version(&runtime).as_deref(), Some("7"), "nothing is kept any more");
    }

    #[test]
    fn namespaces_take_turns_and_many_policies_have_more_of_them() {
        let when = |turns| {
            let of = |number| turn(&format!("team-{number}"), turns, PAUSE, Duration::ZERO);
            (0..100).map(of).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(when(turns(1_000)), 10);
        assert_eq!(turns(10_000), 80);
        assert!(when(turns(10_000)) > 50);
    }

    #[test]
    fn of_very_many_each_waits_for_its_turn_to_be_looked_at_for_the_first_time() {
        let runtimes = Runtimes::default();
        let policy = |number: usize| -> LatencyPolicy {
            let metadata =
                serde_json::json!({"name": format!("web-{number}"), "namespace": "shop", "uid": "u"});
            let spec = serde_json::json!({"targetRef": {"name": "web"}});
            serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let first_look =
            |number| runtimes.of(&policy(number)).try_lock().unwrap().first_look(&runtimes, PAUSE);
        assert!((0..AT_ONCE).all(|number| first_look(number).is_none()));
        let waits: Vec<_> = (AT_ONCE..AT_ONCE + 3).map(first_look).collect();
        assert!(waits.iter().all(|wait| wait.is_some_and(|wait| wait < 2 * PAUSE)), "{waits:?}");
        let known = runtimes.of(&policy(AT_ONCE));
        let mut known = known.try_lock().unwrap();
        known.due = Some(Instant::now());
        assert_eq!(known.first_look(&runtimes, PAUSE), None, "its turn has come");
    }
}
