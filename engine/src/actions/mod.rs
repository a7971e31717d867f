//! What can be done. One file an action, and one line of the table below.
//!
//! A file has everything about its action: the settings of a rung ([`Settings`]), the action with what it needs ([`Act`]), and a
//! [`Line`] of what holds for all of them. What is done to the world is an [`Effect`]: drivers know only those.

mod cancel_query;
pub(crate) mod replicas;
mod scale;
mod sessions;
mod shed_workers;
mod terminate_idle;
mod warm_cache;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::cancel_query::{CancelQuery, CancelQuerySettings, TerminateQuery};
pub use self::scale::{Scale, ScaleSettings, ScaleStep};
pub use self::shed_workers::{ShedWorkers, ShedWorkersSettings};
pub use self::terminate_idle::{TerminateIdle, TerminateIdleSettings};
pub use self::warm_cache::WarmCache;
use crate::effects::{Effect, Inspection, Progress, Requests};
use crate::model::{
    Candidate, Change, DEADLINE, Finding, Name, Policy, ResourceKey, Rung, Severity, Situation, Snapshot,
    Subject, TargetRef, UndoSpec,
};

/// What kind of thing an action is. The guards ask for these, not for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// It gives the databases more to do.
    pub adds_load: bool,
    /// It takes capacity away.
    pub removes_capacity: bool,
    /// It changes a workload, the target or another one: one policy at a time may, and only a settled workload is changed.
    pub touches_workload: bool,
    /// It destroys somebody's work: it needs a cause that is Certain.
    pub disruptive: bool,
    /// It signals sessions: the roles that it may be done to have to be declared.
    pub signals_sessions: bool,
}

/// What holds for an action whatever its settings are.
#[derive(Debug)]
pub struct Line {
    /// Which action.
    pub kind: ActionKind,
    /// What it does, in one sentence for the documentation.
    pub does: &'static str,
    /// The causes that it can answer; a rung that names another one is refused with the field's path.
    pub answers: &'static [&'static str],
    /// What kind of thing it is.
    pub traits: Traits,
    /// The least severity of an incident in which it runs, where a rung does not say.
    pub min_severity: Severity,
    /// Whether it can be rolled back.
    pub reversible: bool,
}

/// What the settings of a rung answer for.
pub trait Settings {
    /// The kinds that must be allowed for everything that the rung may come to, as [`Act::permissions`] asks for each action.
    fn permissions(&self) -> &'static [ActionKind];
    /// The action for a finding, where the finding names what is needed for it.
    fn propose(&self, snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<Action>;
    /// Where something stronger follows the action: how long its effect is waited for.
    fn effect_within(&self, action: &Action) -> Option<Duration>;
    /// The workload that the action changes, if it changes one.
    fn changes<'a>(&'a self, policy: &'a Policy) -> Option<&'a TargetRef>;
    /// How the action is rolled back; nothing where it cannot be.
    fn undo(&self, policy: &Policy, action: &Action) -> Option<UndoSpec>;
}

/// What an action answers for. There are no defaults: a new action answers everything, in its own file.
pub trait Act {
    /// What it does to the world.
    fn effect(&self) -> Effect;
    /// What it is done to.
    fn subject(&self) -> Subject;
    /// What is locked, counted and left alone afterwards, as it is reached from `namespace`.
    fn resource(&self, namespace: &str) -> ResourceKey;
    /// The kinds that must be allowed for it. An administrator who forbids that sessions are ended also means those whose
    /// statement was cancelled in vain.
    fn permissions(&self) -> &'static [ActionKind];
    /// Whether it is the stronger form of an action that was carried out on the same subject and did nothing.
    fn follows_up(&self) -> bool;
    /// What it does, in words.
    fn sentence(&self) -> String;
    /// Whether it can be carried out as things are: asked when it is proposed and again at the gate. The effect itself asks a
    /// last time, at the instant of acting.
    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked;
    /// Whether it can be told at the moment if its cause is there.
    fn is_cause_visible(&self, situation: &Situation) -> bool;
    /// Whether its effect shows; nothing where the world has to be inspected first.
    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress>;
    /// The command with which people take its change back.
    fn manual_rollback(&self, namespace: &str, change: &Change) -> Option<String>;
}

/// What is known of an effect that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What an inspection of the world shows, if there was one.
    pub inspection: Option<&'a Inspection>,
    /// The newest evaluation of the policy.
    pub view: Option<(&'a Snapshot, &'a Situation)>,
    /// When the effect was sent.
    pub acted_at: Timestamp,
    /// How long ago that is.
    pub waited: Duration,
}

impl Evidence<'_> {
    /// What the inspection says about an effect that shows in the world.
    fn inspected(&self, effect: &Effect) -> Option<Progress> {
        self.inspection.map(|inspection| effect.progress(inspection, self.waited))
    }
}

