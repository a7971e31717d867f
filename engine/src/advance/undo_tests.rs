//! What is owed, one thing spoiled at a time; and what became of an act on a workload.

use std::time::Duration;

use super::super::{EffectReport, Seen, Step, advance};
use crate::effects::{Effect, Inspection};
use crate::guards::testing::{Setup, finding};
use crate::model::Overall;
use crate::model::{
    Admission, Change, Confidence, Draining, DueBy, EffectSeen, Executing, FieldManager, Fleet, MANAGER,
    ObjectiveAfter, Outcome, Phase, Remediation, RemediationStatus, ReplicasChange, Undo, UndoState, Verdict,
    WorkloadNow, earlier, later,
};

/// Taking back what took capacity away.
#[path = "giving_back_tests.rs"]
mod giving_back;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    setup: Setup,
    remediation: Remediation,
    look: WorkloadNow,
    leading: bool,
    policy_gone: bool,
    draining: Option<Draining>,
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
        undo: Some(setup.owed(UndoState::Pending)),
        ..RemediationStatus::default()
    };
    let look = workload(6, &[MANAGER]);
    Case { setup, remediation, look, leading: true, policy_gone: false, draining: None, effect: None }
}

fn workload(replicas: u32, managers: &[&str]) -> WorkloadNow {
    let managers = managers.iter().map(|name| FieldManager((*name).to_owned())).collect();
    WorkloadNow { uid: "t".into(), replicas, ready: replicas, managers }
}

fn replicas(undo: &mut Undo) -> &mut ReplicasChange {
    let Change::Replicas(replicas) = &mut undo.change;
    replicas
}

impl Case {
    fn next(&self) -> Step {
        self.next_seeing(&Inspection::Workload(self.look.clone()))
    }

