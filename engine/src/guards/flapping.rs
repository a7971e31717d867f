//! `Flapping`: what has to be healed the same way again and again is not healed. The cure hides a cause that people have to
//! find (reliability engineers call it masking).

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Context, Guard, PROPOSE_AND_GATE, always};
use crate::model::elapsed;

pub(super) const GUARD: Guard = Guard {
    name: "Flapping",
    refuses: "the third time that a policy does the same to the same resource, in three incidents within 24 hours: a fix that is needed again and again is no fix, and people are told",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

/// The window.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So many incidents in it may be met by the same act.
const MOST: usize = 2;

fn check(context: &Context<'_>) -> Result<String, String> {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return Ok("a dry run fixes nothing".to_owned());
    }
    let (snapshot, _) = context.view()?;
    let kind = candidate.action.kind();
    let incidents: BTreeSet<&str> = snapshot
        .history
        .iter()
        .filter(|act| act.kind == kind && act.resource.same_as(&candidate.resource))
        .filter(|act| act.incident != candidate.incident && elapsed(context.now, act.acted_at) < DAY)
        .map(|act| act.incident.as_str())
        .collect();
    let numbers = format!(
        "{} of {MOST} incidents within 24h were met by {kind} on {}",
        incidents.len(),
        candidate.resource
    );
    if incidents.len() < MOST {
        return Ok(numbers);
    }
    let names = incidents.into_iter().collect::<Vec<_>>().join(", ");
    Err(format!("{numbers} ({names}): it comes back every time, people have to find out why"))
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{ActionKind, Mode, PastAct, earlier};

    fn setup(incidents: &[(&str, u64)]) -> Setup {
        let mut setup = Setup::acting();
        setup.snapshot.history = incidents
            .iter()
            .map(|(incident, hours)| PastAct {
                acted_at: earlier(setup.now, Duration::from_secs(3600 * hours)),
                incident: (*incident).to_owned(),
                kind: ActionKind::CancelQueries,
                resource: setup.candidate.resource.clone(),
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
