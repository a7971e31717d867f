//! What is owed, one thing spoiled at a time; and what became of an act on a workload.

use std::time::Duration;

use super::super::{EffectReport, Look, Seen, Step, advance};
use crate::guards::testing::{Setup, finding};
use crate::model::{
    Admission, Confidence, DueBy, EffectSeen, Executing, FieldManager, Fleet, MANAGER, ObjectiveAfter,
    Outcome, Phase, Remediation, RemediationStatus, UndoState, Verdict, WorkloadNow, earlier, later,
};
use crate::tick::Overall;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    setup: Setup,
    remediation: Remediation,
    look: WorkloadNow,
    leading: bool,
    policy_gone: bool,
    effect: Option<EffectReport>,
}

/// Scaled from 4 to 6, judged, and calm since: two steps are due.
fn owed() -> Case {
    let mut setup = Setup::scaling();
    setup.situation.overall = Overall::Healthy;
    setup.situation.incident = None;
    setup.situation.findings.clear();
    setup.situation.calm = 10 * SECOND;
    setup.situation.readings[0].verdict = Verdict::Healthy;
    let mut remediation = setup.remediation();
    remediation.status = RemediationStatus {
        phase: Phase::Completed,
        acted_at: Some(earlier(setup.now, 60 * SECOND)),
        outcome: Some(Outcome::Healed),
        undo: Some(setup.owed(UndoState::Owed)),
        ..RemediationStatus::default()
    };
    let look = workload(6, &[MANAGER]);
    Case { setup, remediation, look, leading: true, policy_gone: false, effect: None }
}

fn workload(replicas: u32, managers: &[&str]) -> WorkloadNow {
    let managers = managers.iter().map(|name| FieldManager((*name).to_owned())).collect();
    WorkloadNow { uid: "t".into(), replicas, ready: replicas, managers }
}

impl Case {
    fn next(&self) -> Step {
        let look = Look::Workload(self.look.clone());
        let seen = Seen {
            now: self.setup.now,
            holder: "me",
            epoch: 7,
            leading: self.leading,
            view: Some((&self.setup.snapshot, &self.setup.situation)),
            policy_gone: self.policy_gone,
            admission: Some(Admission {
                ledger: &self.setup.ledger,
                fleet: Fleet { leading: self.leading, ledger_complete: true },
                limits: &self.setup.limits,
                survey: &self.setup.survey,
            }),
            passed_gate_at: None,
            effect: self.effect.as_ref(),
            executing_seen_at: Some(earlier(self.setup.now, 60 * SECOND)),
            look: Some(&look),
        };
        advance(&self.remediation, &seen)
    }

    fn written(&self) -> RemediationStatus {
        let step = self.next();
        let Step::Write { status, .. } = step else { panic!("it should write, and does {step:?}") };
        *status
    }

    fn undo(&self) -> (UndoState, Option<u32>, Option<DueBy>) {
        let undo = self.written().undo.unwrap();
        (undo.state, undo.writing, undo.due_by)
    }

    fn waits(&self) -> bool {
        matches!(self.next(), Step::Wait { .. })
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = owed();
        change(&mut case);
        case
    }
}

#[test]
fn calm_takes_a_step_back_once_it_is_written_down() {
    let mut case = owed();
    assert_eq!(case.undo(), (UndoState::Owed, Some(5), Some(DueBy::Calm)));
    case.remediation.status = case.written();
    let Step::Restore { scale, .. } = case.next() else { panic!("it should restore") };
    assert_eq!((scale.from, scale.to, scale.uid.as_str()), (6, 5, "t"));
    case.look = workload(5, &[MANAGER]);
    let undo = case.written().undo.unwrap();
    assert_eq!((undo.state, undo.wrote, undo.writing), (UndoState::Owed, 5, None));
}

#[test]
fn nothing_is_taken_back_without_the_lease_calm_and_a_fresh_look() {
    assert!(Case::with(|case| case.leading = false).waits());
    assert!(Case::with(|case| case.setup.situation.calm = 4 * SECOND).waits());
    assert!(Case::with(|case| case.setup.now = later(case.setup.now, 3 * SECOND)).waits());
    assert!(Case::with(|case| case.setup.situation.overall = Overall::NoData).waits());
    assert!(
        Case::with(|case| case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Likely)])
            .waits()
    );
}

