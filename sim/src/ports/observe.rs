//! What a process reads of sources, data stores and targets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller::objects::Observations;
use controller::ports::{Cadence, Detail, Observe};
use engine::advance::Look;
use engine::invariants::{Reading, Seen, What};
use engine::model::{
    Action, Bucket, ByName, Coverage, NoData, NoDataReason, Observed, Pause, Policy, PolicyRef,
    PostgresDependency, PostgresFacts, Probed, RedisDependency, RedisFacts, Source, Target, TargetRef,
    Traffic, TrafficWindow,
};
use futures::future::{Either, select};

use super::Port;
use crate::exec::{MS, Micros, Slot, lock};
use crate::planted;
use crate::process::Process;
use crate::work::micros;
use crate::world::World;
use crate::world::api::ApiError;
use crate::world::faults::Op;
use crate::world::setup::{cache_of, database_of, place_of_target};
use crate::world::target::Metadata;

/// How often the metrics backend can say something new.
const RESOLUTION: Duration = Duration::from_secs(5);
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

#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    traffic: Option<Seen>,
    probes: Option<Seen>,
}

impl Truth {
    /// Of all objectives together: broken if one is, and well only if all are.
    fn of_all(self) -> Seen {
        match (self.traffic, self.probes) {
            (Some(Seen::Breached), _) | (_, Some(Seen::Breached)) => Seen::Breached,
            (Some(seen), None | Some(Seen::Healthy)) | (None, Some(seen)) => seen,
            (Some(_), Some(_)) | (None, None) => Seen::Dark,
        }
    }
}

type Entry<T> = Arc<futures::lock::Mutex<Option<(Micros, Observed<T>)>>>;

/// The newest reading of each data store, by its Secret. Who asks at the same time shares one.
struct Cached<T>(Mutex<BTreeMap<String, Entry<T>>>);

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
trait Store: Clone + Send + Sized + 'static {
    fn cached(readings: &Readings) -> &Cached<Self>;
    fn read(world: &mut World, secret: &str) -> Result<Self, NoDataReason>;
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
        Ok(cache.facts(now))
    }
}

/// A reading that goes on by itself.
async fn read<T: Store>(process: &Process, entry: &Entry<T>, secret: &str, max_age: Duration) -> Observed<T> {
    let mut known = entry.lock().await;
    if let Some(observed) = young(known.as_ref(), process.sim.now(), max_age) {
        return observed;
    }
    let took = process.sim.world().answer_time();
    process.sim.sleep(took).await;
    let observed = match T::read(&mut process.sim.world(), secret) {
        Ok(value) => Observed::Known { at: process.now(), value },
        Err(reason @ NoDataReason::SecretNotFound) => Observed::missing(reason, "there is no such Secret"),
        Err(reason) => Observed::missing(reason, "no answer"),
    };
    *known = Some((process.sim.now(), observed.clone()));
    observed
}

impl Port {
    async fn facts<T: Store>(&self, secret: &str, cadence: Cadence) -> Observed<T> {
        let process = &self.0;
        let entry = T::cached(&process.readings).entry(secret);
        let known =
            entry.try_lock().and_then(|known| young(known.as_ref(), process.sim.now(), cadence.max_age));
        if let Some(known) = known {
            return known;
        }
        let (slot, own, secret) = (Slot::default(), process.clone(), secret.to_owned());
        let filled = slot.clone();
        process.sim.spawn(process.node, async move {
            filled.fill(read(&own, &entry, &secret, cadence.max_age).await);
        });
        match select(slot, process.sim.sleep(micros(cadence.patience))).await {
            Either::Left((observed, _)) => observed,
            Either::Right(_) => Observed::missing(NoDataReason::Timeout, "no answer in time"),
        }
    }

    /// What the watch shows of a target: one that stalls, or is broken, shows what was there before.
    fn metadata(&self, namespace: &str, target: &TargetRef) -> Option<Metadata> {
        let process = &self.0;
        let broken = lock(&process.watched).broken_until;
        let world = process.sim.world();
        let stalled = world.faults.watch_stalled.get(process.node).copied().unwrap_or(0);
        let mut shown = lock(&process.readings.targets);
        let key = (namespace.to_owned(), target.clone());
        if let Some(known) = shown.get(&key).filter(|_| world.now < stalled.max(broken)) {
            return Some(known.clone());
        }
        let found = world.metadata(namespace, target)?;
        shown.insert(key, found.clone());
        Some(found)
    }

    fn note(&self, policy: &Policy, note: impl FnOnce(&mut Truth)) {
        note(lock(&self.0.readings.truths).entry(policy.id.clone()).or_default());
    }
}