    fn next_seeing(&self, look: &Inspection) -> Step {
        let seen = Seen {
            now: self.setup.now,
            holder: "me",
            epoch: 7,
            leading: self.leading,
            view: Some((&self.setup.snapshot, &self.setup.situation)),
            policy_gone: self.policy_gone,
            admission: Some(Admission {
                ledger: &self.setup.ledger,
                fleet: Fleet { leading: self.leading, ledger_complete: true, draining: self.draining },
                limits: &self.setup.limits,
                survey: &self.setup.survey,
            }),
            passed_gate_at: None,
            effect: self.effect.as_ref(),
            executing_seen_at: Some(earlier(self.setup.now, 60 * SECOND)),
            inspection: Some(look),
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
        (undo.state, undo.change.writing(), undo.due_by)
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
    assert_eq!(case.undo(), (UndoState::Pending, Some(5), Some(DueBy::Calm)));
    case.remediation.status = case.written();
    let Step::Restore { effect: Effect::SetReplicas(scale), .. } = case.next() else {
        panic!("it should restore")
    };
    assert_eq!((scale.from, scale.to, scale.uid.as_str()), (6, 5, "t"));
    case.look = workload(5, &[MANAGER]);
    let mut undo = case.written().undo.unwrap();
    assert_eq!((undo.state, replicas(&mut undo).wrote, undo.change.writing()), (UndoState::Pending, 5, None));
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
        (replicas(undo).writing, undo.due_by) = (Some(4), Some(DueBy::Calm));
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
fn what_arrived_after_all_is_said_before_somebody_can_set_it_back() {
    let mut case = executing();
    case.remediation.status.phase = Phase::Failed;
    case.remediation.status.undo.as_mut().unwrap().due_at = later(case.setup.now, 50 * SECOND);
    let arrived = case.written();
    let began_at = arrived.executing.as_ref().map(|executing| executing.started_at);
    assert_eq!((arrived.phase, arrived.acted_at), (Phase::Failed, began_at));
    assert!(arrived.message.ends_with("done after all: Deployment/orders-api has 6 replicas"), "{arrived:?}");
    assert_eq!(arrived.undo.as_ref().unwrap().change.writing(), None, "nothing is taken back by that");
    case.remediation.status = arrived;
    case.look = workload(4, &["kubectl"]);
    assert_eq!(case.undo().0, UndoState::Contested, "it was done, and somebody has set it back");
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
    assert_eq!(failed.undo.unwrap().state, UndoState::Pending, "what was sent may yet arrive");
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
    assert_eq!(worse(|_| ()).undo(), (UndoState::Pending, Some(4), Some(DueBy::Worse)));
    assert!(worse(|case| case.setup.situation.findings.clear()).waits(), "it is only slow");
}

#[test]
fn what_was_to_go_at_once_goes_step_by_step_where_things_are_well_again_by_then() {
    let mut case = Case::with(|case| {
        case.remediation.status.outcome = Some(Outcome::Worse);
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (replicas(undo).writing, undo.due_by) = (Some(4), Some(DueBy::Worse));
    });
    assert_eq!(case.undo(), (UndoState::Pending, Some(5), Some(DueBy::Calm)));
    case.remediation.status = case.written();
    let Step::Restore { effect: Effect::SetReplicas(scale), .. } = case.next() else {
        panic!("it should restore")
    };
    assert_eq!((scale.from, scale.to), (6, 5));
    // What was sent while it was worse arrives all the same.
    case.look = workload(4, &[MANAGER]);
    assert_eq!(case.undo().0, UndoState::Done);
}

#[test]
fn what_was_to_go_at_once_waits_for_a_window_after_the_last_step_where_things_are_well_again() {
    let mut case = Case::with(|case| {
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (replicas(undo).writing, undo.due_by) = (Some(4), Some(DueBy::Worse));
        undo.stepped_at = Some(case.setup.situation.readings[0].at);
    });
    assert!(case.waits(), "the newest reading has not seen the step");
    let window = case.setup.snapshot.policy.evaluation.window;
    case.setup.situation.readings[0].at = later(case.setup.situation.readings[0].at, window);
    assert_eq!(case.undo(), (UndoState::Pending, Some(5), Some(DueBy::Calm)));
}

#[test]
fn a_step_that_calm_allowed_is_not_carried_out_because_things_are_worse_again() {
    let mut case = owed();
    case.remediation.status = case.written();
    case.remediation.status.outcome = Some(Outcome::Worse);
    case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
    case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Certain)];
    assert_eq!(case.undo(), (UndoState::Pending, Some(4), Some(DueBy::Worse)));
    case.remediation.status = case.written();
    let Step::Restore { effect: Effect::SetReplicas(scale), .. } = case.next() else {
        panic!("it should restore")
    };
    assert_eq!((scale.from, scale.to), (6, 4));
}

/// The operator is being uninstalled, and has so much time left; calm has not returned.
fn draining(left: u32, change: impl FnOnce(&mut Case)) -> Case {
    Case::with(|case| {
        case.setup.situation.calm = Duration::ZERO;
        case.draining = Some(Draining { until: later(case.setup.now, left * SECOND) });
        change(case);
    })
}

fn breached(case: &mut Case) {
    case.setup.situation.overall = Overall::Breached(crate::model::Severity::P1);
}

#[test]
fn who_is_being_uninstalled_takes_back_at_once_what_is_healthy_and_nothing_else() {
    assert!(Case::with(|case| case.setup.situation.calm = Duration::ZERO).waits(), "it is not due otherwise");
    assert_eq!(draining(60, |_| ()).undo(), (UndoState::Pending, Some(5), Some(DueBy::Drain)));
    assert!(draining(60, breached).waits());
    assert!(draining(60, |case| case.setup.situation.overall = Overall::NoData).waits());
    assert!(
        draining(60, |case| {
            case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Likely)];
        })
        .waits(),
        "a database in trouble"
    );
    assert!(draining(60, |case| case.leading = false).waits());
    let frozen = |case: &mut Case| case.setup.limits.unreadable = Some("they cannot be listed".into());
    assert!(draining(60, frozen).waits(), "a freeze of All cannot be ruled out");
    assert_eq!(draining(60, |case| case.look = workload(9, &["kubectl"])).undo().0, UndoState::Contested);
    assert_eq!(draining(0, |case| case.look = workload(9, &["kubectl"])).undo().0, UndoState::Contested);
    let worse = draining(60, |case| {
        breached(case);
        case.remediation.status.outcome = Some(Outcome::Worse);
        case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Certain)];
    });
    assert_eq!(worse.undo(), (UndoState::Pending, Some(4), Some(DueBy::Worse)));
}

#[test]
fn who_is_being_uninstalled_steps_an_interval_apart_and_as_far_as_the_time_demands() {
    let stepped = |ago: u32| {
        draining(60, |case| {
            let at = earlier(case.setup.now, ago * SECOND);
            case.remediation.status.undo.as_mut().unwrap().stepped_at = Some(at);
        })
    };
    // The interval is a second, the window five.
    assert!(stepped(0).waits(), "nothing was seen of the last step");
    assert_eq!(stepped(1).undo().1, Some(5));
    // Each step takes two intervals: three steps are possible, two, one.
    let far = |left: u32| {
        draining(left, |case| {
            let undo = case.remediation.status.undo.as_mut().unwrap();
            replicas(undo).wrote = 10;
            case.look = workload(10, &[MANAGER]);
        })
        .undo()
        .1
    };
    assert_eq!([far(60), far(7), far(5), far(3), far(1)], [Some(9), Some(8), Some(7), Some(4), Some(4)]);
}

#[test]
fn what_was_written_down_in_one_manner_is_not_carried_out_in_another() {
    let written = |writing: u32, by: DueBy, drains: bool| {
        let mut case = draining(60, |case| {
            let undo = case.remediation.status.undo.as_mut().unwrap();
            (replicas(undo).writing, undo.due_by) = (Some(writing), Some(by));
        });
        if !drains {
            case.draining = None;
            case.setup.situation.calm = 10 * SECOND;
        }
        case
    };
    assert_eq!(written(4, DueBy::Drain, false).undo(), (UndoState::Pending, Some(5), Some(DueBy::Calm)));
    assert_eq!(written(5, DueBy::Calm, true).undo(), (UndoState::Pending, Some(5), Some(DueBy::Drain)));
    assert!(matches!(written(4, DueBy::Drain, true).next(), Step::Restore { .. }));
}

