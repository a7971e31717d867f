//! The last check before the gate. What is judged comes from watches, and a watch whose connection has died shows an old world
//! for minutes: a pause from the meantime must be respected.

use engine::effects::Effect;
use engine::model::{Snapshot, TargetRef};

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
            Effect::SetReplicas(set) => match self.difference(snapshot).await {
                None => self.workload_difference(snapshot, &set.target).await,
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
    async fn workload_difference(&self, snapshot: &Snapshot, workload: &TargetRef) -> Option<String> {
        let namespace = &snapshot.policy.id.namespace;
        let Some(Ok((_, target))) = snapshot.workload(workload) else {
            return Some(format!("{workload} has not been read"));
        };
        let Some(seen) = &target.workload else {
            return Some(format!("the replicas of {workload} have not been read"));
        };
        let cluster = &self.ports.cluster;
        let unread = |error| Some(format!("{workload} cannot be asked for: {error}"));
        // The target itself has been compared.
        if *workload != snapshot.policy.target {
            match cluster.live_target(namespace, workload).await {
                Err(error) => return unread(error),
                Ok(live) if (Some(&target.uid), &target.opt_out) != (live.uid.as_ref(), &live.opt_out) => {
                    return Some(format!("{workload} has changed"));
                }
                Ok(_) => {}
            }
        }
        let live = match cluster.live_workload(namespace, workload).await {
            Ok(live) => live,
            Err(error) => return unread(error),
        };
        let same = (live.generation, live.desired, &live.managers)
            == (seen.generation, seen.desired, &seen.managers);
        if !same {
            return Some(format!("the replicas of {workload}, or who set them, have changed"));
        }
        let scaled = live.autoscalers.known() != seen.autoscalers.known();
        scaled.then(|| format!("what else scales {workload} has changed, or cannot be read"))
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
