//! Taking back what was done: what is owed, since when it is due, and how far it has come.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ByName, Dependency, Evaluation, Objective};

/// What must be seen to be well before an act is taken back. A copy of the policy's, so that an undo is carried out
/// although the policy is invalid by then, or gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// How it is looked.
    pub evaluation: Evaluation,
    /// What users are promised.
    pub objectives: Vec<Objective>,
    /// What the target depends on, by name.
    pub dependencies: ByName<Dependency>,
}

/// How an act is taken back. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoSpec {
    /// It is due so long after the act, if nothing else has made it due before.
    pub max_hold: Duration,
    /// So many replicas are taken away or given back at a time, a full window apart.
    pub step: u32,
    /// What is watched meanwhile.
    pub watch: Watch,
}

/// How an undo stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UndoState {
    /// Nothing was done that could be taken back.
    None,
    /// It has to be taken back.
    Pending,
    /// It has been.
    Done,
    /// Somebody else has changed it since: theirs stands.
    Contested,
    /// It stays as it is, and people have been told how to take it back.
    Abandoned,
}

impl fmt::Display for UndoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What made it due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DueBy {
    /// The objectives have been kept for `recoverFor`.
    Calm,
    /// It was held for `maxHold`.
    MaxHold,
    /// The act has made things worse.
    Worse,
    /// The act took capacity away, which did not help; or its policy is gone.
    InVain,
    /// The operator is being uninstalled: nobody is left who could do it later.
    Drain,
}

/// What an action has changed, and how far it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The replicas of a workload.
    Replicas(ReplicasChange),
}

/// A changed number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasChange {
    /// The replicas before the act.
    pub baseline: u32,
    /// The replicas that we wrote last.
    pub wrote: u32,
    /// The replicas that are about to be written, durable before they are: a successor knows them for ours.
    pub writing: Option<u32>,
}

impl Change {
    /// The value of the step that is about to be written, if one is.
    #[must_use]
    pub fn writing(&self) -> Option<u32> {
        match self {
            Self::Replicas(replicas) => replicas.writing,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas(ReplicasChange { baseline, wrote, .. }) => {
                write!(f, "{wrote} replicas and had {baseline} before")
            }
        }
    }
}

/// See the module. Written before the effect that it takes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// How it stands.
    pub state: UndoState,
    /// What has to be taken back.
    pub change: Change,
    /// When it is due, at the latest; once `due_by` is there, since when.
    pub due_at: Timestamp,
    /// What made it due, once it is.
    pub due_by: Option<DueBy>,
    /// When the last step was seen to be done.
    pub stepped_at: Option<Timestamp>,
    /// It was due by `maxHold` and could not be carried out; that has been said.
    pub overdue: bool,
}
