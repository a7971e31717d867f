//! What is owed when the operator goes, and what is under way when it changes.

use serde_json::{Value, json};

use crate::Test;
use crate::support::{PREVIOUS_TAG, RESTED, World, deadline, run, world};

pub(crate) const TESTS: &[Test] = &[
    ("an_upgrade_in_the_middle_of_an_act_loses_and_doubles_nothing", an_upgrade_in_the_middle_of_an_act),
    ("what_is_owed_is_taken_back_before_the_operator_goes", taken_back_by_the_leader),
    ("what_is_owed_is_taken_back_although_nobody_leads", taken_back_without_a_leader),
];

const REPLICAS: &str = "kubectl get deployment orders-api -n shop -o jsonpath='{.spec.replicas}'";
const PHASE: &str = "kubectl get latencyremediations -n shop -o jsonpath='{.items[*].status.phase}'";
const UNDO: &str = "kubectl get latencyremediations -n shop -o jsonpath='{.items[*].status.rollback.state}'";

/// The chart, with times that are made for tests.
async fn install(world: &World, tag: &str) {
    let grant = "grant pg_monitor, pg_signal_backend to orders";
    world.postgres.execute(RESTED, grant).await.expect("the grant");
    world
        .shell(&format!(
            "helm install latency-operator charts/latency-operator --namespace latency-operator --create-namespace --wait \
             --set image.tag={tag} --set 'config.backends[0].name=default' --set 'config.backends[0].url=http://prometheus.monitoring:9090' \
             --set 'config.backends[0].scrapeInterval=1s' \
             --set config.lease.duration=4s --set config.lease.renewDeadline=3s --set config.lease.retryPeriod=500ms",
        ))
        .await;
}

/// A policy with short times; what happened before is forgotten.
async fn policy(world: &World, change: impl FnOnce(&mut Value)) {
    world
        .shell("kubectl delete latencypolicies,latencyremediations,latencyincidents -n shop --all --wait")
        .await;
    let mut policy = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api", "namespace": "shop"},
        "spec": {
            "mode": "Auto",
            "targetRef": {"name": "orders-api"},
            "evaluation": {"interval": "1s", "window": "5s", "breachFor": "2s", "recoverFor": "3s"},
            "dependencies": [{
                "name": "db", "type": "PostgreSQL",
                "secretRef": {"name": "rested-db-app"}, "postgresql": {"cancellableRoles": ["orders", "reporting"]},
            }],
            "diagnosis": {"thresholds": [{"cause": "RunawayQuery", "olderThan": "2s"}]},
            // What was done for the test before is remembered.
            "guards": {"cooldown": "1s"},
            "verification": {"after": "1s", "within": "60s"},
        },
    });
    change(&mut policy);
    world.apply(&policy).await;
    let wait = "kubectl wait latencypolicy/orders-api -n shop --for=condition=WithinObjective";
    world.shell(&format!("{wait} {}", deadline(60))).await;
}

/// One statement is cancelled, but its process does not hear of it before the operator has been replaced.
fn an_upgrade_in_the_middle_of_an_act() {
    run(async {
        let world = world().await;
        world.uninstalled().await;
        install(world, PREVIOUS_TAG).await;
        policy(world, |policy| {
            policy["spec"]["remediations"] =
                json!([{"name": "cancel", "causes": ["RunawayQuery"], "action": {"type": "CancelQuery", "cancelQuery": {}}}]);
        })
        .await;
        let before = world.cancelled();
        let suffering = world.suffer_while_reporting();
        let report = world.report(RESTED).await;
        let deaf = world.deafen().await;
        world.until(PHASE, |phases| phases == "Executing" || phases == "Verifying").await;
        world
            .shell(
                "helm upgrade latency-operator charts/latency-operator --namespace latency-operator --reuse-values --wait \
                 --set image.tag= --set log.level=debug",
            )
            .await;
        assert_eq!(world.cancelled(), before, "it cannot have heard of it");
        drop(deaf);
        let ended = report.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("user request")), "{ended:?}");
        world.until(PHASE, |phases| phases == "Completed").await;
        assert_eq!(world.cancelled(), before + 1, "once");
        drop(suffering);
    });
}

/// The API is slow until it has four replicas; what was added is owed, and calm alone does not take it back for long.
async fn owing(world: &World) {
    policy(world, |policy| {
        policy["spec"]["evaluation"]["recoverFor"] = json!("10m");
        policy["spec"]["target"]["concurrencyPerPod"] = json!(2);
        policy["spec"]["dependencies"][0]["postgresql"]["connectionsPerPod"] = json!(2);
        policy["spec"]["remediations"] = json!([{
            "name": "grow", "causes": ["WorkersSaturated"],
            "action": {"type": "Scale", "scale": {"step": "100%", "maxReplicas": 4}},
        }]);
    })
    .await;
    assert_eq!(world.shell(REPLICAS).await, "2");
    world.saturate(true);
    world.until(REPLICAS, |replicas| replicas == "4").await;
    world.saturate(false);
    world.until(UNDO, |states| states == "Pending").await;
    world.rolled_out("shop", "orders-api").await;
}

async fn nothing_is_owed(world: &World) {
    assert_eq!(world.shell(REPLICAS).await, "2");
    assert_eq!(world.shell(UNDO).await, "Done");
    let finalizers = "kubectl get latencyremediations -n shop -o jsonpath='{.items[*].metadata.finalizers}'";
    assert_eq!(world.shell(finalizers).await, "");
    world.nothing_is_left().await;
}

fn taken_back_by_the_leader() {
    run(async {
        let world = world().await;
        world.uninstalled().await;
        install(world, "").await;
        owing(world).await;
        world.shell("helm uninstall latency-operator --namespace latency-operator --wait").await;
        nothing_is_owed(world).await;
    });
}

fn taken_back_without_a_leader() {
    run(async {
        let world = world().await;
        world.uninstalled().await;
        install(world, "").await;
        owing(world).await;
        world.shell("kubectl scale deployment/latency-operator -n latency-operator --replicas=0").await;
        let pods = "kubectl get pods -n latency-operator -o name";
        world.until(pods, |pods| pods.is_empty()).await;
        assert_eq!(world.shell(REPLICAS).await, "4", "nobody is there to take it back");
        world.shell("helm uninstall latency-operator --namespace latency-operator --wait").await;
        nothing_is_owed(world).await;
    });
}
