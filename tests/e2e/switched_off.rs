//! An action that is switched off in the operator's configuration: whoever asks for it is told, and nothing is done meanwhile.

use kube::api::ListParams;
use serde_json::{Value, json};

use crate::scaling::{scaled, until_undo};
use crate::support::{SOON, World, eventually, kubectl, phase, policy, run, saturate, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";
const PATH: &str =
    "spec.remediations[grow].action.type: Scale is switched off in the operator's configuration (actions)";

/// What is cancelled first, and two workers a pod, doubled at most once.
fn cancel_and_grow(policy: &mut Value) {
    policy["spec"]["target"]["concurrencyPerPod"] = json!(2);
    policy["spec"]["remediations"].as_array_mut().expect("rungs").push(json!({
        "name": "grow", "causes": ["WorkersSaturated"],
        "action": {"type": "Scale", "scale": {"step": "100%", "maxReplicas": 4}},
    }));
}

/// Somebody who only looks at the same target: by what it sees, the other has had its time.
async fn onlooker(world: &World) {
    let mut object = policy();
    object["metadata"]["name"] = "onlooker".into();
    object["spec"]["mode"] = "Observe".into();
    world.apply(object).await;
    world.until_condition_of("onlooker", "DataAvailable", "True").await;
}

/// The remediations of that policy, by phase.
async fn done_for(world: &World, policy: &str) -> Vec<String> {
    let params = ListParams::default().labels(&format!("latency-operator.dev/policy={policy}"));
    world.remediations().list(&params).await.expect("remediations").items.iter().map(phase).collect()
}

#[test]
fn who_asks_for_an_action_that_is_switched_off_is_told_where_and_what_is_owed_is_carried_out() {
    run(async {
        let mut world = World::new("switched-off").await;
        world.operate().await;
        world.policy(cancel_and_grow).await;
        world.until_calm().await;
        let suffering = world.suffer_below(4);
        let name = scaled(&world).await.metadata.name.expect("a name");
        drop(suffering);
        saturate(&world.exporter, false);

        world.operate_with("actions: [CancelQuery]\n").await;
        let said = world.until_condition("Stalled", "True/ActionDisabled").await;
        assert!(said.contains(PATH), "{said}");
        assert!(said.contains("remove this remediation, or have the administrator switch it on"), "{said}");
        assert_eq!(world.condition("Ready").await, said.replace("True/", "False/"));
        let allowed = world.condition("RemediationAllowed").await;
        assert!(allowed.starts_with("False/ActionDisabled"), "{allowed}");
        let event = world.until_event("PolicyStalled").await;
        assert!(event.contains(PATH), "{event}");
        kubectl_shows_it(&world).await;

        // What the other leader did is taken back all the same.
        until_undo(&world, &name, "Done").await;
        assert_eq!(world.replicas().await, 2);

        // Nothing new is begun, also not by the rung whose action is on.
        onlooker(&world).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let seen = async || (done_for(&world, "onlooker").await == ["DryRun"]).then_some(());
        eventually("the onlooker's dry run", SOON, seen).await;
        assert_eq!(done_for(&world, "orders-api").await, ["Completed"], "that of the other leader");
        assert!(report.runs() && world.signals() == 0);

        // With the action on it goes on by itself.
        world.operate_with("").await;
        world.until_condition("Ready", "True").await;
        assert_eq!(world.condition("Stalled").await, "");
        let ended = report.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("user request")), "{ended:?}");
        assert_eq!(world.signals(), 1);
    });
}

async fn kubectl_shows_it(world: &World) {
    let plane = &world.lab.control_plane;
    let listed = kubectl(plane, &["get", "lp", "-n", &world.namespace, "orders-api"], "").await;
    let columns: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns.get(2), Some(&"Stalled"), "{listed}");
    let waited = ["wait", "-n", &world.namespace, "--for=condition=Stalled", "--timeout=5s", "lp/orders-api"];
    kubectl(plane, &waited, "").await;
    let described = kubectl(plane, &["describe", "lp", "-n", &world.namespace, "orders-api"], "").await;
    assert!(described.contains(PATH) && described.contains("PolicyStalled"), "{described}");
}

#[test]
fn ending_what_was_cancelled_in_vain_is_an_action_of_its_own() {
    run(async {
        let mut world = World::new("no-terminating").await;
        world.operate_with("actions: [CancelQuery]\n").await;
        world
            .policy(|policy| {
                policy["spec"]["remediations"][0]["action"]["cancelQuery"]["terminateAfter"] = json!("2s");
            })
            .await;
        let said = world.until_condition("Stalled", "True/ActionDisabled").await;
        let path =
            "spec.remediations[cancel].action.cancelQuery.terminateAfter: TerminateIdle is switched off";
        assert!(said.contains(path) && said.contains("leave the field out"), "{said}");
        world.policy(|_| ()).await;
        world.until_condition("Ready", "True").await;
        assert_eq!(world.condition("Stalled").await, "");
    });
}
