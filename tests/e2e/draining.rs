//! Before the operator is uninstalled: nothing begins any more, what is owed is taken back, and nothing is left of it but its
//! kinds and their history.

use std::time::Duration;

use engine::model::{Draining, earlier, later};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use lab::{Operator, Process};
use latency_operator::api::{DRAINING_UNTIL, LatencyRemediation};
use serde_json::{Value, json};

use crate::replicas::{leads, two};
use crate::scaling::{grow, scale_writes, scaled, until_released, until_undo};
use crate::support::{OPERATOR, SOON, World, eventually, kubectl, run, saturate, slow};

/// What is added is not taken back for calm: whatever happens to it here happens because of the drain.
fn hold(policy: &mut Value) {
    let cancel = policy["spec"]["remediations"][0].clone();
    grow(policy);
    policy["spec"]["remediations"].as_array_mut().expect("rungs").push(cancel);
    policy["spec"]["evaluation"]["recoverFor"] = json!("10m");
}

async fn drain(world: &World, within: &str) -> Process {
    Operator::drain(&world.lab.session, world.options(), within).await.expect("it starts")
}

/// It must end well; what it has said.
async fn drained(world: &World, process: &Process) -> String {
    // It is bounded by itself: by what it was told, and what a busy machine adds.
    let status =
        process.ended(3 * SOON).await.unwrap_or_else(|error| panic!("{error}\n{}", process.log_text()));
    assert!(status.success(), "{status}\n{}\n{}", process.log_text(), world.operator_log());
    process.log_text()
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), "latency-operator")
}

async fn lease(world: &World) -> Option<Lease> {
    leases(world).get_opt(&world.namespace).await.expect("an answer")
}

fn mark(lease: &Lease) -> Option<&String> {
    lease.metadata.annotations.as_ref()?.get(DRAINING_UNTIL)
}

async fn until_marked(world: &World) {
    eventually("the mark", SOON, async || mark(&lease(world).await?).map(drop)).await;
}

async fn all(world: &World) -> Vec<LatencyRemediation> {
    world.remediations().list(&ListParams::default()).await.expect("remediations").items
}

/// Waits until the operator says that nothing is begun any more.
async fn until_refused(world: &World) {
    let refused = async || {
        let events = world.events().await;
        let said = "Leadership: the operator is being uninstalled";
        events
            .iter()
            .any(|event| event.starts_with("RemediationBlocked") && event.contains(said))
            .then_some(())
    };
    let found = lab::until(SOON, refused).await;
    assert!(found.is_some(), "{:#?}\n{}", world.events().await, world.operator_log());
}

/// Whoever runs ends, and nothing is left of it.
async fn ends_without_a_trace(world: &World, operator: Operator) {
    let status = operator.stop(Duration::from_secs(20)).await.expect("it stops");
    assert!(status.success(), "{status}\n{}", operator.log_text());
    assert!(lease(world).await.is_none(), "the Lease is still there\n{}", operator.log_text());
}

/// Scaled from 2 to 4, which is owed; the API is well since, or not.
async fn owing(world: &mut World, well: bool) -> String {
    world.policy(hold).await;
    world.until_calm().await;
    saturate(&world.exporter, true);
    let name = scaled(world).await.metadata.name.expect("a name");
    if well {
        saturate(&world.exporter, false);
    }
    name
}

