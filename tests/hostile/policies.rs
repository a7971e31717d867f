//! LatencyPolicies.

use std::collections::BTreeSet;

use engine::actions::CancelQuerySettings;
use engine::model::{Pause, PausedBy, Policy, RungAction};
use kube::ResourceExt;
use latency_operator::api::{LatencyPolicy, convert};
use latency_operator::observe::kubernetes::pause;
use serde_json::{Value, json};

use crate::each::{are_told, mutant_of, read};
use crate::mutate::{Mutant, path, places};
use crate::reach::{self, Reach};
use crate::worlds::{ACTING, Act, STILL};

const MUTANTS: u64 = 6_000;

/// Every field is there, so that every field is changed.
pub(crate) fn original() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {
            "name": "orders-api", "namespace": "shop", "uid": "12345678-aaaa", "generation": 3, "resourceVersion": "77",
            "creationTimestamp": "2026-01-01T02:00:00Z", "labels": {"team": "orders"},
            "annotations": {
                "latency-operator.dev/paused-until": "2026-01-01T02:30:00Z",
                "latency-operator.dev/paused-reason": "a test of the load",
            },
        },
        "spec": {
            "mode": "Auto", "historyLimit": 20,
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
            "target": {"concurrencyPerPod": 4, "databases": "Declared"},
            "source": {"type": "Prometheus", "prometheus": {"backendName": "default", "preset": "Django"}},
            "evaluation": {
                "interval": "1s", "window": "5s", "breachFor": "3s", "recoverFor": "3s", "noDataAfter": "3s",
            },
            "objectives": [{
                "name": "p95", "type": "Latency",
                "latency": {"percentile": 95, "threshold": "500ms"}, "severity": "P2", "raise": [{"level": "P1", "above": "2s"}],
                "source": {"type": "Prometheus", "prometheus": {
                    "backendName": "default", "preset": "Caddy", "matchLabels": {"server": "orders"},
                    "routes": {"preset": "Django", "matchLabels": {"job": "orders"}},
                }},
            }, {
                "name": "errors", "type": "ErrorRatio",
                "errorRatio": {"threshold": "1%"}, "severity": "P2", "raise": [{"level": "P1", "above": "5%"}],
            }, {
                "name": "health", "type": "Latency", "latency": {"threshold": "300ms"},
                "source": {"type": "Probe", "probe": {
                    "serviceName": "orders-api", "port": "http", "path": "/api/health?full=1", "timeout": "3s", "scheme": "HTTP",
                    "failures": 2, "of": 3,
                }},
            }, {
                "name": "pods", "type": "Latency", "latency": {"threshold": "500ms"},
                "source": {"type": "Scrape", "scrape": {"port": "metrics", "path": "/metrics", "preset": "Django"}},
            }],
            "dependencies": [{
                "name": "db", "type": "PostgreSQL",
                "secretRef": {"name": "orders-db", "keys": {
                    "uri": "DATABASE_URL", "host": "h", "port": "p", "dbname": "d", "user": "u", "password": "w", "caCert": "c",
                }},
                "postgresql": {
                    "clientRoles": ["orders"], "clientApplications": ["gunicorn"], "cancellableRoles": ["orders", "reporting"],
                    "cores": 4, "connectionsPerPod": 5, "maintenanceSecretRef": {"name": "orders-db-owner"},
                },
            }, {
                "name": "pool", "type": "PgBouncer", "secretRef": {"name": "orders-pgbouncer"},
                "pgbouncer": {"poolName": "orders", "databaseDependencyName": "db"},
            }, {
                "name": "cache", "type": "Redis", "secretRef": {"name": "orders-redis"}, "redis": {"role": "Cache"},
            }, {
                "name": "celery", "type": "Workers", "workers": {
                    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-celery"},
                    "clientRoles": ["celery"], "acksLate": true, "maxTaskDuration": "20s",
                },
            }],
            "diagnosis": {
                "thresholds": [
                    {"cause": "RunawayQuery", "olderThan": "3s"}, {"cause": "IdleInTransaction", "olderThan": "3s"},
                ],
            },
            "remediations": remediations(),
            "guards": {
                "maxActionsPerHour": 6, "maxAttemptsPerIncident": 3, "cooldown": "5m", "minAvailable": "60%",
                "windows": [{
                    "name": "friday", "type": "Deny", "schedule": "0 9 * * FRI", "duration": "8h", "timeZone": "Europe/Berlin",
                }],
            },
            "approval": {"timeout": "15m", "scope": "Once"}, "escalation": {"after": "30m"},
            "notifications": [{
                "name": "oncall", "type": "Slack", "secretRef": {"name": "slack"}, "minSeverity": "P1", "events": ["Opened"],
            }],
            "verification": {"after": "1s", "within": "30s"},
        },
        "status": status(),
    })
}

