//! `Budget`: a ceiling on how much is done at all. What needs more than this is not an incident but a condition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse, unknown,
};
use crate::model::{ActionKind, Budget, Entry, Freeze, Limits, Mode, in_the_last_hour, open_among};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Budget,
    refuses: "beyond the policy's `maxActionsPerHour`; beyond, while frozen by, or where denied or limited to a lower mode by any RemediationBudget of the namespace; beyond 6 acts an hour in a namespace where no budget of it sets its own number; beyond 20 an hour and 3 open remediations in the cluster where no budget of all namespaces does",
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
    AboveMaxMode { budget: String, kind: ActionKind, mode: Mode },
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
    OpenInNamespace,
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
            Self::OpenInNamespace => "open remediations in this namespace",
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
            Self::BudgetsNotKnown { why } => write!(f, "not all RemediationBudgets are known: {why}"),
            Self::Frozen { budget, freeze } => write!(f, "RemediationBudget {budget} is frozen ({freeze})"),
            Self::Denied { budget, kind, namespace } => {
                write!(f, "RemediationBudget {budget} denies {kind} in namespace {namespace}")
            }
            Self::AboveMaxMode { budget, kind, mode } => {
                write!(f, "RemediationBudget {budget} permits {kind} in mode {mode} at most")
            }
            Self::UsedUp(Ceiling { what, used, most, by: None }) => {
                write!(f, "{used} of {most} {what} are used up")
            }
            Self::UsedUp(Ceiling { what, used, most, by: Some(budget) }) => {
                write!(f, "{used} of {most} {what} are used up (RemediationBudget {budget})")
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
            Self::DryRun | Self::Frozen { .. } | Self::Denied { .. } | Self::AboveMaxMode { .. } => {}
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
        if let Some(forbidden) = forbidden(context, budget) {
            return refuse(forbidden);
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

/// Why a budget forbids the candidate, whatever has been used.
fn forbidden(context: &Context<'_>, budget: &Budget) -> Option<Fact> {
    let (candidate, name) = (context.candidate, || budget.name.clone());
    let freeze = budget.frozen(context.now);
    if freeze != Freeze::None {
        return Some(Fact::Frozen { budget: name(), freeze });
    }
    let kinds = candidate.action.act().permissions();
    if let Some(kind) = kinds.iter().find(|kind| budget.denied.contains(kind)) {
        let namespace = candidate.policy.namespace.clone();
        return Some(Fact::Denied { budget: name(), kind: *kind, namespace });
    }
    kinds.iter().find_map(|kind| {
        let mode = budget.max_mode(*kind).filter(|max| *max < candidate.mode)?;
        Some(Fact::AboveMaxMode { budget: name(), kind: *kind, mode })
    })
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
    let (open, used) = (open_among(here.clone()), in_the_last_hour(here, context.now));
    let what = What::InNamespace;
    let mut ceilings = either(
        budgets.iter().filter_map(|b| {
            let ceiling = Ceiling { what, used, most: b.namespace_per_hour?, by: named(b) };
            Some((ceiling, b.replaces_namespace_ceilings()))
        }),
        || Ceiling { what, used, most: limits.namespace_per_hour, by: None },
    );
    let what = What::OpenInNamespace;
    ceilings.extend(
        budgets
            .iter()
            .filter_map(|b| Some(Ceiling { what, used: open, most: b.namespace_concurrent?, by: named(b) })),
    );
    ceilings
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
        open_among(others.iter().copied().filter(|entry| of(&entry.policy.namespace)))
    };
    let what = |budget: &Budget, whole: What, part: What| {
        if budget.replaces_cluster_ceilings() { whole } else { part }
    };
    let mut ceilings = either(
        budgets.iter().filter_map(|b| {
            let what = what(b, What::InCluster, What::InNamespaces);
            let ceiling = Ceiling { what, most: b.per_hour?, used: acts(&|ns| b.applies(ns)), by: named(b) };
            Some((ceiling, b.replaces_cluster_ceilings()))
        }),
        || Ceiling { what: What::InCluster, used: acts(&|_| true), most: limits.per_hour, by: None },
    );
    ceilings.extend(either(
        budgets.iter().filter_map(|b| {
            let what = what(b, What::OpenInCluster, What::OpenInNamespaces);
            let ceiling =
                Ceiling { what, most: b.concurrent?, used: open(&|ns| b.applies(ns)), by: named(b) };
            Some((ceiling, b.replaces_cluster_ceilings()))
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
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::actions::{CancelQuery, TerminateQuery};
    use crate::model::{Action, ActionKind, MaxMode, Phase, Reach, earlier};

    fn budget(name: &str) -> Budget {
        Budget::unlimited(name)
    }

    fn all_but(others: &[&str]) -> Reach {
        Reach::AllBut(others.iter().map(|other| (*other).to_owned()).collect())
    }

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
        for freeze in [Freeze::Actions, Freeze::ActionsAndRollbacks] {
            let frozen = Budget { freeze, ..budget("night") };
            let message = under(std::slice::from_ref(&frozen), 0);
            assert_eq!(message, Some(format!("RemediationBudget night is frozen ({freeze})")));
            let elsewhere = Budget { reach: all_but(&["shop"]), ..frozen.clone() };
            assert_eq!(under(&[elsewhere], 0), None);
            for reach in [all_but(&["elsewhere"]), all_but(&[]), Reach::Unclear] {
                assert!(under(&[Budget { reach, ..frozen.clone() }], 0).is_some());
            }
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
            let windows = vec![crate::model::FreezeWindow { from, until, freeze: Freeze::Actions }];
            assert_eq!(under(&[Budget { windows, ..budget("sale") }], 0).is_some(), frozen, "{from} {until}");
        }
    }

    #[test]
    fn the_strictest_of_all_that_apply_holds_and_what_none_sets_is_built_in() {
        let (lax, strict) = (
            Budget { namespace_per_hour: Some(50), ..budget("lax") },
            Budget { namespace_per_hour: Some(2), ..budget("strict") },
        );
        assert_eq!(under(std::slice::from_ref(&lax), 19), None, "more than is built in");
        assert_eq!(under(&[lax.clone(), strict.clone()], 1), None);
        let message = under(&[lax.clone(), strict], 2).unwrap();
        assert_eq!(
            message,
            "2 of 2 acts in this namespace in 60 minutes are used up (RemediationBudget strict)"
        );
        // The cluster's own ceiling is still the one that is built in.
        assert!(under(&[lax], 20).unwrap().contains("20 of 20 acts in the cluster"));
        let elsewhere = Budget { reach: all_but(&["shop"]), per_hour: Some(0), ..budget("other") };
        assert_eq!(under(&[elsewhere], 5), None);
        let part = Budget { reach: all_but(&["elsewhere"]), per_hour: Some(1), ..budget("shops") };
        assert!(under(&[part], 1).unwrap().contains("1 of 1 acts in its namespaces"));
        let open = Budget { concurrent: Some(0), ..budget("hands-off") };
        assert!(under(&[open], 0).unwrap().contains("0 of 0 open remediations"));
    }

    #[test]
    fn a_budget_of_some_namespaces_does_not_lift_what_holds_for_the_cluster() {
        let part = Budget {
            reach: all_but(&["elsewhere"]),
            per_hour: Some(100),
            concurrent: Some(100),
            namespace_per_hour: Some(100),
            ..budget("team")
        };
        assert!(under(&[part], 20).unwrap().contains("20 of 20 acts in the cluster"));
    }

    /// What a budget says of `CancelQuery` while so many remediations of another policy are open in the namespace.
    fn beside_open(open: usize, limit: impl Fn(&mut Budget)) -> Option<String> {
        let mut setup = Setup::acting();
        for index in 0..open {
            let mut remediation = setup.remediation();
            remediation.name = format!("open-{index}");
            remediation.spec.policy.name = "another".into();
            remediation.status.phase = Phase::Verifying;
            setup.ledger.observe(&remediation);
        }
        let mut team = budget("team");
        limit(&mut team);
        setup.limits.budgets = vec![team];
        refused(&setup, GUARD.name, Stage::Admit)
    }

    #[test]
    fn a_namespace_has_a_ceiling_of_open_remediations() {
        let two = |team: &mut Budget| team.namespace_concurrent = Some(2);
        assert_eq!(beside_open(1, two), None);
        assert_eq!(
            beside_open(2, two).as_deref(),
            Some("2 of 2 open remediations in this namespace are used up (RemediationBudget team)")
        );
        assert_eq!(beside_open(2, |_| ()), None, "without a budget only the cluster has one");
        let elsewhere = |team: &mut Budget| {
            two(team);
            team.reach = all_but(&["shop"]);
        };
        assert_eq!(beside_open(2, elsewhere), None);
    }

    #[test]
    fn a_selector_that_cannot_be_understood_lifts_nothing() {
        let unclear = |limit: fn(&mut Budget)| {
            let mut lax = Budget { reach: Reach::Unclear, ..budget("lax") };
            limit(&mut lax);
            lax
        };
        let namespace = unclear(|lax| lax.namespace_per_hour = Some(50));
        assert!(under(&[namespace], 6).unwrap().contains("6 of 6 acts in this namespace"));
        let here = Budget { namespace_per_hour: Some(100), ..budget("clear") };
        let cluster = unclear(|lax| lax.per_hour = Some(50));
        assert!(under(&[here, cluster], 20).unwrap().contains("20 of 20 acts in the cluster"));
    }

    #[test]
    fn an_action_above_the_highest_mode_is_refused_and_a_dry_run_is_made() {
        let observes =
            |action, mode| Budget { max_modes: vec![MaxMode { action, mode }], ..budget("careful") };
        let cancel = ActionKind::CancelQuery;
        assert_eq!(
            under(&[observes(cancel, Mode::Observe)], 0).as_deref(),
            Some("RemediationBudget careful permits CancelQuery in mode Observe at most")
        );
        assert!(under(&[observes(cancel, Mode::Approve)], 0).is_some(), "nothing was approved");
        assert_eq!(under(&[observes(cancel, Mode::Auto)], 0), None);
        assert_eq!(under(&[observes(ActionKind::Scale, Mode::Observe)], 0), None);
        let elsewhere = Budget { reach: all_but(&["shop"]), ..observes(cancel, Mode::Observe) };
        assert_eq!(under(&[elsewhere], 0), None);
        let mut twice = observes(cancel, Mode::Auto);
        twice.max_modes.push(MaxMode { action: cancel, mode: Mode::Observe });
        assert!(under(&[twice], 0).is_some(), "the lower one holds");
        let mut setup = Setup::acting();
        setup.limits.budgets = vec![observes(cancel, Mode::Observe)];
        setup.candidate.mode = Mode::Observe;
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
    }

    #[test]
    fn the_usage_of_a_budget_is_what_its_guard_counts() {
        let mut setup = Setup::acting();
        for (index, (namespace, phase, minutes)) in [
            ("shop", Phase::Completed, 59),
            ("shop", Phase::Completed, 60),
            ("shop", Phase::Verifying, 1),
            ("elsewhere", Phase::Verifying, 1),
        ]
        .into_iter()
        .enumerate()
        {
            let mut remediation = setup.remediation();
            remediation.name = format!("done-{index}");
            remediation.spec.policy.namespace = namespace.to_owned();
            remediation.status.phase = phase;
            remediation.status.acted_at = Some(earlier(setup.now, Duration::from_secs(60 * minutes)));
            setup.ledger.observe(&remediation);
        }
        let usage = |budget: &Budget| {
            let usage = setup.ledger.usage(budget, setup.now);
            (usage.actions, usage.open, usage.frozen)
        };
        assert_eq!(usage(&budget("all")), (3, 2, Freeze::None));
        let part = Budget { reach: all_but(&["elsewhere"]), freeze: Freeze::Actions, ..budget("shops") };
        assert_eq!(usage(&part), (2, 1, Freeze::Actions));
    }

    #[test]
    fn who_forbids_to_end_sessions_forbids_it_after_a_cancel_in_vain_too() {
        let mut setup = Setup::acting();
        let Action::CancelQuery(CancelQuery(target)) = setup.candidate.action.clone() else {
            panic!("no cancel")
        };
        setup.limits.budgets = vec![Budget { denied: vec![ActionKind::TerminateIdle], ..budget("careful") }];
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
        setup.candidate.action = Action::TerminateQuery(TerminateQuery(target));
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
