//! Hostile objects through a real API server: each is refused, or stored and then looked after or stalled. The operator
//! lives on, does nothing, and its other policies do not notice.

#[path = "../../sim/src/dice.rs"]
#[allow(dead_code, reason = "the simulation uses all of it")]
mod dice;
#[path = "../hostile/mutate.rs"]
#[allow(dead_code, reason = "the offline tests use all of it")]
mod mutate;

use std::collections::BTreeSet;

use axum::http::Request;
use kube::api::ListParams;
use latency_operator::api::LatencyPolicy;
use serde_json::{Value, json};

use self::mutate::mutant;
use crate::support::{SOON, World, policy, run};

const POLICIES: u64 = 240;
const BUDGETS: u64 = 40;
const REMEDIATIONS: u64 = 60;
const INCIDENTS: u64 = 30;
const STATUSES: u64 = 50;

/// Every field that an author can write and that a stored policy has.
fn whole() -> Value {
    let mut whole = policy();
    whole["metadata"]["annotations"] = json!({"latency-operator.dev/paused-until": "2020-01-01T00:00:00Z"});
    whole["spec"]["historyLimit"] = 20.into();
    whole["spec"]["target"]["concurrencyPerPod"] = 4.into();
    whole["spec"]["objectives"].as_array_mut().expect("a list").push(json!({
        "name": "errors", "type": "ErrorRatio",
        "errorRatio": {"threshold": "1%"}, "severity": "P2", "raise": [{"level": "P1", "above": "5%"}],
        "source": {"type": "Prometheus", "prometheus": {
            "backendName": "default", "preset": "Django", "matchLabels": {"namespace": "hostile"},
        }},
    }));
    whole["spec"]["remediations"].as_array_mut().expect("a list").extend([
        json!({
            "name": "idle", "causes": ["IdleInTransaction"], "mode": "Auto",
            "action": {"type": "TerminateIdle", "terminateIdle": {"minIdle": "2m", "uncommittedWrites": "RollBack"}},
        }),
        json!({
            "name": "grow", "causes": ["WorkersSaturated"],
            "action": {"type": "Scale", "scale": {"step": "50%", "maxReplicas": 4, "maxHold": "10m"}},
        }),
    ]);
    whole
}

fn budget() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget", "metadata": {},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}},
            "maxActionsPerHour": 10, "maxConcurrent": 3,
            "perNamespace": {"maxActionsPerHour": 5, "maxConcurrent": 2},
            "deniedActions": ["Rollback"], "maxMode": [{"action": "Scale", "mode": "Observe"}],
            "freeze": {"type": "None"},
            "freezeWindows": [{
                "name": "ever", "from": "2025-12-24T00:00:00Z", "until": "9999-12-31T23:59:59Z", "type": "Actions",
            }],
        },
    })
}

/// One that somebody forges: the target is to have nine replicas.
fn remediation(uid: &str, target: &str) -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation",
        "metadata": {"labels": {"latency-operator.dev/policy": "orders-api"}},
        "spec": {
            "policyRef": {"name": "orders-api", "uid": uid}, "targetRef": {"name": "orders-api"},
            "incident": "orders-api-1", "remediation": "grow", "attempt": 1, "mode": "Auto",
            "cause": {"name": "WorkersSaturated", "confidence": "Certain", "message": "because"}, "cooldown": "5m", "deadline": "5s",
            "action": {"type": "Scale", "scale": {
                "targetRef": {"name": "orders-api"}, "uid": target, "from": 2, "to": 9,
            }},
            "verification": {"after": "1s", "within": "30s", "window": "5s"},
            "rollback": {"maxHold": "1h", "step": 1, "watch": {"evaluation": {}, "objectives": [{
                "name": "p95", "type": "Latency", "latency": {"threshold": "500ms"},
                "source": {"type": "Prometheus", "prometheus": {"preset": "Django"}},
            }]}},
        },
    })
}

fn incident(uid: &str) -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyIncident",
        "metadata": {"labels": {"latency-operator.dev/policy": "orders-api"}},
        "spec": {
            "policyRef": {"name": "orders-api", "uid": uid}, "ordinal": 7,
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
            "firstBreachedAt": "2026-01-01T02:58:00Z", "openedAt": "2026-01-01T02:58:03Z",
        },
    })
}

