use super::*;
use crate::actions::Scale;
use crate::model::{Action, Severity};

/// Set from 6 to 4 a minute ago, in a breach that goes on.
fn taken(change: impl FnOnce(&mut Case)) -> Case {
    Case::with(|case| {
        let Action::Scale(Scale(set)) = &mut case.remediation.spec.action else { panic!("it scales") };
        (set.from, set.to) = (6, 4);
        let owed = case.remediation.status.undo.as_mut().unwrap();
        (replicas(owed).baseline, replicas(owed).wrote) = (6, 4);
        owed.due_at = later(case.setup.now, 600 * SECOND);
        case.look = workload(4, &[MANAGER]);
        case.setup.situation.overall = Overall::Breached(Severity::P1);
        change(case);
    })
}

fn calm(case: &mut Case) {
    case.setup.situation.overall = Overall::Healthy;
}

/// Held for longer than `maxHold`.
fn held_too_long(case: &mut Case) {
    let hold = case.remediation.spec.undo.as_ref().unwrap().max_hold;
    case.remediation.status.acted_at = Some(earlier(case.setup.now, hold));
}

#[test]
fn calm_gives_it_back_step_by_step_and_a_breach_does_not() {
    assert!(taken(|_| ()).waits());
    let mut case = taken(calm);
    assert_eq!(case.undo(), (UndoState::Pending, Some(5), Some(DueBy::Calm)));
    case.remediation.status = case.written();
    let Step::Restore { effect: Effect::SetReplicas(set), .. } = case.next() else {
        panic!("it should restore")
    };
    assert_eq!((set.from, set.to), (4, 5));
    case.look = workload(5, &[MANAGER]);
    case.remediation.status = case.written();
    case.look = workload(5, &[MANAGER]);
    assert!(case.waits(), "what comes of the step has to be seen for a window");
    case.setup.situation.overall = Overall::Breached(Severity::P1);
    assert!(case.waits());
}

#[test]
fn after_max_hold_it_is_given_back_whatever_the_objectives_are() {
    for change in [
        (|_| ()) as fn(&mut Case),
        |case| case.setup.situation.overall = Overall::NoData,
        |case| case.setup.now = later(case.setup.now, 300 * SECOND),
        |case| case.remediation.status.undo.as_mut().unwrap().due_by = Some(DueBy::Calm),
    ] {
        let mut case = taken(|case| {
            change(case);
            held_too_long(case);
        });
        assert_eq!(case.undo(), (UndoState::Pending, Some(5), Some(DueBy::MaxHold)));
        // The next step comes a window later, though nothing can be read in between.
        let window = case.setup.snapshot.policy.evaluation.window;
        let owed = case.remediation.status.undo.as_mut().unwrap();
        (replicas(owed).wrote, owed.due_by) = (5, Some(DueBy::MaxHold));
        owed.stepped_at = Some(later(earlier(case.setup.now, window), SECOND));
        case.look = workload(5, &[MANAGER]);
        assert!(case.waits());
        case.remediation.status.undo.as_mut().unwrap().stepped_at = Some(earlier(case.setup.now, window));
        assert_eq!(case.undo(), (UndoState::Pending, Some(6), Some(DueBy::MaxHold)));
    }
}

#[test]
fn what_did_not_help_is_given_back_at_once_and_so_is_what_nobody_wants_any_more() {
    for outcome in [Outcome::Ineffective, Outcome::Worse] {
        let case = taken(|case| case.remediation.status.outcome = Some(outcome));
        assert_eq!(case.undo(), (UndoState::Pending, Some(6), Some(DueBy::InVain)), "{outcome:?}");
    }
    let gone = taken(|case| case.policy_gone = true);
    assert_eq!(gone.undo(), (UndoState::Pending, Some(6), Some(DueBy::InVain)));
    for outcome in [Outcome::Healed, Outcome::RecoveredUnattributed, Outcome::Inconclusive] {
        assert!(taken(|case| case.remediation.status.outcome = Some(outcome)).waits(), "{outcome:?}");
    }
}

#[test]
fn an_uninstallation_gives_it_back_at_once_also_in_a_breach() {
    let case = taken(|case| {
        case.draining = Some(Draining { until: later(case.setup.now, 60 * SECOND) });
    });
    assert_eq!(case.undo(), (UndoState::Pending, Some(6), Some(DueBy::Drain)));
}

#[test]
fn a_freeze_of_rollbacks_and_somebody_elses_value_stop_it_too() {
    let theirs = taken(|case| {
        held_too_long(case);
        case.look = workload(2, &["kubectl"]);
    });
    assert_eq!(theirs.undo().0, UndoState::Contested);
    let frozen = taken(|case| {
        held_too_long(case);
        case.setup.limits.unreadable = Some("the API server does not answer".into());
    });
    let written = frozen.written().undo.unwrap();
    assert_eq!((written.change.writing(), written.overdue), (None, true));
}