#[test]
fn the_leader_takes_back_begins_nothing_more_and_leaves_no_lease() {
    run(async {
        let mut world = World::new("drained").await;
        let follower = two(&mut world).await;
        let name = owing(&mut world, true).await;
        let said = drained(&world, &drain(&world, "50s").await).await;
        assert!(said.contains(&format!("drained/{name} has been taken back")), "{said}");
        assert_eq!(world.replicas().await, 2);
        let done = world.remediations().get(&name).await.expect("it");
        let undo = done.status.and_then(|status| status.rollback).expect("an undo");
        assert_eq!((undo.state.0.as_str(), undo.due_by.map(|by| by.0).as_deref()), ("Done", Some("Drain")));
        assert!(done.metadata.finalizers.unwrap_or_default().is_empty());

        assert!(lease(&world).await.is_none(), "whoever deletes the operator takes its account away first");

        // A new trouble comes, with another answer, and both replicas are still there: neither begins anew.
        let _suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        eventually("the follower looks for the Lease", SOON, async || looks_after_the_end(&world)).await;
        let leader = world.operator.take().expect("an operator");
        assert!(!leads(&leader).await && !leads(&follower).await);
        assert_eq!(all(&world).await.len(), 1, "nothing is begun");
        assert!(report.runs() && world.signals() == 0);
        ends_without_a_trace(&world, leader).await;
        ends_without_a_trace(&world, follower).await;
        let writes = scale_writes(&world);
        assert_eq!((writes.first(), writes.last()), (Some(&4), Some(&2)), "{writes:?}");
    });
}

/// Somebody has asked for the Lease three times since it was deleted.
fn looks_after_the_end(world: &World) -> Option<()> {
    let events = world.lab.control_plane.audit_of(OPERATOR).expect("the audit log");
    let of_lease = events.iter().filter(|event| {
        event.stage == "ResponseComplete"
            && event
                .object_ref
                .as_ref()
                .is_some_and(|object| object.resource == "leases" && object.name == world.namespace)
    });
    let verbs: Vec<&str> = of_lease.map(|event| event.verb.as_str()).collect();
    let deleted = verbs.iter().rposition(|verb| *verb == "delete")?;
    (verbs.get(deleted..)?.iter().filter(|verb| **verb == "get").count() >= 3).then_some(())
}

#[test]
fn without_a_leader_it_takes_the_lease_and_does_it_itself() {
    run(async {
        let mut world = World::new("drainalone").await;
        world.operate().await;
        let name = owing(&mut world, true).await;
        let killed = world.operator.take().expect("an operator");
        killed.kill().await.expect("killed");
        let said = drained(&world, &drain(&world, "50s").await).await;
        assert!(said.contains("this process has taken the Lease"), "{said}");
        until_undo(&world, &name, "Done").await;
        until_released(&world, &name).await;
        assert_eq!(world.replicas().await, 2);
        assert!(lease(&world).await.is_none(), "it was its own\n{said}");
    });
}

#[test]
fn where_there_is_nothing_it_leaves_nothing() {
    run(async {
        let world = World::new("draintwice").await;
        for _ in 0..2 {
            let said = drained(&world, &drain(&world, "30s").await).await;
            assert!(said.contains("nothing is owed any more"), "{said}");
            assert!(lease(&world).await.is_none());
        }
        // A later installation is as if there had been none before.
        let mut world = world;
        world.operate().await;
        world.policy(hold).await;
        world.until_calm().await;
        saturate(&world.exporter, true);
        scaled(&world).await;
    });
}

#[test]
fn what_is_still_needed_stays_and_people_are_told_how_to_take_it_back() {
    run(async {
        let mut world = World::new("drainlate").await;
        world.operate().await;
        let name = owing(&mut world, false).await;
        let said = drained(&world, &drain(&world, "5s").await).await;
        let command = "kubectl -n drainlate scale deployment orders-api --replicas=2";
        assert!(said.contains(command), "{said}");
        until_undo(&world, &name, "Abandoned").await;
        until_released(&world, &name).await;
        let told = eventually("it is told", SOON, async || {
            let events = world.events_on("Deployment", "orders-api").await;
            events.into_iter().find(|event| event.starts_with("RollbackAbandoned"))
        })
        .await;
        assert!(told.contains(command) && told.contains("the objectives are broken"), "{told}");
        assert_eq!(world.replicas().await, 4);
        assert_eq!(scale_writes(&world), [4], "nothing is taken away from who needs it");
        let leader = world.operator.take().expect("an operator");
        ends_without_a_trace(&world, leader).await;
    });
}

