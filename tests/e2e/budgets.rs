//! The administrator's ceilings hold over all policies, at once, whatever the policies say.

use serde_json::{Value, json};

use crate::support::{SOON, World, kubectl, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";

/// A budget of this test's namespace only.
async fn budget(world: &World, name: &str, mut spec: Value) {
    spec["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
    let name = format!("{}-{name}", world.namespace);
    let object = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget", "metadata": {"name": name}, "spec": spec,
    });
    kubectl(&world.lab.control_plane, &["apply", "-f", "-"], &object.to_string()).await;
}

#[test]
fn while_a_budget_is_frozen_nothing_is_begun_and_then_it_is() {
    for (namespace, frozen) in [
        ("frozen-new", json!({"freeze": {"type": "Actions"}})),
        (
            "frozen-window",
            json!({"freezeWindows": [{
                "name": "always", "from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z",
                "type": "ActionsAndRollbacks",
            }]}),
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
            let by = format!("refused by Budget: RemediationBudget {namespace}-night is frozen");
            assert!(event.contains(&by), "{event}");
            world.until_looked(3).await;
            assert!(report.runs() && world.signals() == 0);

            budget(&world, "night", json!({"freeze": {"type": "None"}, "freezeWindows": []})).await;
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
        budget(&world, "lax", json!({"perNamespace": {"maxActionsPerHour": 50}})).await;
        budget(&world, "strict", json!({"perNamespace": {"maxActionsPerHour": 0}})).await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

        let event = world.until_event("RemediationBlocked").await;
        let by =
            "0 of 0 acts in this namespace in 60 minutes are used up (RemediationBudget two-budgets-strict)";
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
                "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
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
        refused("1 of 1 acts in the cluster in 60 minutes are used up (RemediationBudget all)").await;
        budget(json!({"maxActionsPerHour": null, "perNamespace": {"maxActionsPerHour": 1}})).await;
        refused("1 of 1 acts in this namespace in 60 minutes are used up (RemediationBudget all)").await;
        world.until_looked(3).await;
        assert!(report.runs() && world.signals() == 1);

        budget(json!({"maxActionsPerHour": 2, "perNamespace": {"maxActionsPerHour": 2}})).await;
        assert!(report.ended().await.is_err());
        assert_eq!(world.signals(), 2);
    });
}

/// What the status of a budget says.
async fn usage(world: &World, name: &str) -> Value {
    let args = ["get", "rb", &format!("{}-{name}", world.namespace), "-o", "jsonpath={.status}"];
    serde_json::from_str(&kubectl(&world.lab.control_plane, &args, "").await).unwrap_or_default()
}

/// Labels the namespace.
async fn tier(world: &World, tier: &str) {
    let label = format!("labelled-budget={tier}");
    let args = ["label", "namespace", &world.namespace, "--overwrite", &label];
    kubectl(&world.lab.control_plane, &args, "").await;
}

#[test]
fn a_budget_follows_the_labels_of_its_namespaces_and_reports_what_is_used() {
    run(async {
        let mut world = World::new("labelled-budget").await;
        tier(&world, "production").await;
        let name = format!("{}-night", world.namespace);
        let budget = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget", "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"labelled-budget": "production"}},
                "deniedActions": ["Restart"], "maxMode": [{"action": "CancelQuery", "mode": "Observe"}],
            },
        });
        kubectl(&world.lab.control_plane, &["apply", "-f", "-"], &budget.to_string()).await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let reported = lab::until(SOON, async || {
            let status = usage(&world, "night").await;
            let ready = status["conditions"][0].clone();
            (ready["status"] == "False").then_some((status["usage"].clone(), ready["message"].clone()))
        });
        let (used, message) = reported.await.expect("the usage is reported");
        assert_eq!(used, json!({"actionsInLastHour": 0, "openRemediations": 0, "frozen": "None"}));
        assert!(
            message.as_str().is_some_and(|said| said.starts_with("spec.deniedActions[0]: ")),
            "{message}"
        );

        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let event = world.until_event("RemediationBlocked").await;
        let by = format!("RemediationBudget {name} permits CancelQuery in mode Observe at most");
        assert!(event.contains(&by), "{event}");
        world.until_looked(3).await;
        assert!(report.runs() && world.signals() == 0);

        // It does not apply to the namespace any more; back in it, what was done meanwhile counts.
        tier(&world, "test").await;
        world.until_event("ObjectiveRecovered").await;
        assert!(report.ended().await.is_err());
        tier(&world, "production").await;
        let counted =
            async || (usage(&world, "night").await["usage"]["actionsInLastHour"] == 1).then_some(());
        assert!(lab::until(SOON, counted).await.is_some(), "{}", world.operator_log());
    });
}
