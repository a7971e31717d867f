//! The same for replicas that were taken away: what is owed is to give them back.

use super::*;
use crate::model::Undo;

/// A story with each number of replicas on the other side of five: 6 becomes 4. What was added is taken away in it.
fn mirrored(story: Story) -> Story {
    let other = |replicas: &mut u32| *replicas = 10 - *replicas;
    story.with(|_, what| {
        if let What::Replicas(replicas) = what {
            other(&mut replicas.to);
            replicas.from.iter_mut().for_each(other);
        } else if let What::Remediation(stored) = what {
            if let Action::Scale(Scale(set)) = &mut stored.spec.action {
                other(&mut set.from);
                other(&mut set.to);
            }
            if let Some(Undo { change: Change::Replicas(replicas), .. }) = &mut stored.status.undo {
                other(&mut replicas.baseline);
                other(&mut replicas.wrote);
                replicas.writing.iter_mut().for_each(other);
            }
        }
    })
}

/// What is caught besides S5: no settings of Scale let replicas be taken away, so the act itself is caught each time.
fn besides_the_act(story: &Story) -> Vec<String> {
    story.caught().into_iter().filter(|id| id != "S5").collect()
}

/// Given back for this reason, with these readings after the act.
fn due(by: DueBy, objectives: Seen) -> Story {
    let story = each_stored(mirrored(scaled()), |stored| {
        if let Some(undo) = &mut stored.status.undo {
            undo.due_by = undo.due_by.map(|_| by);
        }
    });
    story.with(|at, what| {
        if let What::Reading(reading) = what
            && *at > 24
        {
            reading.objectives = objectives;
        }
    })
}

#[test]
fn u2_calm_has_to_be_seen_and_what_is_due_in_any_case_has_not() {
    assert!(besides_the_act(&due(DueBy::Calm, Seen::Healthy)).is_empty());
    let caught = besides_the_act(&due(DueBy::Calm, Seen::Breached));
    assert!(!caught.is_empty() && caught.iter().all(|id| id == "U2"), "{caught:?}");
    for by in [DueBy::MaxHold, DueBy::InVain] {
        let caught = besides_the_act(&due(by, Seen::Breached));
        assert!(caught.is_empty(), "{by:?}: {caught:?}");
    }
}

#[test]
fn u3_steps_lead_to_what_was_there_before_and_no_further() {
    // What leads further away is not a step at all, but an act that is carried out twice.
    for (to, id) in [(3, "S2"), (7, "U3")] {
        let astray = mirrored(scaled()).with(|at, what| {
            if let What::Replicas(replicas) = what
                && *at > 40
                && replicas.to == 5
            {
                replicas.to = to;
                replicas.remediation = Some(("shop".into(), Setup::scaling().remediation().name));
            }
        });
        let caught = besides_the_act(&astray);
        assert!(caught.iter().any(|one| one == id), "to {to}: {caught:?}");
    }
    let close = mirrored(scaled()).with(|at, _| *at -= 11 * u64::from(*at >= 60));
    let wide = each_stored(close, |stored| {
        stored.spec.undo.as_mut().unwrap().watch.evaluation.window = Duration::from_secs(60);
    });
    assert!(besides_the_act(&wide).iter().any(|id| id == "U3"));
}

#[test]
fn u1_what_was_taken_away_is_nobodys_to_keep() {
    let mut forgotten = mirrored(scaled());
    forgotten.facts.retain(|(at, what)| *at < 45 || matches!(what, What::Reading(_)));
    let mut stored = forgotten.facts.iter().rev().find_map(|(_, what)| {
        if let What::Remediation(stored) = what { Some((**stored).clone()) } else { None }
    });
    let stored = stored.as_mut().unwrap();
    for state in [UndoState::Done, UndoState::Abandoned] {
        stored.status.undo.as_mut().unwrap().state = state;
        let mut story =
            Story { setup: Setup::scaling(), stored: stored.clone(), facts: forgotten.facts.clone() };
        story.tell(45, What::PolicyGone(stored.spec.policy.clone()));
        story.tell(46, What::Remediation(Box::new(stored.clone())));
        assert!(besides_the_act(&story).contains(&"U1".to_owned()), "{state:?}: {:?}", story.caught());
    }
}
