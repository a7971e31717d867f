//! The scale subresource of a workload: version and uid as preconditions, and who holds the replicas afterwards.

use engine::model::{FieldManager, MANAGER, Scale, TargetKind, TargetRef, WorkloadNow};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use latency_operator::connections::workload;
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::target::Target;

use crate::{Answer, understood};

const NAME: &str = "orders-api";

/// Paused: nothing but its own status follows a change, and that at once.
fn deployment() -> Deployment {
    let labels = json!({"app": NAME});
    serde_json::from_value(json!({
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 4, "paused": true, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}},
        },
    }))
    .expect("a Deployment")
}

/// It, once the controllers have seen the last change.
async fn settled(api: &Api<Deployment>) -> Deployment {
    let found = lab::until(std::time::Duration::from_secs(30), async || {
        let found = api.get(NAME).await.expect("the Deployment");
        let seen = found.status.as_ref().and_then(|status| status.observed_generation);
        let progress = found.status.as_ref().is_some_and(|status| status.conditions.is_some());
        (seen == found.metadata.generation && progress).then_some(found)
    });
    found.await.expect("a Deployment at rest")
}

/// Replicas, and who holds them; how many of them are ready is the controllers' business.
fn held(now: &WorkloadNow) -> (u32, Vec<FieldManager>) {
    (now.replicas, now.managers.clone())
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let target = TargetRef { kind: TargetKind::Deployment, name: NAME.into() };
    let params =
        PostParams { field_manager: Some("kubectl-client-side-apply".into()), ..PostParams::default() };
    api.create(&params, &deployment()).await.expect("a Deployment");
    let mut world = World::new(seed);
    world.targets.push(Target::new(namespace, target.clone(), (0, 0), 1));
    let mut dice = Dice::new(seed);
    let mut known: Vec<(String, String, u64, String)> = Vec::new();
    let mut scaled = 0;
    for number in 0..30 {
        let real = settled(&api).await;
        let read = workload::read(client, namespace, &target).await.expect("the workload");
        world.now += 60_000_000;
        let (now, version) = world.read_workload(namespace, &target).expect("the workload");
        assert_eq!(held(&read.now()), held(&now), "seed {seed}, after {number} calls");
        let (uid, real_version) =
            (real.metadata.uid.expect("a uid"), read.metadata.resource_version.expect("one"));
        known.push((uid, real_version, version, now.uid.clone()));
        let to = now.replicas % 6 + 1;
        if dice.percent(30) {
            let patch = json!({"spec": {"replicas": to}});
            let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
            api.patch_scale(NAME, &params, &Patch::Merge(&patch)).await.expect("another writer");
            world.others_scale(0, to, "kubectl");
            continue;
        }
        let place = if dice.percent(70) { known.len() - 1 } else { dice.below(known.len()) };
        let (uid, real_version, version, our_uid) = known[place].clone();
        let stranger = dice.percent(15);
        let (uid, our_uid) =
            if stranger { ("another".to_owned(), "another".to_owned()) } else { (uid, our_uid) };
        let patch = json!({
            "metadata": {"resourceVersion": real_version, "uid": uid}, "spec": {"replicas": to},
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let one: Answer<()> =
            understood(api.patch_scale(NAME, &params, &Patch::Merge(&patch)).await).map(|_| ());
        let scale = Scale { target: target.clone(), uid: our_uid, from: now.replicas, to };
        let key = (namespace.to_owned(), "orders-api-1-grow-1".to_owned());
        let sent = world.instant();
        let two = world.write_scale(namespace, &scale, Some(version), &key, sent);
        assert_eq!(one, two, "seed {seed}, call {number}: version {place} of {}, {stranger}", known.len());
        scaled += u32::from(one.is_ok());
    }
    assert!((5..30).contains(&scaled), "seed {seed}: {scaled} writes were taken");
    api.delete(NAME, &kube::api::DeleteParams::default()).await.expect("deleted");
    let patch = json!({"spec": {"replicas": 1}});
    let gone = understood(api.patch_scale(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await);
    world.targets.clear();
    let scale = Scale { target: target.clone(), uid: "u".into(), from: 1, to: 2 };
    let key = (namespace.to_owned(), "orders-api-1-grow-1".to_owned());
    let sent = world.instant();
    assert_eq!(gone.map(|_| ()), world.write_scale(namespace, &scale, None, &key, sent));
}