#[test]
fn somebody_elses_value_stands_and_so_does_somebody_elses_field() {
    for look in [workload(9, &["kubectl"]), workload(9, &[MANAGER]), workload(6, &[MANAGER, "kubectl"])] {
        let case = Case::with(|case| case.look = look.clone());
        assert_eq!(case.undo().0, UndoState::Contested, "{look:?}");
    }
    let baseline = Case::with(|case| case.look = workload(4, &["kubectl"]));
    assert_eq!(baseline.undo().0, UndoState::Contested, "also where it is what was there before");
}

#[test]
fn another_workload_of_that_name_owes_nothing() {
    let case = Case::with(|case| case.look.uid = "another".into());
    assert_eq!(case.undo().0, UndoState::Abandoned);
}

#[test]
fn a_step_never_goes_below_what_was_there_before() {
    let case = Case::with(|case| case.remediation.spec.undo.as_mut().unwrap().step = 5);
    assert_eq!(case.undo().1, Some(4));
    let last = Case::with(|case| {
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (undo.writing, undo.due_by) = (Some(4), Some(DueBy::Calm));
        case.look = workload(4, &[MANAGER]);
    });
    assert_eq!(last.undo().0, UndoState::Done);
}

#[test]
fn a_policy_that_is_gone_in_the_breach_leaves_it_and_one_that_is_there_holds_it() {
    let breached = |gone: bool| {
        Case::with(|case| {
            case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
            case.policy_gone = gone;
        })
    };
    assert_eq!(breached(true).undo().0, UndoState::Abandoned);
    assert!(breached(false).waits());
}

#[test]
fn what_was_never_done_is_owed_only_as_long_as_it_may_arrive() {
    let never = |due_ago: Duration| {
        Case::with(|case| {
            case.remediation.status.phase = Phase::Failed;
            case.remediation.status.acted_at = None;
            case.remediation.status.undo.as_mut().unwrap().due_at =
                later(earlier(case.setup.now, due_ago), SECOND);
            case.look = workload(4, &["kubectl"]);
        })
    };
    assert!(never(Duration::ZERO).waits());
    assert_eq!(never(2 * SECOND).undo().0, UndoState::None);
    let arrived = Case::with(|case| {
        case.remediation.status.phase = Phase::Failed;
        case.remediation.status.acted_at = None;
    });
    assert_eq!(arrived.undo().1, Some(5), "it did arrive: it is taken back like any other");
}

#[test]
fn a_released_object_has_nothing_to_do_and_a_held_one_is_released() {
    let done = |held: bool| {
        Case::with(|case| {
            case.remediation.status.undo.as_mut().unwrap().state = UndoState::Done;
            case.remediation.held = held;
        })
        .next()
    };
    assert_eq!(done(true), Step::Release);
    assert_eq!(done(false), Step::Done);
}

/// Past the gate; who did it is not here any more.
fn executing() -> Case {
    Case::with(|case| {
        let status = &mut case.remediation.status;
        (status.phase, status.acted_at, status.outcome) = (Phase::Executing, None, None);
        status.executing = Some(Executing {
            holder: "somebody".into(),
            epoch: 6,
            started_at: earlier(case.setup.now, 60 * SECOND),
            deadline: 5 * SECOND,
        });
    })
}

#[test]
fn an_interrupted_act_is_known_for_ours_by_who_holds_the_field() {
    let mut case = executing();
    let status = case.written();
    assert_eq!((status.phase, status.acted_at.is_some()), (Phase::Verifying, true));
    case.look = workload(6, &["kubectl"]);
    assert_eq!(case.written().phase, Phase::OutcomeUnknown, "somebody set the same number");
    case.look = workload(4, &["kubectl"]);
    let failed = case.written();
    assert_eq!(failed.phase, Phase::Failed);
    assert_eq!(failed.undo.unwrap().state, UndoState::Owed, "what was sent may yet arrive");
}

#[test]
fn what_was_refused_at_the_instant_of_acting_owes_nothing() {
    for report in
        [EffectReport::NotMatched("somebody was faster".into()), EffectReport::Refused("forbidden".into())]
    {
        let mut case = executing();
        case.effect = Some(report);
        assert_eq!(case.written().undo.unwrap().state, UndoState::None);
    }
}

