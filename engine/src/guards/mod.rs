//! What must hold before anything is done. One file a guard, one line of the table each.
//!
//! Every guard that applies sees every candidate, all verdicts are kept, and each refusal names its guard and the numbers.
//! A guard that lacks what it needs to judge keeps the candidate back: unknown never acts.

mod budget;
mod confidence;
mod cooldown;
mod database_capacity;
mod database_healthy;
mod flapping;
pub(crate) mod freshness;
mod ineffective;
pub(crate) mod leadership;
mod max_attempts;
mod min_available;
mod min_requests;
mod mode;
mod one_at_a_time;
mod opt_out;
mod ownership;
mod paused;
#[cfg(planted_bugs)]
mod planted;
pub(crate) mod precondition;
mod rollout;
mod ruling;
mod scope;
mod still_breached;
mod storm;
mod target_conflict;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use ownership::{GITOPS_MANAGERS, gitops_manager};
pub(crate) use ruling::Checked;
pub use ruling::{GuardVerdict, Lacking, Ruling};
use ruling::{pass, refuse, refuse_if_known, unknown};

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{ActionKind, Admission, Candidate, EntryKey, Escalation, Situation, Snapshot, forget};

/// Where a guard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// By `tick`, before anything is proposed.
    Propose,
    /// By `admit`, over all policies.
    Admit,
    /// Between admission and the effect, on a fresh snapshot; the whole table.
    Gate,
}

/// Which actions a guard is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// All.
    Always,
    /// Those that give the databases more to do.
    AddsLoad,
    /// Those that change a workload.
    TouchesWorkload,
    /// Those that give a workload more capacity.
    AddsCapacity,
}

impl Applies {
    /// Whether it is asked for this action.
    #[must_use]
    pub fn to(self, kind: ActionKind) -> bool {
        match self {
            Self::Always => true,
            Self::AddsLoad => kind.line().traits.adds_load,
            Self::TouchesWorkload => kind.line().traits.touches_workload,
            Self::AddsCapacity => {
                let traits = kind.line().traits;
                traits.touches_workload && !traits.removes_capacity
            }
        }
    }
}

/// What a guard means to an act that takes a while and has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileRunning {
    /// Nothing: it is about beginning. It counts, and the act was counted.
    NotAsked,
    /// The act ends where the guard does not let it go on.
    Stops,
    /// As `Stops`; but where the guard cannot judge, the act waits.
    HoldsIfUnknown,
    /// The act waits until the guard lets it go on.
    Holds,
}

/// A line of the table.
#[derive(Debug)]
pub struct Guard {
    /// Its name, as people read it in refusals.
    pub name: GuardName,
    /// What it refuses, in one sentence for the documentation.
    pub refuses: &'static str,
    /// Where it is asked.
    pub stages: &'static [Stage],
    /// Which actions it is asked for.
    pub applies: Applies,
    /// A leader that has just taken over waits for it at the gate, because it may let through soon.
    pub transient: bool,
    /// What it means to an act that takes a while and has begun.
    pub while_running: WhileRunning,
    /// The escalation that its refusal becomes, where no later observation changes it soon.
    pub escalates_as: Option<Escalation>,
    /// Lets the candidate through or keeps it back, in either case with the numbers.
    pub(crate) check: fn(&Context<'_>) -> Checked,
}

/// The table: its lines in the order in which people read them, each the guard's file and its name.
macro_rules! guards {
    ($($file:ident: $Name:ident,)+) => {
        /// A guard.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum GuardName {
            $(#[doc = concat!("See `", stringify!($file), ".rs`.")] $Name,)+
        }

        impl GuardName {
            /// The name, as people read it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Name => stringify!($Name),)+ }
            }

            /// Its line of the table.
            #[must_use]
            pub const fn line(self) -> &'static Guard {
                match self { $(Self::$Name => &$file::GUARD,)+ }
            }
        }

