//! Many policies at once: what they share is healed once, and what none of them can see is not touched.

use std::time::Duration;

use kube::api::ListParams;
use lab::exporter::Answer;
use latency_operator::api::LatencyIncident;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{SOON, World, calm, eventually, kubectl, phase, policy, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";
const MANY: usize = 100;

/// A hundred policies are as much work as all other tests that run at the same time.
static ONE_HUNDRED_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ONE_HUNDRED_AT_A_TIME.lock().await
}

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
        let _alone = alone().await;
        let mut world = World::new("together").await;
        world.operate().await;
        many(&world).await;
        let incidents =
            async || world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.exporter.set(slow());

        assert!(report.ended().await.is_err_and(|error| error.contains("user request")));
        // It stays slow until most have noticed, however late some of them look.
        eventually("most suffer", SOON, async || (incidents().await.len() > MANY / 2).then_some(())).await;
        world.exporter.set(calm());
        eventually("all incidents are closed", SOON, async || {
            let closed = |one: &LatencyIncident| {
                one.status
                    .as_ref()
                    .and_then(|status| status.phase.as_ref())
                    .is_some_and(|phase| phase.0 == "Closed")
            };
            incidents().await.iter().all(closed).then_some(())
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
        let _alone = alone().await;
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

#[test]
fn of_two_policies_on_one_database_the_refusal_names_the_one_that_acted() {
    run(async {
        let mut world = World::new("shared").await;
        world.operate().await;
        // Longer than it takes, on this machine, to prove the first act and to believe the second breach.
        let rest = lab::patience(Duration::from_secs(30));
        for name in ["orders-api", "another"] {
            world
                .policy(|policy| {
                    policy["metadata"]["name"] = json!(name);
                    policy["spec"]["guards"]["cooldown"] = json!(format!("{}s", rest.as_secs()));
                })
                .await;
            world.until_condition_of(name, "WithinObjective", "True").await;
        }
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(report.ended().await.is_err_and(|error| error.contains("user request")));
        // Whichever of them was the first.
        let acted = world.until_phase("Completed").await.spec.policy_ref.name.0;
        let other = if acted == "another" { "orders-api" } else { "another" };
        // Another culprit while the database rests.
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let told = lab::until(SOON, async || {
            let mut events = world.events_on("LatencyPolicy", other).await;
            events.extend(world.events_on("LatencyPolicy", &acted).await);
            events
                .into_iter()
                .find(|event| event.starts_with("RemediationBlocked") && event.contains("Cooldown"))
        });
        let told = told.await.unwrap_or_else(|| panic!("no rest was told\n{}", world.operator_log()));
        assert!(told.contains(&format!("of policy {}/{acted}", world.namespace)), "{told}");
        assert!(report.ended().await.is_err(), "after the rest it is cancelled too");
        assert_eq!(world.signals(), 2);
    });
}

/// System identifiers are what a server says of itself. A tenant's own may say what it likes: it takes no lock, and no rest,
/// from anybody else's.
#[test]
fn a_server_that_poses_as_another_one_keeps_nobody_waiting() {
    run(async {
        let mut honest = World::new("honest").await;
        let posing = World::posing_as(&honest, "posing").await;
        honest.neighbours.push("posing".to_owned());
        honest.operate().await;
        for world in [&posing, &honest] {
            world.policy(|policy| policy["spec"]["guards"]["cooldown"] = json!("1h")).await;
            world.until_calm().await;
        }
        let both = [posing.suffer_while(RUNAWAY, slow()), honest.suffer_while(RUNAWAY, slow())];
        let report = posing.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(report.ended().await.is_err());
        let report = honest.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(report.ended().await.is_err(), "it does not wait for the other one's rest");
        assert_eq!((posing.signals(), honest.signals()), (1, 1));
        let identifier = async |world: &World| {
            let done = world.until_phase("Completed").await;
            let spec = serde_json::to_value(&done.spec).expect("a spec");
            let server = spec.pointer("/action/cancelQuery/server/systemIdentifier").cloned();
            server.unwrap_or_else(|| panic!("no identifier in {spec:#}"))
        };
        assert_eq!(identifier(&posing).await, identifier(&honest).await, "they really claim to be the same");
        drop(both);
    });
}
