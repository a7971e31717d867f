//! What can be done. One file an action, one line of [`REMEDIES`] each.

mod cancel_queries;
mod sessions;
mod terminate_idle;

use crate::model::{Action, ActionKind, Candidate, Finding, ResourceKey, Rung, RungAction, Snapshot};

/// What kind of thing an action is. The guards ask for these, not for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// It gives the databases more to do.
    pub adds_load: bool,
    /// It takes capacity away.
    pub removes_capacity: bool,
    /// It destroys somebody's work: it needs a cause that is Certain.
    pub disruptive: bool,
    /// It can be undone.
    pub reversible: bool,
}

/// A line of the table.
#[derive(Debug)]
pub struct Remedy {
    /// Which action.
    pub kind: ActionKind,
    /// What it does, in one sentence for the documentation.
    pub does: &'static str,
    /// The causes that it can answer; a rung that names another one is refused with the field's path.
    pub answers: &'static [&'static str],
    /// What kind of thing it is.
    pub traits: Traits,
    /// The action for a finding, where the finding names what is needed for it.
    pub(crate) propose: fn(&Snapshot, &Rung, &Finding) -> Option<(Action, ResourceKey)>,
    /// Whether the action can be carried out as things are: asked when it is proposed and again at the gate. The act
    /// itself asks a last time, in the statement that does it.
    pub(crate) precondition: fn(&Snapshot, &Candidate) -> Result<String, String>,
}

/// All remedies.
pub const REMEDIES: &[Remedy] = &[cancel_queries::REMEDY, terminate_idle::REMEDY];

/// The remedy that does this action.
#[must_use]
pub fn remedy(kind: ActionKind) -> &'static Remedy {
    match kind {
        ActionKind::CancelQueries => &cancel_queries::REMEDY,
        ActionKind::TerminateIdle => &terminate_idle::REMEDY,
    }
}

/// The kind of a rung's action.
#[must_use]
pub fn kind_of(rung: &Rung) -> ActionKind {
    match rung.action {
        RungAction::CancelQueries { .. } => ActionKind::CancelQueries,
        RungAction::TerminateIdle { .. } => ActionKind::TerminateIdle,
    }
}
