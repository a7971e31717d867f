//! `Budget`: a ceiling on how much is done at all. What needs more than this is not an incident but a condition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse, unknown,
};
use crate::model::{ActionKind, Budget, Entry, Freeze, Limits, in_the_last_hour};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Budget,
    refuses: "beyond the policy's `maxActionsPerHour`; beyond, while frozen by, or where denied by any LatencyBudget of the namespace; beyond 6 acts an hour in a namespace where no budget of it sets its own number; beyond 20 an hour and 3 open remediations in the cluster where no budget of all namespaces does",
    stages: ADMIT_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::Stops,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    Within { acts: u32, most: u32 },
    BudgetsNotKnown { why: String },
    Frozen { budget: String, freeze: Freeze },
    Denied { budget: String, kind: ActionKind, namespace: String },
    UsedUp(Ceiling),
}

/// So much of something is used, and so much of it there is, whoever says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    what: What,
    used: u32,
    most: u32,
    by: Option<String>,
}

/// What a ceiling counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum What {
    OfPolicy,
    InNamespace,
    InCluster,
    InNamespaces,
    OpenInCluster,
    OpenInNamespaces,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfPolicy => "acts of this policy in 60 minutes",
            Self::InNamespace => "acts in this namespace in 60 minutes",
            Self::InCluster => "acts in the cluster in 60 minutes",
            Self::InNamespaces => "acts in its namespaces in 60 minutes",
            Self::OpenInCluster => "open remediations in the cluster",
            Self::OpenInNamespaces => "open remediations in its namespaces",
        })
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run counts in nothing"),
            Self::Within { acts, most } => write!(f, "{acts} of {most} {}", What::OfPolicy),
            Self::BudgetsNotKnown { why } => write!(f, "not all LatencyBudgets are known: {why}"),
            Self::Frozen { budget, freeze } => write!(f, "LatencyBudget {budget} is frozen ({freeze})"),
            Self::Denied { budget, kind, namespace } => {
                write!(f, "LatencyBudget {budget} denies {kind} in namespace {namespace}")
            }
            Self::UsedUp(Ceiling { what, used, most, by: None }) => {
                write!(f, "{used} of {most} {what} are used up")
            }
            Self::UsedUp(Ceiling { what, used, most, by: Some(budget) }) => {
                write!(f, "{used} of {most} {what} are used up (LatencyBudget {budget})")
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Within { acts, most } => {
                forget(acts);
                forget(most);
            }
            Self::UsedUp(ceiling) => {
                forget(&mut ceiling.used);
                forget(&mut ceiling.most);
            }
            // The API server's words.
            Self::BudgetsNotKnown { why } => forget(why),
            Self::DryRun | Self::Frozen { .. } | Self::Denied { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let admission = context.admission()?;
    let limits = admission.limits;
    if let Some(why) = &limits.unreadable {
        return unknown(Fact::BudgetsNotKnown { why: why.clone() });
    }
    let namespace = &candidate.policy.namespace;
    let budgets: Vec<&Budget> = limits.budgets.iter().filter(|budget| budget.applies(namespace)).collect();
    for budget in &budgets {
        let freeze = budget.frozen(context.now);
        if freeze != Freeze::None {
            return refuse(Fact::Frozen { budget: budget.name.clone(), freeze });
        }
        let denied = candidate.action.permissions().iter().find(|kind| budget.denied.contains(kind));
        if let Some(kind) = denied {
            let (budget, namespace) = (budget.name.clone(), namespace.clone());
            return refuse(Fact::Denied { budget, kind: *kind, namespace });
        }
    }
    let own = context.own();
    let others: Vec<&Entry> = admission.ledger.others(&own).map(|(_, entry)| entry).collect();
    let (acts, most) = (own_acts(context, &others), candidate.max_actions_per_hour);
    let mut ceilings = vec![Ceiling { what: What::OfPolicy, used: acts, most, by: None }];
    ceilings.extend(namespace_ceilings(context, &others, &budgets, limits));
    ceilings.extend(cluster_ceilings(context, &others, &budgets, limits));
    match ceilings.into_iter().find(|ceiling| ceiling.used >= ceiling.most) {
        Some(ceiling) => refuse(Fact::UsedUp(ceiling)),
        None => pass(Fact::Within { acts, most }),
    }
}

/// By name and not by uid: a policy that is deleted and created again does not get a new budget.
fn own_acts(context: &Context<'_>, others: &[&Entry]) -> u32 {
    let policy = &context.candidate.policy;
    let own = |e: &&Entry| e.policy.namespace == policy.namespace && e.policy.name == policy.name;
    in_the_last_hour(others.iter().copied().filter(own), context.now)
}

fn namespace_ceilings(
    context: &Context<'_>,
    others: &[&Entry],
    budgets: &[&Budget],
    limits: &Limits,
) -> Vec<Ceiling> {
    let namespace = &context.candidate.policy.namespace;
    let here = others.iter().copied().filter(|entry| entry.policy.namespace == *namespace);
    let used = in_the_last_hour(here, context.now);
    let what = What::InNamespace;
    either(
        budgets.iter().filter_map(|b| {
            Some((Ceiling { what, used, most: b.per_hour_and_namespace?, by: named(b) }, true))
        }),
        || Ceiling { what, used, most: limits.per_hour_and_namespace, by: None },
    )
}

fn cluster_ceilings(
    context: &Context<'_>,
    others: &[&Entry],
    budgets: &[&Budget],
    limits: &Limits,
) -> Vec<Ceiling> {
    let acts = |of: &dyn Fn(&str) -> bool| {
        in_the_last_hour(others.iter().copied().filter(|entry| of(&entry.policy.namespace)), context.now)
    };
    let open = |of: &dyn Fn(&str) -> bool| {
        let count = others.iter().filter(|entry| entry.open && of(&entry.policy.namespace)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let what =
        |budget: &Budget, whole: What, part: What| if budget.namespaces.is_empty() { whole } else { part };
    let mut ceilings = either(
        budgets.iter().filter_map(|b| {
            let what = what(b, What::InCluster, What::InNamespaces);
            let ceiling = Ceiling { what, most: b.per_hour?, used: acts(&|ns| b.applies(ns)), by: named(b) };
            Some((ceiling, b.namespaces.is_empty()))
        }),
        || Ceiling { what: What::InCluster, used: acts(&|_| true), most: limits.per_hour, by: None },
    );
    ceilings.extend(either(
        budgets.iter().filter_map(|b| {
            let what = what(b, What::OpenInCluster, What::OpenInNamespaces);
            let ceiling =
                Ceiling { what, most: b.concurrent?, used: open(&|ns| b.applies(ns)), by: named(b) };
            Some((ceiling, b.namespaces.is_empty()))
        }),
        || Ceiling { what: What::OpenInCluster, used: open(&|_| true), most: limits.concurrent, by: None },
    ));
    ceilings
}

fn named(budget: &Budget) -> Option<String> {
    Some(budget.name.clone())
}

/// All that are set, and the one that is built in unless one of them speaks for as much: a budget of some namespaces does not
/// lift what holds for the whole cluster.
fn either(set: impl Iterator<Item = (Ceiling, bool)>, built_in: impl FnOnce() -> Ceiling) -> Vec<Ceiling> {
    let (mut ceilings, whole): (Vec<Ceiling>, Vec<bool>) = set.unzip();
    if !whole.contains(&true) {
        ceilings.push(built_in());
    }
    ceilings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, budget, refused};
    use super::*;
    use crate::model::{Action, ActionKind, Phase, earlier};

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

    /// What is said with these budgets, after as many acts of another policy of the namespace.
    fn under(budgets: &[Budget], done: usize) -> Option<String> {
        let mut setup = Setup::acting();
        setup.limits.budgets = budgets.to_vec();
        for index in 0..done {
            let mut remediation = setup.remediation();
            remediation.name = format!("done-{index}");
            remediation.spec.policy.name = "another".into();
            remediation.status.phase = Phase::Completed;
            remediation.status.acted_at = Some(earlier(setup.now, Duration::from_secs(60)));
            setup.ledger.observe(&remediation);
        }
        let at_admission = refused(&setup, GUARD.name, Stage::Admit);
        assert_eq!(at_admission, refused(&setup, GUARD.name, Stage::Gate));
        at_admission
    }

    #[test]
    fn a_frozen_budget_begins_nothing_and_elsewhere_it_says_nothing() {
        for freeze in [Freeze::New, Freeze::All] {
            let frozen = Budget { freeze, ..budget("night") };
            let message = under(std::slice::from_ref(&frozen), 0);
            assert_eq!(message, Some(format!("LatencyBudget night is frozen ({freeze})")));
            let elsewhere = Budget { namespaces: vec!["elsewhere".into()], ..frozen.clone() };
            assert_eq!(under(&[elsewhere], 0), None);
            let here = Budget { namespaces: vec!["elsewhere".into(), "shop".into()], ..frozen };
            assert!(under(&[here], 0).is_some());
        }
    }

    #[test]
    fn a_window_freezes_from_its_first_instant_to_its_last() {
        let now = Setup::acting().now;
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        for (from, until, frozen) in [
            (earlier(now, minute), crate::model::later(now, minute), true),
            (now, crate::model::later(now, second), true),
            (earlier(now, minute), now, false),
            (crate::model::later(now, second), crate::model::later(now, minute), false),
        ] {
            let windows = vec![crate::model::FreezeWindow { from, until, freeze: Freeze::New }];
            assert_eq!(under(&[Budget { windows, ..budget("sale") }], 0).is_some(), frozen, "{from} {until}");
        }
    }

    #[test]
    fn the_strictest_of_all_that_apply_holds_and_what_none_sets_is_built_in() {
        let (lax, strict) = (
            Budget { per_hour_and_namespace: Some(50), ..budget("lax") },
            Budget { per_hour_and_namespace: Some(2), ..budget("strict") },
        );
        assert_eq!(under(std::slice::from_ref(&lax), 19), None, "more than is built in");
        assert_eq!(under(&[lax.clone(), strict.clone()], 1), None);
        let message = under(&[lax.clone(), strict], 2).unwrap();
        assert_eq!(message, "2 of 2 acts in this namespace in 60 minutes are used up (LatencyBudget strict)");
        // The cluster's own ceiling is still the one that is built in.
        assert!(under(&[lax], 20).unwrap().contains("20 of 20 acts in the cluster"));
        let elsewhere = Budget { namespaces: vec!["elsewhere".into()], per_hour: Some(0), ..budget("other") };
        assert_eq!(under(&[elsewhere], 5), None);
        let part = Budget { namespaces: vec!["shop".into()], per_hour: Some(1), ..budget("shops") };
        assert!(under(&[part], 1).unwrap().contains("1 of 1 acts in its namespaces"));
        let open = Budget { concurrent: Some(0), ..budget("hands-off") };
        assert!(under(&[open], 0).unwrap().contains("0 of 0 open remediations"));
    }

    #[test]
    fn a_budget_of_some_namespaces_does_not_lift_what_holds_for_the_cluster() {
        let part = Budget {
            namespaces: vec!["shop".into()],
            per_hour: Some(100),
            concurrent: Some(100),
            per_hour_and_namespace: Some(100),
            ..budget("team")
        };
        assert!(under(&[part], 20).unwrap().contains("20 of 20 acts in the cluster"));
    }

    #[test]
    fn who_forbids_to_end_sessions_forbids_it_after_a_cancel_in_vain_too() {
        let mut setup = Setup::acting();
        let Action::CancelQuery(target) = setup.candidate.action.clone() else { panic!("no cancel") };
        setup.limits.budgets = vec![Budget { denied: vec![ActionKind::TerminateIdle], ..budget("careful") }];
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
        setup.candidate.action = Action::TerminateQuery(target);
        assert!(refused(&setup, GUARD.name, Stage::Admit).unwrap().contains("denies TerminateIdle"));
        assert_eq!(refused(&setup, GuardName::Mode, Stage::Gate), None);
        setup.snapshot.operator.enabled_actions.retain(|kind| *kind != ActionKind::TerminateIdle);
        assert!(
            refused(&setup, GuardName::Mode, Stage::Gate).unwrap().contains("TerminateIdle is switched off")
        );
    }

    #[test]
    fn a_denied_action_and_budgets_that_are_not_known_refuse() {
        let denied = vec![ActionKind::CancelQuery];
        assert!(under(&[Budget { denied, ..budget("careful") }], 0).unwrap().contains("denies CancelQuery"));
        let denied = vec![ActionKind::TerminateIdle];
        assert_eq!(under(&[Budget { denied, ..budget("careful") }], 0), None);
        let mut setup = Setup::acting();
        setup.limits.unreadable = Some("forbidden".into());
        assert!(refused(&setup, GUARD.name, Stage::Gate).unwrap().contains("forbidden"));
    }
}
