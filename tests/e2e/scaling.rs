//! Replicas are added where they help, and taken away again; nobody else's decision is overruled.

use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use latency_operator::api::LatencyRemediation;
use serde_json::{Value, json};

use crate::support::{SOON, World, eventually, kubectl, outcome, phase, run, saturate};

/// Two workers a pod, doubled at most once.
pub(crate) fn grow(policy: &mut Value) {
    policy["spec"]["target"]["concurrencyPerPod"] = json!(2);
    policy["spec"]["remediations"] = json!([{
        "name": "grow", "causes": ["WorkersSaturated"],
        "action": {"type": "Scale", "scale": {"step": "100%", "maxReplicas": 4}},
    }]);
}

pub(crate) async fn scaled(world: &World) -> LatencyRemediation {
    let found = lab::until(SOON, async || {
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        all.into_iter().find(|one| ["Verifying", "Completed"].contains(&phase(one).as_str()))
    });
    match found.await {
        Some(found) => found,
        None => panic!("nothing is scaled: {:#?}\n{}", world.events().await, world.operator_log()),
    }
}

pub(crate) fn undo(remediation: &LatencyRemediation) -> String {
    let status = remediation.status.clone().unwrap_or_default();
    status.rollback.map(|undo| undo.state.0).unwrap_or_default()
}

pub(crate) async fn until_undo(world: &World, name: &str, state: &str) -> LatencyRemediation {
    let mut last = String::new();
    let found = lab::until(SOON, async || {
        let now = world.remediations().get(name).await.ok()?;
        last = undo(&now);
        (last == state).then_some(now)
    });
    found
        .await
        .unwrap_or_else(|| panic!("the undo never became {state}, it is {last}\n{}", world.operator_log()))
}

pub(crate) async fn until_released(world: &World, name: &str) {
    eventually("the finalizer is gone", SOON, async || {
        let now = world.remediations().get(name).await.expect("the remediation");
        now.metadata.finalizers.unwrap_or_default().is_empty().then_some(())
    })
    .await;
}

#[test]
fn a_saturated_target_is_scaled_verified_and_scaled_back_step_by_step() {
    run(async {
        let mut world = World::new("saturated").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let suffering = world.suffer_below(4);

        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        assert_eq!(world.replicas().await, 4);
        assert_eq!(undo(&done), "Pending");
        assert_eq!(done.metadata.finalizers.as_deref().map(<[String]>::len), Some(1));
        let cause = world.until_event("CauseFound").await;
        assert!(cause.contains("WorkersSaturated (Likely)"), "{cause}");
        drop(suffering);
        saturate(&world.exporter, false);

        let done = until_undo(&world, &name, "Done").await;
        assert_eq!(outcome(&done), "Healed");
        assert_eq!(world.replicas().await, 2);
        until_released(&world, &name).await;
        assert_eq!(scale_writes(&world), [4, 3, 2], "one step up, and down again a replica at a time");
        let undone = world.until_event("RemediationRolledBack").await;
        assert!(undone.contains("back at 2 replicas"), "{undone}");
        assert_eq!(world.signals(), 0, "nothing was cancelled");
    });
}

#[test]
fn who_scales_by_hand_after_our_act_is_right() {
    run(async {
        let mut world = World::new("byhand").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let _suffering = world.suffer_below(4);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        let args = ["scale", "-n", &world.namespace, "deployment", "orders-api", "--replicas=7"];
        kubectl(&world.lab.control_plane, &args, "").await;

        until_undo(&world, &name, "Contested").await;
        let event = world.until_event("RollbackContested").await;
        assert!(event.contains("kubectl has set 7 replicas after we had set 4: theirs stands"), "{event}");
        until_released(&world, &name).await;
        assert_eq!(world.replicas().await, 7);
    });
}

#[test]
fn who_takes_the_field_by_server_side_apply_is_right_although_the_value_is_ours() {
    run(async {
        let mut world = World::new("applied").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let _suffering = world.suffer_below(4);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        apply_replicas(&world, "somebody-else", 4).await;

        until_undo(&world, &name, "Contested").await;
        let event = world.until_event("RollbackContested").await;
        assert!(event.contains("somebody-else has set 4 replicas"), "{event}");
        assert_eq!(world.replicas().await, 4);
    });
}

