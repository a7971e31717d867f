//! `LatencyRemediation` to the engine's remediation and back.

use std::time::Duration;

use engine::model::{
    Action, Executing, PolicyRef, Refusal, Remediation, RemediationSpec, RemediationStatus, ResourceKey,
    Scale, ServerIdentity, SessionIdentity, SessionTarget, TargetKind, TargetRef, TerminateIdle, VerifySpec,
    WorkloadKey,
};
use kube::ResourceExt;

use super::{Problem, Reader, undo, warming};
use crate::api::FINALIZER;
use crate::api::actions::UNCOMMITTED_WRITES;
use crate::api::dependencies::SecretRef;
use crate::api::incident::PolicyReference;
use crate::api::policy;
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
            held: object.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            spec,
            status,
        }),
        _ => Err(reader.problems()),
    }
}

fn spec(reader: &mut Reader, namespace: &str, spec: &api::LatencyRemediationSpec) -> Option<RemediationSpec> {
    let action = action(reader, namespace, &spec.action)?;
    if matches!(action, Action::Scale(_)) && spec.undo.is_none() && !spec.dry_run {
        reader.problem("spec.undo", "an action of type Scale needs it: nobody would take it back");
    }
    let resource = match (&action, action.session()) {
        (_, Some(session)) => ResourceKey::database(namespace, &session.server),
        (Action::Scale(scale), None) => ResourceKey::Workload(WorkloadKey {
            namespace: namespace.to_owned(),
            target: scale.target.clone(),
            uid: scale.uid.clone(),
        }),
        (Action::WarmCache(warm), None) => ResourceKey::Cache(warm.cache.clone()),
        (Action::CancelQuery(_) | Action::TerminateQuery(_) | Action::TerminateIdle(_), None) => return None,
    };
    let kind: Option<TargetKind> =
        reader.word("spec.targetRef.kind", &spec.target_ref.kind, "Deployment, StatefulSet");
    let confidence = reader.word("spec.confidence", &spec.confidence, "Possible, Likely and Certain");
    let span =
        |reader: &mut Reader, path: &str, text: &text::Duration| reader.duration(path, text, Duration::ZERO);
    let effect_within = spec.verify.effect_within.as_ref();
    Some(RemediationSpec {
        policy: PolicyRef {
            namespace: namespace.to_owned(),
            name: spec.policy_ref.name.0.clone(),
            uid: spec.policy_ref.uid.clone(),
        },
        target: TargetRef { kind: kind?, name: spec.target_ref.name.0.clone() },
        incident: spec.incident.0.clone(),
        rung: spec.rung.0.clone(),
        attempt: reader.count("spec.attempt", spec.attempt, 1),
        dry_run: spec.dry_run,
        cause: spec.cause.0.clone().into(),
        confidence: confidence?,
        reason: spec.reason.0.clone(),
        resource,
        cooldown: span(reader, "spec.cooldown", &spec.cooldown),
        // Whoever wrote it: no fence lies further away.
        deadline: span(reader, "spec.deadline", &spec.deadline).min(action.deadline()),
        action,
        verify: VerifySpec {
            after: span(reader, "spec.verify.after", &spec.verify.after),
            within: span(reader, "spec.verify.within", &spec.verify.within),
            window: span(reader, "spec.verify.window", &spec.verify.window),
            effect_within: effect_within.map(|text| span(reader, "spec.verify.effectWithin", text)),
        },
        undo: spec.undo.as_ref().map(|undo| undo::spec(reader, undo)),
    })
}

fn action(reader: &mut Reader, namespace: &str, action: &api::Action) -> Option<Action> {
    let path = "spec.action";
    let api::Action { cancel_query, terminate_query, terminate_idle, scale, warm_cache, .. } = action;
    match (&*action.r#type.0, cancel_query, terminate_query, terminate_idle) {
        ("Scale", None, None, None) if scale.is_some() => {
            let scale = scale.as_ref()?;
            let kind =
                reader.word(&format!("{path}.scale.targetRef.kind"), &scale.target_ref.kind, "its kinds")?;
            Some(Action::Scale(Scale {
                target: TargetRef { kind, name: scale.target_ref.name.0.clone() },
                uid: scale.uid.clone(),
                from: reader.count(&format!("{path}.scale.from"), scale.from, 0),
                to: reader.count(&format!("{path}.scale.to"), scale.to, 0),
            }))
        }
        ("WarmCache", None, None, None) if warm_cache.is_some() => {
            let path = format!("{path}.warmCache");
            warming::action(reader, namespace, &path, warm_cache.as_ref()?).map(Action::WarmCache)
        }
        ("CancelQuery", Some(cancel), None, None) => {
            target(reader, &format!("{path}.cancelQuery"), cancel).map(Action::CancelQuery)
        }
        ("CancelQuery", None, Some(terminate), None) => {
            target(reader, &format!("{path}.terminateQuery"), terminate).map(Action::TerminateQuery)
        }
        ("TerminateIdle", None, None, Some(idle)) => {
            let path = format!("{path}.terminateIdle");
            let target = target(reader, &format!("{path}.target"), &idle.target);
            let min_idle = reader.duration(&format!("{path}.minIdle"), &idle.min_idle, Duration::ZERO);
            let idle_since = idle.idle_since.0;
            target.map(|target| Action::TerminateIdle(TerminateIdle { target, idle_since, min_idle }))
        }
        (unknown, ..) => {
            reader.problem(format!("{path}.type"), format!("this version cannot carry out {unknown}"));
            None
        }
    }
}

