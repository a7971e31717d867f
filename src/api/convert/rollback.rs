//! Rollbacks: from the API to the engine and back. What a rollback watches is a copy of the policy's own text.

use std::time::Duration;

use engine::model::{Change, Evaluation, ReplicasChange, Undo, UndoSpec, Watch};

use super::{Reader, objectives, policy};
use crate::api::dependencies::Dependency as Stored;
use crate::api::policy as written;
use crate::api::remediation as api;
use crate::api::text::{self, Instant, Word};
use crate::api::unions::Misfit;

/// Where a remediation keeps its copy of a policy's text.
const WATCH: &str = "spec.rollback.watch";

pub(super) fn spec(reader: &mut Reader, undo: &api::Rollback) -> UndoSpec {
    for (index, objective) in undo.watch.objectives.iter().enumerate() {
        if objective.source.is_none() {
            reader.problem(format!("{WATCH}.objectives[{index}].source"), "a stored objective needs it");
        }
    }
    UndoSpec {
        max_hold: reader.duration("spec.rollback.maxHold", &undo.max_hold, Duration::ZERO),
        step: reader.count("spec.rollback.step", undo.step, 1),
        watch: Watch {
            evaluation: policy::evaluation(reader, &format!("{WATCH}.evaluation"), &undo.watch.evaluation),
            objectives: objectives::objectives(
                reader,
                &format!("{WATCH}.objectives"),
                &undo.watch.objectives,
                None,
            ),
            dependencies: policy::dependencies(
                reader,
                &format!("{WATCH}.dependencies"),
                &undo.watch.dependencies,
            ),
        },
    }
}

pub(super) fn status(reader: &mut Reader, rollback: &api::RollbackStatus) -> Option<Undo> {
    const PATH: &str = "status.rollback";
    let api::Change { r#type, replicas } = &rollback.change;
    if let Err(misfit) = api::CHANGES.check(&r#type.0, &[("replicas", replicas.is_some())]) {
        let (field, message) = match misfit {
            Misfit::UnknownType(message) => ("type", message),
            Misfit::Member(member, message) => (member, message),
        };
        reader.problem(format!("{PATH}.change.{field}"), message);
        return None;
    }
    let due_by = match &rollback.due_by {
        Some(word) => {
            Some(reader.word(&format!("{PATH}.dueBy"), word, "Calm, MaxHold, Worse, InVain and Drain")?)
        }
        None => None,
    };
    let states = "None, Pending, Done, Contested and Abandoned";
    let state = reader.word(&format!("{PATH}.state"), &rollback.state, states)?;
    let replicas = replicas.as_ref()?;
    let mut count = |field: &str, count| reader.count(&format!("{PATH}.change.replicas.{field}"), count, 0);
    Some(Undo {
        state,
        change: Change::Replicas(ReplicasChange {
            baseline: count("baseline", replicas.baseline),
            wrote: count("wrote", replicas.wrote),
            writing: replicas.writing.map(|replicas| count("writing", replicas)),
        }),
        due_at: rollback.due_at.0,
        due_by,
        stepped_at: rollback.stepped_at.map(|at| at.0),
        overdue: rollback.overdue,
    })
}

pub(super) fn spec_of(undo: &UndoSpec) -> api::Rollback {
    api::Rollback {
        max_hold: text::Duration::of(undo.max_hold),
        step: i32::try_from(undo.step).unwrap_or(i32::MAX),
        watch: api::Watch {
            evaluation: evaluation_of(&undo.watch.evaluation),
            objectives: undo.watch.objectives.iter().map(objectives::stored).collect(),
            dependencies: undo
                .watch
                .dependencies
                .iter()
                .map(|(name, dependency)| Stored::stored(name, dependency))
                .collect(),
        },
    }
}

pub(super) fn status_of(undo: &Undo) -> api::RollbackStatus {
    let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    let change = match &undo.change {
        Change::Replicas(replicas) => api::Change {
            r#type: Word::text("Replicas"),
            replicas: Some(api::ReplicasChange {
                baseline: count(replicas.baseline),
                wrote: count(replicas.wrote),
                writing: replicas.writing.map(count),
            }),
        },
    };
    api::RollbackStatus {
        state: Word(undo.state.to_string()),
        change,
        due_at: Instant(undo.due_at),
        due_by: undo.due_by.map(|by| Word(format!("{by:?}"))),
        stepped_at: undo.stepped_at.map(Instant),
        overdue: undo.overdue,
    }
}

fn evaluation_of(evaluation: &Evaluation) -> written::Evaluation {
    written::Evaluation {
        interval: text::Duration::of(evaluation.interval),
        window: text::Duration::of(evaluation.window),
        breach_for: text::Duration::of(evaluation.breach_for),
        recover_for: text::Duration::of(evaluation.recover_for),
        no_data_after: text::Duration::of(evaluation.interval.saturating_mul(evaluation.missing_data_after)),
    }
}
