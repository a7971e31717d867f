//! `MaxAttempts`: what has not helped three times is a matter for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
};
use crate::model::{Escalation, Phase, Remediation, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::MaxAttempts,
    refuses: "when the incident has used up `maxAttemptsPerIncident`; every LatencyRemediation that is no dry run counts, one that was refused at its gate for as long as `cooldown`",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: Some(Escalation::AttemptsExhausted),
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Attempts { used: usize, most: u32 },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Attempts { used, most } = self;
        write!(f, "{used} of {most} attempts of this incident are used")
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        let Self::Attempts { used, most } = self;
        forget(used);
        forget(most);
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let own = context.candidate.object_name();
    let cooldown = snapshot.policy.guards.cooldown;
    // What was refused at its gate did nothing. It counts for a while, so that a gate that refuses again and again fills
    // nobody's namespace with objects, and not for ever: an API server that was slow for a minute must not have used up all.
    let counts = |known: &Remediation| match known.status.phase {
        Phase::Refused => elapsed(context.now, known.created_at) < cooldown,
        // That a person said no, or nothing, uses up no attempt.
        Phase::AwaitingApproval | Phase::Denied | Phase::Expired => false,
        Phase::Admitted
        | Phase::Executing
        | Phase::Verifying
        | Phase::Completed
        | Phase::Failed
        | Phase::DryRun
        | Phase::OutcomeUnknown => true,
    };
    let used = snapshot
        .remediations
        .iter()
        .filter(|known| {
            known.spec.incident == context.candidate.incident
                && !known.spec.is_dry_run()
                && known.name != own
                && counts(known)
        })
        .count();
    let most = snapshot.policy.guards.max_attempts_per_incident;
    let fact = Fact::Attempts { used, most };
    if u32::try_from(used).is_ok_and(|used| used < most) { pass(fact) } else { refuse(fact) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::Mode;

    #[test]
    fn attempts_are_counted_dry_runs_and_oneself_are_not() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.guards.max_attempts_per_incident = 2;
        let mut earlier = setup.remediation();
        earlier.name = "earlier".into();
        setup.snapshot.remediations = vec![setup.remediation(), earlier.clone()];
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        let mut dry = earlier.clone();
        dry.name = "dry".into();
        dry.spec.mode = Mode::Observe;
        setup.snapshot.remediations.push(dry);
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        earlier.name = "another".into();
        setup.snapshot.remediations.push(earlier);
        let message = refused(&setup, GUARD.name, Stage::Propose);
        assert_eq!(message.as_deref(), Some("2 of 2 attempts of this incident are used"));
    }

    #[test]
    fn one_that_was_refused_at_its_gate_counts_for_as_long_as_the_cooldown() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.guards.max_attempts_per_incident = 1;
        let mut refused_before = setup.remediation();
        refused_before.name = "earlier".into();
        refused_before.status.phase = Phase::Refused;
        let cooldown = setup.snapshot.policy.guards.cooldown;
        refused_before.created_at = setup.now.checked_sub(cooldown / 2).unwrap();
        setup.snapshot.remediations = vec![refused_before.clone()];
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
        refused_before.created_at = setup.now.checked_sub(cooldown).unwrap();
        setup.snapshot.remediations = vec![refused_before.clone()];
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        refused_before.status.phase = Phase::Failed;
        setup.snapshot.remediations = vec![refused_before];
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some(), "it may have been done");
        for unapproved in [Phase::Denied, Phase::Expired] {
            setup.snapshot.remediations[0].status.phase = unapproved;
            assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None, "{unapproved}");
        }
    }
}
