//! What can be done. One file an action, one line of [`REMEDIES`] each.

mod cancel_query;
pub(crate) mod scale;
mod sessions;
mod terminate_idle;
mod warm_cache;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    Action, ActionKind, Candidate, Finding, Name, ResourceKey, Rung, RungAction, Snapshot, UndoSpec,
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
    pub(crate) precondition: fn(&Snapshot, &Candidate) -> Checked,
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
    &[cancel_query::REMEDY, terminate_idle::REMEDY, scale::REMEDY, warm_cache::REMEDY];

/// The remedy that does this action.
#[must_use]
pub fn remedy(kind: ActionKind) -> &'static Remedy {
    match kind {
        ActionKind::CancelQuery => &cancel_query::REMEDY,
        ActionKind::TerminateIdle => &terminate_idle::REMEDY,
        ActionKind::Scale => &scale::REMEDY,
        ActionKind::WarmCache => &warm_cache::REMEDY,
    }
}

/// The kind of a rung's action.
#[must_use]
pub fn kind_of(rung: &Rung) -> ActionKind {
    match rung.action {
        RungAction::CancelQuery { .. } => ActionKind::CancelQuery,
        RungAction::TerminateIdle { .. } => ActionKind::TerminateIdle,
        RungAction::Scale(_) => ActionKind::Scale,
        RungAction::WarmCache(_) => ActionKind::WarmCache,
    }
}

/// What holds, or what does not. In a box: conditions are large, and most hold.
pub(crate) type Checked = Result<Condition, Box<Condition>>;

/// What an action's precondition comes to, with its numbers. Each action says in its own file what that can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// The rung has changed since.
    Rung(RungChanged),
    /// See `sessions.rs`.
    Session(sessions::Condition),
    /// See `cancel_query.rs`.
    CancelQuery(cancel_query::Condition),
    /// See `terminate_idle.rs`.
    TerminateIdle(terminate_idle::Condition),
    /// See `scale.rs`.
    Scale(scale::Condition),
    /// See `warm_cache.rs`.
    WarmCache(warm_cache::Condition),
}

impl Condition {
    /// Keeps what makes it another one: its variants and names, and none of its numbers.
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::Rung(_) => {}
            Self::Session(condition) => condition.forget_numbers(),
            Self::CancelQuery(condition) => condition.forget_numbers(),
            Self::TerminateIdle(condition) => condition.forget_numbers(),
            Self::Scale(condition) => condition.forget_numbers(),
            Self::WarmCache(condition) => condition.forget_numbers(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rung(changed) => changed.fmt(f),
            Self::Session(condition) => condition.fmt(f),
            Self::CancelQuery(condition) => condition.fmt(f),
            Self::TerminateIdle(condition) => condition.fmt(f),
            Self::Scale(condition) => condition.fmt(f),
            Self::WarmCache(condition) => condition.fmt(f),
        }
    }
}

macro_rules! conditions {
    ($($Variant:ident: $of:ty,)+) => {
        $(impl From<$of> for Condition {
            fn from(condition: $of) -> Self {
                Self::$Variant(condition)
            }
        }

        impl From<$of> for Box<Condition> {
            fn from(condition: $of) -> Self {
                Self::new(condition.into())
            }
        })+
    };
}

conditions! {
    Rung: RungChanged,
    Session: sessions::Condition,
    CancelQuery: cancel_query::Condition,
    TerminateIdle: terminate_idle::Condition,
    Scale: scale::Condition,
    WarmCache: warm_cache::Condition,
}

/// How a rung differs from the one that the candidate was made from: an author may have changed his mind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RungChanged {
    /// There is none that does this against this cause.
    Gone {
        /// Its name.
        rung: String,
        /// What it did.
        kind: ActionKind,
        /// Against what.
        cause: Name,
    },
    /// It does something else.
    OtherRung,
    /// The candidate is about something else.
    OtherAction,
}

impl fmt::Display for RungChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { rung, kind, cause } => {
                write!(f, "the policy has no remediation {rung} with {kind} against {cause} any more")
            }
            Self::OtherRung => f.write_str("the remediation does something else now"),
            Self::OtherAction => f.write_str("it is another action"),
        }
    }
}

/// The rung as it is now, if it still does this against this cause.
fn rung<'a>(snapshot: &'a Snapshot, candidate: &Candidate) -> Result<&'a Rung, RungChanged> {
    let kind = candidate.action.kind();
    let rung = snapshot.policy.rung(&candidate.rung);
    rung.filter(|rung| kind_of(rung) == kind && rung.causes.contains(&candidate.cause)).ok_or_else(|| {
        RungChanged::Gone { rung: candidate.rung.clone(), kind, cause: candidate.cause.clone() }
    })
}
