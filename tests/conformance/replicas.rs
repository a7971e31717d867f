//! The scale subresource of a workload: version and uid as preconditions, and who holds the replicas afterwards.

use std::time::Duration;

use controller::objects::{LiveReplicas, Version};
use controller::ports;
use engine::effects::SetReplicas;
use engine::model::{Autoscaler, EntryKey, FieldManager, TargetKind, TargetRef, WorkloadNow};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sim::bench;
use sim::dice::Dice;
use sim::exec::MINUTE;
use sim::world::api::Answer;
use sim::world::target::Target;

use crate::names::Names;
use crate::written;

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

/// Waits until the controllers have seen the last change.
async fn settled(api: &Api<Deployment>) {
    let seen = lab::until(Duration::from_secs(30), async || {
        let found = api.get(NAME).await.expect("the Deployment");
        let status = found.status.unwrap_or_default();
        (status.observed_generation == found.metadata.generation && status.conditions.is_some()).then_some(())
    });
    seen.await.expect("a Deployment at rest");
}

/// What the operator sees of a workload, but how many replicas are ready: that is the controllers' business.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    uid: String,
    version: Version,
    replicas: u32,
    managers: Vec<FieldManager>,
    /// Generation, the one that the controllers have seen, and replicas.
    workload: (i64, i64, u32),
    autoscalers: Option<Vec<Autoscaler>>,
    opt_out: Option<String>,
    pauses: usize,
}

/// An operator before one of the API servers, and what it has been answered.
struct Operator<C> {
    cluster: C,
    key: EntryKey,
    target: TargetRef,
    names: Names,
    known: Vec<(WorkloadNow, Version)>,
}

impl<C: ports::Cluster> Operator<C> {
    fn new(cluster: C, namespace: &str) -> Self {
        let key = (namespace.to_owned(), format!("{NAME}-1-grow-1"));
        let target = TargetRef { kind: TargetKind::Deployment, name: NAME.into() };
        Self { cluster, key, target, names: Names::default(), known: Vec::new() }
    }

    async fn look(&mut self) -> Seen {
        let (cluster, namespace) = (&self.cluster, &self.key.0);
        let replicas = cluster.replicas(namespace, &self.target).await.expect("the replicas");
        let LiveReplicas::Present(now, version) = replicas else { panic!("{replicas:?}") };
        let live = cluster.live_target(namespace, &self.target).await.expect("the target");
        let workload = cluster.live_workload(namespace, &self.target).await.expect("the workload");
        assert_eq!((live.uid.as_ref(), &workload.managers), (Some(&now.uid), &now.managers));
        self.known.push((now.clone(), version.clone()));
        Seen {
            uid: self.names.uid(&now.uid),
            version: self.names.version(&version),
            replicas: now.replicas,
            managers: now.managers,
            workload: (workload.generation, workload.observed_generation, workload.desired),
            autoscalers: workload.autoscalers.known().cloned(),
            opt_out: live.opt_out,
            pauses: live.pauses.len(),
        }
    }

    /// Whether it is there, and whether a target that may not be there can be read.
    async fn has_gone(&self) -> (LiveReplicas, bool) {
        let replicas = self.cluster.replicas(&self.key.0, &self.target).await.expect("a read");
        (replicas, self.cluster.live_target(&self.key.0, &self.target).await.is_ok())
    }

    /// Sets the replicas of what has been known since some look.
    async fn write(&self, known: usize, stranger: bool, to: u32) -> Answer<()> {
        let (now, version) = &self.known[known];
        let uid = if stranger { "another".to_owned() } else { now.uid.clone() };
        let set = SetReplicas { target: self.target.clone(), uid, from: now.replicas, to };
        written(self.cluster.write_replicas(&self.key, &set, version).await)
    }
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let people: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let params =
        PostParams { field_manager: Some("kubectl-client-side-apply".into()), ..PostParams::default() };
    people.create(&params, &deployment()).await.expect("a Deployment");
    let (sim, port) = bench::port(seed);
    let mut real = Operator::new(crate::cluster(client, namespace), namespace);
    let mut simulated = Operator::new(port, namespace);
    let target = Target::new(namespace, simulated.target.clone(), (0, 0), 1);
    sim.world().targets.push(target);
    let mut dice = Dice::new(seed);
    let mut scaled = 0;
    for number in 0..30 {
        settled(&people).await;
        bench::answer(&sim, sim.sleep(MINUTE)).expect("a minute");
        let now = real.look().await;
        let ours = bench::answer(&sim, simulated.look()).expect("an answer");
        assert_eq!(now, ours, "seed {seed}, after {number} calls");
        let to = now.replicas % 6 + 1;
        if dice.percent(30) {
            let patch = json!({"spec": {"replicas": to}});
            let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
            people.patch_scale(NAME, &params, &Patch::Merge(&patch)).await.expect("another writer");
            sim.world().others_scale(0, to, "kubectl");
            continue;
        }
        let newest = real.known.len() - 1;
        let known = if dice.percent(70) { newest } else { dice.below(newest + 1) };
        let stranger = dice.percent(15);
        let one = real.write(known, stranger, to).await;
        let two = bench::answer(&sim, simulated.write(known, stranger, to)).expect("an answer");
        assert_eq!(one, two, "seed {seed}, call {number}: look {known} of {newest}, {stranger}");
        scaled += u32::from(one.is_ok());
    }
    assert!((5..30).contains(&scaled), "seed {seed}: {scaled} writes were taken");
    people.delete(NAME, &DeleteParams::default()).await.expect("deleted");
    sim.world().targets.clear();
    let one = (real.has_gone().await, real.write(0, false, 2).await);
    let two = async { (simulated.has_gone().await, simulated.write(0, false, 2).await) };
    assert_eq!(one, bench::answer(&sim, two).expect("an answer"), "seed {seed}: after it is gone");
}
