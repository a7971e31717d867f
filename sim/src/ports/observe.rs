//! Sources of objectives, data stores and targets, as a process reaches them.

use std::time::Duration;

use controller::ports::{Cadence, Detail, Observe};
use engine::effects::{Inspection, SignalSession};
use engine::invariants::{Reading, Seen, What};
use engine::model::{
    Bucket, ByName, Coverage, DependencyKind, Facts, Measurement, NoDataReason, Observations, Observed,
    Pause, Policy, PostgresFacts, Probed, RedisFacts, SecretRef, Target, TargetRef, Traffic, TrafficWindow,
};

use super::Port;
use crate::exec::MS;
use crate::planted;
use crate::work::micros;
use crate::world::World;
use crate::world::faults::Op;
use crate::world::setup::place_of_target;

/// How often the metrics backend can say something new.
const RESOLUTION: Duration = Duration::from_secs(5);

impl Observe for Port {
    async fn measurements(&self, policy: &Policy, _: bool) -> ByName<Observed<Measurement>> {
        let (traffic, probes) = futures::join!(self.traffic(policy), self.probes(policy));
        let traffic = traffic.into_iter().map(|(name, read)| (name, read.map(Into::into)));
        let probes = probes.into_iter().map(|(name, read)| (name, read.map(Into::into)));
        traffic.chain(probes).collect()
    }

    async fn dependency(
        &self,
        _: &str,
        kind: DependencyKind,
        secret: &SecretRef,
        cadence: Cadence,
    ) -> Observed<Facts> {
        let secret = &secret.name;
        match kind {
            DependencyKind::Postgres => self.0.facts::<PostgresFacts>(secret, cadence).await.map(Facts::from),
            DependencyKind::Redis => self.0.facts::<RedisFacts>(secret, cadence).await.map(Facts::from),
            DependencyKind::PgBouncer | DependencyKind::Workers => {
                Observed::missing(NoDataReason::NotFound, "the simulation has no such server")
            }
        }
    }

    async fn target(&self, namespace: &str, target: &TargetRef, detail: Detail) -> Observed<Target> {
        let found = match detail {
            Detail::Watched => self.0.metadata(namespace, target).map(|found| Target {
                uid: found.uid,
                workload: None,
                opt_out: found.opt_out,
            }),
            Detail::Live { autoscalers } => {
                let (namespace, target) = (namespace.to_owned(), target.clone());
                let read = move |world: &mut World| world.read_target(&namespace, &target, autoscalers);
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
        let readable = |(name, _): (&String, _)| matches!(observations.postgres(name), Some(Ok((_, facts))) if facts.coverage == Coverage::Full);
        let all = policy.databases().all(readable);
        self.0.sim.world().tell(What::Reading(Reading {
            policy: policy.id.clone(),
            reader: self.0.identity.clone(),
            objectives: self.0.truth(policy),
            databases: Some(if all { Seen::Healthy } else { Seen::Dark }),
        }));
    }

    fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause> {
        self.0.metadata(namespace, target).map(|found| found.pauses).unwrap_or_default()
    }

    fn problems(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        policy.objectives.iter().any(|objective| objective.source.timed().is_none()).then_some(RESOLUTION)
    }

    async fn session(&self, _: &str, signal: &SignalSession) -> Inspection {
        let took = self.0.sim.world().answer_time();
        self.0.sim.sleep(took).await;
        self.0.sim.world().session(signal)
    }
}

impl Port {
    async fn traffic(&self, policy: &Policy) -> ByName<Observed<Traffic>> {
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
        self.0.note_truth(policy, |known| known.traffic = Some(truth));
        if observed.known().is_none() && planted::is("missing_metrics_are_zero") {
            observed = Observed::Known { at: ours, value: all_fast(policy, ours) };
        }
        let objectives = policy.objectives.iter().filter(|objective| objective.source.timed().is_none());
        objectives.map(|objective| (objective.name.clone(), observed.clone())).collect()
    }

    async fn probes(&self, policy: &Policy) -> ByName<Observed<Probed>> {
        let (sim, mut probes) = (&self.0.sim, ByName::new());
        for (name, source) in policy.probes() {
            let answer = place_of(policy).and_then(|place| sim.world().probe(place, source.timeout));
            let Some((probed, truth)) = answer else { continue };
            sim.sleep(micros(probed.timing.total)).await;
            self.0.note_truth(policy, |known| known.probes = Some(truth));
            probes.insert(name.to_owned(), Observed::Known { at: self.0.now(), value: probed });
        }
        probes
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
