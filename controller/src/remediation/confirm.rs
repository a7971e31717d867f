//! The last check before the gate. What is judged comes from watches, and a watch whose connection has died shows an old world
//! for minutes: a pause from the meantime must be respected.

use engine::effects::Effect;
use engine::model::Snapshot;

use crate::ports::{Cluster, Environment};
use crate::{Controllers, planted};

impl<E: Environment> Controllers<E> {
    /// Whether policy, target and namespace are, as the API server holds them at this moment, what the snapshot says.
    pub(super) async fn is_current(&self, snapshot: &Snapshot, effect: &Effect) -> bool {
        if planted::is("no_live_look_before_the_gate") {
            return true;
        }
        let differs = match effect {
            Effect::SignalSession(_) | Effect::SendRequests(_) => self.difference(snapshot).await,
            Effect::SetReplicas(_) => match self.difference(snapshot).await {
                None => self.workload_difference(snapshot).await,
                some => some,
            },
        };
        match differs {
            None => true,
            Some(what) => {
                tracing::warn!(policy = %snapshot.policy.id, "the evaluation is outdated, nothing is done: {what}");
                false
            }
        }
    }

    /// How replicas, who set them and what else does differ from the snapshot.
    async fn workload_difference(&self, snapshot: &Snapshot) -> Option<String> {
        let (namespace, target) = (&snapshot.policy.id.namespace, &snapshot.policy.target);
        let seen = snapshot.observations.target.known().and_then(|target| target.workload.as_ref());
        let Some(seen) = seen else { return Some("the target's replicas have not been read".to_owned()) };
        let live = match self.ports.cluster.live_workload(namespace, target).await {
            Ok(live) => live,
            Err(error) => return Some(format!("the target cannot be asked for: {error}")),
        };
        let same = (live.generation, live.desired, &live.managers)
            == (seen.generation, seen.desired, &seen.managers);
        if !same {
            return Some("the target's replicas, or who set them, have changed".to_owned());
        }
        let scaled = live.autoscalers.known() != seen.autoscalers.known();
        scaled.then(|| "what else scales the target has changed, or cannot be read".to_owned())
    }

    /// How policy, target and pauses differ from the snapshot.
    async fn difference(&self, snapshot: &Snapshot) -> Option<String> {
        let id = &snapshot.policy.id;
        let key = (id.namespace.clone(), id.name.clone());
        let cluster = &self.ports.cluster;
        let asked = futures::try_join!(
            cluster.policy(&key),
            cluster.live_target(&id.namespace, &snapshot.policy.target)
        );
        let (policy, live) = match asked {
            Ok((Some(policy), live)) => (policy, live),
            Ok((None, _)) => return Some("the policy does not exist any more".to_owned()),
            Err(error) => {
                return Some(format!("policy, target or namespace cannot be asked for: {error}"));
            }
        };
        if policy.deleting {
            return Some("the policy is being deleted".to_owned());
        }
        if policy.spec.as_ref().ok() != Some(&snapshot.policy) {
            return Some("the policy has changed".to_owned());
        }
        let seen = snapshot.observations.target.known();
        if seen.map(|target| (Some(&target.uid), &target.opt_out)) != Some((live.uid.as_ref(), &live.opt_out))
        {
            return Some("the target has changed".to_owned());
        }
        let mut pauses = live.pauses;
        pauses.extend(policy.pause);
        (pauses != snapshot.observations.pauses).then(|| "a pause has changed".to_owned())
    }
}
