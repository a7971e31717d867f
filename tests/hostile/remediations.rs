//! LatencyRemediations: a stored one is carried out, or gone on with, by whoever leads.

use std::collections::BTreeSet;

use engine::model::{Executing, Phase, Policy, Remediation, RemediationStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use latency_operator::api::{FINALIZER, LatencyPolicy, LatencyRemediation, convert};
use serde_json::Value;

use crate::each::{are_told, mutant_of, read};
use crate::policies;
use crate::worlds::{ACTING, Act, Script, done};

/// What has not begun can do the most harm.
const ADMITTED: u64 = 1_500;
const BEGUN: u64 = 300;

fn policy() -> Policy {
    let object: LatencyPolicy = serde_json::from_value(policies::original()).expect("a policy");
    convert::policy(&object).expect("a valid policy")
}

/// What the original does in a world: the object, and the second in which it acts.
fn acting(script: &Script) -> (Remediation, u64) {
    let mut world = script.until(policy(), Vec::new(), 0);
    for second in 0..20 {
        script.play(&mut world, second, second + 1);
        let stage = world.stage();
        if let Some(name) = stage.effects_sent.first() {
            return (stage.remediations[name].value.clone(), second);
        }
    }
    panic!("nothing is done in {}", script.name);
}

fn object(remediation: &Remediation, status: Option<&RemediationStatus>) -> Value {
    let mut object = LatencyRemediation::new(&remediation.name, convert::spec_of(&remediation.spec));
    object.metadata.namespace = Some(remediation.namespace.clone());
    object.metadata.creation_timestamp = Some(Time(remediation.created_at));
    object.metadata.finalizers = remediation.held.then(|| vec![FINALIZER.to_owned()]);
    object.status = status.map(convert::status_of);
    serde_json::to_value(object).expect("JSON")
}

/// It, in the phases in which another leader may find it.
fn found(remediation: &Remediation) -> [(Phase, Value); 4] {
    let status = &remediation.status;
    let executing = RemediationStatus {
        phase: Phase::Executing,
        executing: Some(Executing {
            holder: "another".into(),
            epoch: 1,
            started_at: remediation.created_at,
            deadline: remediation.spec.deadline,
        }),
        undo: status.undo.clone(),
        ..RemediationStatus::default()
    };
    let completed =
        RemediationStatus { phase: Phase::Completed, completed_at: status.acted_at, ..status.clone() };
    [
        (Phase::Admitted, object(remediation, None)),
        (Phase::Executing, object(remediation, Some(&executing))),
        (Phase::Verifying, object(remediation, Some(status))),
        (Phase::Completed, object(remediation, Some(&completed))),
    ]
}

/// Whether this stored one is carried out.
fn is_done(script: &Script, second: u64, object: &Value) -> bool {
    let object: LatencyRemediation = serde_json::from_value(object.clone()).expect("a remediation");
    let mut world = script.until(policy(), Vec::new(), second);
    world.stage().told.is_deaf = true;
    let stored = convert::remediation(&object).expect("a valid one");
    world.store(stored.clone());
    script.play(&mut world, second, second + 8);
    world.stage().effects_sent.contains(&stored.name)
}

#[test]
fn a_stored_remediation_hits_nobody_but_whom_it_names_and_is_not_done_twice() {
    for script in ACTING {
        let (remediation, second) = acting(script);
        let usual = BTreeSet::from([Act::of(&remediation.spec.action)]);
        for (phase, object) in found(&remediation) {
            assert_eq!(
                is_done(script, second, &object),
                phase == Phase::Admitted,
                "{} in {phase}",
                script.name
            );
            let many = if phase == Phase::Admitted { ADMITTED } else { BEGUN };
            let accepted = mutant_of(&object, many, |_, mutant| {
                let Ok(object) = read::<LatencyRemediation>(mutant) else { return false };
                let stored = match convert::remediation(&object) {
                    Ok(stored) => stored,
                    Err(problems) => {
                        are_told(&problems, mutant);
                        return false;
                    }
                };
                is_the_same_when_it_is_written(&object, &stored);
                // The API server decides in which namespace an object lies.
                if stored.namespace != remediation.namespace {
                    return true;
                }
                let names_another = mutant.touched.iter().any(|place| place.starts_with("spec"));
                let changes_phase = mutant.touched.iter().any(|place| place.starts_with("status"));
                let mut world = script.until(policy(), Vec::new(), second);
                // That somebody has written what never happened is for the checker to find, and no matter here.
                world.stage().told.is_deaf = phase != Phase::Admitted;
                world.store(stored.clone());
                script.play(&mut world, second, second + 8);
                let acts = done(&world);
                if !names_another {
                    assert!(acts.is_subset(&usual), "{}: {acts:?} and not {usual:?}", script.name);
                }
                let again = world.stage().effects_sent.contains(&stored.name);
                assert!(!again || phase == Phase::Admitted || changes_phase, "{phase} was done again");
                assert!(!again || !stored.spec.is_dry_run(), "a dry run was done");
                true
            });
            assert!(accepted > 0 || std::env::var("MUTANT").is_ok(), "none in {phase} was accepted");
        }
    }
}

/// What is read and written again says the same: a status that is carried on loses nothing.
fn is_the_same_when_it_is_written(object: &LatencyRemediation, stored: &Remediation) {
    let mut written = object.clone();
    written.spec = convert::spec_of(&stored.spec);
    written.status = object.status.as_ref().map(|_| convert::status_of(&stored.status));
    let again = convert::remediation(&written).expect("what the operator writes, it understands");
    // Messages are cut to what the schema admits.
    let said = |r: &Remediation| {
        (r.spec.action.clone(), r.spec.verify.clone(), r.status.phase, r.status.undo.clone())
    };
    assert_eq!(said(&again), said(stored));
}

#[test]
fn forged_replicas_are_not_set() {
    let script = &ACTING[3];
    let (remediation, second) = acting(script);
    let usual = BTreeSet::from([Act::of(&remediation.spec.action)]);
    assert!(
        is_done(script, second, &object(&remediation, None)),
        "the one that was decided on is carried out"
    );
    for to in [0, 1, 3, 4, 7, 12, 10_000, i32::MAX] {
        let mut object = object(&remediation, None);
        object["spec"]["action"]["scale"]["to"] = to.into();
        let object: LatencyRemediation = serde_json::from_value(object).expect("a remediation");
        let stored = convert::remediation(&object).expect("a valid one");
        let mut world = script.until(policy(), Vec::new(), second);
        world.store(stored);
        script.play(&mut world, second, second + 8);
        assert!(done(&world).is_subset(&usual), "to {to}: {:?}", done(&world));
    }
}