#[test]
fn what_cannot_be_taken_back_in_time_is_given_up_with_the_command_and_released() {
    let command = "kubectl -n shop scale deployment orders-api --replicas=4";
    let given_up = |change: fn(&mut Case)| {
        let case = draining(0, change);
        let Step::Write { status, record } = case.next() else { panic!("{:?}", case.next()) };
        let crate::record::RecordKind::Undo { sentence, .. } = record else { panic!("{record:?}") };
        assert!(sentence.contains(command) && sentence.contains("being uninstalled"), "{sentence}");
        assert_eq!(status.undo.as_ref().map(|undo| undo.state), Some(UndoState::Abandoned), "{sentence}");
        let after = Case { remediation: Remediation { status: *status, ..case.remediation }, ..owed() };
        let held = Case { remediation: Remediation { held: true, ..after.remediation.clone() }, ..after };
        assert_eq!(held.next(), Step::Release);
        sentence
    };
    assert!(given_up(breached).contains("the objectives are broken (P1)"));
    assert!(given_up(|case| case.setup.situation.overall = Overall::NoData).contains("is not known"));
    given_up(|_| ());
    // Interrupted, and what was sent may yet arrive.
    given_up(|case| {
        (case.remediation.status.phase, case.remediation.status.acted_at) = (Phase::Failed, None);
        case.remediation.status.undo.as_mut().unwrap().due_at = later(case.setup.now, SECOND);
        case.look = workload(4, &["kubectl"]);
    });
    // What is ours all the same: a later act on it has been given up.
    given_up(|case| case.look = workload(8, &[MANAGER]));
}

#[test]
fn a_step_that_was_done_is_noted_before_the_rest_is_given_up() {
    let case = draining(0, |case| {
        let undo = case.remediation.status.undo.as_mut().unwrap();
        (replicas(undo).writing, undo.due_by) = (Some(5), Some(DueBy::Drain));
        case.look = workload(5, &[MANAGER]);
    });
    let mut undo = case.written().undo.unwrap();
    assert_eq!((undo.state, replicas(&mut undo).wrote), (UndoState::Pending, 5));
}

#[test]
fn what_cannot_be_seen_is_given_up_too_once_the_time_is_over() {
    let unreadable = |left: u32| {
        let case = draining(left, |_| ());
        let look = Inspection::Unreadable(crate::model::NoData::new(
            crate::model::NoDataReason::Timeout,
            "no answer",
        ));
        case.next_seeing(&look)
    };
    assert!(matches!(unreadable(9), Step::Wait { .. }));
    let Step::Write { status, .. } = unreadable(0) else { panic!("it waits for ever") };
    assert_eq!(status.undo.unwrap().state, UndoState::Abandoned);
}

#[test]
fn an_uninstallation_that_is_given_up_leaves_things_as_if_there_had_been_none() {
    let mut case = draining(60, |_| ());
    let due_at = case.remediation.status.undo.as_ref().unwrap().due_at;
    case.remediation.status = case.written();
    replicas(case.remediation.status.undo.as_mut().unwrap()).writing = None;
    assert_eq!(case.remediation.status.undo.as_ref().unwrap().due_at, due_at, "it is held as long as meant");
    case.draining = Some(Draining { until: earlier(case.setup.now, Draining::LINGERS) });
    assert!(case.waits(), "it is not due");
    case.setup.situation.calm = 10 * SECOND;
    assert_eq!(case.undo().2, Some(DueBy::Calm));
}

#[test]
fn a_verdict_is_not_waited_for_where_things_are_well_or_the_time_is_over() {
    let verifying = |left: u32, change: fn(&mut Case)| {
        let mut case = verifying();
        case.draining = Some(Draining { until: later(case.setup.now, left * SECOND) });
        change(&mut case);
        case
    };
    let well = verifying(60, |case| case.setup.situation.overall = Overall::Healthy);
    let status = well.written();
    assert_eq!((status.phase, status.outcome), (Phase::Completed, Some(Outcome::Inconclusive)));
    assert_eq!(status.undo.unwrap().state, UndoState::Pending);
    // While it is broken it is watched on, for it may have made things worse.
    assert_eq!(verifying(60, |_| ()).written().phase, Phase::Verifying);
    let worse = verifying(60, |case| {
        case.setup.situation.findings = vec![finding("BlockingQuery", Confidence::Certain)];
    });
    assert_eq!(worse.written().outcome, Some(Outcome::Worse));
    assert_eq!(verifying(0, |_| ()).written().phase, Phase::Completed);
    let owes_nothing = verifying(0, |case| case.remediation.status.undo = None);
    assert_eq!(owes_nothing.written().phase, Phase::Verifying, "nobody waits for it");
}
