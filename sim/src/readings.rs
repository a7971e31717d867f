//! What a process has read of data stores and targets, and for how long it is good enough.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller::ports::Cadence;
use engine::invariants::Seen;
use engine::model::{
    NoDataReason, Observed, Policy, PolicyRef, PostgresFacts, RedisFacts, RedisLook, TargetRef,
};
use futures::future::{Either, select};
use jiff::Timestamp;

use crate::exec::{Micros, Slot, lock};
use crate::process::Process;
use crate::work::micros;
use crate::world::World;
use crate::world::setup::{cache_of, database_of};
use crate::world::target::Metadata;

/// What could not be read is read again after this long, also while all is well.
const RETRY: Duration = Duration::from_secs(5);

/// What a process has read.
#[derive(Default)]
pub struct Readings {
    databases: Cached<PostgresFacts>,
    caches: Cached<RedisFacts>,
    /// Metadata of targets, as the watch has shown it.
    targets: Mutex<BTreeMap<(String, TargetRef), Metadata>>,
    /// What the objectives of a policy truly said when they were read last.
    truths: Mutex<BTreeMap<PolicyRef, Truth>>,
}

/// What the objectives of a policy truly said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Truth {
    /// Those of a metrics backend.
    pub(crate) traffic: Option<Seen>,
    /// Those that are probed.
    pub(crate) probes: Option<Seen>,
}

impl Truth {
    /// Of all objectives together: broken if one is, and well only if all are.
    pub(crate) fn of_all(self) -> Seen {
        match (self.traffic, self.probes) {
            (Some(Seen::Breached), _) | (_, Some(Seen::Breached)) => Seen::Breached,
            (Some(seen), None | Some(Seen::Healthy)) | (None, Some(seen)) => seen,
            (Some(_), Some(_)) | (None, None) => Seen::Dark,
        }
    }
}

/// What was read of one data store.
struct Kept<T> {
    newest: Option<(Micros, Observed<T>)>,
    /// The last reading that succeeded.
    known: Option<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { newest: None, known: None }
    }
}

type Entry<T> = Arc<futures::lock::Mutex<Kept<T>>>;

/// The newest reading of each data store, by its Secret. Who asks at the same time shares one.
pub(crate) struct Cached<T>(Mutex<BTreeMap<String, Entry<T>>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Cached<T> {
    fn entry(&self, secret: &str) -> Entry<T> {
        lock(&self.0).entry(secret.to_owned()).or_default().clone()
    }
}

/// A reading that is young enough.
fn young<T: Clone>(
    known: Option<&(Micros, Observed<T>)>,
    now: Micros,
    max_age: Duration,
) -> Option<Observed<T>> {
    let (at, observed) = known?;
    let trusted = if observed.known().is_some() { max_age } else { max_age.min(RETRY) };
    (now.saturating_sub(*at) < micros(trusted)).then(|| observed.clone())
}

/// What is read of a kind of data store.
pub(crate) trait Store: Clone + Send + Sized + 'static {
    fn cached(readings: &Readings) -> &Cached<Self>;
    fn read(world: &mut World, secret: &str) -> Result<Self, NoDataReason>;
    /// The same, compared with the last one.
    fn after(self, _at: Timestamp, _previous: Option<&Self>) -> Self {
        self
    }
}

impl Store for PostgresFacts {
    fn cached(readings: &Readings) -> &Cached<Self> {
        &readings.databases
    }

    fn read(world: &mut World, secret: &str) -> Result<Self, NoDataReason> {
        let now = world.now;
        let place = database_of(secret).ok_or(NoDataReason::SecretNotFound)?;
        let database = world.databases.get(place).ok_or(NoDataReason::SecretNotFound)?;
        if now < database.down_until.max(database.mute_until) {
            return Err(NoDataReason::Unreachable);
        }
        Ok(database.facts(now, world.connections(place)))
    }
}

impl Store for RedisFacts {
    fn cached(readings: &Readings) -> &Cached<Self> {
        &readings.caches
    }

    fn read(world: &mut World, secret: &str) -> Result<Self, NoDataReason> {
        let now = world.now;
        let cache = cache_of(secret).and_then(|place| world.caches.get_mut(place));
        let cache = cache.ok_or(NoDataReason::SecretNotFound)?;
        if now < cache.down_until {
            return Err(NoDataReason::Unreachable);
        }
        cache.settle(now);
        Ok(cache.facts(now).into())
    }

    fn after(self, at: Timestamp, previous: Option<&Self>) -> Self {
        RedisLook::clone(&self).after(at, previous.map(|known| &**known))
    }
}

/// A reading that goes on by itself.
async fn read<T: Store>(process: &Process, entry: &Entry<T>, secret: &str, max_age: Duration) -> Observed<T> {
    let mut known = entry.lock().await;
    if let Some(observed) = young(known.newest.as_ref(), process.sim.now(), max_age) {
        return observed;
    }
    let took = process.sim.world().answer_time();
    process.sim.sleep(took).await;
    let observed = match T::read(&mut process.sim.world(), secret) {
        Ok(value) => {
            let at = process.now();
            let value = value.after(at, known.known.as_ref());
            known.known = Some(value.clone());
            Observed::Known { at, value }
        }
        Err(reason @ NoDataReason::SecretNotFound) => Observed::missing(reason, "there is no such Secret"),
        Err(reason) => Observed::missing(reason, "no answer"),
    };
    known.newest = Some((process.sim.now(), observed.clone()));
    observed
}

impl Process {
    /// The newest reading of a data store if it is young enough, or else a new one.
    pub(crate) async fn facts<T: Store>(self: &Arc<Self>, secret: &str, cadence: Cadence) -> Observed<T> {
        let entry = T::cached(&self.readings).entry(secret);
        let known =
            entry.try_lock().and_then(|known| young(known.newest.as_ref(), self.sim.now(), cadence.max_age));
        if let Some(known) = known {
            return known;
        }
        let (slot, own, secret) = (Slot::default(), self.clone(), secret.to_owned());
        let filled = slot.clone();
        self.sim.spawn(self.node, async move {
            filled.fill(read(&own, &entry, &secret, cadence.max_age).await);
        });
        match select(slot, self.sim.sleep(micros(cadence.patience))).await {
            Either::Left((observed, _)) => observed,
            Either::Right(_) => Observed::missing(NoDataReason::Timeout, "no answer in time"),
        }
    }

    /// What the watch shows of a target: one that stalls, or is broken, shows what was there before.
    pub(crate) fn metadata(&self, namespace: &str, target: &TargetRef) -> Option<Metadata> {
        let broken = lock(&self.watched).broken_until;
        let world = self.sim.world();
        let stalled = world.faults.watch_stalled.get(self.node).copied().unwrap_or(0);
        let mut shown = lock(&self.readings.targets);
        let key = (namespace.to_owned(), target.clone());
        if let Some(known) = shown.get(&key).filter(|_| world.now < stalled.max(broken)) {
            return Some(known.clone());
        }
        let found = world.metadata(namespace, target)?;
        shown.insert(key, found.clone());
        Some(found)
    }

    /// Notes what the objectives of a policy truly said.
    pub(crate) fn note_truth(&self, policy: &Policy, note: impl FnOnce(&mut Truth)) {
        note(lock(&self.readings.truths).entry(policy.id.clone()).or_default());
    }

    /// What the objectives of a policy truly said when they were read last.
    pub(crate) fn truth(&self, policy: &Policy) -> Seen {
        lock(&self.readings.truths).get(&policy.id).copied().unwrap_or_default().of_all()
    }
}
