//! Looking at everything that a policy names. Every source is asked at the same time, each with its own time limit; what does
//! not answer is a missing value and delays nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::model::{
    NoData, NoDataReason, Observed, OperatorHealth, Policy, PostgresFacts, Probed, RedisFacts, RungAction,
    Target, Traffic, earlier,
};
use jiff::Timestamp;

use super::context::Shared;
use crate::observe::kubernetes::{Closely, Workloads};

/// While all is well a database is looked at so often.
const CALM: Duration = Duration::from_secs(60);
/// An evaluation waits so long for a database at most, and not longer than its interval: the objectives are judged all the
/// same, and the next evaluation finds what this one did not wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What was seen.
pub(super) struct Looked {
    pub(super) traffic: BTreeMap<String, Observed<Traffic>>,
    pub(super) probes: BTreeMap<String, Observed<Probed>>,
    pub(super) databases: BTreeMap<String, Observed<PostgresFacts>>,
    pub(super) caches: BTreeMap<String, Observed<RedisFacts>>,
    pub(super) target: Observed<Target>,
}

/// Looks at everything, closely where something is wrong.
pub(super) async fn at(shared: &Shared, workloads: &Workloads, policy: &Policy, alert: bool) -> Looked {
    let scales = policy.rungs.iter().any(|rung| matches!(rung.action, RungAction::Scale(_)));
    let closely = if alert { Closely::Yes { scales } } else { Closely::No };
    let caches = BTreeMap::new();
    let (traffic, probes, databases, target) = tokio::join!(
        shared.prometheus.traffic(policy, alert),
        shared.probes.probed(policy),
        databases(shared, policy, alert),
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

async fn databases(
    shared: &Shared,
    policy: &Policy,
    alert: bool,
) -> BTreeMap<String, Observed<PostgresFacts>> {
    // In trouble half an interval: whoever else has just looked has looked for us too.
    let max_age = if alert { policy.evaluation.interval.min(Duration::from_secs(1)) / 2 } else { CALM };
    let patience = policy.evaluation.interval.clamp(Duration::from_secs(1), ANSWER_WITHIN);
    let reads = policy.databases().map(|(name, postgres)| async move {
        let (databases, namespace) = (shared.databases.clone(), policy.id.namespace.clone());
        let secret = postgres.secret.clone();
        let reading = tokio::spawn(async move { databases.facts(&namespace, &secret, max_age).await });
        let observed = match tokio::time::timeout(patience, reading).await {
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
        (name.clone(), observed)
    });
    futures::future::join_all(reads).await.into_iter().collect()
}
