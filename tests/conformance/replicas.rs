//! The scale subresource of a workload: version and uid as preconditions, and who holds the replicas afterwards.

use controller::objects::{LiveReplicas, Version};
use controller::ports::Cluster;
use engine::model::{EntryKey, FieldManager, Scale, TargetKind, TargetRef};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::target::Target;

use crate::{Answer, Simulated, kubernetes};

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
fn held(read: &LiveReplicas) -> (u32, Vec<FieldManager>) {
    let LiveReplicas::Present(now, _) = read else { panic!("{read:?}") };
    (now.replicas, now.managers.clone())
}

/// Sets the replicas, on either server.
async fn write<C: Cluster>(cluster: &C, scale: Scale, version: Version, key: EntryKey) -> Answer<()> {
    Ok(cluster.write_replicas(&key, &scale, &version).await?)
}

/// What a read has returned: the uid and the version of that moment.
fn known(read: &LiveReplicas) -> (String, Version) {
    let LiveReplicas::Present(now, version) = read else { panic!("{read:?}") };
    (now.uid.clone(), version.clone())
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let target = TargetRef { kind: TargetKind::Deployment, name: NAME.into() };
    let params =
        PostParams { field_manager: Some("kubectl-client-side-apply".into()), ..PostParams::default() };
    api.create(&params, &deployment()).await.expect("a Deployment");
    let mut world = World::new(seed);
    world.targets.push(Target::new(namespace, target.clone(), (0, 0), 1));
    let (real, simulated) = (kubernetes(client), Simulated::new(world));
    let key = (namespace.to_owned(), "orders-api-1-grow-1".to_owned());
    let read = || {
        let (namespace, target) = (namespace.to_owned(), target.clone());
        simulated.ask(|port| async move { port.replicas(&namespace, &target).await }).expect("an answer")
    };
    let set = |scale: Scale, version: Version| {
        let key = key.clone();
        simulated.ask(|port| async move { write(&port, scale, version, key).await })
    };
    let mut dice = Dice::new(seed);
    let mut seen: Vec<((String, Version), (String, Version))> = Vec::new();
    let mut scaled = 0;
    for number in 0..30 {
        settled(&api).await;
        let (one, two) = (real.replicas(namespace, &target).await.expect("the workload"), read());
        assert_eq!(held(&one), held(&two), "seed {seed}, after {number} calls");
        seen.push((known(&one), known(&two)));
        let from = held(&one).0;
        let to = from % 6 + 1;
        if dice.percent(30) {
            let patch = json!({"spec": {"replicas": to}});
            let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
            api.patch_scale(NAME, &params, &Patch::Merge(&patch)).await.expect("another writer");
            simulated.sim.world().others_scale(0, to, "kubectl");
            continue;
        }
        let place = if dice.percent(70) { seen.len() - 1 } else { dice.below(seen.len()) };
        let ((their_uid, their_version), (our_uid, our_version)) = seen[place].clone();
        let stranger = dice.percent(15);
        let scale = |uid: String| {
            let uid = if stranger { "another".to_owned() } else { uid };
            Scale { target: target.clone(), uid, from, to }
        };
        let one = write(&real, scale(their_uid), their_version, key.clone()).await;
        let two = set(scale(our_uid), our_version);
        assert_eq!(one, two, "seed {seed}, call {number}: version {place} of {}, {stranger}", seen.len());
        scaled += u32::from(one.is_ok());
    }
    assert!((5..30).contains(&scaled), "seed {seed}: {scaled} writes were taken");
    api.delete(NAME, &kube::api::DeleteParams::default()).await.expect("deleted");
    simulated.sim.world().targets.clear();
    let scale = Scale { target: target.clone(), uid: "u".into(), from: 1, to: 2 };
    let gone = write(&real, scale.clone(), 1.into(), key.clone()).await;
    assert_eq!(gone, set(scale, 1.into()));
    let none = real.replicas(namespace, &target).await.expect("an answer");
    assert_eq!(none, read());
}
