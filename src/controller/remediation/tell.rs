//! Telling people of a remediation's steps: Events on its policy and target, logs, counts.

use engine::model::{RecordKind, Remediation, RemediationStatus};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::api::GROUP;
use crate::controller::context::Context;
use crate::controller::events::Told;
use crate::controller::reasons;

/// A step was written.
pub(super) fn step(
    ctx: &Context,
    remediation: &Remediation,
    status: &RemediationStatus,
    record: &RecordKind,
) {
    let RecordKind::Remediation { sentence, .. } = record else { return };
    let name = &remediation.name;
    let spec = &remediation.spec;
    tracing::info!(policy = %spec.policy, name, phase = %status.phase, "{sentence}");
    let kind = spec.action.kind().to_string();
    if status.phase.is_terminal() {
        let outcome = status.outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
        ctx.shared.metrics.remediated(&kind, &status.phase.to_string(), &outcome);
    }
    let stepped = status.phase != remediation.status.phase;
    let Some(reason) = reasons::remediation(status.phase, status.outcome).filter(|_| stepped) else { return };
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
        identity: format!("{name}/{}", status.phase),
    };
    ctx.shared.publisher.tell(told(policy.clone(), target.clone()));
    if let Some(target) = target {
        ctx.shared.publisher.tell(told(target, Some(policy)));
    }
}