/// Makes the closed enums from the table: of kinds, of a rung's settings, of actions and of conditions. An action has one kind and
/// one type of settings, and may come to several acts.
macro_rules! actions {
    ($($(#[$doc:meta])* $Kind:ident in $module:ident: $Settings:ty => $($Act:ident),+;)+) => {
        /// The kinds of action, as a policy names them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ActionKind {
            $($(#[$doc])* $Kind,)+
        }

        /// What a rung does, with its settings.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum RungAction {
            $($(#[$doc])* $Kind($Settings),)+
        }

        /// An action that is ready to be carried out.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Action {
            $($(#[doc = concat!("See [`", stringify!($Act), "`].")] $Act($Act),)+)+
        }

        /// What an action's precondition comes to, with its numbers. Each action says in its own file what that can be.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Condition {
            /// The rung has changed since.
            Rung(RungChanged),
            /// See `sessions.rs`.
            Session(sessions::Condition),
            $(#[doc = concat!("See `", stringify!($module), ".rs`.")] $Kind($module::Condition),)+
        }

        /// All actions, in the order in which people read them.
        pub const ACTIONS: &[Line] = &[$($module::LINE),+];

        impl ActionKind {
            /// Its line of the table.
            #[must_use]
            pub fn line(self) -> &'static Line {
                match self {
                    $(Self::$Kind => &$module::LINE,)+
                }
            }
        }

        impl RungAction {
            /// The kind of its action.
            #[must_use]
            pub fn kind(&self) -> ActionKind {
                match self {
                    $(Self::$Kind(_) => ActionKind::$Kind,)+
                }
            }

            /// What it answers for.
            #[must_use]
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$Kind(settings) => settings,)+
                }
            }

            $(
                /// Its settings, if it is of this kind.
                fn $module(&self) -> Option<&$Settings> {
                    match self {
                        Self::$Kind(settings) => Some(settings),
                        #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "the table's other kinds")]
                        _ => None,
                    }
                }
            )+
        }

        impl Action {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> ActionKind {
                match self {
                    $($(Self::$Act(_))|+ => ActionKind::$Kind,)+
                }
            }

            /// What it answers for.
            #[must_use]
            pub fn act(&self) -> &dyn Act {
                match self {
                    $($(Self::$Act(act) => act,)+)+
                }
            }
        }

        impl Condition {
            /// Keeps what makes it another one: its variants and names, and none of its numbers.
            pub(crate) fn forget_numbers(&mut self) {
                match self {
                    Self::Rung(_) => {}
                    Self::Session(condition) => condition.forget_numbers(),
                    $(Self::$Kind(condition) => condition.forget_numbers(),)+
                }
            }
        }

        impl fmt::Display for Condition {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Rung(changed) => changed.fmt(f),
                    Self::Session(condition) => condition.fmt(f),
                    $(Self::$Kind(condition) => condition.fmt(f),)+
                }
            }
        }

        conditions! {
            Rung: RungChanged,
            Session: sessions::Condition,
            $($Kind: $module::Condition,)+
        }
    };
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

actions! {
    /// Cancel a running statement.
    CancelQuery in cancel_query: CancelQuerySettings => CancelQuery, TerminateQuery;
    /// End a session that is idle in a transaction.
    TerminateIdle in terminate_idle: TerminateIdleSettings => TerminateIdle;
    /// Add replicas to the target.
    Scale in scale: ScaleSettings => Scale;
    /// Take background workers away.
    ShedWorkers in shed_workers: ShedWorkersSettings => ShedWorkers;
    /// Ask the target for what it keeps in a cache that has gone cold.
    WarmCache in warm_cache: Requests => WarmCache;
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Action {
    /// Whether both do the same to the same.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        let (one, two) = (self.act(), other.act());
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && one.subject() == two.subject()
            && one.effect().repeats(&two.effect())
    }

    /// How long it may go on. Its verification has so much more time: it is over only when the effect is.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.act().effect().lasts()
    }

    /// Length of time from the passing of the gate after which nothing of it happens any more.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.lasts().saturating_add(DEADLINE)
    }
}

/// What holds, or what does not. In a box: conditions are large, and most hold.
pub type Checked = Result<Condition, Box<Condition>>;

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
}

impl fmt::Display for RungChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { rung, kind, cause } => {
                write!(f, "the policy has no remediation {rung} with {kind} against {cause} any more")
            }
            Self::OtherRung => f.write_str("the remediation does something else now"),
        }
    }
}

/// What the rung does now, if it still does this against this cause.
fn rung<'a>(snapshot: &'a Snapshot, candidate: &Candidate) -> Result<&'a RungAction, RungChanged> {
    let kind = candidate.action.kind();
    let rung = snapshot.policy.rung(&candidate.rung);
    let rung = rung.filter(|rung| rung.action.kind() == kind && rung.causes.contains(&candidate.cause));
    rung.map(|rung| &rung.action).ok_or_else(|| RungChanged::Gone {
        rung: candidate.rung.clone(),
        kind,
        cause: candidate.cause.clone(),
    })
}
