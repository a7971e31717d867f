//! Over all policies: who may go now. Called by the one task that owns the ledger.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guards::{self, Context, GuardVerdict, Stage};
use crate::model::{Admission, Candidate, Fleet, Ledger, Limits, Survey};

/// A candidate that every guard of its stage let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// What is proposed.
    pub candidate: Candidate,
    /// What every guard said.
    pub verdicts: Vec<GuardVerdict>,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Admitted {
    /// It may go; its resource is held for it in the ledger (dry runs hold nothing).
    Yes {
        /// What every guard said.
        verdicts: Vec<GuardVerdict>,
    },
    /// It was not asked: another one of the same incident goes first.
    Passed,
    /// It may not.
    No {
        /// Who refused, with the numbers.
        refusals: Vec<GuardVerdict>,
    },
}

/// Asks the guards of admission for each proposal in turn. A proposal that is admitted is reserved before the next one is
/// asked, so that two of one batch never hold the same resource. The answers are in the order of the proposals.
#[must_use]
pub fn admit(
    proposals: &[Proposal],
    ledger: &Ledger,
    fleet: Fleet,
    limits: &Limits,
    survey: &Survey,
    now: Timestamp,
) -> (Ledger, Vec<Admitted>) {
    let mut ledger = ledger.clone();
    ledger.prune(now);
    let mut answers = Vec::with_capacity(proposals.len());
    // One act of an incident at a time: what it does must be seen before the next.
    let mut going: BTreeSet<(&str, &str)> = BTreeSet::new();
    for Proposal { candidate, .. } in proposals {
        let incident = (candidate.policy.namespace.as_str(), candidate.incident.as_str());
        if going.contains(&incident) {
            answers.push(Admitted::Passed);
            continue;
        }
        let admission = Admission { ledger: &ledger, fleet, limits, survey };
        let context =
            Context { stage: Stage::Admit, now, candidate, view: None, admission: Some(&admission) };
        let verdicts = guards::evaluate(&context);
        let refusals = guards::refusals(&verdicts);
        if refusals.is_empty() {
            if !candidate.is_dry_run() {
                ledger.reserve(candidate, now);
            }
            going.insert(incident);
            answers.push(Admitted::Yes { verdicts });
        } else {
            answers.push(Admitted::No { refusals });
        }
    }
    (ledger, answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::GuardName;
    use crate::guards::testing::Setup;
    use crate::model::Mode;

    fn proposals(setup: &Setup, names: &[&str]) -> Vec<Proposal> {
        let proposal = |name: &&str| {
            let mut candidate = setup.candidate.clone();
            candidate.policy.name = (*name).to_owned();
            candidate.incident = format!("{name}-1");
            Proposal { candidate, verdicts: Vec::new() }
        };
        names.iter().map(proposal).collect()
    }

    #[test]
    fn two_policies_of_one_batch_never_hold_the_same_database() {
        let setup = Setup::acting();
        let batch = proposals(&setup, &["one", "two"]);
        let (ledger, answers) =
            admit(&batch, &setup.ledger, setup.fleet, &setup.limits, &setup.survey, setup.now);
        assert!(matches!(answers[0], Admitted::Yes { .. }));
        let Admitted::No { refusals } = &answers[1] else { panic!("both were admitted") };
        assert_eq!(refusals[0].guard, GuardName::OneAtATime);
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn of_an_incident_the_first_that_may_go_goes_and_the_others_are_not_asked() {
        let mut setup = Setup::acting();
        let mut held = setup.remediation();
        held.name = "held".into();
        held.spec.incident = "another-1".into();
        setup.ledger.observe(&held);
        let mut batch = proposals(&setup, &["one", "one", "one"]);
        for (proposal, database) in batch.iter_mut().zip(["orders", "stock", "bills"]) {
            proposal.candidate.resource.as_database().database = database.to_owned();
        }
        let (ledger, answers) =
            admit(&batch, &setup.ledger, setup.fleet, &setup.limits, &setup.survey, setup.now);
        let [Admitted::No { refusals }, Admitted::Yes { .. }, Admitted::Passed] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!(refusals[0].guard, GuardName::OneAtATime);
        assert_eq!(ledger.len(), 2);
    }

    #[test]
    fn dry_runs_take_no_lock() {
        let setup = Setup::acting();
        let mut batch = proposals(&setup, &["one", "two", "three"]);
        for dry in &mut batch[..2] {
            dry.candidate.mode = Mode::Observe;
        }
        let (ledger, answers) =
            admit(&batch, &setup.ledger, setup.fleet, &setup.limits, &setup.survey, setup.now);
        assert!(answers.iter().all(|answer| matches!(answer, Admitted::Yes { .. })));
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn a_reservation_that_is_given_back_frees_the_resource() {
        let setup = Setup::acting();
        let batch = proposals(&setup, &["one"]);
        let (mut ledger, _) =
            admit(&batch, &setup.ledger, setup.fleet, &setup.limits, &setup.survey, setup.now);
        let candidate = &batch[0].candidate;
        ledger.release(&(candidate.policy.namespace.clone(), candidate.object_name()));
        assert!(ledger.is_empty());
    }
}
