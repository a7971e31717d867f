//! How much may be done: in an hour, and at one time.

use std::time::Duration;

use super::act::Found;
use super::{Act, Checker, EntryKey};
use crate::model::{Budget, Phase, Policy, elapsed};

/// The ceilings that hold where no LatencyBudget sets others (DESIGN, section 2), said once more on purpose.
const PER_HOUR: u32 = 20;
const PER_HOUR_AND_NAMESPACE: u32 = 6;
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
    let covers = |budget: &Budget, place: &str| {
        budget.namespaces.is_empty() || budget.namespaces.iter().any(|own| own == place)
    };
    let here: Vec<&Budget> = budgets.iter().filter(|budget| covers(budget, namespace)).collect();
    let whole = |budget: &&Budget| budget.namespaces.is_empty();
    let mut ceilings: Vec<(&str, u32, u32)> = Vec::new();
    let in_namespace = acts(&|place| place == namespace);
    let own: Vec<u32> = here.iter().filter_map(|budget| budget.per_hour_and_namespace).collect();
    let most = own.iter().copied().min().unwrap_or(PER_HOUR_AND_NAMESPACE);
    ceilings.push(("acts an hour in the namespace", in_namespace, most));
    for budget in &here {
        let places = |place: &str| covers(budget, place);
        ceilings.extend(budget.per_hour.map(|most| ("acts an hour by a budget", acts(&places), most)));
        ceilings.extend(budget.concurrent.map(|most| ("acts at one time by a budget", open(&places), most)));
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
