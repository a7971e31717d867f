//! `LatencyRemediation` to the engine's remediation and back.

use std::time::Duration;

use engine::model::{
    Action, CancelQuery, DEADLINE, Executing, PolicyRef, Refusal, Remediation, RemediationSpec,
    RemediationStatus, ResourceKey, ServerIdentity, SessionIdentity, TargetKind, TargetRef, VerifySpec,
};
use kube::ResourceExt;

use super::{Problem, Reader};
use crate::api::incident::PolicyReference;
use crate::api::policy::{self, SecretRef};
use crate::api::remediation as api;
use crate::api::text::{self, Instant, Label, ObjectName, RoleName, Sentence, Word};

/// The engine's remediation, or everything that is wrong with the object.
///
/// # Errors
/// All problems, each with its field's path.
pub fn remediation(object: &api::LatencyRemediation) -> Result<Remediation, Vec<Problem>> {
    let mut reader = Reader::default();
    let namespace = object.namespace().unwrap_or_default();
    let spec = spec(&mut reader, &namespace, &object.spec);
    let status =
        object.status.as_ref().map_or_else(|| Some(RemediationStatus::default()), |s| status(&mut reader, s));
    let created_at = object.creation_timestamp().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0);
    match (spec, status) {
        (Some(spec), Some(status)) if reader.problems.is_empty() => Ok(Remediation {
            namespace,
            name: object.name_any(),
            created_at,
            deleting: object.metadata.deletion_timestamp.is_some(),
            spec,
            status,
        }),
        _ => Err(reader.problems),
    }
}

fn spec(reader: &mut Reader, namespace: &str, spec: &api::LatencyRemediationSpec) -> Option<RemediationSpec> {
    let action = action(reader, &spec.action)?;
    let Action::CancelQuery(cancel) = &action;
    let resource = ResourceKey {
        namespace: namespace.to_owned(),
        system_identifier: cancel.server.system_identifier.clone(),
        database: cancel.server.database.clone(),
        peer: cancel.server.peer.clone(),
    };
    let kind: Option<TargetKind> =
        reader.word("spec.targetRef.kind", &spec.target_ref.kind, "Deployment, StatefulSet");
    let confidence = reader.word("spec.confidence", &spec.confidence, "Possible, Likely and Certain");
    let span =
        |reader: &mut Reader, path: &str, text: &text::Duration| reader.duration(path, text, Duration::ZERO);
    Some(RemediationSpec {
        policy: PolicyRef {
            namespace: namespace.to_owned(),
            name: spec.policy_ref.name.0.clone(),
            uid: spec.policy_ref.uid.clone(),
        },
        target: TargetRef { kind: kind?, name: spec.target_ref.name.0.clone() },
        incident: spec.incident.0.clone(),
        rung: spec.rung.0.clone(),
        attempt: u32::try_from(spec.attempt).unwrap_or(1),
        dry_run: spec.dry_run,
        cause: spec.cause.0.clone().into(),
        confidence: confidence?,
        reason: spec.reason.0.clone(),
        resource,
        action,
        cooldown: span(reader, "spec.cooldown", &spec.cooldown),
        // Whoever wrote it: no fence lies further away.
        deadline: span(reader, "spec.deadline", &spec.deadline).min(DEADLINE),
        verify: VerifySpec {
            after: span(reader, "spec.verify.after", &spec.verify.after),
            within: span(reader, "spec.verify.within", &spec.verify.within),
            window: span(reader, "spec.verify.window", &spec.verify.window),
        },
    })
}

fn action(reader: &mut Reader, action: &api::Action) -> Option<Action> {
    let Some(cancel) = action.cancel_query.as_ref().filter(|_| action.r#type.0 == "CancelQueries") else {
        reader.problem("spec.action.type", format!("this version cannot carry out {}", action.r#type.0));
        return None;
    };
    let writers = reader.word("spec.action.cancelQuery.writers", &cancel.writers, "Deny and Allow")?;
    Some(Action::CancelQuery(CancelQuery {
        dependency: cancel.dependency.0.clone(),
        secret: cancel.secret_ref.name.0.clone(),
        server: ServerIdentity {
            system_identifier: cancel.server.system_identifier.clone(),
            database: cancel.server.database.clone(),
            peer: cancel.server.peer.clone(),
            started_at: cancel.server.started_at.0,
        },
        session: SessionIdentity {
            pid: cancel.session.pid,
            backend_start: cancel.session.backend_start.0,
            query_start: cancel.session.query_start.0,
        },
        role: cancel.session.role.0.clone(),
        fingerprint: cancel.session.fingerprint.clone(),
        writers,
    }))
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
        message: status.message.as_ref().map(|message| message.0.clone()).unwrap_or_default(),
        completed_at: status.completed_at.map(|at| at.0),
    })
}

/// The API's spec of what was admitted.
#[must_use]
pub fn spec_of(spec: &RemediationSpec) -> api::LatencyRemediationSpec {
    let Action::CancelQuery(cancel) = &spec.action;
    api::LatencyRemediationSpec {
        policy_ref: PolicyReference {
            name: ObjectName(spec.policy.name.clone()),
            uid: spec.policy.uid.clone(),
        },
        target_ref: policy::TargetRef {
            api_version: "apps/v1".to_owned(),
            kind: Word(spec.target.kind.to_string()),
            name: ObjectName(spec.target.name.clone()),
        },
        incident: ObjectName(spec.incident.clone()),
        rung: Label(spec.rung.clone()),
        attempt: i32::try_from(spec.attempt).unwrap_or(i32::MAX),
        dry_run: spec.dry_run,
        cause: Word(spec.cause.to_string()),
        confidence: Word(spec.confidence.to_string()),
        reason: Sentence::of(&spec.reason),
        action: api::Action {
            r#type: Word(spec.action.kind().to_string()),
            cancel_query: Some(api::CancelQuery {
                dependency: Label(cancel.dependency.clone()),
                secret_ref: SecretRef { name: ObjectName(cancel.secret.clone()) },
                server: api::Server {
                    system_identifier: cancel.server.system_identifier.clone(),
                    database: cancel.server.database.clone(),
                    peer: cancel.server.peer.clone(),
                    started_at: Instant(cancel.server.started_at),
                },
                session: api::Session {
                    pid: cancel.session.pid,
                    backend_start: Instant(cancel.session.backend_start),
                    query_start: Instant(cancel.session.query_start),
                    role: RoleName(cancel.role.clone()),
                    fingerprint: cancel.fingerprint.clone(),
                },
                writers: Word(cancel.writers.to_string()),
            }),
        },
        cooldown: text::Duration::of(spec.cooldown),
        deadline: text::Duration::of(spec.deadline),
        verify: api::Verify {
            after: text::Duration::of(spec.verify.after),
            within: text::Duration::of(spec.verify.within),
            window: text::Duration::of(spec.verify.window),
        },
    }
}

/// The API's status of what has become of it.
#[must_use]
pub fn status_of(status: &RemediationStatus) -> api::LatencyRemediationStatus {
    api::LatencyRemediationStatus {
        phase: Some(Word(status.phase.to_string())),
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
        message: (!status.message.is_empty()).then(|| Sentence::of(&status.message)),
        completed_at: status.completed_at.map(Instant),
    }
}