/// Its remediations, one for each action.
fn remediations() -> Value {
    json!([
        {
            "name": "cancel", "causes": ["RunawayQuery", "BlockingQuery"], "mode": "Auto", "minSeverity": "P2",
            "action": {"type": "CancelQuery", "cancelQuery": {"uncommittedWrites": "RollBack", "terminateAfter": "20s"}},
        },
        {
            "name": "idle", "causes": ["IdleInTransaction"],
            "action": {"type": "TerminateIdle", "terminateIdle": {"minIdle": "3s", "uncommittedWrites": "RollBack"}},
        },
        {
            "name": "grow", "causes": ["WorkersSaturated"],
            "action": {"type": "Scale", "scale": {
                "step": "50%", "maxReplicas": 12, "maxHold": "10m", "autoscalerBounds": "None",
            }},
        },
        {
            "name": "warm", "causes": ["ColdCache"],
            "action": {"type": "WarmCache", "warmCache": {
                "serviceName": "orders-api", "port": "http", "scheme": "HTTP", "paths": ["/api/1", "/api/2"],
                "requestsPerPath": 2, "ratePerSecond": 1, "inFlight": 1, "within": "10s",
            }},
        },
        {
            "name": "shed", "causes": ["BackgroundLoad"],
            "action": {"type": "ShedWorkers", "shedWorkers": {
                "dependencyName": "celery", "minReplicas": 1, "maxHold": "10m",
            }},
        },
    ])
}

/// Its status, with every field.
fn status() -> Value {
    json!({
        "observedGeneration": 3, "incidentOrdinal": 4, "activeIncident": "orders-api-12345678-4", "severity": "P1",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Accepted", "message": "it is", "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T02:00:00Z",
        }],
        "state": "Breached", "measured": "p95 812ms > 500ms",
        "objectives": [{
            "name": "p95", "verdict": "Breached", "measured": "812ms", "threshold": "500ms", "bucketBound": "500ms",
            "requests": 379, "since": "2026-01-01T02:00:00Z", "measuredAt": "2026-01-01T02:00:00Z",
        }],
        "effective": {
            "evaluation": {"noDataAfter": "3s", "resolution": "1s"}, "verification": {"within": "30s"},
            "thresholds": [{"cause": "ColdCache", "below": "60%"}],
        },
        "causes": [{
            "name": "RunawayQuery", "confidence": "Certain", "subject": "db: pid 101", "message": "a statement runs",
            "evidence": [{"name": "running for", "value": "6.5s"}],
        }],
        "refusals": [{"remediation": "cancel", "guard": "Cooldown", "message": "it rests"}],
        "lastRemediation": {"name": "orders-api-12345678-4-cancel-1", "result": "CancelQuery Healed"},
        "paused": "no",
    })
}

/// The policy with the pauses of its annotations, as the operator understands it.
fn understood(mutant: &Mutant) -> Option<(Policy, Vec<Pause>)> {
    let object: LatencyPolicy = read(mutant).ok()?;
    let pauses: Vec<Pause> = pause(object.annotations(), PausedBy::Policy).into_iter().collect();
    match convert::policy(&object) {
        Ok(policy) => Some((policy, pauses)),
        Err(problems) => {
            are_told(&problems, mutant);
            None
        }
    }
}

fn unchanged(value: Value) -> (Policy, Vec<Pause>) {
    understood(&Mutant { value, touched: Vec::new(), how: Vec::new() }).expect("a valid policy")
}

fn reach_of(mutant: &Mutant) -> Reach {
    mutant.touched.iter().map(|place| reach::of(place)).max().unwrap_or(Reach::Nothing)
}

