//! People stay in charge: every way to say "not now".

use serde_json::{Value, json};

use crate::support::{SOON, World, eventually, kubectl, phase, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";

#[test]
fn a_pause_on_policy_target_or_namespace_and_observe_hold_until_they_are_lifted() {
    run(async {
        let mut world = World::new("pausing").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        world.annotate("namespace", "pausing", Some("forever")).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let event = world.until_event("RemediationBlocked").await;
        assert!(event.contains("Paused: the namespace is paused until forever"), "{event}");

        // Each way holds; a new one is there before the last one is lifted.
        world.annotate("deployment", "orders-api", Some("2099-01-01T00:00:00Z")).await;
        world.annotate("namespace", "pausing", None).await;
        let told = world.until_condition("RemediationAllowed", "False/Paused").await;
        world.until_condition("RemediationAllowed", "False/Paused: the target is paused").await;
        assert!(told.contains("is paused until"), "{told}");
        world.annotate("lp", "orders-api", Some("tomorrow")).await;
        world.annotate("deployment", "orders-api", None).await;
        world
            .until_condition("RemediationAllowed", "False/Paused: the policy is paused until tomorrow")
            .await;
        world.patch(json!({"mode": "Observe"})).await;
        world.annotate("lp", "orders-api", None).await;
        world.until_condition("RemediationAllowed", "False/ObserveOnly").await;
        let opt_out =
            ["annotate", "-n", "pausing", "deployment", "orders-api", "latency-operator.dev/opt-out=true"];
        kubectl(&world.lab.control_plane, &opt_out, "").await;
        world.patch(json!({"mode": "Auto"})).await;
        world.until_condition("RemediationAllowed", "False/OptedOut").await;
        assert!(report.runs());
        assert_eq!(world.signals(), 0);

        // A pause that has ended holds no more.
        world.annotate("lp", "orders-api", Some("2020-01-01T00:00:00Z")).await;
        let opt_in =
            ["annotate", "-n", "pausing", "deployment", "orders-api", "latency-operator.dev/opt-out-"];
        kubectl(&world.lab.control_plane, &opt_in, "").await;
        assert!(report.ended().await.is_err(), "nothing holds any more: it acts");
        world.until_event("RemediationCompleted").await;
        assert_eq!(world.signals(), 1);
    });
}

#[test]
fn a_policy_that_is_being_deleted_acts_no_more() {
    run(async {
        let mut world = World::new("leaving").await;
        world.operate().await;
        world.policy(|policy| policy["metadata"]["finalizers"] = json!(["example.com/somebody-elses"])).await;
        world.until_calm().await;
        kubectl(
            &world.lab.control_plane,
            &["delete", "lp", "orders-api", "-n", "leaving", "--wait=false"],
            "",
        )
        .await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        // Another one shows when the first would have acted.
        world
            .policy(|policy| {
                policy["metadata"]["name"] = json!("watching");
                policy["spec"]["mode"] = json!("Observe");
            })
            .await;
        world.until_condition_of("watching", "WithinObjective", "False").await;
        world.until_looked(5).await;
        assert!(report.runs() && world.signals() == 0);
        let finalized = json!({"metadata": {"finalizers": null}}).to_string();
        let patch = ["patch", "lp", "orders-api", "-n", "leaving", "--type=merge", "-p", &finalized];
        kubectl(&world.lab.control_plane, &patch, "").await;
    });
}

#[test]
fn what_cannot_be_seen_once_more_before_the_act_is_not_acted_on() {
    run(async {
        let mut world = World::alone("once-more").await;
        world.takes_rights_away = true;
        let lab = world.lab;
        let role = async |verbs: Value| {
            // Refused where the third rule of the chart's is not the one that is meant.
            let patch = json!([
                {"op": "test", "path": "/rules/2/resources", "value": ["namespaces"]},
                {"op": "replace", "path": "/rules/2/verbs", "value": verbs},
            ])
            .to_string();
            let args = ["patch", "clusterrole", "latency-operator", "--type=json", "-p", &patch];
            kubectl(&lab.control_plane, &args, "").await;
        };
        // The watch goes on; only asking is refused.
        role(json!(["list", "watch"])).await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let refused = async || {
            world.operator_log().contains("the evaluation is outdated, nothing is done").then_some(())
        };
        eventually("a refusal", SOON, refused).await;
        world.until_looked(3).await;
        assert!(report.runs() && world.signals() == 0);
        assert_eq!(phase(&world.until_phase("").await), "", "it waits before the gate");
        role(json!(["get", "list", "watch"])).await;
        assert!(report.ended().await.is_err(), "asked and answered, it acts");
        world.until_event("RemediationCompleted").await;
    });
}
