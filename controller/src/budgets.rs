//! What the statuses of RemediationBudgets say: how much of each is used, and whether all of it is understood.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::model::Ledger;
use jiff::Timestamp;

use crate::Controllers;
use crate::conditions::{self, ACCEPTED, PARTLY_UNKNOWN, Said};
use crate::objects::StoredBudget;
use crate::ports::{Cluster as _, Environment, Leading as _, Timer as _};
use crate::report::BudgetReport;

/// How often the usage is computed. It is written only where it has changed.
const EVERY: Duration = Duration::from_secs(5);

impl StoredBudget {
    /// What its status is to say at `now`.
    fn report(&self, ledger: &Ledger, now: Timestamp) -> BudgetReport {
        let said = if self.problems.is_empty() {
            Said::of(ACCEPTED, "The budget is in force.")
        } else {
            Said::of(PARTLY_UNKNOWN, self.problems.join("; "))
        };
        BudgetReport {
            observed_generation: Some(self.generation),
            conditions: conditions::write(&self.report.conditions, vec![said], self.generation, now),
            usage: Some(ledger.usage(&self.budget, now)),
        }
    }
}

impl<E: Environment> Controllers<E> {
    /// Keeps the statuses of all budgets up to date, for ever. What cannot be written is tried again in the next round.
    pub async fn keep_budgets_reported(&self) {
        let mut written = Written::default();
        loop {
            self.ports.time.sleep(EVERY).await;
            let (ledger, complete) = self.ledger.ledger();
            if complete && self.ports.leading.held() {
                self.report_budgets(&ledger, &mut written).await;
            }
        }
    }

    async fn report_budgets(&self, ledger: &Ledger, written: &mut Written) {
        let all = self.ports.cluster.budgets();
        written.0.retain(|name, _| all.iter().any(|stored| stored.budget.name == *name));
        for stored in all {
            let report = stored.report(ledger, self.now());
            if !written.is_due(&stored, &report) {
                continue;
            }
            let name = &stored.budget.name;
            match self.ports.cluster.write_budget(name, &report).await {
                Ok(()) => drop(written.0.insert(name.clone(), report)),
                Err(error) => {
                    tracing::warn!(name, %error, "the status of a RemediationBudget could not be written");
                }
            }
        }
    }
}

/// What this process wrote last of each budget.
#[derive(Default)]
struct Written(BTreeMap<String, BudgetReport>);

impl Written {
    /// Whether a report is to be written. One that another operator of the cluster has replaced is not repeated: it counts
    /// other namespaces, and both would write for ever.
    fn is_due(&self, stored: &StoredBudget, report: &BudgetReport) -> bool {
        let repeats = self.0.get(&stored.budget.name) == Some(report);
        let replaced = stored.report.observed_generation == report.observed_generation;
        stored.report != *report && !(repeats && replaced)
    }
}

#[cfg(test)]
mod tests {
    use engine::model::{Budget, BudgetUsage, Freeze};

    use super::*;

    fn stored(problems: &[&str]) -> StoredBudget {
        StoredBudget {
            budget: Budget { freeze: Freeze::Actions, ..Budget::unlimited("production") },
            generation: 3,
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            report: BudgetReport::default(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_status_that_says_nothing_new_is_the_same() {
        let first = stored(&[]).report(&Ledger::default(), at(0));
        assert_eq!(first.usage, Some(BudgetUsage { actions: 0, open: 0, frozen: Freeze::Actions }));
        assert_eq!((first.observed_generation, first.conditions[0].status.as_str()), (Some(3), "True"));
        let known = StoredBudget { report: first.clone(), ..stored(&[]) };
        assert_eq!(known.report(&Ledger::default(), at(3_600)), first);
    }

    #[test]
    fn a_report_that_was_replaced_is_not_repeated_until_it_changes() {
        let first = stored(&[]).report(&Ledger::default(), at(0));
        let mut written = Written::default();
        assert!(written.is_due(&stored(&[]), &first));
        written.0.insert("production".into(), first.clone());
        let same = StoredBudget { report: first.clone(), ..stored(&[]) };
        assert!(!written.is_due(&same, &first));
        let usage = Some(BudgetUsage { actions: 7, open: 0, frozen: Freeze::Actions });
        let other = StoredBudget { report: BudgetReport { usage, ..first.clone() }, ..stored(&[]) };
        assert!(!written.is_due(&other, &first));
        let changed = BudgetReport { usage: None, ..first.clone() };
        assert!(written.is_due(&other, &changed));
        assert!(written.is_due(&stored(&[]), &first), "it was created again");
    }

    #[test]
    fn an_unknown_word_makes_the_budget_not_ready_with_its_path() {
        let path = "spec.deniedActions[0]: this version does not know Restart";
        let report = stored(&[path]).report(&Ledger::default(), at(0));
        let ready = &report.conditions[0];
        assert_eq!((ready.r#type.as_str(), ready.status.as_str()), ("Ready", "False"));
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), ("PartlyUnknown", path));
    }
}
