//! `Flapping`: what has to be healed the same way again and again is not healed. The cure hides a cause that people have to
//! find (reliability engineers call it masking).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
};
use crate::model::{ActionKind, Escalation, PastAct, ResourceKey, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Flapping,
    refuses: "the third time within 24 hours that a policy does the same to the same resource, each in an incident of its own or after it had healed before: a fix that is needed again and again is no fix, and people are told",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: Some(Escalation::Flapping),
    check,
};

/// The window.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So many breaches in it may be met by the same act.
const MOST: usize = 2;

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    Met { breaches: usize, kind: ActionKind, resource: ResourceKey },
    ComesBack { breaches: usize, kind: ActionKind, resource: ResourceKey, incidents: Vec<String> },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run fixes nothing"),
            Self::Met { breaches, kind, resource } => {
                write!(f, "{breaches} of {MOST} breaches within 24h were met by {kind} on {resource}")
            }
            Self::ComesBack { breaches, kind, resource, incidents } => write!(
                f,
                "{breaches} of {MOST} breaches within 24h were met by {kind} on {resource} ({}): it comes back every \
                 time, people have to find out why",
                incidents.join(", ")
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::DryRun => {}
            Self::Met { breaches, .. } => forget(breaches),
            // Incidents are numbered.
            Self::ComesBack { breaches, incidents, .. } => {
                forget(breaches);
                forget(incidents);
            }
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let (snapshot, _) = context.view()?;
    let kind = candidate.action.kind();
    let same = |act: &&PastAct| act.kind == kind && act.resource.same_as(&candidate.resource);
    let recent = |act: &&PastAct| elapsed(context.now, act.acted_at) < DAY;
    // Each act that healed met a breach that had come back. One that did not is an attempt: an incident that has only
    // those was met once, and in one's own they are for `MaxAttempts` to count.
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for act in snapshot.history.iter().filter(same).filter(recent) {
        *met.entry(&act.incident).or_default() += usize::from(act.healed);
    }
    for (incident, times) in &mut met {
        *times = if *incident == candidate.incident { *times } else { (*times).max(1) };
    }
    met.retain(|_, times| *times > 0);
    let breaches: usize = met.values().sum();
    let resource = candidate.resource.clone();
    if breaches < MOST {
        return pass(Fact::Met { breaches, kind, resource });
    }
    let incidents = met.into_keys().map(str::to_owned).collect();
    refuse(Fact::ComesBack { breaches, kind, resource, incidents })
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{ActionKind, Mode, earlier};

    fn setup(incidents: &[(&str, u64)]) -> Setup {
        let mut setup = Setup::acting();
        setup.snapshot.history = incidents
            .iter()
            .map(|(incident, hours)| PastAct {
                acted_at: earlier(setup.now, Duration::from_secs(3600 * hours)),
                incident: (*incident).to_owned(),
                kind: ActionKind::CancelQuery,
                resource: setup.candidate.resource.clone(),
                healed: false,
            })
            .collect();
        setup
    }

    #[test]
    fn the_third_same_fix_in_a_day_is_refused_when_proposed_and_at_the_gate() {
        for (incidents, refuses) in [
            (&[("a", 1)][..], false),
            (&[("a", 1), ("a", 2), ("a", 3)], false),
            (&[("a", 23), ("b", 1)], true),
            (&[("a", 24), ("b", 1)], false),
            (&[("orders-api-12345678-2", 1), ("b", 1)], false),
        ] {
            for stage in [Stage::Propose, Stage::Gate] {
                let message = refused(&setup(incidents), GUARD.name, stage);
                assert_eq!(message.is_some(), refuses, "{incidents:?} {stage:?}: {message:?}");
                assert!(message.is_none_or(|message| message.contains("(a, b)")));
            }
        }
    }

    #[test]
    fn in_an_incident_that_was_opened_again_what_healed_before_counts_and_what_did_not_is_an_attempt() {
        let own = "orders-api-12345678-2";
        for (healed, refuses) in
            [(&[true, true][..], true), (&[true, false], false), (&[false, false], false)]
        {
            let mut setup = setup(&[(own, 2), (own, 1)]);
            for (act, healed) in setup.snapshot.history.iter_mut().zip(healed) {
                act.healed = *healed;
            }
            for stage in [Stage::Propose, Stage::Gate] {
                assert_eq!(refused(&setup, GUARD.name, stage).is_some(), refuses, "{healed:?} {stage:?}");
            }
        }
        let mut other = setup(&[("a", 2), ("a", 1)]);
        other.snapshot.history.iter_mut().for_each(|act| act.healed = true);
        assert!(refused(&other, GUARD.name, Stage::Propose).is_some_and(|message| message.contains("(a)")));
    }

    #[test]
    fn another_act_another_database_and_a_dry_run_are_not_the_same_fix() {
        let twice = [("a", 2), ("b", 1)];
        let mut other = setup(&twice);
        other.snapshot.history[0].kind = ActionKind::TerminateIdle;
        assert_eq!(refused(&other, GUARD.name, Stage::Propose), None);
        let mut other = setup(&twice);
        other.snapshot.history[0].resource.as_database().database = "stock".into();
        assert_eq!(refused(&other, GUARD.name, Stage::Propose), None);
        let mut dry = setup(&twice);
        dry.candidate.mode = Mode::Observe;
        assert_eq!(refused(&dry, GUARD.name, Stage::Propose), None);
    }
}
