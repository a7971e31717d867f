//! LatencyIncidents: a stored one is taken over by the next leader.

use std::collections::BTreeSet;

use latency_operator::api::convert;
use latency_operator::api::{LatencyIncident, LatencyPolicy};
use latency_operator::kube::convert::incident;
use serde_json::{Value, json};

use crate::each::{mutant_of, read};
use crate::policies;
use crate::worlds::{ACTING, Act, STILL};

const MUTANTS: u64 = 2_000;

fn original(phase: &str) -> Value {
    let closed = if phase == "Closed" { json!("2026-01-01T02:59:00Z") } else { json!(null) };
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyIncident",
        "metadata": {
            "name": "orders-api-12345678-4", "namespace": "shop", "uid": "i", "generation": 1,
            "labels": {"latency-operator.dev/policy": "orders-api"},
        },
        "spec": {
            "policyRef": {"name": "orders-api", "uid": "12345678-aaaa"}, "ordinal": 4,
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
            "firstBreachedAt": "2026-01-01T02:58:00Z", "openedAt": "2026-01-01T02:58:03Z",
        },
        "status": {
            "phase": phase, "severity": "P1", "closedAt": closed, "outcome": "RecoveredAlone", "escalation": "nobody helps",
            "reopened": {"times": 1, "firstBreachedAt": "2026-01-01T02:58:30Z", "at": "2026-01-01T02:58:33Z"},
            "conditions": [{
                "type": "Resolved", "status": "False", "reason": "Open", "message": "the incident is open", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T02:58:33Z",
            }],
            "breached": ["p95: slow"],
            "causes": [{
                "name": "RunawayQuery", "confidence": "Likely", "subject": "db: pid 101", "message": "m",
                "evidence": [{"name": "running for", "value": "6.5s"}],
            }],
            "refusals": [{"remediation": "cancel", "guard": "Cooldown", "message": "it rests"}],
            "remediations": [{"name": "orders-api-12345678-4-cancel-1", "phase": "Refused"}],
            "notified": [{"route": "oncall", "key": "opened/P1", "at": "2026-01-01T02:58:33Z"}],
            "timeline": [{"at": "2026-01-01T02:58:33Z", "reason": "ObjectiveBreached", "message": "slow"}],
        },
    })
}

#[test]
fn whatever_a_stored_incident_says_nobody_else_is_hit() {
    let object: LatencyPolicy = serde_json::from_value(policies::original()).expect("a policy");
    let policy = convert::policy(&object).expect("a valid policy");
    let usual: Vec<BTreeSet<Act>> =
        ACTING.iter().map(|script| script.acts(policy.clone(), Vec::new())).collect();
    for phase in ["Open", "Closed"] {
        mutant_of(&original(phase), MUTANTS / 2, |seed, mutant| {
            let Ok(object) = read::<LatencyIncident>(mutant) else { return false };
            let index = usize::try_from(seed).expect("a number");
            for (script, usual) in [
                (&ACTING[index % ACTING.len()], usual[index % ACTING.len()].clone()),
                (&STILL[index % STILL.len()], BTreeSet::new()),
            ] {
                let mut world = script.until(policy.clone(), Vec::new(), 0);
                world.find_incident(incident(&object).episode());
                let acts = script.finish(&mut world, 0);
                assert!(acts.is_subset(&usual), "{}: {acts:?} and not {usual:?}", script.name);
            }
            true
        });
    }
}
