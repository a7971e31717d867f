//! `LatencyRemediation` to the engine's remediation and back.

use std::time::Duration;

use engine::model::{
    Executing, Mode, Phase, PolicyRef, Refusal, Remediation, RemediationSpec, RemediationStatus, TargetKind,
    TargetRef, UndoState, VerifySpec,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::{Problem, Reader, rollback};
use crate::api::FINALIZER;
use crate::api::actions;
use crate::api::incident::PolicyReference;
use crate::api::policy;
use crate::api::remediation as api;
use crate::api::text::{self, Instant, Label, ObjectName, Sentence, Word};

/// The engine's remediation, or everything that is wrong with the object.
///
/// # Errors
/// All problems, each with its field's path.
pub fn remediation(object: &api::LatencyRemediation) -> Result<Remediation, Vec<Problem>> {
    let mut reader = Reader::default();
    let namespace = object.namespace().unwrap_or_default();
    let spec = spec(&mut reader, &namespace, &object.spec);
    let status = match (&object.status, &spec) {
        (Some(stored), _) => status(&mut reader, stored),
        // The mode says what a missing status means. A dry run is admitted, too: it is then written down.
        (None, Some(RemediationSpec { mode: Mode::Approve, .. })) => {
            Some(RemediationStatus { phase: Phase::AwaitingApproval, ..RemediationStatus::default() })
        }
        (None, _) => Some(RemediationStatus::default()),
    };
    let created_at = object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    match (spec, status) {
        (Some(spec), Some(status)) if reader.problems.is_empty() => Ok(Remediation {
            namespace,
            name: object.name_any(),
            created_at,
            deleting: object.metadata.deletion_timestamp.is_some(),
            held: object.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            spec,
            status,
        }),
        _ => Err(reader.problems()),
    }
}

fn spec(reader: &mut Reader, namespace: &str, spec: &api::LatencyRemediationSpec) -> Option<RemediationSpec> {
    let action = spec.action.read(reader, namespace, "spec.action")?;
    let mode: Mode = reader.word("spec.mode", &spec.mode, "Observe, Approve and Auto")?;
    let kind = action.kind();
    if kind.line().reversible && spec.rollback.is_none() && mode != Mode::Observe {
        let message = format!("an action of type {kind} needs it: nobody would take it back");
        reader.problem("spec.rollback", message);
    }
    let kind: Option<TargetKind> =
        reader.word("spec.targetRef.kind", &spec.target_ref.kind, "Deployment, StatefulSet");
    let confidence =
        reader.word("spec.cause.confidence", &spec.cause.confidence, "Possible, Likely and Certain");
    let span =
        |reader: &mut Reader, path: &str, text: &text::Duration| reader.duration(path, text, Duration::ZERO);
    let effect_within = spec.verification.effect_within.as_ref();
    Some(RemediationSpec {
        policy: PolicyRef {
            namespace: namespace.to_owned(),
            name: spec.policy_ref.name.0.clone(),
            uid: spec.policy_ref.uid.clone(),
        },
        target: TargetRef { kind: kind?, name: spec.target_ref.name.0.clone() },
        incident: spec.incident.0.clone(),
        rung: spec.remediation.0.clone(),
        attempt: reader.count("spec.attempt", spec.attempt, 1),
        mode,
        cause: spec.cause.name.0.clone().into(),
        confidence: confidence?,
        reason: spec.cause.message.0.clone(),
        resource: action.act().resource(namespace),
        cooldown: span(reader, "spec.cooldown", &spec.cooldown),
        // Whoever wrote it: no fence lies further away.
        deadline: span(reader, "spec.deadline", &spec.deadline).min(action.deadline()),
        action,
        verify: VerifySpec {
            after: span(reader, "spec.verification.after", &spec.verification.after),
            within: span(reader, "spec.verification.within", &spec.verification.within),
            window: span(reader, "spec.verification.window", &spec.verification.window),
            effect_within: effect_within.map(|text| span(reader, "spec.verification.effectWithin", text)),
        },
        undo: spec.rollback.as_ref().map(|stored| rollback::spec(reader, stored)),
    })
}

fn status(reader: &mut Reader, status: &api::LatencyRemediationStatus) -> Option<RemediationStatus> {
    /// A word that may be missing; one that is there must be understood.
    fn word<T: serde::de::DeserializeOwned>(
        reader: &mut Reader,
        path: &str,
        word: Option<&Word>,
    ) -> Option<Option<T>> {
        word.map_or(Some(None), |word| reader.word(path, word, "its own vocabulary").map(Some))
    }
    let executing = status.executing.as_ref().map(|executing| Executing {
        holder: executing.holder.clone(),
        epoch: u64::try_from(executing.epoch).unwrap_or_default(),
        started_at: executing.started_at.0,
        deadline: reader.duration("status.executing.deadline", &executing.deadline, Duration::ZERO),
    });
    Some(RemediationStatus {
        phase: word(reader, "status.phase", status.phase.as_ref())?.unwrap_or_default(),
        executing,
        acted_at: status.acted_at.map(|at| at.0),
        effect: word(reader, "status.effect", status.effect.as_ref())?,
        effect_at: status.effect_at.map(|at| at.0),
        objective: word(reader, "status.objective", status.objective.as_ref())?,
        outcome: word(reader, "status.outcome", status.outcome.as_ref())?,
        refused: status.refused_by.as_ref().map(|refused| Refusal {
            guard: refused.guard.0.clone().into(),
            message: refused.message.0.clone(),
        }),
        undo: match &status.rollback {
            Some(stored) => Some(rollback::status(reader, stored)?),
            None => None,
        },
        message: status.message.as_ref().map(|message| message.0.clone()).unwrap_or_default(),
        completed_at: status.completed_at.map(|at| at.0),
    })
}

/// The API's spec of what was admitted.
#[must_use]
pub fn spec_of(spec: &RemediationSpec) -> api::LatencyRemediationSpec {
    api::LatencyRemediationSpec {
        policy_ref: PolicyReference {
            name: ObjectName(spec.policy.name.clone()),
            uid: spec.policy.uid.clone(),
        },
        target_ref: target_ref_of(&spec.target),
        incident: ObjectName(spec.incident.clone()),
        remediation: Label(spec.rung.clone()),
        attempt: i32::try_from(spec.attempt).unwrap_or(i32::MAX),
        mode: Word(spec.mode.to_string()),
        cause: api::Cause {
            name: Word(spec.cause.to_string()),
            confidence: Word(spec.confidence.to_string()),
            subject: Some(Sentence::of(&spec.action.act().subject().to_string())),
            message: Sentence::of(&spec.reason),
        },
        action: actions::Stored::of(&spec.action),
        cooldown: text::Duration::of(spec.cooldown),
        deadline: text::Duration::of(spec.deadline),
        verification: api::Verification {
            after: text::Duration::of(spec.verify.after),
            within: text::Duration::of(spec.verify.within),
            window: text::Duration::of(spec.verify.window),
            effect_within: spec.verify.effect_within.map(text::Duration::of),
        },
        rollback: spec.undo.as_ref().map(rollback::spec_of),
        approval: None,
    }
}

/// The API's reference to a workload.
#[must_use]
pub fn target_ref_of(target: &TargetRef) -> policy::TargetRef {
    policy::TargetRef {
        api_version: "apps/v1".to_owned(),
        kind: Word(target.kind.to_string()),
        name: ObjectName(target.name.clone()),
    }
}

/// Complete and RollbackPending, as `kubectl wait` knows them. The same status always has the same conditions, so that it is not
/// written again for them.
fn conditions(status: &RemediationStatus) -> Vec<Condition> {
    let begun = status.executing.as_ref().map(|executing| executing.started_at);
    let condition = |name: &str, is_true: bool, reason: String, since: Option<Timestamp>| {
        Some(Condition {
            type_: name.to_owned(),
            status: if is_true { "True" } else { "False" }.to_owned(),
            reason,
            message: String::new(),
            last_transition_time: Time(since?),
            observed_generation: None,
        })
    };
    let complete = status.phase.is_terminal();
    let outcome = status.outcome.filter(|_| complete).map(|outcome| outcome.to_string());
    let since = if complete { status.completed_at.or(begun) } else { begun };
    let complete =
        condition("Complete", complete, outcome.unwrap_or_else(|| status.phase.to_string()), since);
    let pending = status.undo.as_ref().and_then(|undo| {
        let is_pending = undo.state == UndoState::Pending;
        let reason = undo.due_by.filter(|_| is_pending).map(|by| format!("{by:?}"));
        let since = if is_pending { begun } else { undo.stepped_at.or(status.completed_at).or(begun) };
        condition("RollbackPending", is_pending, reason.unwrap_or_else(|| undo.state.to_string()), since)
    });
    complete.into_iter().chain(pending).collect()
}

/// The API's status of what has become of it.
#[must_use]
pub fn status_of(status: &RemediationStatus) -> api::LatencyRemediationStatus {
    api::LatencyRemediationStatus {
        phase: Some(Word(status.phase.to_string())),
        conditions: conditions(status),
        executing: status.executing.as_ref().map(|executing| api::Executing {
            holder: executing.holder.clone(),
            epoch: i64::try_from(executing.epoch).unwrap_or(i64::MAX),
            started_at: Instant(executing.started_at),
            deadline: text::Duration::of(executing.deadline),
        }),
        acted_at: status.acted_at.map(Instant),
        effect: status.effect.map(|effect| Word(format!("{effect:?}"))),
        effect_at: status.effect_at.map(Instant),
        objective: status.objective.map(|objective| Word(format!("{objective:?}"))),
        outcome: status.outcome.map(|outcome| Word(outcome.to_string())),
        refused_by: status.refused.as_ref().map(|refused| api::RefusedBy {
            guard: Word(refused.guard.to_string()),
            message: Sentence::of(&refused.message),
        }),
        rollback: status.undo.as_ref().map(rollback::status_of),
        message: (!status.message.is_empty()).then(|| Sentence::of(&status.message)),
        completed_at: status.completed_at.map(Instant),
    }
}
