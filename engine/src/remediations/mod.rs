//! What can be done. One file an action, one line of [`REMEDIES`] each.

mod cancel_queries;
pub(crate) mod scale;
mod sessions;
mod terminate_idle;
mod warm_cache;

use crate::model::{
    Action, ActionKind, Candidate, Finding, ResourceKey, Rung, RungAction, Snapshot, UndoSpec,
};

/// What kind of thing an action is. The guards ask for these, not for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// It gives the databases more to do.
    pub adds_load: bool,
    /// It takes capacity away.
    pub removes_capacity: bool,
    /// It changes the target itself: one policy at a time may, and only a settled target is changed.
    pub touches_workload: bool,
    /// It destroys somebody's work: it needs a cause that is Certain.
    pub disruptive: bool,
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
    /// How the action is taken back; none where it cannot be.
    pub(crate) undo: Option<Undo>,
}

impl Remedy {
    /// Whether it can be taken back.
    #[must_use]
    pub fn is_reversible(&self) -> bool {
        self.undo.is_some()
    }
}

/// How an action of a rung is taken back.
pub(crate) type Undo = fn(&Snapshot, &Rung, &Action) -> Option<UndoSpec>;

/// All remedies.
pub const REMEDIES: &[Remedy] =
    &[cancel_queries::REMEDY, terminate_idle::REMEDY, scale::REMEDY, warm_cache::REMEDY];

/// The remedy that does this action.
#[must_use]
pub fn remedy(kind: ActionKind) -> &'static Remedy {
    match kind {
        ActionKind::CancelQueries => &cancel_queries::REMEDY,
        ActionKind::TerminateIdle => &terminate_idle::REMEDY,
        ActionKind::Scale => &scale::REMEDY,
        ActionKind::WarmCache => &warm_cache::REMEDY,
    }
}

/// The kind of a rung's action.
#[must_use]
pub fn kind_of(rung: &Rung) -> ActionKind {
    match rung.action {
        RungAction::CancelQueries { .. } => ActionKind::CancelQueries,
        RungAction::TerminateIdle { .. } => ActionKind::TerminateIdle,
        RungAction::Scale(_) => ActionKind::Scale,
        RungAction::WarmCache(_) => ActionKind::WarmCache,
    }
}

/// The rung as it is now, if it still does this against this cause: an author may have changed his mind.
fn rung<'a>(snapshot: &'a Snapshot, candidate: &Candidate) -> Result<&'a Rung, String> {
    let kind = candidate.action.kind();
    let rung = snapshot.policy.rung(&candidate.rung);
    rung.filter(|rung| kind_of(rung) == kind && rung.causes.contains(&candidate.cause)).ok_or_else(|| {
        format!("the policy has no rung {} with {kind} against {} any more", candidate.rung, candidate.cause)
    })
}
