//! Every action, each on every kind of target, with all that belongs to an incident: its beginning, an act, a restart in the
//! middle, what is taken back, what is thrown away.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use lab::{Redis, Release};
use latency_operator::api::LatencyRemediation;
use serde_json::{Value, json};

use crate::support::cached::{self, KEYS, with_cache};
use crate::support::witness::PROBED;
use crate::support::{SOON, World, calm, eventually, kubectl, phase, policy, saturate, slow};

const STATEFUL: &str = "orders-state";

/// Plays it; the operator lives on.
pub(crate) async fn everything() -> World {
    let mut world = World::new("rights").await;
    world.everywhere = true;
    world.serve().await;
    let (redis, _lookups) = cached::start(&world).await;
    stateful_set(&world).await;
    world.forgotten_incident().await;
    admission(&world).await;
    world.operate().await;
    budget(&world).await;
    world.policy(all_rungs).await;
    world.until_calm().await;

    sessions(&world).await;
    warming(&world, &redis).await;
    world.apply(of_the_stateful_set()).await;
    world.until_condition_of(STATEFUL, "WithinObjective", "True").await;
    scaling(&mut world).await;
    undecodable(&world).await;
    world
}

/// The chart's admission policies are asked from now on, of what the operator writes as well.
async fn admission(world: &World) {
    let (plane, release) = (&world.lab.control_plane, Release::new(json!({})));
    let only = ["templates/authorrights.yaml", "templates/ledger.yaml"];
    plane.apply_of(&world.lab.helm, &release, &only).await.expect("the chart's admission policies");
    eventually("nobody else may tell of an incident", SOON, async || {
        let lie = Patch::Merge(json!({"status": {"phase": "Open"}}));
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let told = world.incidents().patch_status("long-ago", &params, &lie).await;
        told.err().filter(|refused| matches!(refused, kube::Error::Api(status) if status.code == 403))
    })
    .await;
}

/// A budget that selects the namespace: its labels are read, and its usage is reported.
async fn budget(world: &World) {
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
    world
        .apply(json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
            "metadata": {"name": world.namespace},
            "spec": {"namespaceSelector": selector, "maxActionsPerHour": 100, "perNamespace": {"maxActionsPerHour": 100}},
        }))
        .await;
    let plane = &world.lab.control_plane;
    eventually("its usage is reported", SOON, async || {
        let args = ["get", "rb", &world.namespace, "-o", "jsonpath={.status.usage.actionsInLastHour}"];
        (kubectl(plane, &args, "").await == "0").then_some(())
    })
    .await;
}

/// All actions, as soon as may be.
fn all_rungs(policy: &mut Value) {
    with_cache(policy);
    let spec = &mut policy["spec"];
    spec["historyLimit"] = 1.into();
    spec["guards"] = json!({"cooldown": "1s", "maxAttemptsPerIncident": 10});
    spec["target"]["concurrencyPerPod"] = 2.into();
    // Long enough that it is asked in the middle whether it may go on.
    let warm = json!({
        "serviceName": "orders-api", "port": "http", "paths": ["/api/v1/portfolios"], "requestsPerPath": 9,
        "ratePerSecond": 1, "within": "20s",
    });
    spec["remediations"].as_array_mut().expect("rungs").extend([
        json!({"name": "idle", "causes": ["IdleInTransaction"], "action": {
            "type": "TerminateIdle", "terminateIdle": {"minIdle": "1s", "uncommittedWrites": "RollBack"},
        }}),
        json!({"name": "warm", "causes": ["ColdCache"], "action": {"type": "WarmCache", "warmCache": warm}}),
        grow(),
    ]);
    spec["objectives"].as_array_mut().expect("a list").push(json!({
        "name": "health", "type": "Latency", "latency": {"threshold": "20s"},
        "source": {"type": "Probe", "probe": {
            "serviceName": "orders-api", "port": "http", "path": PROBED, "timeout": "21s",
        }},
    }));
}

fn grow() -> Value {
    json!({
        "name": "grow", "causes": ["WorkersSaturated"],
        "action": {"type": "Scale", "scale": {"step": "100%", "maxReplicas": 4}},
    })
}

async fn stateful_set(world: &World) {
    let template = lab::control_plane::pod_template(STATEFUL);
    world
        .apply(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": STATEFUL},
            "spec": {
                "replicas": 2, "serviceName": STATEFUL, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": STATEFUL}}, "template": template,
            },
        }))
        .await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("two ready Pods", SOON, async || {
        let status = sets.get(STATEFUL).await.ok()?.status?;
        (status.ready_replicas == Some(2)).then_some(())
    })
    .await;
    let labels = [("namespace", world.namespace.as_str()), ("pod", "orders-state-0")];
    world.lab.prometheus.add_target("state", &world.exporter.address(), &labels).expect("a target");
}