fn status() -> Value {
    json!({"status": {
        "observedGeneration": 1, "incidentOrdinal": 4, "activeIncident": "incidents-1", "severity": "P0",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Accepted", "message": "it is", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T02:00:00Z",
        }],
        "state": "Breached", "measured": "p95 812ms > 500ms",
        "objectives": [{
            "name": "p95", "verdict": "Breached", "measured": "812ms", "threshold": "500ms", "bucketBound": "500ms",
            "requests": 379, "since": "2026-01-01T02:00:00Z", "measuredAt": "2026-01-01T02:00:00Z",
        }],
        "effective": {"evaluation": {"noDataAfter": "3s"}, "verification": {"within": "30s"}},
        "causes": [{
            "name": "RunawayQuery", "confidence": "Certain", "message": "a statement runs",
            "evidence": [{"name": "running for", "value": "6.5s"}],
        }],
        "refusals": [{"remediation": "cancel", "guard": "Cooldown", "message": "it rests"}],
        "lastRemediation": {"name": "orders-api-1", "result": "CancelQuery Healed"}, "paused": "no",
    }})
}

/// The end of the path of a kind.
fn place(world: &World, plural: &str) -> String {
    format!("/apis/latency-operator.dev/v1alpha1/namespaces/{}/{plural}", world.namespace)
}

/// The object that was stored, or the reason why none was: a 4xx and never anything worse.
async fn send(world: &World, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("Content-Type", kind);
    let request = request.body(body.to_string().into_bytes()).expect("a request");
    match world.client.request::<Value>(request).await {
        Ok(stored) => Ok(stored),
        Err(kube::Error::Api(status)) => {
            assert!((400..500).contains(&status.code), "{}: {}\n{body}", status.code, status.message);
            assert!(!status.message.is_empty(), "it is refused for no reason: {body}");
            Err(status.message.clone())
        }
        Err(error) => panic!("{error}\n{body}"),
    }
}

/// Creates so many mutants, half of them so that unknown fields are dropped; the names of those that were stored.
async fn create(world: &World, path: &str, original: &Value, prefix: &str, many: u64) -> BTreeSet<String> {
    let mut stored = BTreeSet::new();
    for seed in 0..many {
        let mut mutant = mutant(original, seed);
        let name = format!("{prefix}-{seed}");
        if let Some(metadata) = mutant.value["metadata"].as_object_mut() {
            metadata.insert("name".to_owned(), name.clone().into());
        }
        let validation = if seed % 2 == 0 { "Strict" } else { "Ignore" };
        let path = format!("{path}?fieldValidation={validation}");
        if send(world, "POST", &path, &mutant.value).await.is_ok() {
            stored.insert(name);
        }
        if seed % 20 == 0 {
            lives(world).await;
        }
    }
    assert!(!stored.is_empty(), "no mutant of {prefix} was stored");
    assert!(stored.len() < usize::try_from(many).expect("a number"), "no mutant of {prefix} was refused");
    stored
}

async fn lives(world: &World) {
    let operator = world.operator.as_ref().expect("an operator");
    operator.get("/healthz").await.unwrap_or_else(|error| panic!("{error}\n{}", world.operator_log()));
}

/// What is said of a policy, once something is said of what is stored now.
fn said(policy: &LatencyPolicy) -> Option<Vec<(String, String)>> {
    let status = policy.status.as_ref()?;
    let current = status.observed_generation == policy.metadata.generation;
    let told: Vec<_> = status.conditions.iter().map(|c| (c.type_.clone(), c.message.clone())).collect();
    (current && told.iter().any(|(kind, _)| kind == "Ready")).then_some(told)
}

/// Waits until something is said of each of them.
async fn until_all_are_told(world: &World, names: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut silent = Vec::new();
    let told = lab::until(SOON, async || {
        let all = world.policies().list(&ListParams::default()).await.expect("policies").items;
        let (told, rest): (Vec<_>, Vec<_>) =
            all.iter().map(|policy| (policy, said(policy))).partition(|(_, said)| said.is_some());
        silent =
            rest.into_iter().map(|(policy, _)| policy.metadata.name.clone().unwrap_or_default()).collect();
        silent.is_empty().then(|| told.into_iter().filter_map(|(_, said)| said).flatten().collect::<Vec<_>>())
    });
    let told =
        told.await.unwrap_or_else(|| panic!("nothing is said of {silent:?}\n{}", world.operator_log()));
    assert!(told.len() > names.len(), "of {} policies {} things are said", names.len(), told.len());
    told
}

