//! Two replicas: one acts, the other takes over, and nothing is done twice.

use std::time::Duration;

use kube::api::ListParams;
use lab::Operator;

use crate::support::{SOON, World, eventually, phase, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";

pub(crate) async fn leads(operator: &Operator) -> bool {
    operator
        .metrics()
        .await
        .is_ok_and(|metrics| metrics.lines().any(|line| line == "latency_operator_leader 1"))
}

/// Starts a second replica; the first one leads, both are ready.
pub(crate) async fn two(world: &mut World) -> Operator {
    world.operate().await;
    let first = world.operator.as_ref().expect("an operator");
    eventually("the first replica leads", SOON, async || leads(first).await.then_some(())).await;
    let second = world.another_operator().await;
    eventually("the follower is ready", SOON, async || {
        second.get("/readyz").await.ok().filter(|text| text == "ok")
    })
    .await;
    assert!(!leads(&second).await, "both lead");
    second
}

#[test]
fn the_follower_goes_on_when_the_leader_is_killed_in_an_incident() {
    run(async {
        let mut world = World::new("failover").await;
        let second = two(&mut world).await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        world.annotate("lp", "orders-api", Some("forever")).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.until_event("RemediationBlocked").await;

        let first = world.operator.take().expect("an operator");
        first.kill().await.expect("killed");
        eventually("the second replica leads", Duration::from_secs(9), async || {
            leads(&second).await.then_some(())
        })
        .await;
        world.operator = Some(second);
        world.annotate("lp", "orders-api", None).await;

        assert!(report.ended().await.is_err());
        world.until_event("ObjectiveRecovered").await;
        assert_eq!(world.signals(), 1);
        let incidents = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        assert_eq!(incidents.len(), 1, "the successor goes on with the same incident");
        let events = world.events().await;
        let breached = events.iter().filter(|event| event.starts_with("ObjectiveBreached")).count();
        assert_eq!(breached, 1, "the successor says nothing twice: {events:#?}");
    });
}

#[test]
fn a_leader_killed_in_the_middle_of_an_act_leaves_something_that_is_resolved_and_never_repeated() {
    run(async {
        let mut world = World::new("midway").await;
        let second = two(&mut world).await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        // Killed as soon as the intent is there: before the gate, between gate and effect, or just after it.
        eventually("a remediation", SOON, async || {
            let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
            (!all.is_empty()).then_some(())
        })
        .await;
        let first = world.operator.take().expect("an operator");
        first.kill().await.expect("killed");
        world.operator = Some(second);

        assert!(report.ended().await.is_err(), "it is cancelled by one of them");
        world.until_event("ObjectiveRecovered").await;
        assert_eq!(world.signals(), 1, "and by one of them only");
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        for remediation in &all {
            let phase = phase(remediation);
            assert!(
                ["Completed", "OutcomeUnknown", "Failed", "Refused"].contains(&phase.as_str()),
                "{phase} is not resolved"
            );
        }
    });
}

#[test]
fn a_leader_that_is_asked_to_stop_gives_the_lease_back() {
    run(async {
        let mut world = World::new("handover").await;
        let second = two(&mut world).await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let first = world.operator.take().expect("an operator");
        let status = first.stop(Duration::from_secs(20)).await.expect("it stops");
        assert!(status.success(), "{status}\n{}", first.log_text());
        eventually("the second replica leads", SOON, async || leads(&second).await.then_some(())).await;
        world.operator = Some(second);
        world.until_condition("Ready", "True").await;
    });
}
