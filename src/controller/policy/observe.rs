//! Putting a policy's Snapshot together.

use std::time::Instant;

use engine::model::{Incident, PausedBy, Policy, Severity, Snapshot};
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::{Error, Runtime};
use crate::api::text::Word;
use crate::api::{LatencyIncident, LatencyPolicy};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::controller::look::{self, Looked};
use crate::controller::policy::runtime::OpenIncident;
use crate::observe::kubernetes::pause;

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
    let Looked { traffic, databases, target } = look::at(&ctx.shared, &ctx.workloads, &policy, alert).await;
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
        operator: look::health(shared, now),
        policy,
    })
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
