//! Mode Auto: the right thing is done, once, and proven.

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use latency_operator::api::LatencyIncidentStatus;
use latency_operator::api::text::Word;
use serde_json::json;

use crate::support::{SOON, World, eventually, hanging, kubectl, outcome, phase, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";
const BLOCKER: &str = "application_name = 'batch' and state like '%'";

#[test]
fn a_runaway_query_is_cancelled_and_the_story_is_told() {
    run(async {
        let mut world = World::new("runaway").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let innocent = world.session("reporting", "innocent", &["select pg_sleep(0.2)"]).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

        world.until_event("ObjectiveRecovered").await;

        let ended = report.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("user request")), "{ended:?}");
        assert_eq!(innocent.ended().await, Ok(()));
        assert_eq!(world.signals(), 1, "exactly one backend was signalled");
        let done = world.until_phase("Completed").await;
        assert_eq!(outcome(&done), "Healed");

        let described =
            kubectl(&world.lab.control_plane, &["describe", "lp", "-n", &world.namespace, "orders-api"], "")
                .await;
        for reason in [
            "ObjectiveBreached",
            "CauseFound",
            "RemediationStarted",
            "RemediationCompleted",
            "ObjectiveRecovered",
        ] {
            assert_eq!(described.matches(reason).count(), 1, "{reason} in\n{described}");
        }
        let on_target = world.events_on("Deployment", "orders-api").await;
        assert!(on_target.iter().any(|event| event.starts_with("RemediationCompleted")), "{on_target:#?}");

        let incident = eventually("the incident is closed", SOON, async || {
            let all = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
            let status = all.first()?.status.clone()?;
            (status.phase.as_ref()?.0 == "Closed").then_some(status)
        })
        .await;
        assert_eq!(incident.outcome.expect("an outcome").0, "Healed");
        let resolved = incident.conditions.iter().find(|condition| condition.type_ == "Resolved");
        let resolved = resolved.map(|condition| (condition.status.as_str(), condition.reason.as_str()));
        assert_eq!(resolved, Some(("True", "Healed")));
        assert_eq!(incident.causes[0].name.0, "RunawayQuery");
        let evidence: Vec<&str> = incident.causes[0].evidence.iter().map(|one| one.name.as_str()).collect();
        assert!(evidence.contains(&"running for"), "{evidence:?}");
        let recovered = eventually("the policy's state", SOON, async || {
            let policy = world.policies().get("orders-api").await.expect("the policy").status?;
            (policy.state.as_ref()?.0 == "Healthy").then_some(policy)
        })
        .await;
        let measured = recovered.measured.expect("a measured value");
        assert!(measured.starts_with("p95 ") && measured.contains(" <= "), "{measured}");
        let story: Vec<&str> = incident.timeline.iter().map(|entry| entry.reason.0.as_str()).collect();
        assert_eq!(story.first(), Some(&"ObjectiveBreached"), "{story:?}");
        assert_eq!(story.last(), Some(&"ObjectiveRecovered"), "{story:?}");
        assert!(story.contains(&"RemediationCompleted"), "{story:?}");
    });
}

#[test]
fn what_comes_back_soon_opens_the_incident_again_whoever_leads_by_then() {
    run(async {
        let mut world = World::new("again").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let first = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(first.ended().await.is_err());
        the_only(&world, "Closed", None).await;
        let second = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        assert!(second.ended().await.is_err());
        let closed = the_only(&world, "Closed", Some(1)).await;
        assert_eq!(closed.remediations.len(), 2, "{closed:#?}");
        assert_eq!(closed.outcome.as_ref().map(|outcome| outcome.0.as_str()), Some("Healed"));
        assert_eq!(world.signals(), 2);
        let told = |events: Vec<String>| events.iter().filter(|e| e.starts_with("ObjectiveBreached")).count();
        assert_eq!(told(world.events().await), 2, "each time it is told");

        // Another leader finds in the API server that it ended a moment ago. The third same fix is no fix.
        world.operator.take().expect("an operator").kill().await.expect("it is killed");
        let known = world.incidents().list(&ListParams::default()).await.expect("incidents").items.remove(0);
        world.operate().await;
        eventually("it has made sure that it stays closed", SOON, async || {
            the_only(&world, "Closed", Some(1)).await.closure_confirmed_at
        })
        .await;
        // What the killed one could have been about to write when it ended.
        let mut again = known.clone();
        again.status.as_mut().expect("a status").phase = Some(Word("Open".to_owned()));
        let name = known.name_any();
        let late = world.incidents().replace_status(&name, &PostParams::default(), &again).await;
        assert!(matches!(&late, Err(kube::Error::Api(status)) if status.code == 409), "{late:?}");
        let third = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        the_only(&world, "Open", Some(2)).await;
        let event = world.until_event("RemediationBlocked").await;
        assert!(event.contains("refused by Flapping: 2 of 2 breaches within 24h"), "{event}");
        world.until_looked(3).await;
        assert!(third.runs() && world.signals() == 2);
    });
}

