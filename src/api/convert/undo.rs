//! What is owed: from the API to the engine and back. What an undo watches is a policy's own text, written out.

use std::time::Duration;

use engine::model::{Evaluation, Undo, UndoSpec, Watch};

use super::{Reader, objectives, policy};
use crate::api::dependencies::Dependency as Stored;
use crate::api::policy as written;
use crate::api::remediation as api;
use crate::api::text::{self, Instant, Word};

/// Where a remediation keeps its copy of a policy's text.
const WATCH: &str = "spec.undo.watch";

pub(super) fn spec(reader: &mut Reader, undo: &api::UndoSpec) -> UndoSpec {
    for (index, objective) in undo.watch.objectives.iter().enumerate() {
        if objective.source.is_none() {
            reader.problem(format!("{WATCH}.objectives[{index}].source"), "a stored objective needs it");
        }
    }
    UndoSpec {
        max_hold: reader.duration("spec.undo.maxHold", &undo.max_hold, Duration::ZERO),
        step: reader.count("spec.undo.step", undo.step, 1),
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

pub(super) fn status(reader: &mut Reader, undo: &api::Undo) -> Option<Undo> {
    let due_by = match &undo.due_by {
        Some(word) => Some(reader.word("status.undo.dueBy", word, "Calm, MaxHold, Worse and Drain")?),
        None => None,
    };
    Some(Undo {
        state: reader.word("status.undo.state", &undo.state, "None, Owed, Done, Contested and Abandoned")?,
        baseline: reader.count("status.undo.baseline", undo.baseline, 0),
        wrote: reader.count("status.undo.wrote", undo.wrote, 0),
        writing: undo.writing.map(|count| reader.count("status.undo.writing", count, 0)),
        due_at: undo.due_at.0,
        due_by,
        stepped_at: undo.stepped_at.map(|at| at.0),
        overdue: undo.overdue,
    })
}

pub(super) fn spec_of(undo: &UndoSpec) -> api::UndoSpec {
    api::UndoSpec {
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

pub(super) fn status_of(undo: &Undo) -> api::Undo {
    let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    api::Undo {
        state: Word(undo.state.to_string()),
        baseline: count(undo.baseline),
        wrote: count(undo.wrote),
        writing: undo.writing.map(count),
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
