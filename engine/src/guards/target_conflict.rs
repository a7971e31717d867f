//! `TargetConflict`: a workload has one owner.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse,
};
use crate::model::{EntryKey, PolicyRef, TargetRef};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::TargetConflict,
    refuses: "to change a workload that an older policy changes by itself (in Auto), or that another policy has changed and not yet taken back",
    stages: ADMIT_AND_GATE,
    applies: Applies::TouchesWorkload,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    Own { target: TargetRef },
    OlderPolicy { target: TargetRef, older: PolicyRef },
    Changed { target: TargetRef, by: EntryKey, policy: PolicyRef },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run changes nothing"),
            Self::Own { target } => write!(f, "{target} belongs to this policy"),
            Self::OlderPolicy { target, older } => {
                write!(f, "{target} belongs to the older policy {older}; this one observes")
            }
            Self::Changed { target, by: (namespace, name), policy } => write!(
                f,
                "{target} was changed by {namespace}/{name} of policy {policy} and has not been taken back yet"
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            // Remediations are numbered.
            Self::Changed { by, .. } => forget(by),
            Self::DryRun | Self::Own { .. } | Self::OlderPolicy { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let admission = context.admission()?;
    let effect = candidate.action.act().effect();
    let target = effect.workload().unwrap_or(&candidate.target).clone();
    if let Some(older) = admission.survey.older(&candidate.policy, &target) {
        return refuse(Fact::OlderPolicy { target, older: older.clone() });
    }
    let own = context.own();
    let owed = admission.ledger.others(&own).find(|(_, entry)| {
        (entry.owes || entry.open)
            && entry.policy != candidate.policy
            && entry.resource.same_as(&candidate.resource)
    });
    match owed {
        None => pass(Fact::Own { target }),
        Some((key, entry)) => refuse(Fact::Changed { target, by: key.clone(), policy: entry.policy.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::Mode;
    use crate::model::{PolicyRef, UndoState, earlier};
    use std::time::Duration;

    fn other() -> PolicyRef {
        PolicyRef { namespace: "shop".into(), name: "another".into(), uid: "u2".into() }
    }

    #[test]
    fn of_two_policies_the_older_one_acts_and_the_other_is_told_its_name() {
        let mut setup = Setup::scaling();
        let mut older = setup.snapshot.clone();
        older.policy.id = other();
        older.policy.created_at = earlier(older.policy.created_at, Duration::from_secs(60));
        setup.survey = crate::survey([(&setup.snapshot, &setup.situation), (&older, &setup.situation)]);
        let message = refused(&setup, GUARD.name, Stage::Admit).unwrap();
        assert!(message.contains("shop/another"), "{message}");
        older.policy.mode = Mode::Observe;
        setup.survey = crate::survey([(&setup.snapshot, &setup.situation), (&older, &setup.situation)]);
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
    }

    #[test]
    fn what_another_policy_owes_is_taken_back_first() {
        let mut setup = Setup::scaling();
        let mut owed = setup.remediation();
        owed.name = "owed".into();
        owed.spec.policy = other();
        owed.status.phase = crate::model::Phase::Completed;
        owed.status.acted_at = Some(earlier(setup.now, Duration::from_secs(9000)));
        owed.status.undo = Some(setup.owed(UndoState::Pending));
        setup.ledger.observe(&owed);
        assert!(refused(&setup, GUARD.name, Stage::Gate).unwrap().contains("shop/another"));
        owed.status.undo = Some(setup.owed(UndoState::Done));
        setup.ledger.observe(&owed);
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
    }
}