impl Observe for Port {
    async fn traffic(&self, policy: &Policy, _: bool) -> ByName<Observed<Traffic>> {
        let sim = &self.0.sim;
        let took = sim.world().dice.between(2 * MS, 60 * MS);
        sim.sleep(took).await;
        let ours = self.0.now();
        let measured = {
            let mut world = sim.world();
            let down = world.faults.metrics_down.get(self.0.node).copied().unwrap_or(0);
            let place = place_of(policy).filter(|_| world.now >= down);
            place.and_then(|place| world.traffic(place, policy.evaluation.window))
        };
        let (mut observed, truth) = match measured {
            Some((value, seen)) => (Observed::Known { at: ours, value }, seen),
            None => (Observed::missing(NoDataReason::Timeout, "no answer"), Seen::Dark),
        };
        self.note(policy, |known| known.traffic = Some(truth));
        if observed.known().is_none() && planted::is("missing_metrics_are_zero") {
            observed = Observed::Known { at: ours, value: all_fast(policy, ours) };
        }
        let measured = |source: &Source| matches!(source, Source::Prometheus { .. });
        let objectives = policy.objectives.iter().filter(|objective| measured(&objective.source));
        objectives.map(|objective| (objective.name.clone(), observed.clone())).collect()
    }

    async fn probes(&self, policy: &Policy) -> ByName<Observed<Probed>> {
        let (sim, mut probes) = (&self.0.sim, ByName::new());
        for (name, source) in policy.probes() {
            let answer = place_of(policy).and_then(|place| sim.world().probe(place, source.timeout));
            let Some((probed, truth)) = answer else { continue };
            sim.sleep(micros(probed.timing.total)).await;
            self.note(policy, |known| known.probes = Some(truth));
            probes.insert(name.to_owned(), Observed::Known { at: self.0.now(), value: probed });
        }
        probes
    }

    async fn postgres(
        &self,
        _: &str,
        dependency: &PostgresDependency,
        cadence: Cadence,
    ) -> Observed<PostgresFacts> {
        self.facts(&dependency.secret, cadence).await
    }

    async fn redis(&self, _: &str, dependency: &RedisDependency, cadence: Cadence) -> Observed<RedisFacts> {
        self.facts(&dependency.secret, cadence).await
    }

    async fn target(&self, namespace: &str, target: &TargetRef, detail: Detail) -> Observed<Target> {
        let found = match detail {
            Detail::Watched => self.metadata(namespace, target).map(|found| Target {
                uid: found.uid,
                workload: None,
                opt_out: found.opt_out,
            }),
            Detail::Live { autoscalers } => {
                let (namespace, target) = (namespace.to_owned(), target.clone());
                let read = move |world: &mut World| {
                    let now = world.now;
                    world.refresh();
                    let found = world.target(&namespace, &target).ok_or(ApiError::NotFound)?;
                    let mut workload = found.workload(now);
                    if !autoscalers {
                        workload.autoscalers = Observed::missing(NoDataReason::NotYetRead, "");
                    }
                    let (uid, opt_out) = (found.uid.clone(), found.opt_out.clone());
                    Ok(Target { uid, workload: Some(workload), opt_out })
                };
                self.0.ask(Op::Read, read).await.ok()
            }
        };
        match found {
            Some(value) => Observed::Known { at: self.0.now(), value },
            None => Observed::missing(NoDataReason::ApiUnavailable, "the target cannot be asked for"),
        }
    }

    /// Tells the checker what was there to be seen.
    fn observed(&self, policy: &Policy, observations: &Observations) {
        let readable = |observed: &Observed<PostgresFacts>| {
            observed.known().is_some_and(|facts| facts.coverage == Coverage::Full)
        };
        let all = observations.databases.values().all(readable);
        let truth = lock(&self.0.readings.truths).get(&policy.id).copied().unwrap_or_default();
        self.0.sim.world().tell(What::Reading(Reading {
            policy: policy.id.clone(),
            reader: self.0.identity.clone(),
            objectives: truth.of_all(),
            databases: Some(if all { Seen::Healthy } else { Seen::Dark }),
        }));
    }

    fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause> {
        self.metadata(namespace, target).map(|found| found.pauses).unwrap_or_default()
    }

    fn problems(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        let measured = |source: &Source| matches!(source, Source::Prometheus { .. });
        policy.objectives.iter().any(|objective| measured(&objective.source)).then_some(RESOLUTION)
    }

    async fn session(&self, _: &str, action: &Action) -> Look {
        let unreadable = |reason| Look::Unreadable(NoData::new(reason, "it cannot be asked for"));
        let took = self.0.sim.world().answer_time();
        self.0.sim.sleep(took).await;
        let Some(target) = action.session() else { return unreadable(NoDataReason::NotFound) };
        let world = self.0.sim.world();
        let database = database_of(&target.secret).and_then(|place| world.databases.get(place));
        match database {
            Some(database) if world.now >= database.down_until.max(database.mute_until) => {
                if database.runs(action, &target.session) { Look::Running } else { Look::Gone }
            }
            Some(_) | None => unreadable(NoDataReason::Unreachable),
        }
    }
}

fn place_of(policy: &Policy) -> Option<usize> {
    place_of_target(&policy.id.namespace, &policy.target)
}

/// What somebody would see who takes a missing series for "nobody was slow".
fn all_fast(policy: &Policy, at: jiff::Timestamp) -> Traffic {
    let bucket = |le: f64| Bucket { le, count: 1000.0 };
    Traffic::from(TrafficWindow {
        window: policy.evaluation.window,
        buckets: [0.5, 2.5, f64::INFINITY].map(bucket).to_vec(),
        in_flight: Observed::Known { at, value: 0.0 },
        errors: Observed::Known { at, value: 0.0 },
        views: Observed::missing(NoDataReason::NotYetRead, ""),
    })
}