fn target(reader: &mut Reader, path: &str, target: &api::SessionTarget) -> Option<SessionTarget> {
    let place = format!("{path}.uncommittedWrites");
    let writes = reader.one_of(&place, &target.uncommitted_writes, UNCOMMITTED_WRITES)?;
    Some(SessionTarget {
        dependency: target.dependency.0.clone(),
        secret: target.secret_ref.read(),
        server: ServerIdentity {
            system_identifier: target.server.system_identifier.clone(),
            database: target.server.database.clone(),
            peer: target.server.peer.clone(),
            started_at: target.server.started_at.0,
        },
        session: SessionIdentity {
            pid: target.session.pid,
            backend_start: target.session.backend_start.0,
            query_start: target.session.query_start.0,
        },
        role: target.session.role.0.clone(),
        fingerprint: target.session.fingerprint.clone(),
        writes,
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
        undo: match &status.undo {
            Some(undo) => Some(undo::status(reader, undo)?),
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
        rung: Label(spec.rung.clone()),
        attempt: i32::try_from(spec.attempt).unwrap_or(i32::MAX),
        dry_run: spec.dry_run,
        cause: Word(spec.cause.to_string()),
        confidence: Word(spec.confidence.to_string()),
        reason: Sentence::of(&spec.reason),
        action: action_of(&spec.action),
        cooldown: text::Duration::of(spec.cooldown),
        deadline: text::Duration::of(spec.deadline),
        verify: api::Verify {
            after: text::Duration::of(spec.verify.after),
            within: text::Duration::of(spec.verify.within),
            window: text::Duration::of(spec.verify.window),
            effect_within: spec.verify.effect_within.map(text::Duration::of),
        },
        undo: spec.undo.as_ref().map(undo::spec_of),
    }
}

fn action_of(action: &Action) -> api::Action {
    let mut written = api::Action {
        r#type: Word(action.kind().to_string()),
        cancel_query: None,
        terminate_query: None,
        terminate_idle: None,
        scale: None,
        warm_cache: None,
    };
    let target = action.session().map(target_of);
    match action {
        Action::Scale(scale) => {
            let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
            written.scale = Some(api::Scale {
                target_ref: target_ref_of(&scale.target),
                uid: scale.uid.clone(),
                from: count(scale.from),
                to: count(scale.to),
            });
        }
        Action::WarmCache(warm) => written.warm_cache = Some(warming::action_of(warm)),
        Action::CancelQuery(_) => written.cancel_query = target,
        Action::TerminateQuery(_) => written.terminate_query = target,
        Action::TerminateIdle(idle) => {
            written.terminate_idle = target.map(|target| api::TerminateIdle {
                target,
                idle_since: Instant(idle.idle_since),
                min_idle: text::Duration::of(idle.min_idle),
            });
        }
    }
    written
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

fn target_of(target: &SessionTarget) -> api::SessionTarget {
    api::SessionTarget {
        dependency: Label(target.dependency.clone()),
        secret_ref: SecretRef::stored(&target.secret),
        server: api::Server {
            system_identifier: target.server.system_identifier.clone(),
            database: target.server.database.clone(),
            peer: target.server.peer.clone(),
            started_at: Instant(target.server.started_at),
        },
        session: api::Session {
            pid: target.session.pid,
            backend_start: Instant(target.session.backend_start),
            query_start: Instant(target.session.query_start),
            role: RoleName(target.role.clone()),
            fingerprint: target.fingerprint.clone(),
        },
        uncommitted_writes: Word(target.writes.to_string()),
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
        undo: status.undo.as_ref().map(undo::status_of),
        message: (!status.message.is_empty()).then(|| Sentence::of(&status.message)),
        completed_at: status.completed_at.map(Instant),
    }
}