/// `spec.replicas` by server-side apply, as this manager.
pub(crate) async fn apply_replicas(world: &World, manager: &str, replicas: i32) {
    let targets: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(world.client.clone(), &world.namespace);
    let applied = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders-api"},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(manager).force();
    targets.patch("orders-api", &params, &Patch::Apply(&applied)).await.expect("an apply");
}

#[test]
fn replicas_that_something_else_decides_about_are_left_alone_and_its_name_is_told() {
    run(async {
        let mut world = World::new("owned").await;
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "scaledobjects.keda.sh"},
            "spec": {
                "group": "keda.sh", "scope": "Namespaced",
                "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        });
        world.apply(crd).await;
        let established =
            ["wait", "--for=condition=Established", "--timeout=30s", "crd", "scaledobjects.keda.sh"];
        kubectl(&world.lab.control_plane, &established, "").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        apply_replicas(&world, "argocd-controller", 2).await;
        saturate(&world.exporter, true);

        let refused = async |what: &str| {
            let found = lab::until(SOON, async || {
                let events = world.events().await;
                events.into_iter().find(|e| e.starts_with("RemediationBlocked") && e.contains(what))
            });
            let found = found.await;
            assert!(found.is_some(), "{what}: {:#?}\n{}", world.events().await, world.operator_log());
        };
        refused("Ownership: spec.replicas was set by argocd-controller").await;
        world
            .apply(json!({
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "orders-hpa"},
                "spec": {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef":
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"}},
            }))
            .await;
        refused("Ownership: the target is scaled by HorizontalPodAutoscaler orders-hpa").await;
        let delete = ["delete", "hpa", "-n", &world.namespace, "orders-hpa"];
        kubectl(&world.lab.control_plane, &delete, "").await;
        world
            .apply(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "orders-keda"},
                "spec": {"scaleTargetRef": {"name": "orders-api"}},
            }))
            .await;
        refused("Ownership: the target is scaled by ScaledObject orders-keda").await;
        assert_eq!(world.replicas().await, 2);
        assert!(
            world.remediations().list(&ListParams::default()).await.expect("remediations").items.is_empty()
        );
    });
}

#[test]
fn a_database_without_room_gets_no_more_pods_and_the_refusal_has_the_numbers() {
    run(async {
        let mut world = World::new("noroom").await;
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                policy["spec"]["dependencies"][0]["postgresql"]["connectionsPerPod"] = json!(60);
            })
            .await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        let event = world.until_event("RemediationBlocked").await;
        assert!(
            event.contains("DatabaseCapacity: db has") && event.contains("2 more pods with 60"),
            "{event}"
        );
        assert_eq!(world.replicas().await, 2);
    });
}

#[test]
fn a_policy_that_is_deleted_in_the_breach_leaves_what_was_added_and_the_command() {
    run(async {
        let mut world = World::new("deleted").await;
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                policy["spec"]["verification"]["within"] = json!("8s");
            })
            .await;
        world.until_calm().await;
        // It does not help: the breach goes on.
        saturate(&world.exporter, true);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        world.policies().delete("orders-api", &DeleteParams::default()).await.expect("a deletion");

        let left = until_undo(&world, &name, "Abandoned").await;
        let told = eventually("it is told", SOON, async || {
            let events = world.events_on("Deployment", "orders-api").await;
            events.into_iter().find(|event| event.starts_with("RollbackAbandoned"))
        })
        .await;
        let command = format!("kubectl -n {} scale deployment orders-api --replicas=2", world.namespace);
        assert!(told.contains(&command), "{told}");
        assert_eq!(world.replicas().await, 4);
        // Whether it helped is judged by what its rollback watches, although nobody evaluates the policy any more.
        assert_eq!(
            left.status.expect("a status").outcome.map(|outcome| outcome.0).as_deref(),
            Some("Ineffective")
        );
        until_released(&world, &name).await;
    });
}

