//! Looking at everything that a policy names. Every source is asked at the same time, each with its own time limit; what does
//! not answer is a missing value and delays nobody else.

use std::time::Duration;

use engine::model::{
    ByName, CacheMemory, NoData, NoDataReason, Observed, OperatorHealth, Policy, PostgresFacts, Probed,
    RedisFacts, RungAction, State, Target, Traffic, earlier,
};
use jiff::Timestamp;

use super::context::Shared;
use crate::observe::kubernetes::{Closely, Workloads};

/// While all is well a database, or a Redis server, is looked at so often.
const CALM: Duration = Duration::from_secs(60);
/// An evaluation waits so long for one of them at most, and not longer than its interval: the objectives are judged all the
/// same, and the next evaluation finds what this one did not wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What was seen.
pub(super) struct Looked {
    pub(super) traffic: ByName<Observed<Traffic>>,
    pub(super) probes: ByName<Observed<Probed>>,
    pub(super) databases: ByName<Observed<PostgresFacts>>,
    pub(super) caches: ByName<Observed<RedisFacts>>,
    pub(super) target: Observed<Target>,
}

/// Looks at everything, closely where something is wrong. `state` is what is remembered of the policy.
pub(super) async fn at(shared: &Shared, workloads: &Workloads, policy: &Policy, state: &State) -> Looked {
    let alert = state.alert;
    let scales = policy.rungs.iter().any(|rung| matches!(rung.action, RungAction::Scale(_)));
    let closely = if alert { Closely::Yes { scales } } else { Closely::No };
    let (traffic, probes, databases, caches, target) = tokio::join!(
        shared.prometheus.traffic(policy, alert),
        shared.probes.probed(policy),
        databases(shared, policy, alert),
        caches(shared, policy, state),
        workloads.target(&policy.id.namespace, &policy.target, closely, shared.clock.now()),
    );
    Looked { traffic, probes, databases, caches, target }
}

/// What the operator knows about itself.
pub(super) fn health(shared: &Shared, now: Timestamp) -> OperatorHealth {
    OperatorHealth {
        leading_since: shared.leading_since,
        api_contact_at: earlier(now, shared.leadership.since_contact()),
        api_contact_within: shared.lease.duration,
        enabled_actions: shared.actions.clone(),
        protected_roles: shared.protected_roles.clone(),
    }
}

/// How a dependency is looked at: how old a look may be, and how long it is waited for.
#[derive(Clone, Copy)]
struct Cadence {
    max_age: Duration,
    patience: Duration,
}

impl Cadence {
    fn of(policy: &Policy, alert: bool, calm: Duration) -> Self {
        let interval = policy.evaluation.interval;
        // In trouble half an interval: whoever else has just looked has looked for us too.
        let max_age = if alert { interval.min(Duration::from_secs(1)) / 2 } else { calm };
        Self { max_age, patience: interval.clamp(Duration::from_secs(1), ANSWER_WITHIN) }
    }
}

async fn databases(shared: &Shared, policy: &Policy, alert: bool) -> ByName<Observed<PostgresFacts>> {
    let Cadence { max_age, patience } = Cadence::of(policy, alert, CALM);
    let reads = policy.databases().map(|(name, postgres)| async move {
        let (databases, namespace) = (shared.databases.clone(), policy.id.namespace.clone());
        let secret = postgres.secret.clone();
        let look = async move { databases.facts(&namespace, &secret, max_age).await };
        (name.clone(), patiently(shared, patience, look).await)
    });
    futures::future::join_all(reads).await.into_iter().collect()
}

async fn caches(shared: &Shared, policy: &Policy, state: &State) -> ByName<Observed<RedisFacts>> {
    // How a cache does is the difference of two looks within one window.
    let calm = CALM.min(policy.evaluation.window / 2);
    let reads = policy.caches().map(|(name, redis)| async move {
        // Until it is known what is usual for it, that is learned at every look at the objectives.
        let usual_is_known = state.caches.get(name).is_some_and(CacheMemory::knows_what_is_usual);
        let calm = if usual_is_known { calm } else { calm.min(policy.evaluation.interval / 2) };
        let Cadence { max_age, patience } = Cadence::of(policy, state.alert, calm);
        let (caches, namespace) = (shared.caches.clone(), policy.id.namespace.clone());
        let secret = redis.secret.clone();
        let look = async move { caches.facts(&namespace, &secret, max_age).await };
        (name.clone(), patiently(shared, patience, look).await)
    });
    futures::future::join_all(reads).await.into_iter().collect()
}

/// What a look finds within our patience. It goes on without us: whoever asks next finds what it has found.
async fn patiently<T: Send + 'static>(
    shared: &Shared,
    patience: Duration,
    look: impl Future<Output = Observed<T>> + Send + 'static,
) -> Observed<T> {
    let observed = match tokio::time::timeout(patience, tokio::spawn(look)).await {
        Ok(Ok(observed)) => observed,
        Ok(Err(_)) => Observed::missing(NoDataReason::QueryFailed, "the task that read it was stopped"),
        Err(_) => {
            let detail = format!("no answer within {}", engine::model::duration::human(patience));
            Observed::missing(NoDataReason::Timeout, detail)
        }
    };
    if let Observed::Missing(NoData { reason, .. }) = &observed {
        shared.metrics.no_data(&reason.to_string());
    }
    observed
}
