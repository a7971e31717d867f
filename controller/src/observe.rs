//! Reading everything that a policy names, each source at its own cadence. What does not answer is a missing value and
//! delays nothing else.

use std::time::Duration;

use engine::State;
use engine::model::{ByName, Evaluation, Facts, NoData, Observations, Observed, Place, Policy, TargetRef};

use crate::Controllers;
use crate::objects::Measurement;
use crate::ports::{Announce, Cadence, Detail, Environment, Observe, Timer};

/// How old a reading of a dependency may be while all is well.
const CALM: Duration = Duration::from_secs(60);
/// How long an evaluation waits for one dependency at most, and not longer than its interval. The objectives are judged all
/// the same, and the next evaluation finds what this one did not wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Cadence {
    fn of(policy: &Policy, elevated: bool, calm: Duration) -> Self {
        let interval = policy.evaluation.interval;
        // In trouble half an interval: what another policy has just read is as good as a reading of our own.
        let max_age = if elevated { interval.min(Duration::from_secs(1)) / 2 } else { calm };
        Self { max_age, patience: interval.clamp(Duration::from_secs(1), ANSWER_WITHIN) }
    }
}

impl<E: Environment> Controllers<E> {
    /// Reads everything, closely where something is wrong. `state` is what is remembered of the policy.
    pub(crate) async fn observe(&self, policy: &Policy, state: &State) -> Observations {
        let observe = &self.ports.observe;
        let elevated = state.memory.alert;
        let started = self.ports.time.monotonic();
        let (measurements, dependencies, target) = futures::join!(
            observe.measurements(policy, elevated),
            self.dependencies(policy, state),
            observe.target(&policy.id.namespace, &policy.target, detail(policy, &policy.target, elevated)),
        );
        let took = self.ports.time.monotonic().saturating_sub(started);
        self.ports.announce.measure(Measurement::Read(took));
        let observations = Observations { measurements, dependencies, ..Observations::new(target) };
        observe.observed(policy, &observations);
        observations
    }

    async fn dependencies(&self, policy: &Policy, state: &State) -> ByName<Observed<Facts>> {
        let Evaluation { window, interval, .. } = policy.evaluation;
        let memory = &state.memory;
        let reads = policy.by_kind().into_iter().map(|(name, declared)| async move {
            let wanted = declared.kind().wants_within(memory.dependencies.get(name), window, interval);
            let cadence = Cadence::of(policy, memory.alert, wanted.map_or(CALM, |within| CALM.min(within)));
            let (observe, namespace) = (&self.ports.observe, &policy.id.namespace);
            let read = match declared.place() {
                Place::Store(secret) => observe.dependency(namespace, declared.kind(), secret, cadence).await,
                Place::Workload { target, facts } => {
                    observe.target(namespace, target, detail(policy, target, memory.alert)).await.map(facts)
                }
            };
            (name.clone(), self.counted(read))
        });
        futures::future::join_all(reads).await.into_iter().collect()
    }

    fn counted<T>(&self, observed: Observed<T>) -> Observed<T> {
        if let Observed::Missing(NoData { reason, .. }) = &observed {
            self.ports.announce.measure(Measurement::NoData(*reason));
        }
        observed
    }
}

/// How much is read of a workload that a policy names: what else scales it only where a remediation would.
fn detail(policy: &Policy, workload: &TargetRef, elevated: bool) -> Detail {
    if !elevated {
        return Detail::Watched;
    }
    Detail::Live { autoscalers: policy.rungs.iter().any(|rung| policy.changes(rung) == Some(workload)) }
}