#[test]
fn what_is_owed_is_carried_out_by_a_successor_although_the_policy_is_gone() {
    run(async {
        let mut world = World::new("successor").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let suffering = world.suffer_below(4);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        drop(suffering);
        saturate(&world.exporter, false);
        world.until_phase("Completed").await;
        world.operator.take().expect("an operator").kill().await.expect("it is killed");
        world.policies().delete("orders-api", &DeleteParams::default()).await.expect("a deletion");
        world.operate().await;

        until_undo(&world, &name, "Done").await;
        assert_eq!(world.replicas().await, 2);
        until_released(&world, &name).await;
    });
}

#[test]
fn a_namespace_that_is_deleted_is_not_held_up_by_what_is_owed() {
    run(async {
        let mut world = World::new("nsgone").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let _suffering = world.suffer_below(4);
        scaled(&world).await;
        let delete = ["delete", "namespace", &world.namespace, "--wait=false"];
        kubectl(&world.lab.control_plane, &delete, "").await;
        eventually("what was owed has gone", SOON, async || {
            let all = world.remediations().list(&ListParams::default()).await.ok()?.items;
            all.is_empty().then_some(())
        })
        .await;
    });
}

#[test]
fn of_two_policies_on_one_workload_the_older_one_acts_and_the_other_is_told_its_name() {
    run(async {
        let mut world = World::new("conflict").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        // An instant is stored to the second: only a later second makes the other one younger.
        let first = world.policies().get("orders-api").await.expect("the policy").metadata.creation_timestamp;
        eventually("a later second", SOON, async || {
            (Some(jiff::Timestamp::now().as_second()) > first.as_ref().map(|at| at.0.as_second()))
                .then_some(())
        })
        .await;
        world
            .policy(|policy| {
                grow(policy);
                policy["metadata"]["name"] = json!("another");
                // It would always go further: its own limit must not refuse it before the older policy does.
                policy["spec"]["remediations"][0]["action"]["scale"]["maxReplicas"] = json!(64);
            })
            .await;
        world.until_condition_of("another", "WithinObjective", "True").await;
        // It does not help: the breach goes on until both have seen it, however late.
        saturate(&world.exporter, true);

        let done = scaled(&world).await;
        assert_eq!(done.spec.policy_ref.name.0, "orders-api");
        let told = lab::until(SOON, async || {
            let events = world.events_on("LatencyPolicy", "another").await;
            events.into_iter().find(|event| event.contains("TargetConflict"))
        });
        let told = told.await.unwrap_or_else(|| panic!("no conflict was told\n{}", world.operator_log()));
        assert!(
            told.contains(&format!("belongs to the older policy {}/orders-api", world.namespace)),
            "{told}"
        );
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        let of = |one: &LatencyRemediation| format!("{} {}", one.spec.policy_ref.name.0, phase(one));
        let all: Vec<String> = all.iter().map(of).collect();
        assert!(all.iter().all(|one| one.starts_with("orders-api ")), "one policy acts: {all:?}");
        assert_eq!(scale_writes(&world).first(), Some(&4));
    });
}

#[test]
fn what_made_a_database_worse_is_taken_back_at_once() {
    run(async {
        let mut world = World::new("worse").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        // It does not help: the breach goes on.
        saturate(&world.exporter, true);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        let statements = ["begin", "update accounts set balance = balance + 1", "select pg_sleep(600)"];
        let batch = world.session("reporting", "batch", &statements).await;
        let mut victims = Vec::new();
        for index in 1..4 {
            let update = format!("update accounts set balance = 0 where id = {index}");
            victims.push(world.session("orders", "api", &[&update]).await);
        }

        let undone = until_undo(&world, &name, "Done").await;
        assert_eq!(outcome(&undone), "Worse");
        let undo = undone.status.and_then(|status| status.rollback).expect("an undo");
        assert_eq!(undo.due_by.map(|by| by.0).as_deref(), Some("Worse"));
        let told = world.until_event("RemediationWorse").await;
        assert!(told.contains("BlockingQuery"), "{told}");
        assert_eq!(scale_writes(&world), [4, 2], "at once, to what was there before");
        assert_eq!(world.signals(), 0);
        drop((batch, victims));
    });
}

