//! Mode Observe: nothing is touched, and it is written down what would have been done.

use std::time::Duration;

use kube::api::ListParams;
use serde_json::json;

use crate::support::{SOON, World, calm, eventually, phase, run, slow};

#[test]
fn nothing_but_our_own_objects_is_written_and_no_session_is_touched() {
    run(async {
        let mut world = World::new("observe").await;
        world.operate().await;
        world.policy(|policy| policy["spec"]["mode"] = "Observe".into()).await;
        world.until_calm().await;
        let allowed = world.until_condition("RemediationAllowed", "False/ObserveOnly").await;
        assert!(allowed.contains("written down"), "{allowed}");
        let _suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
        // It ends by itself, and not before it can be noticed on this machine.
        let sleep = format!("select pg_sleep({})", lab::patience(Duration::from_secs(12)).as_secs());
        let report = world.session("reporting", "report", &[&sleep]).await;

        let event = world.until_event("RemediationProposed").await;
        assert!(event.contains("would cancel") && event.contains("RunawayQuery"), "{event}");
        let dry = world.until_phase("DryRun").await;
        assert!(dry.spec.mode.0 == "Observe" && dry.spec.cause.name.0 == "RunawayQuery");
        let message = dry.status.and_then(|status| status.message).expect("a message").0;
        assert!(message.starts_with("dry run: cancel what pid"), "{message}");

        assert_eq!(report.ended().await, Ok(()), "the statement ended by itself");
        assert_eq!(world.signals(), 0);
        world.until_event("ObjectiveRecovered").await;
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        assert_eq!(all.iter().map(phase).collect::<Vec<_>>(), ["DryRun"], "one for each incident and rung");
        let own = ["latencypolicies", "latencyincidents", "latencyremediations", "events"];
        for write in world.writes() {
            let object = write.object_ref.expect("an object");
            assert!(own.contains(&object.resource.as_str()), "{} {}", write.verb, object.resource);
        }
    });
}

/// The shortest policy that there is shows in its history what could have been done.
#[test]
fn without_remediations_observe_writes_down_what_needs_no_setting() {
    run(async {
        let mut world = World::new("observe-default").await;
        world.operate().await;
        world
            .policy(|policy| {
                let spec = policy["spec"].as_object_mut().expect("a spec");
                spec.remove("mode");
                spec.remove("remediations");
                let postgresql = spec["dependencies"][0]["postgresql"].as_object_mut().expect("settings");
                postgresql.remove("cancellableRoles");
            })
            .await;
        world.until_calm().await;
        world.until_condition("RemediationAllowed", "False/ObserveOnly").await;
        let _suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let dry = world.until_phase("DryRun").await;
        let told = (&*dry.spec.remediation.0, &*dry.spec.cause.name.0);
        assert_eq!(told, ("cancel-query-by-default", "RunawayQuery"));
        assert!(report.runs());
        assert_eq!(world.signals(), 0);
    });
}

#[test]
fn without_a_ladder_causes_are_found_and_told() {
    run(async {
        let mut world = World::new("diagnose-only").await;
        world.operate().await;
        world.policy(|policy| policy["spec"]["remediations"] = serde_json::json!([])).await;
        world.until_calm().await;
        world.until_condition("RemediationAllowed", "False/NoRemediations").await;
        let _suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let event = world.until_event("CauseFound").await;
        assert!(event.contains("RunawayQuery"), "{event}");
        assert!(report.runs());
        assert_eq!(world.signals(), 0);
        assert!(
            world.remediations().list(&ListParams::default()).await.expect("remediations").items.is_empty()
        );
    });
}

#[test]
fn closed_incidents_beyond_the_history_limit_are_removed() {
    run(async {
        let mut world = World::new("history").await;
        world.operate().await;
        world
            .policy(|policy| {
                policy["spec"]["historyLimit"] = json!(1);
                policy["spec"]["mode"] = json!("Observe");
            })
            .await;
        world.until_calm().await;
        world.forgotten_incident().await;
        let incidents = async || -> Vec<String> {
            let all = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
            all.into_iter().filter_map(|incident| incident.metadata.name).collect()
        };
        world.exporter.set(slow());
        world.until_condition("WithinObjective", "False").await;
        assert_eq!(incidents().await.len(), 2, "nothing is removed while one is open");
        world.exporter.set(calm());
        world.until_condition("WithinObjective", "True").await;
        eventually("the newest incident is left", SOON, async || {
            let left = incidents().await;
            (left.len() == 1 && left[0] != "long-ago").then_some(())
        })
        .await;
    });
}