#[test]
fn who_takes_over_goes_on_draining() {
    run(async {
        let mut world = World::new("drainnext").await;
        let second = two(&mut world).await;
        let name = owing(&mut world, false).await;
        let drain = drain(&world, "50s").await;
        until_marked(&world).await;
        let first = world.operator.take().expect("an operator");
        first.kill().await.expect("killed");
        eventually("the second replica leads", SOON, async || leads(&second).await.then_some(())).await;
        world.operator = Some(second);
        // It sees the breach itself, and begins nothing.
        world.until_looked(5).await;
        assert_eq!(all(&world).await.len(), 1);
        assert_eq!(world.replicas().await, 4);
        saturate(&world.exporter, false);
        drained(&world, &drain).await;
        until_undo(&world, &name, "Done").await;
        assert_eq!(world.replicas().await, 2);
        let second = world.operator.take().expect("an operator");
        ends_without_a_trace(&world, second).await;
    });
}

#[test]
fn of_two_that_drain_one_may_be_killed_and_nothing_is_done_twice() {
    run(async {
        let mut world = World::new("drainboth").await;
        world.operate().await;
        let name = owing(&mut world, false).await;
        let killed = world.operator.take().expect("an operator");
        killed.kill().await.expect("killed");
        let (one, other) = tokio::join!(drain(&world, "50s"), drain(&world, "50s"));
        let leads = |drain: &Process| drain.log_text().contains("this process has taken the Lease");
        eventually("one of them leads", SOON, async || (leads(&one) || leads(&other)).then_some(())).await;
        let (leading, waiting) = if leads(&one) { (one, other) } else { (other, one) };
        leading.kill().await.expect("killed");
        saturate(&world.exporter, false);
        drained(&world, &waiting).await;
        until_undo(&world, &name, "Done").await;
        until_released(&world, &name).await;
        let writes = scale_writes(&world);
        assert!(writes.is_sorted_by(|before, after| before > after), "{writes:?}");
        assert_eq!((writes.first(), writes.last()), (Some(&4), Some(&2)), "{writes:?}");
        assert!(lease(&world).await.is_none());
    });
}

#[test]
fn an_uninstallation_that_was_given_up_is_over_after_a_while() {
    run(async {
        let mut world = World::new("drainover").await;
        world.operate().await;
        world.policy(hold).await;
        world.until_calm().await;
        // Its drain ended a while ago, and the operator was not deleted.
        let until = earlier(later(Timestamp::now(), Duration::from_secs(20)), Draining::LINGERS);
        let annotation = format!("{DRAINING_UNTIL}={until}");
        let args = ["annotate", "lease", "-n", "latency-operator", &world.namespace, &annotation];
        kubectl(&world.lab.control_plane, &args, "").await;
        saturate(&world.exporter, true);
        until_refused(&world).await;
        scaled(&world).await;
        eventually("the mark has gone", SOON, async || mark(&lease(&world).await?).is_none().then_some(()))
            .await;
        let leader = world.operator.take().expect("an operator");
        leader.stop(Duration::from_secs(20)).await.expect("it stops");
        assert!(lease(&world).await.is_some(), "it was given back, for the next one");
    });
}

#[test]
fn a_mark_that_is_no_time_stops_nobody_and_is_taken_away() {
    run(async {
        let mut world = World::new("draintypo").await;
        world.operate().await;
        world.policy(hold).await;
        world.until_calm().await;
        let annotation = format!("{DRAINING_UNTIL}=soon");
        let args = ["annotate", "lease", "-n", "latency-operator", &world.namespace, &annotation];
        kubectl(&world.lab.control_plane, &args, "").await;
        saturate(&world.exporter, true);
        scaled(&world).await;
        eventually("the mark has gone", SOON, async || mark(&lease(&world).await?).is_none().then_some(()))
            .await;
    });
}

#[test]
fn who_may_not_is_told_what() {
    run(async {
        let world = World::new("drainless").await;
        let mut options = world.options();
        options.kubeconfig = world.lab.control_plane.kubeconfig_for("nobody", &[]).expect("a kubeconfig");
        let drain = Operator::drain(&world.lab.session, options, "30s").await.expect("it starts");
        let status = drain.ended(SOON).await.expect("it ends");
        let said = drain.log_text();
        assert!(!status.success() && said.contains("leases"), "{status}: {said}");
        assert!(lease(&world).await.is_none());
    });
}
