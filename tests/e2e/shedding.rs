//! Background workers that hold the database are taken away, and given back whatever happens.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use crate::scaling::{scale_writes, scaled, until_released, until_undo};
use crate::support::{PASSWORD, Running, SOON, Suffering, World, eventually, kubectl, outcome, run, slow};

/// Six workers, of which one stays.
fn shed(policy: &mut Value) {
    let workers = json!({
        "name": "celery", "type": "Workers", "workers": {
            "targetRef": {"name": "orders-celery"}, "clientRoles": ["celery"], "acksLate": true, "maxTaskDuration": "20s",
        },
    });
    policy["spec"]["dependencies"].as_array_mut().expect("dependencies").push(workers);
    policy["spec"]["remediations"] = json!([{
        "name": "shed", "causes": ["BackgroundLoad"],
        "action": {"type": "ShedWorkers", "shedWorkers": {"dependencyName": "celery", "minReplicas": 1}},
    }]);
}

/// A world with six workers beside the target, and an operator.
async fn with_workers(namespace: &str) -> World {
    let mut world = World::new(namespace).await;
    let role = format!(
        "create role celery login password '{PASSWORD}'; create table batch_is_over (at timestamptz); grant select on \
         batch_is_over to celery"
    );
    world.postgres.execute("orders", &role).await.expect("a role");
    let cluster = &world.lab.control_plane;
    cluster.deployment(namespace, "orders-celery", 6).await.expect("a Deployment");
    // Pods of the laboratory end at once; these are given the usual time.
    let grace = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}}).to_string();
    kubectl(cluster, &["patch", "-n", namespace, "deployment", "orders-celery", "-p", &grace], "").await;
    let settled = ["rollout", "status", "-n", namespace, "deployment/orders-celery", "--timeout=30s"];
    kubectl(cluster, &settled, "").await;
    world.operate().await;
    world
}

/// A batch begins: five workers are busy, and while they are the API is slow.
async fn batch(world: &World) -> (Vec<Running>, Suffering) {
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let work = "do $$ begin loop exit when exists (select from batch_is_over); perform pg_sleep(0.1); end loop; end $$";
        tasks.push(world.session("celery", "worker", &[work]).await);
    }
    (tasks, world.suffer_while("usename = 'celery' and state = 'active'", slow()))
}

/// The workers that went away were the busy ones.
async fn ends(world: &World) {
    world.postgres.execute("orders", "insert into batch_is_over values (now())").await.expect("it is over");
}

async fn workers(world: &World) -> i32 {
    let all: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let found = all.get("orders-celery").await.expect("the workers");
    found.spec.and_then(|spec| spec.replicas).unwrap_or_default()
}

#[test]
fn workers_that_hold_the_database_are_shed_and_come_back_step_by_step() {
    run(async {
        let world = with_workers("shedding").await;
        world.policy(shed).await;
        world.until_calm().await;
        let (_tasks, suffering) = batch(&world).await;

        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        assert_eq!((workers(&world).await, world.replicas().await), (1, 2), "the target is left alone");
        let cause = world.until_event("CauseFound").await;
        assert!(cause.contains("BackgroundLoad (Certain)"), "{cause}");
        assert!(cause.contains("5 of 5 active sessions of db"), "{cause}");
        ends(&world).await;

        let done = until_undo(&world, &name, "Done").await;
        assert_eq!(outcome(&done), "Healed");
        assert_eq!(workers(&world).await, 6);
        until_released(&world, &name).await;
        assert_eq!(scale_writes(&world), [1, 3, 5, 6], "down at once, and back again in steps of two");
        drop(suffering);
    });
}

#[test]
fn workers_come_back_at_once_where_the_policy_is_deleted_in_the_breach() {
    run(async {
        let world = with_workers("unshed").await;
        world.policy(shed).await;
        world.until_calm().await;
        let (_tasks, _suffering) = batch(&world).await;
        let done = scaled(&world).await;
        let name = done.metadata.name.clone().expect("a name");
        assert_eq!(workers(&world).await, 1);
        let args = ["delete", "lp", "orders-api", "-n", &world.namespace];
        kubectl(&world.lab.control_plane, &args, "").await;

        let done = until_undo(&world, &name, "Done").await;
        let due_by = done.status.and_then(|status| status.rollback?.due_by);
        assert_eq!(due_by.map(|by| by.0).as_deref(), Some("InVain"));
        assert_eq!(scale_writes(&world), [1, 6]);
    });
}

#[test]
fn workers_whose_tasks_would_be_cut_off_are_left_alone_and_the_numbers_are_told() {
    run(async {
        let world = with_workers("cutoff").await;
        world
            .policy(|policy| {
                shed(policy);
                policy["spec"]["dependencies"][1]["workers"]["maxTaskDuration"] = json!("2m");
            })
            .await;
        world.until_calm().await;
        let (_tasks, _suffering) = batch(&world).await;
        let refused = eventually("a refusal", SOON, async || {
            let events = world.events().await;
            events.into_iter().find(|event| event.starts_with("RemediationBlocked"))
        });
        let refused = refused.await;
        assert!(refused.contains("takes up to 2m (workers.maxTaskDuration)"), "{refused}");
        assert!(refused.contains("are given 30s to end (terminationGracePeriodSeconds)"), "{refused}");
        assert_eq!(workers(&world).await, 6);
    });
}
