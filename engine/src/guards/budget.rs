//! `Budget`: a ceiling on how much is done at all. What needs more than this is not an incident but a condition.

use super::{ADMIT_AND_GATE, Context, Guard, always};
use crate::model::in_the_last_hour;

pub(super) const GUARD: Guard = Guard {
    name: "Budget",
    refuses: "beyond the policy's `maxActionsPerHour`, 6 acts an hour in a namespace, 20 in the cluster, or 3 open remediations in the cluster",
    stages: ADMIT_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return Ok("a dry run counts in nothing".to_owned());
    }
    let admission = context.admission()?;
    let own = context.own();
    let others = || admission.ledger.others(&own).map(|(_, entry)| entry);
    let open = u32::try_from(others().filter(|entry| entry.open).count()).unwrap_or(u32::MAX);
    let namespace = &candidate.policy.namespace;
    let in_namespace =
        in_the_last_hour(others().filter(|entry| entry.policy.namespace == *namespace), context.now);
    let in_cluster = in_the_last_hour(others(), context.now);
    // By name and not by uid: a policy that is deleted and created again does not get a new budget.
    let of_policy = in_the_last_hour(
        others().filter(|e| e.policy.namespace == *namespace && e.policy.name == candidate.policy.name),
        context.now,
    );
    let limits = admission.limits;
    let budgets = [
        ("acts of this policy in 60 minutes", of_policy, candidate.max_actions_per_hour),
        ("acts in this namespace in 60 minutes", in_namespace, limits.per_hour_and_namespace),
        ("acts in the cluster in 60 minutes", in_cluster, limits.per_hour),
        ("open remediations in the cluster", open, limits.concurrent),
    ];
    match budgets.iter().find(|(_, used, most)| used >= most) {
        Some((what, used, most)) => Err(format!("{used} of {most} {what} are used up")),
        None => {
            Ok(format!("{of_policy} of {} acts of this policy in 60 minutes", candidate.max_actions_per_hour))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{Phase, earlier};

    fn with(
        done: usize,
        minutes_ago: u64,
        change: impl Fn(&mut crate::model::Remediation),
    ) -> Option<String> {
        let mut setup = Setup::acting();
        for index in 0..done {
            let mut remediation = setup.remediation();
            remediation.name = format!("done-{index}");
            remediation.status.phase = Phase::Completed;
            remediation.status.acted_at = Some(earlier(setup.now, Duration::from_secs(60 * minutes_ago)));
            change(&mut remediation);
            setup.ledger.observe(&remediation);
        }
        refused(&setup, GUARD.name, Stage::Admit)
    }

    #[test]
    fn the_policys_own_ceiling_holds_for_an_hour_and_across_its_recreation() {
        assert_eq!(with(1, 59, |_| ()), None);
        assert_eq!(
            with(2, 59, |_| ()).as_deref(),
            Some("2 of 2 acts of this policy in 60 minutes are used up")
        );
        assert_eq!(with(2, 60, |_| ()), None);
        assert!(with(2, 59, |done| done.spec.policy.uid = "an earlier life".into()).is_some());
    }

    #[test]
    fn namespace_and_cluster_have_ceilings_too() {
        let other = |done: &mut crate::model::Remediation| done.spec.policy.name = "another".into();
        assert_eq!(with(5, 59, other), None);
        assert!(with(6, 59, other).unwrap().contains("6 of 6 acts in this namespace"));
        let elsewhere =
            |done: &mut crate::model::Remediation| done.spec.policy.namespace = "elsewhere".into();
        assert_eq!(with(19, 59, elsewhere), None);
        assert!(with(20, 59, elsewhere).unwrap().contains("20 of 20 acts in the cluster"));
        let open = |other: &mut crate::model::Remediation| {
            other.spec.policy.namespace = "elsewhere".into();
            other.status.phase = Phase::Verifying;
        };
        assert_eq!(with(2, 1, open), None);
        assert!(with(3, 1, open).unwrap().contains("3 of 3 open remediations"));
    }
}