fn of_the_stateful_set() -> Value {
    let mut object = policy();
    object["metadata"]["name"] = STATEFUL.into();
    object["spec"]["targetRef"] = json!({"kind": "StatefulSet", "name": STATEFUL});
    object["spec"]["target"] = json!({"concurrencyPerPod": 2});
    object["spec"]["remediations"] = json!([grow()]);
    object
}

/// A runaway query is cancelled; then a session that is idle in a transaction is ended.
async fn sessions(world: &World) {
    let suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
    let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
    assert!(report.ended().await.is_err(), "it was to be cancelled");
    recovered(world).await;
    drop(suffering);
    let gone =
        async || world.incidents().get_opt("long-ago").await.expect("incidents").is_none().then_some(());
    eventually("the history is cut", SOON, gone).await;

    let _suffering = world.suffer_while("application_name = 'batch' and state like '%'", slow());
    let update = "update accounts set balance = balance + 1";
    let _batch = world.session("reporting", "batch", &["begin", update, "select 1"]).await;
    let victim = world.session("orders", "api", &["update accounts set balance = 0 where id = 1"]).await;
    assert_eq!(victim.ended().await, Ok(()));
    recovered(world).await;
}

async fn recovered(world: &World) {
    world.until_condition("WithinObjective", "True").await;
    world.until_calm().await;
}

async fn warming(world: &World, redis: &Redis) {
    cached::until_known(world, redis).await;
    redis.execute(&["FLUSHALL"]).await.expect("flushed");
    world.exporter.set(slow());
    done(world, "WarmCache", 1).await;
    redis.fill(0, "key", KEYS, 100).await.expect("filled");
    world.exporter.set(calm());
    recovered(world).await;
}

/// Waits until so many remediations of that action have been carried out, and returns them.
async fn done(world: &World, action: &str, many: usize) -> Vec<LatencyRemediation> {
    let found = lab::until(SOON, async || {
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        let is_done = |one: &LatencyRemediation| {
            one.spec.action.r#type.0 == action && ["Verifying", "Completed"].contains(&phase(one).as_str())
        };
        let done: Vec<LatencyRemediation> = all.into_iter().filter(is_done).collect();
        (done.len() == many).then_some(done)
    });
    match found.await {
        Some(done) => done,
        None => panic!("no {many} of {action}:\n{}", world.operator_log()),
    }
}

/// Both targets are scaled; another leader finds their incidents open, and takes back what the first has done.
async fn scaling(world: &mut World) {
    saturate(&world.exporter, true);
    let scaled = done(world, "Scale", 2).await;
    world.operate_with("").await;
    world.until_condition("WithinObjective", "False").await;
    world.until_looked(4).await;
    saturate(&world.exporter, false);
    for one in scaled {
        let name = one.metadata.name.expect("a name");
        let released = lab::until(SOON, async || {
            let now = world.remediations().get(&name).await.expect("the remediation");
            now.metadata.finalizers.unwrap_or_default().is_empty().then_some(())
        });
        assert!(released.await.is_some(), "{name} still owes something:\n{}", world.operator_log());
    }
    assert_eq!(world.replicas().await, 2);
}

/// Something that is no policy is stored while the schema is off, and is told.
async fn undecodable(world: &World) {
    let plane = &world.lab.control_plane;
    let args = ["get", "crd", "latencypolicies.latency-operator.dev", "-o", "json"];
    let mut definition: Value = serde_json::from_str(&kubectl(plane, &args, "").await).expect("a CRD");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    kubectl(plane, &["replace", "-f", "-"], &definition.to_string()).await;
    let mut broken = policy();
    broken["metadata"]["name"] = "broken".into();
    broken["spec"]["evaluation"] = 5.into();
    // Nobody fills the defaults in, and the admission policy asks for it.
    broken["spec"]["targetRef"]["kind"] = "Deployment".into();
    let stored = async || {
        let args = ["apply", "--server-side", "--validate=false", "-n", &world.namespace, "-f", "-"];
        let finished = plane.kubectl_run(&args, &broken.to_string()).await.expect("kubectl runs");
        finished.status.success().then_some(())
    };
    eventually("the broken object is stored", SOON, stored).await;
    eventually("it is told", SOON, async || {
        let args = ["get", "lp", "-n", &world.namespace, "broken", "-o", "jsonpath={.status.conditions}"];
        kubectl(plane, &args, "").await.contains("Undecodable").then_some(())
    })
    .await;
}
