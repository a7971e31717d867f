//! `TargetConflict`: a workload has one owner.

use super::{ADMIT_AND_GATE, Context, Guard, touches_workload};

pub(super) const GUARD: Guard = Guard {
    name: "TargetConflict",
    refuses: "to change a workload that an older policy changes by itself (in Auto, not suspended), or that another policy has changed and not yet taken back",
    stages: ADMIT_AND_GATE,
    applies: touches_workload,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return Ok("a dry run changes nothing".to_owned());
    }
    #[cfg(planted_bugs)]
    if crate::planted::is("no_target_conflict") {
        return Ok("planted".to_owned());
    }
    let admission = context.admission()?;
    if let Some(older) = admission.survey.older(&candidate.policy, &candidate.target) {
        return Err(format!("{} belongs to the older policy {older}; this one observes", candidate.target));
    }
    let own = context.own();
    let owed = admission.ledger.others(&own).find(|(_, entry)| {
        (entry.owes || entry.open)
            && entry.policy != candidate.policy
            && entry.resource.same_as(&candidate.resource)
    });
    match owed {
        None => Ok(format!("{} belongs to this policy", candidate.target)),
        Some(((namespace, name), entry)) => Err(format!(
            "{} was changed by {namespace}/{name} of policy {} and has not been taken back yet",
            candidate.target, entry.policy
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
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
        older.policy.suspended = true;
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
        owed.status.undo = Some(setup.owed(UndoState::Owed));
        setup.ledger.observe(&owed);
        assert!(refused(&setup, GUARD.name, Stage::Gate).unwrap().contains("shop/another"));
        owed.status.undo = Some(setup.owed(UndoState::Done));
        setup.ledger.observe(&owed);
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
    }
}
