//! `Mode`: in Observe nothing is done.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, Stage, WhileRunning, pass, refuse,
};
use crate::model::{ActionKind, Mode, Name};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Mode,
    refuses: "to act when policy or remediation are in Observe (a dry run is written down instead), when the remediation does not answer the cause any more, or when the administrator has switched the action off",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::Stops,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Auto,
    DryRun,
    Observe,
    Approve,
    SwitchedOff { kind: ActionKind },
    NoRung { rung: String, kind: ActionKind },
    NotAnswered { rung: String, cause: Name },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("mode is Auto"),
            Self::DryRun => f.write_str("mode is Observe: a dry run"),
            Self::Observe => f.write_str("mode is Observe"),
            Self::Approve => f.write_str("mode is Approve, and this version asks nobody for approval"),
            Self::SwitchedOff { kind } => {
                write!(f, "{kind} is switched off in the operator's configuration")
            }
            Self::NoRung { rung, kind } => {
                write!(f, "the policy has no remediation {rung} with {kind} any more")
            }
            Self::NotAnswered { rung, cause } => {
                write!(f, "remediation {rung} does not answer {cause} any more")
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Auto
            | Self::DryRun
            | Self::Observe
            | Self::Approve
            | Self::SwitchedOff { .. }
            | Self::NoRung { .. }
            | Self::NotAnswered { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let candidate = context.candidate;
    let kind = candidate.action.kind();
    let off = candidate
        .action
        .act()
        .permissions()
        .iter()
        .find(|kind| !snapshot.operator.enabled_actions.contains(kind));
    if let Some(kind) = off {
        return refuse(Fact::SwitchedOff { kind: *kind });
    }
    let rung = snapshot.policy.rung(&candidate.rung);
    let Some(rung) = rung.filter(|rung| rung.action.kind() == kind) else {
        return refuse(Fact::NoRung { rung: candidate.rung.clone(), kind });
    };
    if !rung.causes.contains(&candidate.cause) {
        return refuse(Fact::NotAnswered { rung: rung.name.clone(), cause: candidate.cause.clone() });
    }
    // What was made to be approved is not carried out without: neither in mode Auto.
    if candidate.mode == Mode::Approve {
        return refuse(Fact::Approve);
    }
    match (context.stage, snapshot.policy.mode_of(rung)) {
        (_, Mode::Auto) => pass(Fact::Auto),
        (Stage::Propose | Stage::Admit, Mode::Observe) if candidate.is_dry_run() => pass(Fact::DryRun),
        (_, Mode::Observe) => refuse(Fact::Observe),
        (_, Mode::Approve) => refuse(Fact::Approve),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::ActionKind;

    #[test]
    fn observe_lets_only_dry_runs_through() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
        setup.snapshot.policy.mode = Mode::Observe;
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate).as_deref(), Some("mode is Observe"));
        setup.candidate.mode = Mode::Observe;
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
    }

    #[test]
    fn a_rung_can_lower_the_mode() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.rungs[0].mode = Some(Mode::Observe);
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
    }

    #[test]
    fn a_rung_that_has_changed_its_mind_is_asked_again_at_the_gate() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.rungs[0].causes.clear();
        let message = refused(&setup, GUARD.name, Stage::Gate);
        assert!(message.is_some_and(|message| message.contains("does not answer RunawayQuery any more")));
    }

    #[test]
    fn an_action_that_is_switched_off_is_refused() {
        let mut setup = Setup::acting();
        setup.snapshot.operator.enabled_actions.retain(|kind| *kind != ActionKind::CancelQuery);
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
    }
}
