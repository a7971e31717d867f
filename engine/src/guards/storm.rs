//! `Storm`: when everything is slow at once, it is not each of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse,
};
use crate::model::{PolicyRef, Root, Storm};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Storm,
    refuses: "when of at least 5 targets, over all policies or over those of a metrics backend, more than half are breached or without data (what several are Certain to be breached by counts once); and, where at least 5 policies suffer from one culprit, everybody but the oldest of the policies that would act on it",
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
    Calm {
        targets: usize,
    },
    Storm(Storm),
    /// Many policies suffer from one culprit, and another one of them acts.
    Elected {
        policies: usize,
        elected: PolicyRef,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run makes no storm worse"),
            Self::Calm { targets } => write!(f, "{targets} targets are watched"),
            Self::Storm(storm) => write!(f, "{storm}: something that they share is broken"),
            Self::Elected { policies, elected } => write!(
                f,
                "{policies} policies suffer from the same culprit; policy {elected} acts for all of them"
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::DryRun => {}
            Self::Calm { targets: count } | Self::Elected { policies: count, .. } => forget(count),
            Self::Storm(storm) => storm.forget_numbers(),
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let survey = context.admission()?.survey;
    if let Some(storm) = survey.storm(&candidate.policy) {
        return refuse(Fact::Storm(storm));
    }
    let effect = candidate.action.act().effect();
    let session = effect.session().map(|target| &target.session);
    let root = session.and_then(|session| Root::of_resource(&candidate.resource, session));
    if let Some((elected, policies)) = root.and_then(|root| survey.elected(&root, &candidate.policy)) {
        return refuse(Fact::Elected { policies, elected: elected.clone() });
    }
    pass(Fact::Calm { targets: survey.all.targets.len() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{NoData, NoDataReason, Snapshot, Verdict, earlier};
    use crate::model::{Overall, Situation};

    /// Ones own policy and `others` copies of it, the first of them the oldest, each changed.
    fn survey(setup: &mut Setup, others: usize, change: impl Fn(usize, &mut Snapshot, &mut Situation)) {
        let mut views = vec![(setup.snapshot.clone(), setup.situation.clone())];
        for index in 0..others {
            let (mut snapshot, mut situation) = (setup.snapshot.clone(), setup.situation.clone());
            snapshot.policy.id.name = format!("other-{index}");
            snapshot.policy.target.name = format!("other-{index}");
            let age = u64::try_from(others - index).unwrap() * 60;
            snapshot.policy.created_at = earlier(setup.snapshot.policy.created_at, Duration::from_secs(age));
            change(index, &mut snapshot, &mut situation);
            views.push((snapshot, situation));
        }
        setup.survey = crate::survey(views.iter().map(|(snapshot, situation)| (snapshot, situation)));
    }

    fn healthy(situation: &mut Situation) {
        situation.overall = Overall::Healthy;
        situation.findings.clear();
    }

    #[test]
    fn more_than_half_of_at_least_five_is_a_storm() {
        let refusal = |others: usize, breached: usize| {
            let mut setup = Setup::acting();
            survey(&mut setup, others, |index, _, situation| {
                situation.findings.clear();
                if index >= breached {
                    healthy(situation);
                }
            });
            refused(&setup, GUARD.name, Stage::Admit)
        };
        assert_eq!(refusal(3, 3), None, "four targets");
        assert_eq!(refusal(5, 2), None, "three of six");
        assert!(refusal(5, 3).unwrap().contains("6 targets, 0 without data, 4 breached"));
    }

    #[test]
    fn a_dark_backend_stops_its_policies_and_quiet_targets_are_not_dark() {
        let refusal = |reason| {
            let mut setup = Setup::acting();
            survey(&mut setup, 6, |_, _, situation| {
                healthy(situation);
                situation.overall = Overall::NoData;
                situation.readings[0].verdict = Verdict::NoData(NoData::new(reason, ""));
            });
            refused(&setup, GUARD.name, Stage::Gate)
        };
        assert!(refusal(NoDataReason::Timeout).unwrap().contains("6 without data"));
        assert_eq!(refusal(NoDataReason::TooFewRequests), None);
    }

    #[test]
    fn many_that_suffer_from_one_culprit_are_one_trouble_and_the_oldest_that_would_act_acts() {
        let refusal = |others: usize, proposing: usize| {
            let mut setup = Setup::acting();
            survey(&mut setup, others, |index, _, situation| {
                if index >= proposing {
                    situation.proposed.clear();
                }
            });
            refused(&setup, GUARD.name, Stage::Admit)
        };
        assert!(
            refusal(99, 99)
                .unwrap()
                .contains("100 policies suffer from the same culprit; policy shop/other-0")
        );
        assert_eq!(refusal(99, 0), None, "nobody else would act");
        assert_eq!(refusal(3, 3), None, "a few serialise by the resource itself");
    }
}
