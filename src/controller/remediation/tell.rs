//! Telling people of a remediation's steps: Events on its policy and target, logs, counts.

use engine::model::{RecordKind, Remediation, RemediationStatus, UndoState};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::api::GROUP;
use crate::controller::context::Context;
use crate::controller::events::Told;
use crate::controller::reasons;

/// What a record of this controller says, with which reason, if it is told as an Event, and as which one of its kind.
fn said<'a>(
    remediation: &Remediation,
    status: &RemediationStatus,
    record: &'a RecordKind,
) -> Option<(&'a str, Option<reasons::Reason>, String)> {
    if let RecordKind::Remediation { sentence, .. } = record {
        let stepped = status.phase != remediation.status.phase;
        let reason = reasons::remediation(status.phase, status.outcome).filter(|_| stepped);
        return Some((sentence, reason, status.phase.to_string()));
    }
    let RecordKind::Undo { state, overdue, sentence, .. } = record else { return None };
    let writing = status.undo.as_ref().and_then(|undo| undo.writing);
    // A step is told when it is begun; that it is done is told when all are.
    let told = *state != UndoState::Owed || *overdue || writing.is_some();
    let reason = reasons::undo(*state, *overdue && writing.is_none()).filter(|_| told);
    Some((sentence, reason, format!("undo/{state}/{overdue}/{writing:?}")))
}

/// A step was written.
pub(super) fn step(
    ctx: &Context,
    remediation: &Remediation,
    status: &RemediationStatus,
    record: &RecordKind,
) {
    let Some((sentence, reason, identity)) = said(remediation, status, record) else { return };
    let name = &remediation.name;
    let spec = &remediation.spec;
    tracing::info!(policy = %spec.policy, name, phase = %status.phase, "{sentence}");
    let kind = spec.action.kind().to_string();
    if status.phase.is_terminal() && !remediation.status.phase.is_terminal() {
        let outcome = status.outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
        ctx.shared.metrics.remediated(&kind, &status.phase.to_string(), &outcome);
    }
    let Some(reason) = reason else { return };
    let policy = ObjectReference {
        api_version: Some(format!("{GROUP}/v1alpha1")),
        kind: Some("LatencyPolicy".to_owned()),
        namespace: Some(remediation.namespace.clone()),
        name: Some(spec.policy.name.clone()),
        uid: Some(spec.policy.uid.clone()),
        ..Default::default()
    };
    let target = ctx.workloads.reference(&remediation.namespace, &spec.target);
    let told = |regarding: ObjectReference, related| Told {
        regarding,
        related,
        reason,
        action: kind.clone(),
        note: format!("{name}: {sentence}"),
        identity: format!("{name}/{identity}"),
    };
    ctx.shared.publisher.tell(told(policy.clone(), target.clone()));
    if let Some(target) = target {
        ctx.shared.publisher.tell(told(target, Some(policy)));
    }
}
