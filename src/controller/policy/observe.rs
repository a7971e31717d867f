//! Putting a Snapshot together. Every source is asked at the same time, each with its own time limit; what does not answer
//! is a missing value and delays nobody else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::model::{
    Dependency, Incident, NoData, NoDataReason, Observed, OperatorHealth, PausedBy, Policy, PostgresFacts,
    Severity, Snapshot, earlier,
};
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::{Error, Runtime};
use crate::api::text::Word;
use crate::api::{LatencyIncident, LatencyPolicy};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::controller::policy::runtime::OpenIncident;
use crate::observe::kubernetes::pause;

/// While all is well a database is looked at so often.
const CALM: Duration = Duration::from_secs(60);
/// An evaluation waits so long for a database at most, and not longer than its interval: the objectives are judged all the
/// same, and the next evaluation finds what this one did not wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn snapshot(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    policy: Policy,
) -> Result<Snapshot, Error> {
    runtime.evaluating(object);
    adopt(ctx, runtime, object).await?;
    let shared = &ctx.shared;
    let alert = runtime.state().alert;
    let namespace = policy.id.namespace.clone();
    let started = Instant::now();
    let (traffic, databases, target) = tokio::join!(
        shared.prometheus.traffic(&policy, alert),
        databases(ctx, &policy, alert),
        ctx.workloads.target(&namespace, &policy.target, alert, shared.clock.now()),
    );
    shared.metrics.read("all", started.elapsed());
    let mut pauses = ctx.workloads.pauses(&namespace, &policy.target);
    pauses.extend(pause(object.annotations(), PausedBy::Policy));
    let incident = runtime.incident.as_ref().map(|open| open.facts.clone());
    let now = shared.clock.now();
    Ok(Snapshot {
        now,
        traffic,
        databases,
        target,
        pauses,
        remediations: shared
            .keeper
            .of_policy(runtime.key(), incident.as_ref().map(|open| open.name.as_str())),
        history: shared.keeper.history(runtime.key()),
        incident,
        next_ordinal: runtime.reserved.unwrap_or(runtime.ordinal.saturating_add(1)),
        operator: OperatorHealth {
            leading_since: shared.leading_since,
            api_contact_at: earlier(now, shared.leadership.since_contact()),
            api_contact_within: shared.lease.duration,
            enabled_actions: shared.actions.clone(),
            protected_roles: shared.protected_roles.clone(),
        },
        policy,
    })
}

async fn databases(ctx: &Context, policy: &Policy, alert: bool) -> BTreeMap<String, Observed<PostgresFacts>> {
    // In trouble half an interval: whoever else has just looked has looked for us too.
    let max_age = if alert { policy.evaluation.interval.min(Duration::from_secs(1)) / 2 } else { CALM };
    let patience = policy.evaluation.interval.clamp(Duration::from_secs(1), ANSWER_WITHIN);
    let reads = policy.dependencies.iter().map(|(name, dependency)| async move {
        let Dependency::Postgres(postgres) = dependency;
        let (databases, namespace) = (ctx.shared.databases.clone(), policy.id.namespace.clone());
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
            ctx.shared.metrics.no_data(&reason.to_string());
        }
        (name.clone(), observed)
    });
    futures::future::join_all(reads).await.into_iter().collect()
}

/// Once for each policy and leader: the incident that an earlier leader left open.
async fn adopt(ctx: &Context, runtime: &mut Runtime, object: &LatencyPolicy) -> Result<(), Error> {
    let status = object.status.clone().unwrap_or_default();
    let known = status.incident_ordinal.and_then(|ordinal| u64::try_from(ordinal).ok()).unwrap_or_default();
    runtime.ordinal = runtime.ordinal.max(known);
    if runtime.adopted {
        return Ok(());
    }
    if let Some(name) = &status.active_incident {
        let incidents: Api<DeserializeGuard<LatencyIncident>> =
            Api::namespaced(ctx.shared.client.clone(), &object.namespace().unwrap_or_default());
        let found = incidents.get_opt(&name.0).await.map_err(|error| Error::Read(brief(&error)))?;
        runtime.incident = match found {
            Some(DeserializeGuard(Ok(incident))) => open_incident(&name.0, incident),
            Some(DeserializeGuard(Err(undecodable))) => {
                let error = undecodable.error.chars().take(200).collect::<String>();
                tracing::warn!(
                    name = name.0,
                    error,
                    "the open incident cannot be decoded; it is left as it is"
                );
                None
            }
            None => None,
        };
    }
    runtime.adopted = true;
    Ok(())
}

/// The engine's view of a stored incident, if it is still open.
pub(super) fn open_incident(name: &str, object: LatencyIncident) -> Option<OpenIncident> {
    let status = object.status.clone().unwrap_or_default();
    if status.phase.as_ref().is_some_and(|phase| phase.0 == "Closed") {
        return None;
    }
    let severity = match status.severity.as_ref().map(|word: &Word| word.0.as_str()) {
        Some("P0") => Severity::P0,
        Some("P1") => Severity::P1,
        _ => Severity::P2,
    };
    let facts = Incident {
        name: name.to_owned(),
        ordinal: u64::try_from(object.spec.ordinal).unwrap_or_default(),
        first_breached_at: object.spec.first_breached_at.0,
        opened_at: object.spec.opened_at.0,
        severity,
    };
    Some(OpenIncident { facts, object, story: status })
}
