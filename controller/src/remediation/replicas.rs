//! Setting a workload's replicas, by compare-and-swap.
//!
//! The version that is sent is that of a read a moment ago, not of the decision: a status that has changed since is no reason
//! to fail, another number of replicas or another writer is. What changes between that read and the write makes the API server
//! refuse with a conflict, and the workload is read again while the fence permits.

use std::time::Duration;

use engine::advance::EffectReport;
use engine::effects::{Inspection, SetReplicas};
use engine::guards::gitops_manager;
use engine::model::{NoData, NoDataReason, Remediation, TargetRef, WorkloadNow, elapsed};
use jiff::Timestamp;

use crate::objects::LiveReplicas;
use crate::ports::{Cluster, Environment, Timer, WriteError};
use crate::timeout::within;
use crate::{Controllers, planted};

/// How long to wait before a workload is read again after a conflict.
const AFTER_CONFLICT: Duration = Duration::from_millis(20);

/// Whose value may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaces {
    /// Anybody's but a GitOps controller's: the action itself.
    Anybodys,
    /// Ours and nobody else's: its rollback.
    Ours,
}

impl<E: Environment> Controllers<E> {
    /// Sets the replicas if they are still `from`, and if nothing arrives after the fence.
    pub(super) async fn set_replicas(
        &self,
        remediation: &Remediation,
        set: &SetReplicas,
        replaces: Replaces,
        fence: Timestamp,
    ) -> EffectReport {
        let (cluster, time) = (&self.ports.cluster, &self.ports.time);
        let key = (remediation.namespace.clone(), remediation.name.clone());
        let no_time = || EffectReport::Refused("there was no time left".to_owned());
        let no_answer = "the API server did not answer in time";
        loop {
            let left = elapsed(fence, self.now());
            if left.is_zero() {
                return no_time();
            }
            let read = within(time, left, cluster.replicas(&remediation.namespace, &set.target)).await;
            let (now, version) = match read {
                Some(Ok(LiveReplicas::Present(now, version))) => (now, version),
                Some(Ok(LiveReplicas::Gone)) => {
                    return EffectReport::NotMatched(format!("{} was gone", set.target));
                }
                Some(Ok(LiveReplicas::Deleting)) => {
                    return EffectReport::NotMatched(format!("{} was being deleted", set.target));
                }
                Some(Err(error)) => return EffectReport::Refused(error.to_string()),
                None => return EffectReport::Refused(no_answer.to_owned()),
            };
            if let Err(why) = may_be_set(set, replaces, &now) {
                return EffectReport::NotMatched(why);
            }
            // A process may have been frozen over the read, and a timeout of nothing would send all the same.
            let mut left = elapsed(fence, self.now());
            if planted::is("fence_only_before_the_read") {
                left = left.max(Duration::from_secs(5));
            }
            if left.is_zero() {
                return no_time();
            }
            match within(time, left, cluster.write_replicas(&key, set, &version)).await {
                Some(Ok(())) => return EffectReport::Sent,
                // Its status has changed, or somebody was faster.
                Some(Err(WriteError::Conflict(_))) => time.sleep(AFTER_CONFLICT).await,
                Some(Err(WriteError::Gone(why) | WriteError::Refused(why))) => {
                    return EffectReport::Refused(why);
                }
                Some(Err(WriteError::Lost(why))) => return EffectReport::Lost(why),
                None => return EffectReport::Lost(no_answer.to_owned()),
            }
        }
    }

    /// What an action on a workload, or its rollback, is compared with.
    pub(super) async fn inspect_workload(&self, namespace: &str, target: &TargetRef) -> Inspection {
        match self.ports.cluster.replicas(namespace, target).await {
            Ok(LiveReplicas::Present(now, _)) => Inspection::Workload(now),
            Ok(LiveReplicas::Deleting | LiveReplicas::Gone) => Inspection::Gone,
            Err(error) => Inspection::Unreadable(NoData::new(
                NoDataReason::ApiUnavailable,
                format!("{target}: {error}"),
            )),
        }
    }
}

/// Whether the workload is still what was decided about.
fn may_be_set(set: &SetReplicas, replaces: Replaces, now: &WorkloadNow) -> Result<(), String> {
    let target = &set.target;
    if now.uid != set.uid {
        return Err(format!("{target} was another one of that name"));
    }
    if replaces == Replaces::Ours && planted::is("undo_overwrites_people") {
        return Ok(());
    }
    if now.replicas != set.from {
        return Err(format!(
            "{} had set {} replicas of {target}, not {}",
            now.others(),
            now.replicas,
            set.from
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

#[cfg(test)]
mod tests {
    use engine::model::{FieldManager, MANAGER, TargetKind};

    use super::*;

    fn set() -> SetReplicas {
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        SetReplicas { target, uid: "u".into(), from: 4, to: 6 }
    }

    fn now(replicas: u32, managers: &[&str]) -> WorkloadNow {
        let managers = managers.iter().map(|name| FieldManager((*name).to_owned())).collect();
        WorkloadNow { uid: "u".into(), replicas, ready: replicas, managers }
    }

    #[test]
    fn an_action_replaces_what_people_set_and_never_what_git_set() {
        let may = |now: &WorkloadNow| may_be_set(&set(), Replaces::Anybodys, now);
        assert_eq!(may(&now(4, &["kubectl-client-side-apply"])), Ok(()));
        assert_eq!(may(&now(4, &[MANAGER])), Ok(()));
        assert!(may(&now(5, &["kubectl"])).unwrap_err().contains("kubectl had set 5"));
        assert!(may(&now(4, &["kubectl", "argocd-controller"])).is_err());
        assert!(may(&WorkloadNow { uid: "another".into(), ..now(4, &[]) }).is_err());
    }

    #[test]
    fn a_rollback_replaces_nothing_but_our_own_value() {
        let may = |now: &WorkloadNow| may_be_set(&set(), Replaces::Ours, now);
        assert_eq!(may(&now(4, &[MANAGER])), Ok(()));
        assert!(may(&now(4, &[MANAGER, "kubectl"])).is_err());
        assert!(may(&now(4, &["kubectl"])).is_err());
    }
}
