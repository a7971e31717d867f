//! Setting a workload's replicas through its scale subresource, by compare-and-swap.
//!
//! The resourceVersion that is sent is that of a read a moment ago, not of the decision: a status that has changed since is
//! no reason to fail, another number of replicas or another writer is. What changes between that read and the write makes
//! the API server refuse with a conflict, and it is looked at again while the fence lets it.

use std::time::Duration;

use engine::advance::EffectReport;
use engine::guards::gitops_manager;
use engine::model::{MANAGER, Scale, TargetKind, WorkloadNow, elapsed};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::connections::secrets::brief;
use crate::connections::workload::read;
use crate::write::{WriteError, classify};

/// Whose value it must be that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// Anybody's but a GitOps controller's: the act itself.
    Anybodys,
    /// Ours and nobody else's: taking it back.
    Ours,
}

/// Sets the replicas if they are still `from`, and if nothing arrives after the fence.
pub async fn write(
    client: &Client,
    clock: &Clock,
    namespace: &str,
    scale: &Scale,
    replaces: Replaces,
    fence: Timestamp,
) -> EffectReport {
    loop {
        let left = elapsed(fence, clock.now());
        if left.is_zero() {
            return EffectReport::Refused("there was no time left".to_owned());
        }
        let read = match tokio::time::timeout(left, read(client, namespace, &scale.target)).await {
            Ok(Ok(read)) => read,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return EffectReport::NotMatched(format!("{} was gone", scale.target));
            }
            Ok(Err(error)) => return EffectReport::Refused(brief(&error)),
            Err(_) => return EffectReport::Refused("the API server did not answer in time".to_owned()),
        };
        if read.metadata.deletion_timestamp.is_some() {
            return EffectReport::NotMatched(format!("{} was being deleted", scale.target));
        }
        if let Err(why) = may_be_set(scale, replaces, &read.now()) {
            return EffectReport::NotMatched(why);
        }
        let patch = json!({
            "metadata": {"resourceVersion": read.metadata.resource_version, "uid": read.metadata.uid},
            "spec": {"replicas": scale.to},
        });
        let left = elapsed(fence, clock.now());
        // A process may have been frozen over the read, and a timeout of nothing would send all the same.
        if left.is_zero() {
            return EffectReport::Refused("there was no time left".to_owned());
        }
        match tokio::time::timeout(left, send(client, namespace, scale, &patch)).await {
            Ok(Ok(())) => return EffectReport::Sent,
            Ok(Err(error)) => match classify(&error) {
                // Its status has changed, or somebody was faster: look again.
                WriteError::Conflict(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                WriteError::Gone(why) | WriteError::Refused(why) => return EffectReport::Refused(why),
                WriteError::Lost(why) => return EffectReport::Lost(why),
            },
            Err(_) => return EffectReport::Lost("the API server did not answer in time".to_owned()),
        }
    }
}

/// Whether the workload is still what was decided about.
fn may_be_set(scale: &Scale, replaces: Replaces, now: &WorkloadNow) -> Result<(), String> {
    let target = &scale.target;
    if now.uid != scale.uid {
        return Err(format!("{target} was another one of that name"));
    }
    if now.replicas != scale.from {
        return Err(format!(
            "{} had set {} replicas of {target}, not {}",
            now.others(),
            now.replicas,
            scale.from
        ));
    }
    match (replaces, gitops_manager(&now.managers)) {
        (Replaces::Anybodys, Some(manager)) => Err(format!("{manager} had set the replicas of {target}")),
        (Replaces::Ours, _) if !now.is_ours() => {
            Err(format!("{} had set the replicas of {target}", now.others()))
        }
        (Replaces::Anybodys, None) | (Replaces::Ours, _) => Ok(()),
    }
}

async fn send(client: &Client, namespace: &str, scale: &Scale, patch: &Value) -> kube::Result<()> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let (patch, name) = (Patch::Merge(patch), &scale.target.name);
    match scale.target.kind {
        TargetKind::Deployment => {
            Api::<Deployment>::namespaced(client.clone(), namespace)
                .patch_scale(name, &params, &patch)
                .await?
        }
        TargetKind::StatefulSet => {
            Api::<StatefulSet>::namespaced(client.clone(), namespace)
                .patch_scale(name, &params, &patch)
                .await?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine::model::{FieldManager, TargetRef};

    use super::*;

    fn scale() -> Scale {
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        Scale { target, uid: "u".into(), from: 4, to: 6 }
    }

    fn now(replicas: u32, managers: &[&str]) -> WorkloadNow {
        let managers = managers.iter().map(|name| FieldManager((*name).to_owned())).collect();
        WorkloadNow { uid: "u".into(), replicas, ready: replicas, managers }
    }

    #[test]
    fn an_act_replaces_what_people_set_and_never_what_git_set() {
        let may = |now: &WorkloadNow| may_be_set(&scale(), Replaces::Anybodys, now);
        assert_eq!(may(&now(4, &["kubectl-client-side-apply"])), Ok(()));
        assert_eq!(may(&now(4, &[MANAGER])), Ok(()));
        assert!(may(&now(5, &["kubectl"])).unwrap_err().contains("kubectl had set 5"));
        assert!(may(&now(4, &["kubectl", "argocd-controller"])).is_err());
        assert!(may(&WorkloadNow { uid: "another".into(), ..now(4, &[]) }).is_err());
    }

    #[test]
    fn an_undo_replaces_nothing_but_our_own_value() {
        let may = |now: &WorkloadNow| may_be_set(&scale(), Replaces::Ours, now);
        assert_eq!(may(&now(4, &[MANAGER])), Ok(()));
        assert!(may(&now(4, &[MANAGER, "kubectl"])).is_err());
        assert!(may(&now(4, &["kubectl"])).is_err());
    }
}
