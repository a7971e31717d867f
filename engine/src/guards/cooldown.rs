//! `Cooldown`: a resource rests after an act, whoever acted.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse,
};
use crate::model::{EntryKey, PolicyRef, ResourceKey, duration::human, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Cooldown,
    refuses: "until the longer of the two `cooldown`s (the earlier actor's and one's own) has passed since the last act on the resource; in the same incident the next remediation, and the end of a session whose statement was cancelled in vain, may follow at once",
    stages: ADMIT_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    Rested,
    Rests { resource: Box<ResourceKey>, acted_ago: Duration, by: EntryKey, policy: PolicyRef, rest: Duration },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run needs no rest"),
            Self::Rested => f.write_str("the resource has rested"),
            Self::Rests { resource, acted_ago, by: (namespace, name), policy, rest } => write!(
                f,
                "{resource} was acted on {} ago by {namespace}/{name} of policy {policy}, it rests for {}",
                human(*acted_ago),
                human(*rest)
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Rests { acted_ago, by, rest, .. } => {
                forget(acted_ago);
                // Remediations are numbered.
                forget(by);
                forget(rest);
            }
            Self::DryRun | Self::Rested => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let admission = context.admission()?;
    let own = context.own();
    for (key, entry) in admission.ledger.others(&own) {
        let Some(acted_at) = entry.acted_at.filter(|_| entry.resource.same_as(&candidate.resource)) else {
            continue;
        };
        let next_rung = entry.policy.namespace == candidate.policy.namespace
            && entry.incident == candidate.incident
            && (entry.rung != candidate.rung || candidate.action.act().follows_up());
        let rest = entry.cooldown.max(candidate.cooldown);
        let acted_ago = elapsed(context.now, acted_at);
        if !next_rung && acted_ago < rest {
            return refuse(Fact::Rests {
                resource: Box::new(candidate.resource.clone()),
                acted_ago,
                by: key.clone(),
                policy: entry.policy.clone(),
                rest,
            });
        }
    }
    pass(Fact::Rested)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{Phase, earlier, later};

    fn after(seconds: u64, change: impl FnOnce(&mut crate::model::Remediation)) -> Option<String> {
        let mut setup = Setup::acting();
        let mut done = setup.remediation();
        done.name = "done".into();
        done.spec.incident = "orders-api-1".into();
        done.status.phase = Phase::Completed;
        done.status.acted_at = Some(earlier(setup.now, Duration::from_secs(seconds)));
        change(&mut done);
        setup.ledger.observe(&done);
        refused(&setup, GUARD.name, Stage::Admit)
    }

    #[test]
    fn the_resource_rests_for_the_longer_cooldown_across_policies() {
        assert!(after(299, |_| ()).is_some());
        assert_eq!(after(300, |_| ()), None);
        assert!(
            after(299, |done| done.spec.policy.name = "another".into()).unwrap().contains("shop/another")
        );
        assert!(after(300, |done| done.spec.cooldown = Duration::from_secs(600)).is_some());
    }

    #[test]
    fn the_next_rung_of_the_same_incident_may_follow_the_same_rung_may_not() {
        let incident = Setup::acting().candidate.incident;
        assert_eq!(
            after(1, |done| (done.spec.incident, done.spec.rung) = (incident.clone(), "other".into())),
            None
        );
        assert!(after(1, |done| done.spec.incident = incident.clone()).is_some());
    }

    #[test]
    fn an_act_whose_outcome_is_unknown_counts_and_a_refused_one_does_not() {
        let now = Setup::acting().now;
        let gate = |at| {
            Some(crate::model::Executing {
                holder: "a".into(),
                epoch: 1,
                started_at: at,
                deadline: Duration::from_secs(5),
            })
        };
        for (phase, counts) in [(Phase::OutcomeUnknown, true), (Phase::Failed, true), (Phase::Refused, false)]
        {
            let refusal = after(1, |done| {
                done.status.phase = phase;
                done.status.acted_at = None;
                done.status.executing = gate(earlier(now, Duration::from_secs(1)));
            });
            assert_eq!(refusal.is_some(), counts, "{phase}");
        }
    }

    #[test]
    fn an_act_counts_although_its_object_was_deleted_and_its_name_is_used_again() {
        let mut setup = Setup::acting();
        let mut done = setup.remediation();
        done.status.phase = Phase::Completed;
        done.status.acted_at = Some(earlier(setup.now, Duration::from_secs(1)));
        setup.ledger.observe(&done);
        setup.ledger.forget(&(done.namespace.clone(), done.name.clone()));
        let message = refused(&setup, GUARD.name, Stage::Admit);
        assert!(message.is_some_and(|message| message.contains("(deleted")));
    }

    #[test]
    fn a_clock_that_was_behind_shortens_no_rest() {
        let now = Setup::acting().now;
        let created =
            |done: &mut crate::model::Remediation| done.created_at = earlier(now, Duration::from_secs(10));
        let message = after(3600, created);
        assert!(
            message.is_some_and(|message| message.contains("10s ago")),
            "it cannot have acted before it was created"
        );
    }

    #[test]
    fn a_long_rest_that_is_asked_for_later_looks_back_far_enough() {
        let mut setup = Setup::acting();
        let mut done = setup.remediation();
        done.name = "done".into();
        done.status.phase = Phase::Completed;
        done.status.acted_at = Some(earlier(setup.now, Duration::from_secs(2 * 3600)));
        setup.ledger.observe(&done);
        setup.ledger.prune(setup.now);
        setup.candidate.incident = "orders-api-9".into();
        setup.candidate.cooldown = Duration::from_secs(3 * 3600);
        assert!(refused(&setup, GUARD.name, Stage::Admit).is_some());
    }

    #[test]
    fn a_clock_that_ran_backwards_lengthens_the_rest() {
        let future = later(Setup::acting().now, Duration::from_secs(60));
        assert!(after(0, |done| done.status.acted_at = Some(future)).is_some());
    }
}
