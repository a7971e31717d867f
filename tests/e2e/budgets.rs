//! The administrator's ceilings hold over all policies, at once, whatever the policies say.

use serde_json::{Value, json};

use crate::support::{SOON, World, kubectl, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";

/// A budget of this test's namespace only.
async fn budget(world: &World, name: &str, mut spec: Value) {
    spec["namespaces"] = json!([world.namespace]);
    let name = format!("{}-{name}", world.namespace);
    let object = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyBudget", "metadata": {"name": name}, "spec": spec,
    });
    kubectl(&world.lab.control_plane, &["apply", "-f", "-"], &object.to_string()).await;
}

#[test]
fn while_a_budget_is_frozen_nothing_is_begun_and_then_it_is() {
    for (namespace, frozen) in [
        ("frozen-new", json!({"freeze": "New"})),
        (
            "frozen-window",
            json!({"freezeWindows": [{"from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "freeze": "All"}]}),
        ),
    ] {
        run(async {
            let mut world = World::new(namespace).await;
            budget(&world, "night", frozen).await;
            world.operate().await;
            world.policy(|_| ()).await;
            world.until_calm().await;
            let _suffering = world.suffer_while(RUNAWAY, slow());
            let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

            let event = world.until_event("RemediationBlocked").await;
            let by = format!("refused by Budget: LatencyBudget {namespace}-night is frozen");
            assert!(event.contains(&by), "{event}");
            world.until_looked(3).await;
            assert!(report.runs() && world.signals() == 0);

            budget(&world, "night", json!({"freeze": "None", "freezeWindows": []})).await;
            world.until_event("ObjectiveRecovered").await;
            assert!(report.ended().await.is_err());
            assert_eq!(world.signals(), 1);
        });
    }
}

#[test]
fn the_strictest_of_two_budgets_holds() {
    run(async {
        let mut world = World::new("two-budgets").await;
        budget(&world, "lax", json!({"maxActionsPerHourAndNamespace": 50})).await;
        budget(&world, "strict", json!({"maxActionsPerHourAndNamespace": 0})).await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

        let event = world.until_event("RemediationBlocked").await;
        let by = "0 of 0 acts in this namespace in 60 minutes are used up (LatencyBudget two-budgets-strict)";
        assert!(event.contains(by), "{event}");
        world.until_looked(3).await;
        assert!(report.runs() && world.signals() == 0);
    });
}

#[test]
fn what_the_cluster_and_the_namespace_have_used_up_is_refused_with_the_count() {
    run(async {
        let mut world = World::alone("spent").await;
        let budget = async |spec: Value| {
            let object = json!({
                "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyBudget",
                "metadata": {"name": "all"}, "spec": spec,
            });
            kubectl(&world.lab.control_plane, &["apply", "-f", "-"], &object.to_string()).await;
        };
        budget(json!({"maxActionsPerHour": 1})).await;
        world.operate().await;
        world.policy(|policy| policy["spec"]["guards"]["cooldown"] = json!("1s")).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(report.ended().await.is_err(), "the first is within the budget");
        world.until_event("ObjectiveRecovered").await;

        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let refused = async |by: &str| {
            let found = lab::until(SOON, async || {
                let events = world.events().await;
                events.into_iter().find(|e| e.starts_with("RemediationBlocked") && e.contains(by))
            });
            let found = found.await;
            assert!(found.is_some(), "{by}: {:#?}\n{}", world.events().await, world.operator_log());
        };
        refused("1 of 1 acts in the cluster in 60 minutes are used up (LatencyBudget all)").await;
        budget(json!({"maxActionsPerHour": null, "maxActionsPerHourAndNamespace": 1})).await;
        refused("1 of 1 acts in this namespace in 60 minutes are used up (LatencyBudget all)").await;
        world.until_looked(3).await;
        assert!(report.runs() && world.signals() == 1);

        budget(json!({"maxActionsPerHour": 2, "maxActionsPerHourAndNamespace": 2})).await;
        assert!(report.ended().await.is_err());
        assert_eq!(world.signals(), 2);
    });
}
