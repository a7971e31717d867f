//! Sessions that cannot be cancelled are ended: once, after every guard was asked, and nobody else's.

use std::time::Duration;

use kube::api::ListParams;
use serde_json::json;
use sqlx::Executor;

use crate::support::{World, outcome, phase, run, slow};

const BATCH: &str = "application_name = 'batch' and state like '%'";
const UPDATE: &str = "update accounts set balance = balance + 1";

/// How long a session has to be idle before it is ended: longer than it takes on this machine to notice it.
fn min_idle() -> String {
    format!("{}s", lab::patience(Duration::from_secs(8)).as_secs())
}

fn idle_rung(policy: &mut serde_json::Value) {
    let action = json!({"type": "TerminateIdle", "terminateIdle": {"minIdle": min_idle(), "uncommittedWrites": "RollBack"}});
    let rung = json!({"name": "idle", "causes": ["IdleInTransaction"], "action": action});
    policy["spec"]["remediations"].as_array_mut().expect("rungs").push(rung);
}

#[test]
fn a_root_that_is_idle_in_transaction_is_ended_once_it_has_been_idle_for_long_enough() {
    run(async {
        let mut world = World::new("idle-ended").await;
        world.operate().await;
        world.policy(idle_rung).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(BATCH, slow());
        let batch = world.session("reporting", "batch", &["begin", UPDATE, "select 1"]).await;
        let mut victims = Vec::new();
        for index in 1..4 {
            let update = format!("update accounts set balance = 0 where id = {index}");
            victims.push(world.session("orders", "api", &[&update]).await);
        }

        let event = world.until_event("RemediationBlocked").await;
        assert!(event.contains("Precondition") && event.contains(" are needed"), "{event}");
        assert_eq!(world.signals(), 0, "too early");
        let event = world.until_event("RemediationStarted").await;
        assert!(event.contains("end the session of pid"), "{event}");
        for victim in victims {
            assert_eq!(victim.ended().await, Ok(()), "a victim was hurt");
        }
        world.until_event("ObjectiveRecovered").await;
        assert_eq!(world.signals(), 1, "exactly one backend was signalled");
        let done = world.until_phase("Completed").await;
        assert_eq!(outcome(&done), "Healed");
        let idle = done.spec.action.terminate_idle.expect("a session that was ended");
        assert_eq!(idle.target.session.role.0, "reporting");
        assert_eq!(batch.ended().await, Ok(()), "its last statement was innocent");
    });
}

#[test]
fn in_mode_observe_an_idle_root_is_only_written_down() {
    run(async {
        let mut world = World::new("idle-observed").await;
        world.operate().await;
        world
            .policy(|policy| {
                idle_rung(policy);
                policy["spec"]["mode"] = json!("Observe");
                policy["spec"]["remediations"][1]["action"]["terminateIdle"]["minIdle"] = json!("1s");
            })
            .await;
        world.until_calm().await;
        let _suffering = world.suffer_while(BATCH, slow());
        let _batch = world.session("reporting", "batch", &["begin", UPDATE, "select 1"]).await;
        let victim = world.session("orders", "api", &["update accounts set balance = 0 where id = 1"]).await;

        let written = world.until_phase("DryRun").await;
        assert_eq!(written.spec.action.r#type.0, "TerminateIdle");
        world.until_looked(3).await;
        assert!(victim.runs(), "the victim still waits");
        assert_eq!(world.signals(), 0);
    });
}

#[test]
fn a_statement_that_ignores_its_cancellation_is_ended_with_its_session_by_an_act_of_its_own() {
    run(async {
        let mut world = World::new("stubborn").await;
        let stubborn = "create function stubborn() returns void language plpgsql as $$ begin loop begin \
             perform pg_sleep(600); exception when query_canceled then null; end; end loop; end $$";
        let url = world.postgres.superuser_url("orders");
        let mut connection =
            <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("a connection");
        connection.execute(stubborn).await.expect("a function");
        world.operate().await;
        world
            .policy(|policy| {
                policy["spec"]["guards"]["cooldown"] = json!("10m");
                policy["spec"]["remediations"][0]["action"]["cancelQuery"]["terminateAfter"] = json!("2s");
            })
            .await;
        world.until_calm().await;
        let _suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
        let report = world.session("reporting", "report", &["select stubborn()"]).await;

        world.until_event("ObjectiveRecovered").await;

        let ended = report.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("administrator command")), "{ended:?}");
        let mut all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        all.sort_by_key(|remediation| remediation.spec.attempt);
        let [cancelled, terminated] = all.as_slice() else { panic!("{all:#?}") };
        assert_eq!((phase(cancelled).as_str(), outcome(cancelled).as_str()), ("Completed", "Ineffective"));
        assert_eq!((phase(terminated).as_str(), outcome(terminated).as_str()), ("Completed", "Healed"));
        let cancel = cancelled.spec.action.cancel_query.as_ref().expect("a cancel");
        let termination = terminated.spec.action.terminate_query.as_ref().expect("a termination");
        assert_eq!(cancel.session, termination.session, "the very same statement");
        assert_eq!(world.signals(), 1, "the server says nothing of a cancellation that was caught");
    });
}