        /// All guards, in the order in which people read them.
        pub const GUARDS: &[Guard] = &[$($file::GUARD,)+];

        /// What a guard finds, with its numbers. Each guard says in its own file what it can find.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Fact {
            /// What any guard may lack.
            Lacking(Lacking),
            $(#[doc = concat!("See `", stringify!($file), ".rs`.")] $Name($file::Fact),)+
        }

        $(impl From<$file::Fact> for Fact {
            fn from(fact: $file::Fact) -> Self {
                Self::$Name(fact)
            }
        })+

        impl Fact {
            /// Keeps what makes it another fact: its variants and names, and none of its numbers.
            pub(crate) fn forget_numbers(&mut self) {
                match self {
                    Self::Lacking(_) => {}
                    $(Self::$Name(fact) => fact.forget_numbers(),)+
                }
            }
        }

        /// One sentence with the numbers.
        impl fmt::Display for Fact {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Lacking(lacking) => lacking.fmt(f),
                    $(Self::$Name(fact) => fact.fmt(f),)+
                }
            }
        }
    };
}

guards! {
    mode: Mode,
    paused: Paused,
    opt_out: OptOut,
    freshness: Freshness,
    still_breached: StillBreached,
    min_requests: MinRequests,
    confidence: Confidence,
    scope: Scope,
    database_healthy: DatabaseHealthy,
    database_capacity: DatabaseCapacity,
    min_available: MinAvailable,
    rollout: Rollout,
    ownership: Ownership,
    precondition: Precondition,
    max_attempts: MaxAttempts,
    flapping: Flapping,
    leadership: Leadership,
    one_at_a_time: OneAtATime,
    cooldown: Cooldown,
    ineffective: Ineffective,
    budget: Budget,
    target_conflict: TargetConflict,
    storm: Storm,
}

impl fmt::Display for GuardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const PROPOSE_AND_GATE: &[Stage] = &[Stage::Propose, Stage::Gate];
const ADMIT_AND_GATE: &[Stage] = &[Stage::Admit, Stage::Gate];

/// What the guards look at.
#[derive(Debug)]
pub struct Context<'a> {
    /// Where they are asked.
    pub stage: Stage,
    /// The instant.
    pub now: Timestamp,
    /// What is to be done.
    pub candidate: &'a Candidate,
    /// The newest snapshot of the policy and what was made of it; not there at admission.
    pub view: Option<(&'a Snapshot, &'a Situation)>,
    /// Ledger, replicas and ceilings; not there at proposal.
    pub admission: Option<&'a Admission<'a>>,
}

impl<'a> Context<'a> {
    /// The view, or the want of one.
    fn view(&self) -> Result<(&'a Snapshot, &'a Situation), Lacking> {
        self.view.ok_or(Lacking::Snapshot)
    }

    /// What admission looks at, or the want of it.
    fn admission(&self) -> Result<&'a Admission<'a>, Lacking> {
        self.admission.ok_or(Lacking::Ledger)
    }

    /// The candidate's own key in the ledger.
    fn own(&self) -> EntryKey {
        (self.candidate.policy.namespace.clone(), self.candidate.object_name())
    }
}

/// Asks every guard of the stage that applies to the action.
#[must_use]
pub fn evaluate(context: &Context<'_>) -> Vec<GuardVerdict> {
    let kind = context.candidate.action.kind();
    let asked = GUARDS.iter().filter(|guard| guard.stages.contains(&context.stage) && guard.applies.to(kind));
    let verdict = |guard: &Guard| GuardVerdict { guard: guard.name, ruling: (guard.check)(context).into() };
    let verdicts = asked.map(verdict);
    #[cfg(planted_bugs)]
    let verdicts = verdicts.map(planted::without_guard);
    verdicts.collect()
}

/// The refusals among verdicts.
#[must_use]
pub fn refusals(verdicts: &[GuardVerdict]) -> Vec<GuardVerdict> {
    verdicts.iter().filter(|verdict| !verdict.passed()).cloned().collect()
}