/// Sent a while ago.
fn verifying() -> Case {
    Case::with(|case| {
        let status = &mut case.remediation.status;
        (status.phase, status.outcome) = (Phase::Verifying, None);
        status.acted_at = Some(earlier(case.setup.now, 5 * SECOND));
        case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
    })
}

#[test]
fn the_effect_is_seen_when_all_are_ready_and_only_while_it_is_ours() {
    assert_eq!(verifying().written().effect, Some(EffectSeen::Confirmed));
    let mut case = verifying();
    case.look.ready = 5;
    assert!(case.waits());
    case.look = workload(9, &["kubectl"]);
    assert_eq!(case.written().effect, Some(EffectSeen::NotSeen));
    case.look = workload(6, &[MANAGER, "kubectl"]);
    assert_eq!(case.written().effect, Some(EffectSeen::NotSeen));
}

#[test]
fn worse_needs_a_database_whose_trouble_began_after_the_act() {
    let with = |onset: Option<u64>| {
        let mut case = verifying();
        let mut found = finding("BlockingQuery", Confidence::Certain);
        found.onset = onset.map(|ago| earlier(case.setup.now, SECOND * u32::try_from(ago).unwrap()));
        case.setup.situation.findings = vec![found];
        case.written().objective
    };
    assert_eq!(with(Some(2)), Some(ObjectiveAfter::Worse));
    assert_eq!(with(None), Some(ObjectiveAfter::Worse), "as full connection slots have no beginning");
    assert_eq!(with(Some(30)), None, "it was there before");
}

#[test]
fn what_made_things_worse_goes_at_once_while_that_is_still_so() {
    let worse = |change: fn(&mut Case)| {
        Case::with(|case| {
            case.remediation.status.outcome = Some(Outcome::Worse);
            case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
            case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Certain)];
            change(case);
        })
    };
    assert_eq!(worse(|_| ()).undo(), (UndoState::Owed, Some(4), Some(DueBy::Worse)));
    assert!(worse(|case| case.setup.situation.findings.clear()).waits(), "it is only slow");
}

#[test]
fn what_was_to_go_at_once_goes_step_by_step_where_things_are_well_again_by_then() {
    let mut case = Case::with(|case| {
        case.remediation.status.outcome = Some(Outcome::Worse);
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (undo.writing, undo.due_by) = (Some(4), Some(DueBy::Worse));
    });
    assert_eq!(case.undo(), (UndoState::Owed, Some(5), Some(DueBy::Calm)));
    case.remediation.status = case.written();
    let Step::Restore { scale, .. } = case.next() else { panic!("it should restore") };
    assert_eq!((scale.from, scale.to), (6, 5));
    // What was sent while it was worse arrives all the same.
    case.look = workload(4, &[MANAGER]);
    assert_eq!(case.undo().0, UndoState::Done);
}

#[test]
fn what_was_to_go_at_once_waits_for_a_window_after_the_last_step_where_things_are_well_again() {
    let mut case = Case::with(|case| {
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (undo.writing, undo.due_by) = (Some(4), Some(DueBy::Worse));
        undo.stepped_at = Some(case.setup.situation.readings[0].at);
    });
    assert!(case.waits(), "the newest reading has not seen the step");
    let window = case.setup.snapshot.policy.evaluation.window;
    case.setup.situation.readings[0].at = later(case.setup.situation.readings[0].at, window);
    assert_eq!(case.undo(), (UndoState::Owed, Some(5), Some(DueBy::Calm)));
}

#[test]
fn a_step_that_calm_allowed_is_not_carried_out_because_things_are_worse_again() {
    let mut case = owed();
    case.remediation.status = case.written();
    case.remediation.status.outcome = Some(Outcome::Worse);
    case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
    case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Certain)];
    assert_eq!(case.undo(), (UndoState::Owed, Some(4), Some(DueBy::Worse)));
    case.remediation.status = case.written();
    let Step::Restore { scale, .. } = case.next() else { panic!("it should restore") };
    assert_eq!((scale.from, scale.to), (6, 4));
}