/// The policy's one incident, once it is in this phase and has been opened again so often.
async fn the_only(world: &World, phase: &str, reopened: Option<i32>) -> LatencyIncidentStatus {
    eventually("the incident's state", SOON, async || {
        let all = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        assert!(all.len() < 2, "{all:#?}");
        let status = all.into_iter().next()?.status?;
        let times = status.reopened.as_ref().map(|again| again.times);
        (status.phase.as_ref()?.0 == phase && times == reopened).then_some(status)
    })
    .await
}

#[test]
fn a_root_blocker_is_cancelled_and_its_victims_are_not() {
    run(async {
        let mut world = World::new("blocker").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(BLOCKER, slow());
        let statements = ["begin", "update accounts set balance = balance + 1", "select pg_sleep(600)"];
        let batch = world.session("reporting", "batch", &statements).await;
        let mut victims = Vec::new();
        for index in 1..4 {
            let update = format!("update accounts set balance = 0 where id = {index}");
            victims.push(world.session("orders", "api", &[&update]).await);
        }

        let event = world.until_event("CauseFound").await;
        assert!(
            event.contains("BlockingQuery (Certain)") && event.contains("3 of them the target's own"),
            "{event}"
        );
        let ended = batch.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("user request")), "{ended:?}");
        for victim in victims {
            assert_eq!(victim.ended().await, Ok(()), "a victim was hurt");
        }
        world.until_event("RemediationCompleted").await;
        assert_eq!(world.signals(), 1);
    });
}

#[test]
fn a_root_that_is_idle_in_transaction_is_named_and_left_alone() {
    run(async {
        let mut world = World::new("idle").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(BLOCKER, slow());
        let statements = ["begin", "update accounts set balance = balance + 1", "select 1"];
        let batch = world.session("reporting", "batch", &statements).await;
        let victim = world.session("orders", "api", &["update accounts set balance = 0 where id = 1"]).await;

        let event = world.until_event("CauseFound").await;
        assert!(event.contains("IdleInTransaction (Certain)"), "{event}");
        let event = world.until_event("IncidentEscalated").await;
        assert!(event.contains("there is no statement that could be cancelled"), "{event}");
        assert!(victim.runs(), "the victim still waits");
        assert_eq!(world.signals(), 0);
        assert!(
            world.remediations().list(&ListParams::default()).await.expect("remediations").items.is_empty()
        );
        drop(batch);
    });
}

#[test]
fn requests_that_all_hang_are_a_breach_and_are_healed() {
    run(async {
        let mut world = World::new("hanging").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while("application_name = 'batch' and state = 'active'", hanging());
        let statements = ["begin", "lock table accounts", "select pg_sleep(600)"];
        let batch = world.session("reporting", "batch", &statements).await;
        let victim = world.session("orders", "api", &["select count(*) from accounts"]).await;

        let event = world.until_event("ObjectiveBreached").await;
        assert!(event.contains("requests hang") && event.contains("P1"), "{event}");
        world.until_event("ObjectiveRecovered").await;
        assert!(batch.ended().await.is_err());
        assert_eq!(victim.ended().await, Ok(()));
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        assert_eq!(all.iter().map(phase).collect::<Vec<_>>(), ["Completed"]);
        assert_eq!(world.signals(), 1);
    });
}

#[test]
fn the_third_same_fix_in_a_day_is_refused_although_the_policy_was_deleted_and_created_again() {
    run(async {
        let mut world = World::new("flapping").await;
        world.operate().await;
        let quick = |policy: &mut serde_json::Value| policy["spec"]["guards"]["cooldown"] = json!("1s");
        for _ in 0..2 {
            // A policy of the same name, and another uid.
            world.policy(quick).await;
            world.until_calm().await;
            let _suffering = world.suffer_while(RUNAWAY, slow());
            let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
            assert!(report.ended().await.is_err(), "it was to be cancelled");
            eventually("the incident is closed", SOON, async || {
                let all = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
                let phases = all.into_iter().map(|incident| incident.status.unwrap_or_default().phase);
                phases.flatten().all(|phase| phase.0 == "Closed").then_some(())
            })
            .await;
            world.policies().delete("orders-api", &DeleteParams::default()).await.expect("deleted");
        }
        world.policy(quick).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;

        let event = world.until_event("IncidentEscalated").await;
        assert!(event.contains("2 of 2 breaches within 24h were met by CancelQuery"), "{event}");
        let event = world.until_event("RemediationBlocked").await;
        assert!(event.contains("refused by Flapping"), "{event}");
        world.until_looked(3).await;
        assert!(report.runs());
        assert_eq!(world.signals(), 2);
    });
}