#[test]
fn a_freeze_of_all_holds_what_is_owed_until_it_is_lifted() {
    run(async {
        let mut world = World::new("frozenundo").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let suffering = world.suffer_below(4);
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        let budget = |freeze: &str| {
            json!({
                "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
                "metadata": {"name": "frozenundo"},
                "spec": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "frozenundo"}},
                    "freeze": {"type": freeze},
                },
            })
        };
        world.apply(budget("ActionsAndRollbacks")).await;
        drop(suffering);
        saturate(&world.exporter, false);
        world.until_event("ObjectiveRecovered").await;
        world.until_looked(10).await;
        assert_eq!(undo(&world.remediations().get(&name).await.expect("it")), "Pending");
        assert_eq!(world.replicas().await, 4);

        world.apply(budget("Actions")).await;
        until_undo(&world, &name, "Done").await;
        assert_eq!(world.replicas().await, 2);
    });
}

#[test]
fn a_stateful_set_is_scaled_and_scaled_back_too() {
    run(async {
        let mut world = World::new("stateful").await;
        world
            .apply(json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders-set"},
                "spec": {
                    "replicas": 2, "serviceName": "orders-set", "podManagementPolicy": "Parallel",
                    "selector": {"matchLabels": {"app": "orders-set"}},
                    "template": lab::control_plane::pod_template("orders-set"),
                },
            }))
            .await;
        let labels = [("namespace", "stateful"), ("pod", "orders-set-0")];
        world.lab.prometheus.add_target("app", &world.exporter.address(), &labels).expect("a target");
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                policy["spec"]["targetRef"] = json!({"kind": "StatefulSet", "name": "orders-set"});
            })
            .await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        let done = scaled(&world).await;
        saturate(&world.exporter, false);
        let undone = until_undo(&world, &done.metadata.name.expect("a name"), "Done").await;
        assert_eq!(
            undone.status.and_then(|status| status.effect).map(|effect| effect.0).as_deref(),
            Some("Confirmed")
        );
        assert_eq!(scale_writes(&world), [4, 3, 2]);
    });
}

#[test]
fn a_kind_that_is_deleted_and_put_back_loses_nothing_that_is_owed() {
    run(async {
        let mut world = World::alone("crdgone").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let suffering = world.suffer_below(4);
        scaled(&world).await;
        let plane = &world.lab.control_plane;
        let crd = "crd/latencyremediations.latency-operator.dev";
        kubectl(plane, &["delete", crd, "--wait=false"], "").await;
        world.until_looked(3).await;
        assert_eq!(world.replicas().await, 4, "nothing is taken back in the breach");
        drop(suffering);
        saturate(&world.exporter, false);
        kubectl(plane, &["wait", "--for=delete", "--timeout=60s", crd], "").await;
        assert_eq!(world.replicas().await, 2, "the kind goes once nothing is owed any more");

        let crds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        kubectl(plane, &["apply", "-f", crds.to_str().expect("a path")], "").await;
        kubectl(plane, &["wait", "--for=condition=Established", "--timeout=30s", crd], "").await;
        world.until_calm().await;
        let _suffering = world.suffer_below(4);
        let again = eventually("it is scaled again", SOON, async || {
            let all = world.remediations().list(&ListParams::default()).await.ok()?.items;
            all.into_iter().find(|one| undo(one) == "Pending")
        });
        again.await;
    });
}

/// The numbers that were written, in order.
pub(crate) fn scale_writes(world: &World) -> Vec<i64> {
    world
        .writes()
        .into_iter()
        .filter(|write| write.object_ref.as_ref().is_some_and(|object| object.subresource == "scale"))
        .filter_map(|write| write.request_object.as_ref()?.pointer("/spec/replicas")?.as_i64())
        .collect()
}
