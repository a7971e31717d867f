//! Telling people: the policy's status, the incident's story, Events, logs, gauges. Everything is rendered from records; what
//! says the same as before is not written again.

use std::time::Duration;

use engine::model::{DecisionRecord, RecordKind, Snapshot};
use engine::{Overall, Tick};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Resource, ResourceExt};

use super::runtime::ClosedStory;
use super::{Error, Runtime, render};
use crate::api::{LatencyIncident, LatencyPolicy, LatencyPolicyStatus};
use crate::controller::context::Context;
use crate::controller::events::Told;
use crate::controller::reasons;
use crate::telemetry::metrics::PolicyLabels;
use crate::write::{self, WriteError};

/// A status waits so long at most while many are being written.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn all(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Result<(), Error> {
    events(ctx, runtime, object, snapshot, ticked);
    gauges(ctx, &runtime.last_status(object), snapshot, ticked);
    incident(ctx, runtime, snapshot, ticked).await?;
    status(ctx, runtime, object, snapshot, ticked).await
}

fn events(ctx: &Context, runtime: &Runtime, object: &LatencyPolicy, snapshot: &Snapshot, ticked: &Tick) {
    let open = ticked.situation.incident.as_ref().or(snapshot.incident.as_ref());
    for record in ticked.records.iter().filter(|record| record.changed) {
        let before = runtime.state().said.get(&record.slot()).map(|said| said.key.as_str());
        log(record);
        for refusal in record.kind.refusals() {
            ctx.shared.metrics.refused(&refusal.guard);
        }
        let Some(reason) = reasons::of(record, before) else { continue };
        let target = ctx.workloads.reference(&snapshot.policy.id.namespace, &snapshot.policy.target);
        let again = open.map_or(0, |incident| incident.reopened);
        tell(ctx, &object.object_ref(&()), target, reason, (record, again));
    }
}

fn log(record: &DecisionRecord) {
    let (slot, policy, incident) = (record.slot(), &*record.policy, record.incident.as_deref());
    tracing::info!(%policy, incident, %slot, "{}", record.sentence());
}

/// One Event on the policy and one on the target.
fn tell(
    ctx: &Context,
    policy: &ObjectReference,
    target: Option<ObjectReference>,
    reason: reasons::Reason,
    (record, again): (&DecisionRecord, u32),
) {
    // Within an incident the same is said once each time that it is open, whoever leads; outside of one every change is
    // news.
    let identity = match &record.incident {
        Some(incident) => format!("{incident}/{again}/{}/{}", record.slot(), record.key()),
        None => format!("{}/{}/{}", record.at, record.slot(), record.key()),
    };
    let told = |regarding: ObjectReference, related| Told {
        regarding,
        related,
        reason,
        action: action(&record.kind).to_owned(),
        note: record.sentence(),
        identity: identity.clone(),
    };
    ctx.shared.publisher.tell(told(policy.clone(), target.clone()));
    if let Some(target) = target {
        ctx.shared.publisher.tell(told(target, Some(policy.clone())));
    }
}

/// What the operator did, in one word.
fn action(kind: &RecordKind) -> &'static str {
    match kind {
        RecordKind::Objective(_)
        | RecordKind::Dependency { .. }
        | RecordKind::Target { .. }
        | RecordKind::BreachSuspected { .. }
        | RecordKind::Incident { .. }
        | RecordKind::Calm { .. } => "Evaluate",
        RecordKind::Cause(_) => "Diagnose",
        RecordKind::Blocked { .. } | RecordKind::Proposed { .. } => "Decide",
        RecordKind::Escalated { .. } => "Escalate",
        RecordKind::Remediation { .. } => "Remediate",
        RecordKind::Undo { .. } => "Undo",
    }
}

fn gauges(ctx: &Context, before: &LatencyPolicyStatus, snapshot: &Snapshot, ticked: &Tick) {
    let id = &snapshot.policy.id;
    let labels = PolicyLabels { namespace: id.namespace.clone(), policy: id.name.clone() };
    let within = match ticked.situation.overall {
        Overall::Breached(_) => Some(false),
        Overall::Healthy => Some(true),
        Overall::NoData => None,
    };
    let first = ticked.situation.readings.first();
    let value = first.and_then(|reading| reading.measured.as_ref()).and_then(|measured| measured.value);
    let ready = render::ready(ctx, before, snapshot, ticked).status == crate::api::conditions::Status::True;
    ctx.shared.metrics.policy(&labels, ready, within, value);
    for reading in &ticked.situation.readings {
        if let engine::model::Verdict::NoData(no_data) = &reading.verdict {
            ctx.shared.metrics.no_data(&no_data.reason.to_string());
        }
    }
}

async fn incident(
    ctx: &Context,
    runtime: &mut Runtime,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Result<(), Error> {
    let closed = ticked.situation.incident.is_none();
    let Some(open) = &mut runtime.incident else { return Ok(()) };
    *open.story = render::incident(&open.story, &open.facts, snapshot, ticked, closed);
    if open.object.status.as_ref() != Some(&*open.story) {
        let incidents: Api<LatencyIncident> =
            Api::namespaced(ctx.shared.mutating.clone(), &snapshot.policy.id.namespace);
        let mut object = open.object.clone();
        object.status = Some((*open.story).clone());
        let name = open.facts.name.clone();
        match write::status(&incidents, &name, &object, "LatencyIncident", &ctx.shared.metrics).await {
            Ok(written) => *open.object = written,
            Err(WriteError::Gone(_)) => {
                tracing::warn!(name, "the incident was deleted while it was open");
                runtime.incident = None;
                return Ok(());
            }
            Err(source) => {
                if let Ok(stored) = incidents.get(&name).await {
                    *open.object = stored;
                }
                return Err(Error::Write { what: "LatencyIncident", source });
            }
        }
    }
    if closed {
        let last = runtime.incident.take();
        runtime.closed = last.map(|last| ClosedStory { last, at: snapshot.now });
    }
    Ok(())
}

async fn status(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Result<(), Error> {
    let before = runtime.last_status(object);
    let status = render::policy(ctx, &before, snapshot, ticked, (runtime.ordinal, runtime.reserved));
    if status == before {
        return Ok(());
    }
    let policies: Api<LatencyPolicy> =
        Api::namespaced(ctx.shared.mutating.clone(), &snapshot.policy.id.namespace);
    let turn = tokio::time::timeout(PATIENCE, ctx.shared.status_writes.acquire()).await;
    if turn.is_err() {
        // It is written at the next look; judging goes on meanwhile, for this policy and for those that wait behind it.
        return Ok(());
    }
    let mut changed = runtime.newest(object).clone();
    changed.status = Some(status);
    match write::status(&policies, &object.name_any(), &changed, "LatencyPolicy", &ctx.shared.metrics).await {
        Ok(written) => {
            runtime.wrote(Some(written));
            Ok(())
        }
        // It is being deleted: nobody is left to read it.
        Err(WriteError::Gone(_)) => Ok(()),
        Err(source) => {
            runtime.wrote(policies.get(&object.name_any()).await.ok());
            Err(Error::Write { what: "the policy's status", source })
        }
    }
}