/// Whether the policy has a rung that may do something of that kind.
fn has_rung_for(policy: &Policy, act: &Act) -> bool {
    policy.rungs.iter().any(|rung| match &rung.action {
        // A statement that was cancelled in vain is followed by the end of its session, where the rung says so.
        RungAction::CancelQuery(CancelQuerySettings { terminate_after, .. }) => {
            act.kind == "CancelQuery" || (terminate_after.is_some() && act.kind == "TerminateIdle")
        }
        RungAction::TerminateIdle(_) => act.kind == "TerminateIdle",
        RungAction::Scale(_) => act.kind == "Scale",
        RungAction::WarmCache(_) => act.kind == "WarmCache",
        RungAction::ShedWorkers(_) => act.kind == "ShedWorkers",
    })
}

#[test]
fn every_field_of_a_policy_is_in_the_table_of_what_it_reaches() {
    let found: Vec<String> = places(&original()).iter().map(|place| path(place)).collect();
    assert_eq!(reach::unknown(&found), Vec::<&String>::new());
    assert_eq!(reach::of("spec.remediations[7].mode"), Reach::Whether);
    assert_eq!(reach::of("spec.remediations[7]"), Reach::What, "the action is a part of it");
    assert_eq!(reach::of("spec.nonsense"), Reach::Nothing);
}

#[test]
fn a_mutant_does_what_the_original_does_or_nothing_or_what_it_says() {
    let (policy, pauses) = unchanged(original());
    let usual: Vec<BTreeSet<Act>> =
        ACTING.iter().map(|script| script.acts(policy.clone(), pauses.clone())).collect();
    for (script, acts) in ACTING.iter().zip(&usual) {
        assert_eq!(acts.len(), 1, "in {} the original does {acts:?}", script.name);
    }
    let accepted = mutant_of(&original(), MUTANTS, |seed, mutant| {
        let Some((changed, their_pauses)) = understood(mutant) else { return false };
        if (&changed, &their_pauses) == (&policy, &pauses) {
            return true;
        }
        let index = usize::try_from(seed).expect("a number") % ACTING.len();
        let (script, usual) = (&ACTING[index], &usual[index]);
        let acts = script.acts(changed.clone(), their_pauses);
        let reach = reach_of(mutant);
        match reach {
            Reach::Nothing => assert_eq!(&acts, usual, "{}", script.name),
            Reach::Whether => assert!(acts.is_subset(usual), "{}: {acts:?} and not {usual:?}", script.name),
            Reach::What => {
                for act in acts.difference(usual) {
                    assert!(has_rung_for(&changed, act), "{}: no rung does {act:?}", script.name);
                }
            }
        }
        true
    });
    // Most changes are of one field, and many fields have another value that is as good.
    assert!(accepted > MUTANTS / 10 || std::env::var("MUTANT").is_ok(), "only {accepted} were accepted");
}

#[test]
fn where_nothing_may_be_done_no_mutant_does_anything() {
    mutant_of(&original(), MUTANTS, |seed, mutant| {
        let Some((changed, pauses)) = understood(mutant) else { return false };
        let index = usize::try_from(seed).expect("a number") % STILL.len();
        let acts = STILL[index].acts(changed, pauses);
        assert_eq!(acts, BTreeSet::new(), "{}", STILL[index].name);
        true
    });
}

#[test]
fn only_the_switch_itself_lets_a_policy_act() {
    type Switch = (fn(&mut Value), &'static [&'static str]);
    let switches: [Switch; 3] = [
        (|p| p["spec"]["mode"] = "Observe".into(), &["spec.mode"]),
        (
            |p| p["metadata"]["annotations"]["latency-operator.dev/paused-until"] = "forever".into(),
            &["metadata.annotations.latency-operator.dev/paused-until", "metadata.annotations", "metadata"],
        ),
        (
            |p| p["spec"]["guards"]["maxActionsPerHour"] = 0.into(),
            &["spec.guards.maxActionsPerHour", "spec.guards"],
        ),
    ];
    for (switch, places) in switches {
        let mut original = original();
        switch(&mut original);
        mutant_of(&original, MUTANTS / 4, |seed, mutant| {
            let is_switched = mutant.touched.iter().any(|place| places.contains(&place.as_str()));
            let Some((changed, pauses)) = understood(mutant).filter(|_| !is_switched) else { return false };
            let script = &ACTING[usize::try_from(seed).expect("a number") % ACTING.len()];
            assert_eq!(script.acts(changed, pauses), BTreeSet::new(), "{}", script.name);
            true
        });
    }
}
