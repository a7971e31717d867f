//! Reading everything that a policy names, each source at its own cadence. What does not answer is a missing value and
//! delays nothing else.

use std::time::Duration;

use engine::State;
use engine::model::{ByName, CacheMemory, NoData, Observed, Policy, PostgresFacts, RedisFacts, RungAction};

use crate::Controllers;
use crate::objects::{Measurement, Observations};
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
        let autoscalers = policy.rungs.iter().any(|rung| matches!(rung.action, RungAction::Scale(_)));
        let detail = if elevated { Detail::Live { autoscalers } } else { Detail::Watched };
        let started = self.ports.time.monotonic();
        let (traffic, probes, databases, caches, target) = futures::join!(
            observe.traffic(policy, elevated),
            observe.probes(policy),
            self.databases(policy, elevated),
            self.caches(policy, state),
            observe.target(&policy.id.namespace, &policy.target, detail),
        );
        let took = self.ports.time.monotonic().saturating_sub(started);
        self.ports.announce.measure(Measurement::Read(took));
        let observations = Observations { traffic, probes, databases, caches, target };
        observe.observed(policy, &observations);
        observations
    }

    async fn databases(&self, policy: &Policy, elevated: bool) -> ByName<Observed<PostgresFacts>> {
        let cadence = Cadence::of(policy, elevated, CALM);
        let reads = policy.databases().map(|(name, postgres)| async move {
            let read = self.ports.observe.postgres(&policy.id.namespace, postgres, cadence).await;
            (name.clone(), self.counted(read))
        });
        futures::future::join_all(reads).await.into_iter().collect()
    }

    async fn caches(&self, policy: &Policy, state: &State) -> ByName<Observed<RedisFacts>> {
        // How a cache does is the difference of two readings within one window.
        let calm = CALM.min(policy.evaluation.window / 2);
        let reads = policy.caches().map(|(name, redis)| async move {
            // Until its baseline is known it is learned at every evaluation.
            let has_baseline = state.memory.caches.get(name).is_some_and(CacheMemory::knows_what_is_usual);
            let calm = if has_baseline { calm } else { calm.min(policy.evaluation.interval / 2) };
            let cadence = Cadence::of(policy, state.memory.alert, calm);
            let read = self.ports.observe.redis(&policy.id.namespace, redis, cadence).await;
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
