//! `Ineffective`: what did not help three times in a row, whoever tried, is not tried again for a while.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse,
};
use crate::model::{ActionKind, Entry, EntryKey, Escalation, Outcome, ResourceKey, duration::human, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Ineffective,
    refuses: "when the last three incidents of the last 24 hours in which this kind of act was done on the resource, other ones and whoever acted, all ended Ineffective or Worse (from another namespace only where at least two policies say so)",
    stages: ADMIT_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: Some(Escalation::Ineffective),
    check,
};

/// The window.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So many in a row.
const ROW: usize = 3;

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    InARow { acts: usize },
    OneForeignPolicy,
    InVain { kind: ActionKind, resource: ResourceKey, acts: Vec<EntryKey> },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run cannot help"),
            Self::InARow { acts } => {
                write!(f, "{acts} acts of this kind in a row did not help, {ROW} are too many")
            }
            Self::OneForeignPolicy => {
                f.write_str("only one policy of another namespace says that it does not help")
            }
            Self::InVain { kind, resource, acts } => {
                let names: Vec<String> =
                    acts.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
                write!(
                    f,
                    "the last {ROW} times {kind} did not help on {resource} ({}); it is not tried again until the first of \
                     them is {} old",
                    names.join(", "),
                    human(DAY)
                )
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::InARow { acts } => forget(acts),
            // Remediations are numbered.
            Self::InVain { acts, .. } => forget(acts),
            Self::DryRun | Self::OneForeignPolicy => {}
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
    let kind = candidate.action.kind();
    // One's own incident is MaxAttempts' business: the next rung, or the next candidate, may be what helps.
    let mut past: Vec<(&EntryKey, &Entry)> = admission
        .ledger
        .others(&own)
        .filter(|(_, e)| e.kind == kind && e.resource.same_as(&candidate.resource))
        .filter(|(_, e)| e.policy.namespace != candidate.policy.namespace || e.incident != candidate.incident)
        .filter(|(_, e)| e.outcome.is_some())
        .filter(|(_, e)| e.acted_at.is_some_and(|at| elapsed(context.now, at) < DAY))
        .collect();
    past.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.acted_at));
    // One bad incident is one: what was tried in it several times counts once, by its last word.
    let mut incidents = BTreeSet::new();
    past.retain(|(_, entry)| incidents.insert((&entry.policy.namespace, &entry.incident)));
    let in_vain: Vec<_> = past
        .iter()
        .take_while(|(_, entry)| matches!(entry.outcome, Some(Outcome::Ineffective | Outcome::Worse)))
        .collect();
    if in_vain.len() < ROW {
        return pass(Fact::InARow { acts: in_vain.len() });
    }
    // One policy whose promise cannot be kept must not take the action from other namespaces.
    let row = in_vain.iter().take(ROW).map(|(_, entry)| &entry.policy);
    let policies: BTreeSet<_> = row.clone().map(|policy| (&policy.namespace, &policy.name)).collect();
    if policies.len() < 2 && row.clone().any(|policy| policy.namespace != candidate.policy.namespace) {
        return pass(Fact::OneForeignPolicy);
    }
    let acts = in_vain.iter().take(ROW).map(|(key, _)| (*key).clone()).collect();
    refuse(Fact::InVain { kind, resource: candidate.resource.clone(), acts })
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{Phase, Remediation, earlier};

    /// Acts on the same database in other incidents, one a minute, the newest last.
    fn after(outcomes: &[Outcome], change: impl Fn(&mut Remediation)) -> Option<String> {
        let mut setup = Setup::acting();
        for (index, outcome) in outcomes.iter().enumerate() {
            let mut done = setup.remediation();
            done.name = format!("done-{index}");
            done.spec.incident = format!("another-api-{index}");
            done.spec.policy.name = "another-api".into();
            done.status.phase = Phase::Completed;
            done.status.outcome = Some(*outcome);
            let minutes = u64::try_from(outcomes.len() - index).unwrap();
            done.status.acted_at = Some(earlier(setup.now, Duration::from_secs(60 * minutes)));
            done.created_at = earlier(setup.now, 10 * DAY);
            change(&mut done);
            setup.ledger.observe(&done);
        }
        refused(&setup, GUARD.name, Stage::Admit)
    }

    const NO: Outcome = Outcome::Ineffective;

    #[test]
    fn three_in_a_row_are_too_many_whoever_tried() {
        assert_eq!(after(&[NO, NO], |_| ()), None);
        let message = after(&[Outcome::Healed, NO, NO, NO], |_| ()).unwrap();
        assert!(message.contains("shop/done-3, shop/done-2, shop/done-1"), "{message}");
        assert_eq!(after(&[NO, NO, Outcome::Healed], |_| ()), None, "it helped since");
        assert_eq!(after(&[NO, Outcome::Inconclusive, NO], |_| ()), None);
    }

    #[test]
    fn what_was_a_day_ago_elsewhere_or_in_the_same_incident_does_not_count() {
        let thrice = [NO, NO, NO];
        let now = Setup::acting().now;
        assert_eq!(after(&thrice, |done| done.status.acted_at = Some(earlier(now, DAY))), None);
        assert_eq!(after(&thrice, |done| done.spec.resource.as_database().database = "stock".into()), None);
        assert_eq!(after(&thrice, |done| done.spec.incident = "orders-api-12345678-2".into()), None);
        assert_eq!(
            after(&thrice, |done| done.spec.incident = "another-api-1".into()),
            None,
            "one bad incident"
        );
    }

    #[test]
    fn one_policy_of_another_namespace_takes_the_action_from_nobody_and_two_may() {
        let thrice = [NO, NO, NO];
        let elsewhere = |done: &mut Remediation| {
            done.namespace = "elsewhere".into();
            done.spec.policy.namespace = "elsewhere".into();
        };
        assert_eq!(after(&thrice, elsewhere), None);
        let two = |done: &mut Remediation| {
            elsewhere(done);
            if done.name == "done-1" {
                done.spec.policy.name = "third-api".into();
            }
        };
        assert!(after(&thrice, two).is_some());
    }
}
