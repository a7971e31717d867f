//! How much may be done: in an hour, and at one time.

use std::time::Duration;

use super::act::Found;
use super::{Act, Checker, EntryKey};
use crate::model::{Budget, Phase, Policy, Reach, elapsed};

/// The ceilings that hold where no RemediationBudget sets others (DESIGN, section 2), said once more on purpose.
const PER_HOUR: u32 = 20;
const NAMESPACE_PER_HOUR: u32 = 6;
const AT_ONE_TIME: u32 = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// Counts what is in the namespaces that satisfy a condition.
type Counts<'a> = &'a dyn Fn(&dyn Fn(&str) -> bool) -> u32;

impl Checker {
    /// S11.
    pub(super) fn ceilings(&self, act: &Act, found: &mut Found) {
        let window = HOUR.saturating_sub(self.tolerance.clock);
        let recent = || self.acts.iter().filter(|b| elapsed(act.rests_from, b.rests_from) < window);
        let of_policy = recent()
            .filter(|b| b.policy.namespace == act.policy.namespace && b.policy.name == act.policy.name);
        let used = count(of_policy.count());
        let fits = |policy: &Policy| used < policy.guards.max_actions_per_hour;
        if !self.some_version_within(act.at, self.tolerance.late, &act.policy, fits) {
            found.push((
                "S11",
                format!("it is one more than the {used} acts of the policy that its hour allows"),
            ));
        }
        let verified: Vec<&EntryKey> = self
            .intents
            .iter()
            .filter(|(key, intent)| {
                **key != act.key && intent.landed.is_some() && !over(intent.stored.status.phase)
            })
            .map(|(key, _)| key)
            .collect();
        let exceeded = |budgets: &[Budget]| {
            let acts =
                |of: &dyn Fn(&str) -> bool| count(recent().filter(|b| of(&b.policy.namespace)).count());
            let open = |of: &dyn Fn(&str) -> bool| count(verified.iter().filter(|key| of(&key.0)).count());
            exceeded(budgets, &act.policy.namespace, &acts, &open)
        };
        let versions = self.budgets.during(act.at, self.tolerance.hearing);
        let message = match versions {
            [] => exceeded(&[]),
            versions => versions.iter().map(|(_, budgets)| exceeded(budgets)).reduce(Option::and).flatten(),
        };
        found.extend(message.map(|message| ("S11", message)));
    }
}

/// The ceiling that one more act in `namespace` passes, if it passes one.
fn exceeded(budgets: &[Budget], namespace: &str, acts: Counts<'_>, open: Counts<'_>) -> Option<String> {
    let here: Vec<&Budget> = budgets.iter().filter(|budget| covers(budget, namespace)).collect();
    let whole = |budget: &&Budget| budget.reach == Reach::All;
    let mut ceilings: Vec<(&str, u32, u32)> = Vec::new();
    let in_namespace = acts(&|place| place == namespace);
    let own: Vec<&&Budget> = here.iter().filter(|budget| budget.namespace_per_hour.is_some()).collect();
    let built_in = own.iter().all(|budget| budget.reach == Reach::Unclear).then_some(NAMESPACE_PER_HOUR);
    let set = own.iter().filter_map(|budget| budget.namespace_per_hour);
    let most = set.chain(built_in).min().unwrap_or(NAMESPACE_PER_HOUR);
    ceilings.push(("acts an hour in the namespace", in_namespace, most));
    let open_in_namespace = open(&|place| place == namespace);
    for budget in &here {
        let places = |place: &str| covers(budget, place);
        ceilings.extend(budget.per_hour.map(|most| ("acts an hour by a budget", acts(&places), most)));
        ceilings.extend(budget.concurrent.map(|most| ("acts at one time by a budget", open(&places), most)));
        let most = budget.namespace_concurrent;
        ceilings.extend(most.map(|most| ("acts at one time in the namespace", open_in_namespace, most)));
    }
    if !here.iter().filter(|b| whole(b)).any(|budget| budget.per_hour.is_some()) {
        ceilings.push(("acts an hour in the cluster", acts(&|_| true), PER_HOUR));
    }
    if !here.iter().filter(|b| whole(b)).any(|budget| budget.concurrent.is_some()) {
        ceilings.push(("acts at one time in the cluster", open(&|_| true), AT_ONE_TIME));
    }
    let passed = ceilings.into_iter().find(|(_, used, most)| used >= most);
    passed.map(|(what, used, most)| format!("it is one more than {used} of {most} {what}"))
}

/// Whether a namespace is one of the budget's.
pub(super) fn covers(budget: &Budget, namespace: &str) -> bool {
    match &budget.reach {
        Reach::All | Reach::Unclear => true,
        Reach::AllBut(others) => !others.contains(namespace),
    }
}

fn over(phase: Phase) -> bool {
    match phase {
        Phase::AwaitingApproval | Phase::Admitted | Phase::Executing | Phase::Verifying => false,
        Phase::Completed
        | Phase::Denied
        | Phase::Expired
        | Phase::Refused
        | Phase::Failed
        | Phase::DryRun
        | Phase::OutcomeUnknown => true,
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
