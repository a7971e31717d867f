//! Many policies at once: what they share is healed once, and what none of them can see is not touched.

use kube::api::ListParams;
use lab::exporter::Answer;
use serde_json::json;

use crate::support::{SOON, World, eventually, kubectl, phase, policy, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";
const MANY: usize = 40;

async fn many(world: &World) {
    let policies: Vec<_> = (0..MANY)
        .map(|index| {
            let mut policy = policy();
            policy["metadata"]["name"] = json!(format!("orders-api-{index}"));
            policy
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
    let args = ["apply", "--server-side", "-n", &world.namespace, "-f", "-"];
    kubectl(&world.lab.control_plane, &args, &list.to_string()).await;
    for index in 0..MANY {
        world.until_condition_of(&format!("orders-api-{index}"), "WithinObjective", "True").await;
    }
}

#[test]
fn many_policies_that_suffer_from_one_culprit_cancel_it_once() {
    run(async {
        let mut world = World::new("together").await;
        world.operate().await;
        many(&world).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

        assert!(report.ended().await.is_err_and(|error| error.contains("user request")));
        eventually("all incidents are closed", SOON, async || {
            let all = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
            let closed = |one: &latency_operator::api::LatencyIncident| {
                let status = one.status.as_ref()?;
                status.phase.as_ref().filter(|phase| phase.0 == "Closed").map(|_| ())
            };
            (all.len() > MANY / 2 && all.iter().all(|one| closed(one).is_some())).then_some(())
        })
        .await;
        assert_eq!(world.signals(), 1, "one cancel for all");
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        let acted: Vec<String> = all.iter().filter(|one| phase(one) != "Refused").map(phase).collect();
        assert_eq!(acted, ["Completed"]);
    });
}

#[test]
fn an_outage_of_the_metrics_moves_nobody_to_act() {
    run(async {
        let mut world = World::new("outage").await;
        world.operate().await;
        many(&world).await;
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.exporter.answer(Answer::Status(503));
        for index in 0..MANY {
            world.until_condition_of(&format!("orders-api-{index}"), "DataAvailable", "False").await;
        }
        world.until_looked(100).await;
        assert_eq!(world.signals(), 0);
        assert!(report.runs());
        assert!(
            world.remediations().list(&ListParams::default()).await.expect("remediations").items.is_empty()
        );
    });
}
