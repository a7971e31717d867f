//! The last look before the gate. What is judged comes from watches, and a watch whose connection has died shows an old world
//! for minutes: who has paused a policy in the meantime must be heard.

use engine::model::{Action, PausedBy, Snapshot};
use kube::{Api, ResourceExt};

use crate::api::{LatencyPolicy, Stored, convert};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::observe::kubernetes::pause;

/// Whether policy, target and namespace are, as the API server holds them at this moment, what the snapshot says.
pub(super) async fn is_current(ctx: &Context, snapshot: &Snapshot, action: &Action) -> bool {
    let differs = match action {
        Action::CancelQuery(_)
        | Action::TerminateQuery(_)
        | Action::TerminateIdle(_)
        | Action::WarmCache(_) => differs(ctx, snapshot).await,
        Action::Scale(_) => match differs(ctx, snapshot).await {
            None => workload_differs(ctx, snapshot).await,
            some => some,
        },
    };
    match differs {
        None => true,
        Some(what) => {
            tracing::warn!(policy = %snapshot.policy.id, "nothing is done on what was seen: {what}");
            false
        }
    }
}

/// Replicas, who set them and what else does, as the API server holds them at this moment.
async fn workload_differs(ctx: &Context, snapshot: &Snapshot) -> Option<String> {
    let (namespace, target) = (&snapshot.policy.id.namespace, &snapshot.policy.target);
    let seen = snapshot.target.known().and_then(|target| target.workload.as_ref());
    let Some(seen) = seen else { return Some("the target's replicas have not been read".to_owned()) };
    let live = match ctx.workloads.workload(namespace, target, true, ctx.shared.clock.now()).await {
        Ok(live) => live,
        Err(error) => return Some(format!("the target cannot be asked for: {}", brief(&error))),
    };
    let same =
        (live.generation, live.desired, &live.managers) == (seen.generation, seen.desired, &seen.managers);
    if !same {
        return Some("the target's replicas, or who set them, have changed".to_owned());
    }
    let scaled = live.autoscalers.known() != seen.autoscalers.known();
    scaled.then(|| "what else scales the target has changed, or cannot be read".to_owned())
}

async fn differs(ctx: &Context, snapshot: &Snapshot) -> Option<String> {
    let id = &snapshot.policy.id;
    let policies: Api<Stored<LatencyPolicy>> = Api::namespaced(ctx.shared.client.clone(), &id.namespace);
    let asked =
        tokio::try_join!(policies.get(&id.name), ctx.workloads.live(&id.namespace, &snapshot.policy.target));
    let (policy, live) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            return Some(format!("policy, target or namespace cannot be asked for: {}", brief(&error)));
        }
    };
    let Ok(policy) = policy.0 else { return Some("the policy cannot be decoded".to_owned()) };
    if policy.metadata.deletion_timestamp.is_some() {
        return Some("the policy is being deleted".to_owned());
    }
    if convert::policy(&policy).ok().as_ref() != Some(&snapshot.policy) {
        return Some("the policy has changed".to_owned());
    }
    let seen = snapshot.target.known();
    if seen.map(|target| (Some(&target.uid), &target.opt_out)) != Some((live.uid.as_ref(), &live.opt_out)) {
        return Some("the target has changed".to_owned());
    }
    let mut pauses = live.pauses;
    pauses.extend(pause(policy.annotations(), PausedBy::Policy));
    (pauses != snapshot.pauses).then(|| "a pause has changed".to_owned())
}
