//! What must hold before anything is done. One file a guard, one line of [`GUARDS`] each.
//!
//! Every guard that applies sees every candidate, all verdicts are kept, and each refusal names its guard and the numbers.
//! A guard that lacks what it needs to judge refuses: unknown never acts.

mod budget;
mod confidence;
mod cooldown;
mod database_capacity;
mod database_healthy;
mod flapping;
mod freshness;
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
mod precondition;
mod rollout;
mod scope;
mod still_breached;
mod storm;
mod target_conflict;
#[cfg(test)]
pub(crate) mod testing;

pub use ownership::{GITOPS_MANAGERS, gitops_manager};

use jiff::Timestamp;

use crate::model::{ActionKind, Admission, Candidate, EntryKey, GuardVerdict, Situation, Snapshot};
use crate::remediations::remedy;

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

/// A line of the table.
#[derive(Debug)]
pub struct Guard {
    /// Its name, as people read it in refusals.
    pub name: &'static str,
    /// What it refuses, in one sentence for the documentation.
    pub refuses: &'static str,
    /// Where it is asked.
    pub stages: &'static [Stage],
    /// Which actions it is asked for.
    pub applies: fn(ActionKind) -> bool,
    /// Lets through with the reason, or refuses with the reason; both with their numbers.
    pub(crate) check: fn(&Context<'_>) -> Result<String, String>,
}

/// All guards, in the order in which people read them.
pub const GUARDS: &[Guard] = &[
    mode::GUARD,
    paused::GUARD,
    opt_out::GUARD,
    freshness::GUARD,
    still_breached::GUARD,
    min_requests::GUARD,
    confidence::GUARD,
    scope::GUARD,
    database_healthy::GUARD,
    database_capacity::GUARD,
    min_available::GUARD,
    rollout::GUARD,
    ownership::GUARD,
    precondition::GUARD,
    max_attempts::GUARD,
    flapping::GUARD,
    leadership::GUARD,
    one_at_a_time::GUARD,
    cooldown::GUARD,
    ineffective::GUARD,
    budget::GUARD,
    target_conflict::GUARD,
    storm::GUARD,
];

const PROPOSE_AND_GATE: &[Stage] = &[Stage::Propose, Stage::Gate];
const ADMIT_AND_GATE: &[Stage] = &[Stage::Admit, Stage::Gate];

/// Asked for every action.
fn always(kind: ActionKind) -> bool {
    match kind {
        ActionKind::CancelQueries | ActionKind::TerminateIdle | ActionKind::Scale | ActionKind::WarmCache => {
            true
        }
    }
}

/// Asked for what gives the databases more to do.
fn adds_load(kind: ActionKind) -> bool {
    remedy(kind).traits.adds_load
}

/// Asked for what changes the target itself.
fn touches_workload(kind: ActionKind) -> bool {
    remedy(kind).traits.touches_workload
}

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
    /// The view, or the refusal for want of one.
    fn view(&self) -> Result<(&'a Snapshot, &'a Situation), String> {
        self.view.ok_or_else(|| "there is no current snapshot of the policy".to_owned())
    }

    /// What admission looks at, or the refusal for want of it.
    fn admission(&self) -> Result<&'a Admission<'a>, String> {
        self.admission.ok_or_else(|| "the ledger cannot be asked".to_owned())
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
    GUARDS
        .iter()
        .filter(|guard| guard.stages.contains(&context.stage) && (guard.applies)(kind))
        .map(|guard| {
            let (passed, message) = match (guard.check)(context) {
                Ok(message) => (true, message),
                Err(message) => (false, message),
            };
            GuardVerdict { guard: guard.name.into(), passed, message }
        })
        .collect()
}

/// The refusals among verdicts.
#[must_use]
pub fn refusals(verdicts: &[GuardVerdict]) -> Vec<GuardVerdict> {
    verdicts.iter().filter(|verdict| !verdict.passed).cloned().collect()
}
