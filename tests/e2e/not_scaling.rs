//! Where more replicas would not help, or would hurt, none are added, and the refusal says why.

use std::time::Duration;

use lab::exporter::Traffic;
use serde_json::json;

use crate::scaling::{apply_replicas, grow, scaled};
use crate::support::{SOON, World, calm, kubectl, run, saturate, slow};

/// Waits until a refusal says this.
async fn refused(world: &World, what: &str) {
    let found = lab::until(SOON, async || {
        let events = world.events().await;
        events.into_iter().find(|event| event.starts_with("RemediationBlocked") && event.contains(what))
    });
    let found = found.await;
    assert!(found.is_some(), "{what}: {:#?}\n{}", world.events().await, world.operator_log());
}

async fn nothing_was_done(world: &World) {
    world.until_looked(3).await;
    assert_eq!(world.replicas().await, 2);
    assert_eq!(world.signals(), 0);
}

#[test]
fn a_blocked_database_gets_no_more_clients() {
    run(async {
        let mut world = World::new("noscale-blocked").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let statements = ["begin", "update accounts set balance = balance + 1", "select pg_sleep(600)"];
        let batch = world.session("reporting", "batch", &statements).await;
        let mut victims = Vec::new();
        for index in 1..4 {
            let update = format!("update accounts set balance = 0 where id = {index}");
            victims.push(world.session("orders", "api", &[&update]).await);
        }
        saturate(&world.exporter, true);
        refused(&world, "DatabaseHealthy: BlockingQuery (Certain): in db the running statement of pid").await;
        nothing_was_done(&world).await;
        drop((batch, victims));
    });
}

#[test]
fn a_blind_database_is_not_taken_for_a_healthy_one() {
    run(async {
        let mut world = World::new("noscale-blind").await;
        world.secret("a wrong password").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_condition("WithinObjective", "True").await;
        saturate(&world.exporter, true);
        refused(&world, "DatabaseHealthy: db cannot be read: AuthenticationFailed").await;
        nothing_was_done(&world).await;
    });
}

#[test]
fn without_a_declared_database_none_is_known_to_be_well_unless_there_is_none() {
    run(async {
        let mut world = World::new("noscale-none").await;
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                policy["spec"]["dependencies"] = json!([]);
            })
            .await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        refused(&world, "DatabaseHealthy: no database is declared").await;
        nothing_was_done(&world).await;

        world.patch(json!({"target": {"databases": "None"}})).await;
        scaled(&world).await;
        assert_eq!(world.replicas().await, 4);
    });
}

/// One view is slow, however many of its requests are waiting: the others are served as ever.
#[test]
fn one_slow_view_beside_others_that_are_well_is_its_own_trouble() {
    run(async {
        let mut world = World::new("noscale-view").await;
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                // Everybody is busy, as far as the number of requests in flight tells.
                policy["spec"]["target"]["concurrencyPerPod"] = json!(1);
            })
            .await;
        world.exporter.set_view("stock", calm());
        world.until_calm().await;
        world.exporter.set_view("report", slow());
        refused(&world, "Scope: only report is slow").await;
        nothing_was_done(&world).await;
    });
}

/// The view that is slow by itself is 4% of the requests; behind the backlog that it makes everything waits.
#[test]
fn a_few_slow_requests_behind_which_everything_waits_are_the_whole_targets_trouble() {
    run(async {
        let mut world = World::new("scale-backlog").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        let waiting = |rate: f64| {
            Traffic::steady(rate, Duration::from_millis(50))
                .slow(0.5, Duration::from_millis(700))
                .in_flight(20)
        };
        world.exporter.set(waiting(48.0));
        world.exporter.set_view("stock", waiting(48.0));
        world.exporter.set_view("report", Traffic::steady(4.0, Duration::from_millis(2_000)));
        scaled(&world).await;
        assert_eq!(world.replicas().await, 4);
        assert_eq!(world.signals(), 0);
    });
}

#[test]
fn replicas_that_flux_keeps_are_left_alone_and_those_that_kubectl_applied_are_not() {
    run(async {
        let mut world = World::new("noscale-git").await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        apply_replicas(&world, "kustomize-controller", 2).await;
        saturate(&world.exporter, true);
        refused(&world, "Ownership: spec.replicas was set by kustomize-controller").await;
        nothing_was_done(&world).await;
    });
    run(async {
        let mut world = World::new("scale-kubectl").await;
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders-api"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "orders-api"}},
                "template": lab::control_plane::pod_template("orders-api"),
            },
        });
        let args = ["apply", "-n", &world.namespace, "-f", "-"];
        kubectl(&world.lab.control_plane, &args, &deployment.to_string()).await;
        world.operate().await;
        world.policy(grow).await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        scaled(&world).await;
        assert_eq!(world.replicas().await, 4);
    });
}

/// Nothing else got worse, it only did not help: what was added stays for now, and the next rung is tried.
#[test]
fn what_did_not_help_is_held_and_the_next_rung_follows() {
    run(async {
        let mut world = World::new("held").await;
        world.operate().await;
        world
            .policy(|policy| {
                grow(policy);
                let first = policy["spec"]["remediations"][0].clone();
                let mut second = first.clone();
                second["name"] = json!("more");
                second["action"]["scale"]["maxReplicas"] = json!(6);
                policy["spec"]["remediations"] = json!([first, second]);
                policy["spec"]["verification"] = json!({"after": "1s", "within": "10s"});
            })
            .await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        scaled(&world).await;
        let event = world.until_event("RemediationIneffective").await;
        assert!(event.contains("grow-1"), "{event}");
        let higher = lab::until(SOON, async || (world.replicas().await == 6).then_some(()));
        assert!(higher.await.is_some(), "{:#?}\n{}", world.events().await, world.operator_log());
    });
}
