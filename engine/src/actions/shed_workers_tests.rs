//! What may be taken away, and what may not.

use super::*;
use crate::guards::testing::{Setup, refused};
use crate::guards::{GUARDS, GuardName, Stage};
use crate::model::{Autoscaler, FieldManager, NoDataReason, Observed, RungAction};

fn refusal_by(guard: GuardName, change: impl FnOnce(&mut Setup)) -> Option<String> {
    let mut setup = Setup::shedding();
    change(&mut setup);
    refused(&setup, guard, Stage::Gate)
}

fn declared(setup: &mut Setup, change: impl FnOnce(&mut WorkersDependency)) {
    let Some(Dependency::Workers(declared)) = setup.snapshot.policy.dependencies.get_mut("celery") else {
        panic!("no workers are declared")
    };
    change(declared);
}

fn replicas(setup: &mut Setup) -> &mut crate::model::Workload {
    setup.workers().workload.as_mut().unwrap()
}

fn settings(setup: &mut Setup) -> &mut ShedWorkersSettings {
    let RungAction::ShedWorkers(settings) = &mut setup.snapshot.policy.rungs[0].action else {
        panic!("the remediation sheds nothing")
    };
    settings
}

#[test]
fn workers_go_down_to_the_floor_in_one_step_and_come_back_a_quarter_at_a_time() {
    let setup = Setup::shedding();
    let Action::ShedWorkers(ShedWorkers { set, .. }) = &setup.candidate.action else {
        panic!("it sheds nothing")
    };
    assert_eq!((set.from, set.to, set.uid.as_str(), set.takes_away()), (8, 2, "w", true));
    let undo = setup.candidate.undo.as_ref().unwrap();
    assert_eq!((undo.step, undo.max_hold), (2, Duration::from_secs(1800)));
    let asked = |guard: &&crate::guards::Guard| {
        guard.stages.contains(&Stage::Gate) && guard.applies.to(ActionKind::ShedWorkers)
    };
    for guard in GUARDS.iter().filter(asked) {
        assert_eq!(refused(&setup, guard.name, Stage::Gate), None, "{:?}", guard.name);
    }
}

#[test]
fn only_a_finding_in_the_workers_that_the_remediation_names_is_answered() {
    let setup = Setup::shedding();
    let rung = &setup.snapshot.policy.rungs[0];
    let mut found = setup.situation.findings[0].clone();
    found.subject = Some(Subject::Dependency { dependency: "others".into() });
    assert_eq!(rung.action.settings().propose(&setup.snapshot, rung, &found), None);
}

#[test]
fn what_was_decided_on_must_still_be_what_is_there() {
    let refusal = |change: fn(&mut Setup)| refusal_by(GuardName::Precondition, change);
    assert_eq!(refusal(|_| ()), None);
    assert!(refusal(|s| replicas(s).desired = 7).unwrap().contains("has 7 replicas now, 8 were decided on"));
    assert!(refusal(|s| s.workers().uid = "another".into()).unwrap().contains("another one now"));
    assert!(refusal(|s| settings(s).min = 8).unwrap().contains("has 8 replicas, at least 8 are left"));
    assert!(refusal(|s| settings(s).min = 3).unwrap().contains("keeps 3 replicas"));
    let gone = |s: &mut Setup| drop(s.snapshot.policy.dependencies.remove("celery"));
    assert!(refusal(gone).unwrap().contains("not declared as the workers"));
    let other = |s: &mut Setup| declared(s, |declared| declared.target.name = "others".into());
    assert!(refusal(other).unwrap().contains("not declared as the workers"));
    assert!(refusal(|s| s.workers().workload = None).unwrap().contains("have not been read"));
}

#[test]
fn no_task_is_lost() {
    let refusal = |change: fn(&mut WorkersDependency)| {
        refusal_by(GuardName::Precondition, |setup| declared(setup, change))
    };
    assert!(refusal(|declared| declared.acks_late = false).unwrap().contains("workers.acksLate"));
    assert!(refusal(|declared| declared.max_task = None).unwrap().contains("workers.maxTaskDuration"));
    let long = refusal(|declared| declared.max_task = Some(Duration::from_secs(31))).unwrap();
    assert!(long.contains("takes up to 31s") && long.contains("are given 30s to end"), "{long}");
    assert_eq!(refusal(|declared| declared.max_task = Some(Duration::from_secs(30))), None);
    let unknown = refusal_by(GuardName::Precondition, |setup| replicas(setup).grace = None).unwrap();
    assert!(unknown.contains("terminationGracePeriodSeconds"), "{unknown}");
}

#[test]
fn the_guards_look_at_the_workers_and_not_at_the_target() {
    let moving = |workload: &mut crate::model::Workload| workload.updated = 1;
    assert!(refusal_by(GuardName::Rollout, |setup| moving(replicas(setup))).unwrap().contains("1 of 8"));
    assert_eq!(refusal_by(GuardName::Rollout, |setup| moving(setup.workload())), None);

    let by_git = |workload: &mut crate::model::Workload| {
        workload.managers = vec![FieldManager("argocd-controller".into())];
    };
    assert!(refusal_by(GuardName::Ownership, |setup| by_git(replicas(setup))).is_some());
    assert_eq!(refusal_by(GuardName::Ownership, |setup| by_git(setup.workload())), None);
    let scaled = refusal_by(GuardName::Ownership, |setup| {
        let scaler = Autoscaler { kind: "ScaledObject".into(), name: "celery".into() };
        let at = setup.now;
        replicas(setup).autoscalers = Observed::Known { at, value: vec![scaler] };
    });
    assert!(scaled.unwrap().contains("ScaledObject celery"));

    let out = refusal_by(GuardName::OptOut, |setup| setup.workers().opt_out = Some("true".into()));
    assert!(out.unwrap().contains("Deployment/orders-celery has opted out"));
    let unread = refusal_by(GuardName::OptOut, |setup| {
        let missing = Observed::missing(NoDataReason::Deleting, "it is being deleted");
        setup.snapshot.observations.dependencies.insert("celery".into(), missing);
    });
    assert!(unread.unwrap().contains("Deployment/orders-celery cannot be read"));
    assert!(refusal_by(GuardName::MinAvailable, |setup| replicas(setup).ready = 1).is_some());
}

#[test]
fn of_two_policies_with_the_same_workers_the_older_one_sheds_them() {
    let mut setup = Setup::shedding();
    let mut older = setup.snapshot.clone();
    older.policy.id.name = "older".into();
    older.policy.target.name = "another-api".into();
    older.policy.created_at = crate::model::earlier(older.policy.created_at, Duration::from_secs(60));
    setup.survey = crate::survey([(&setup.snapshot, &setup.situation), (&older, &setup.situation)]);
    let message = refused(&setup, GuardName::TargetConflict, Stage::Admit).unwrap();
    assert!(message.contains("orders-celery belongs to the older policy"), "{message}");
}