#[test]
fn whatever_is_stored_the_operator_lives_does_nothing_and_goes_on() {
    run(async {
        // Budgets are about the whole cluster, and nobody else's business.
        let mut world = World::alone("hostile").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let neighbour = world.policies().get("orders-api").await.expect("the policy");
        let uid = neighbour.metadata.uid.clone().expect("a uid");
        let targets: kube::Api<k8s_openapi::api::apps::v1::Deployment> =
            kube::Api::namespaced(world.client.clone(), &world.namespace);
        let target = targets.get("orders-api").await.expect("the target").metadata.uid.expect("a uid");

        let policies =
            create(&world, &place(&world, "latencypolicies"), &whole(), "policies", POLICIES).await;
        let all = "/apis/latency-operator.dev/v1alpha1/remediationbudgets";
        create(&world, all, &budget(), "budgets", BUDGETS).await;
        let path = place(&world, "latencyremediations");
        let forged = create(&world, &path, &remediation(&uid, &target), "remediations", REMEDIATIONS).await;
        let path = place(&world, "latencyincidents");
        create(&world, &path, &incident(&uid), "incidents", INCIDENTS).await;

        // Each is looked after, or it is said what is wrong with it, and where.
        for (kind, message) in until_all_are_told(&world, &policies).await {
            assert!(
                message.chars().count() <= 1024 && !message.contains(char::is_control),
                "{kind}: {message}"
            );
            assert!(kind != "Stalled" || message.contains("spec."), "no path: {message}");
        }
        // Statuses, which are the operator's own, are forged too.
        let victim = format!("{}/status", place(&world, "latencypolicies/orders-api"));
        let mut written = 0;
        for seed in 0..STATUSES {
            let mutant = mutant(&status(), seed).value;
            let mutant = json!({"status": mutant["status"]});
            written += u64::from(send(&world, "PATCH", &victim, &mutant).await.is_ok());
        }
        assert!(written > 0 && written < STATUSES, "{written} statuses were stored");

        // The neighbour has noticed nothing: a change of it is taken in, and it is still evaluated.
        world.patch(json!({"historyLimit": 21})).await;
        world.until_looked(20).await;
        until_all_are_told(&world, &policies).await;
        world.until_condition("WithinObjective", "True").await;
        lives(&world).await;
        nothing_was_done(&world, &forged).await;
    });
}

/// No replicas, no signal, no remediation but those that were forged; and those have not begun.
async fn nothing_was_done(world: &World, forged: &BTreeSet<String>) {
    let log = world.operator_log();
    assert!(!log.contains("panic"), "{log}");
    assert_eq!(world.replicas().await, 2);
    assert_eq!(world.signals(), 0);
    let names = world.remediations().list_metadata(&ListParams::default()).await.expect("remediations").items;
    let names: BTreeSet<String> = names.into_iter().filter_map(|one| one.metadata.name).collect();
    assert!(names.is_subset(forged), "{:?} are there", names.difference(forged));
}

/// Whoever may change an object may change who is said to have changed it, and when.
fn beyond_the_calendar(stored: &Value) -> Value {
    let mut managers = stored["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    managers.push(json!({
        "manager": "mischief", "operation": "Update", "apiVersion": stored["apiVersion"],
        "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:mischief": {}}}},
    }));
    json!({"metadata": {"managedFields": managers}})
}

#[test]
fn a_time_beyond_the_calendar_in_metadata_stops_nobody_else() {
    run(async {
        let mut world = World::new("calendar").await;
        world.lab.control_plane.deployment("calendar", "other", 1).await.expect("a Deployment");
        let mut other = policy();
        other["metadata"]["name"] = "other".into();
        other["spec"]["targetRef"]["name"] = "other".into();
        other["spec"]["dependencies"][0]["secretRef"]["name"] = "other-db".into();
        world.apply(other).await;
        world
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "other-db", "labels": {"latency-operator.dev/allowed": "true"}},
                "stringData": {"host": "127.0.0.1", "dbname": "orders", "user": "u", "password": "canary"},
            }))
            .await;
        let places = [
            place(&world, "latencypolicies/other"),
            "/apis/apps/v1/namespaces/calendar/deployments/other".to_owned(),
            "/api/v1/namespaces/calendar/secrets/other-db".to_owned(),
        ];
        for place in &places {
            let label = json!({"metadata": {"labels": {"mischief": "yes"}}});
            let stored = send(&world, "PATCH", place, &label).await.expect("it is stored");
            let stored =
                send(&world, "PATCH", place, &beyond_the_calendar(&stored)).await.expect("it is stored");
            assert!(stored["metadata"]["managedFields"].to_string().contains("9999-12-31"), "{stored}");
        }
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_condition("Ready", "True").await;
        world.until_calm().await;
        let told = lab::until(SOON, async || {
            let other = send(&world, "GET", &places[0], &json!(null)).await.expect("the policy");
            let conditions = other["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .into_iter()
                .find(|known| known["type"] == "DataAvailable" && known["status"] == "False")
        });
        let told = told.await.expect("something is said of it");
        assert!(told["message"].as_str().is_some_and(|said| said.chars().count() <= 1024), "{told}");
        // What cannot be read is not logged either.
        let encoded = "Y2FuYXJ5";
        let log = world.operator_log();
        assert!(!log.contains("canary") && !log.contains(encoded), "a password is in the log");
    });
}
