//! Removing history that nobody needs any more: beyond the policy's `historyLimit`, and outside every window that counts it.

use std::sync::Arc;
use std::time::Duration;

use engine::model::{Policy, Remediation};
use engine::retention::{expired, may_go};
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};

use super::context::Context;
use super::keeper::PolicyKey;
use crate::api::{
    LatencyIncident, LatencyPolicy, LatencyRemediation, MetadataOf, POLICY_LABEL, Stored, convert,
};
use crate::connections::secrets::brief;
use crate::observe::kubernetes::Scope;

/// Nothing is urgent about it.
const EVERY: Duration = Duration::from_secs(600);

/// Looks after all remediations of a scope, for ever; those without a policy too.
pub(super) async fn keep_up(ctx: Arc<Context>, scope: Scope) {
    loop {
        tokio::time::sleep(EVERY).await;
        for policy in ctx.shared.keeper.policies() {
            let here = match &scope {
                Scope::Cluster => true,
                Scope::Namespace(namespace) => policy.0 == *namespace,
            };
            if here {
                of_key(&ctx, &policy).await;
            }
        }
    }
}

async fn of_key(ctx: &Context, key: &PolicyKey) {
    if let Some(view) = ctx.shared.views.of(key) {
        let open = view.1.incident.as_ref().map(|incident| incident.name.clone());
        return remove(ctx, key, Some(view.0.policy.history_limit), open.as_deref()).await;
    }
    // A policy that is invalid or has not been looked at yet is a policy all the same.
    let policies: Api<MetadataOf<LatencyPolicy>> = Api::namespaced(ctx.shared.client.clone(), &key.0);
    if let Ok(None) = policies.get_opt(&key.1).await {
        remove(ctx, key, None, None).await;
    }
}

/// An incident of the policy was closed: that is when history grows.
pub(super) async fn incident_closed(ctx: &Context, policy: &Policy) {
    let key = (policy.id.namespace.clone(), policy.id.name.clone());
    remove(ctx, &key, Some(policy.history_limit), None).await;
    if let Err(error) = remove_incidents(ctx, policy).await {
        tracing::warn!(policy = %policy.id, "old incidents could not be removed: {}", brief(&error));
    }
}

async fn remove(ctx: &Context, key: &PolicyKey, keep: Option<usize>, open: Option<&str>) {
    let all = ctx.shared.keeper.all_of(key);
    for gone in expired(&all, keep, open, ctx.shared.clock.now()) {
        match remove_one(ctx, gone).await {
            Ok(()) => {
                tracing::info!(namespace = gone.namespace, name = gone.name, "removed from the history")
            }
            Err(error) => {
                tracing::warn!(name = gone.name, "could not be removed from the history: {}", brief(&error));
            }
        }
    }
}

/// As it is stored now, and only if it is still that when it goes.
async fn remove_one(ctx: &Context, known: &Remediation) -> kube::Result<()> {
    let api: Api<LatencyRemediation> = Api::namespaced(ctx.shared.mutating.clone(), &known.namespace);
    let Some(stored) = api.get_opt(&known.name).await? else { return Ok(()) };
    let now = ctx.shared.clock.now();
    let same =
        convert::remediation(&stored).is_ok_and(|r| r.created_at == known.created_at && may_go(&r, now));
    if same { api.delete(&known.name, &exactly(&stored)).await.map(drop) } else { Ok(()) }
}

async fn remove_incidents(ctx: &Context, policy: &Policy) -> kube::Result<()> {
    let api: Api<Stored<LatencyIncident>> =
        Api::namespaced(ctx.shared.mutating.clone(), &policy.id.namespace);
    let params = ListParams::default().labels(&format!("{POLICY_LABEL}={}", policy.id.name));
    let mut closed: Vec<LatencyIncident> = api
        .list(&params)
        .await?
        .items
        .into_iter()
        // What cannot be read is left as it is, and stops the others from going no more than it does anything else.
        .filter_map(|stored| stored.0.ok())
        .filter(|incident| {
            let phase = incident.status.as_ref().and_then(|status| status.phase.as_ref());
            phase.is_some_and(|phase| phase.0 == "Closed")
        })
        .collect();
    closed.sort_by_key(|incident| std::cmp::Reverse((incident.spec.opened_at, incident.spec.ordinal)));
    for gone in closed.into_iter().skip(policy.history_limit) {
        api.delete(&gone.name_any(), &exactly(&gone)).await?;
    }
    Ok(())
}

/// Deletes this version of this object and no other.
fn exactly<K: ResourceExt>(object: &K) -> DeleteParams {
    let metadata = object.meta();
    DeleteParams::default().preconditions(Preconditions {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
    })
}
