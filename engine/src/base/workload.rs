//! Workloads: how a policy names them, and what Kubernetes says about them, read live once something is broken.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Observed, forget};

/// The kinds of workload that can be guarded or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TargetKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A workload of the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetRef {
    /// What it is.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A workload as it is read: the target, or another one that the policy names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its uid.
    pub uid: String,
    /// Its replicas and who else sets them; not read while all is well.
    pub workload: Option<Workload>,
    /// The value of its annotation `latency-operator.dev/opt-out`, if it has one.
    pub opt_out: Option<String>,
}

/// The field manager under which the operator writes.
pub const MANAGER: &str = "latency-operator";

/// One entry of `metadata.managedFields` that holds `spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FieldManager(pub String);

impl FieldManager {
    /// It is this operator.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.0 == MANAGER
    }
}

impl fmt::Display for FieldManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that scales the workload by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Autoscaler {
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Autoscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// One read of a Deployment or StatefulSet. Counts are pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`: the version of the spec that the counts below are about.
    pub observed_generation: i64,
    /// `spec.replicas`; 1 where it is absent, as the API server says it.
    pub desired: u32,
    /// `status.replicas`.
    pub total: u32,
    /// `status.updatedReplicas`: of the newest revision.
    pub updated: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// How long its Pods are given to end (`terminationGracePeriodSeconds`); none where that could not be read.
    #[serde(default)]
    pub grace: Option<Duration>,
    /// `spec.paused`: a rollout that somebody has stopped half-way.
    pub paused: bool,
    /// Who holds `spec.replicas`.
    pub managers: Vec<FieldManager>,
    /// What else scales it.
    pub autoscalers: Observed<Vec<Autoscaler>>,
}

impl Workload {
    /// Why it is not at rest, if it is not (`kubectl rollout status` asks the same).
    #[must_use]
    pub fn unsettled(&self) -> Option<Unsettled> {
        let Self { generation, observed_generation, desired, total, updated, .. } = *self;
        if observed_generation < generation {
            Some(Unsettled::NotSeen { generation, observed: observed_generation })
        } else if self.paused {
            Some(Unsettled::Paused)
        } else if updated < desired {
            Some(Unsettled::Updating { updated, desired })
        } else if total > updated {
            Some(Unsettled::OldPods { count: total - updated })
        } else {
            None
        }
    }
}

/// Why a workload is not at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsettled {
    /// Its controller has not seen the newest version of its spec.
    NotSeen {
        /// The newest version.
        generation: i64,
        /// The one that was seen.
        observed: i64,
    },
    /// Somebody has stopped its rollout half-way.
    Paused,
    /// Pods of the newest revision are missing.
    Updating {
        /// Pods of the newest revision.
        updated: u32,
        /// Replicas that the spec asks for.
        desired: u32,
    },
    /// Pods of an older revision are still there.
    OldPods {
        /// How many pods.
        count: u32,
    },
}

impl Unsettled {
    /// Keeps what is under way, and none of its numbers.
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::NotSeen { generation, observed } => {
                forget(generation);
                forget(observed);
            }
            Self::Updating { updated, desired } => {
                forget(updated);
                forget(desired);
            }
            Self::OldPods { count } => forget(count),
            Self::Paused => {}
        }
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSeen { generation, observed } => {
                write!(f, "generation {generation} has not been seen yet, {observed} has")
            }
            Self::Paused => f.write_str("its rollout is paused (spec.paused)"),
            Self::Updating { updated, desired } => {
                write!(f, "{updated} of {desired} pods are of the newest revision")
            }
            Self::OldPods { count } => write!(f, "{count} pods of an older revision are still there"),
        }
    }
}

/// What a look at the workload shows when an effect or an undo is about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadNow {
    /// Its uid.
    pub uid: String,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// Who holds `spec.replicas`.
    pub managers: Vec<FieldManager>,
}

impl WorkloadNow {
    /// Whether nobody but this operator has set `spec.replicas` since we did.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        !self.managers.is_empty() && self.managers.iter().all(FieldManager::is_ours)
    }

    /// Everybody else who holds `spec.replicas`, for people.
    #[must_use]
    pub fn others(&self) -> String {
        let others: Vec<&str> =
            self.managers.iter().filter(|manager| !manager.is_ours()).map(|m| m.0.as_str()).collect();
        if others.is_empty() { "somebody".to_owned() } else { others.join(" and ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Workload {
        Workload {
            generation: 3,
            observed_generation: 3,
            desired: 4,
            total: 4,
            updated: 4,
            ready: 4,
            grace: None,
            paused: false,
            managers: vec![],
            autoscalers: Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value: vec![] },
        }
    }

    #[test]
    fn each_thing_that_is_under_way_is_seen() {
        assert_eq!(settled().unsettled(), None);
        let with = |change: fn(&mut Workload)| {
            let mut workload = settled();
            change(&mut workload);
            workload.unsettled()
        };
        assert!(with(|w| w.generation = 4).is_some());
        assert!(with(|w| w.paused = true).is_some());
        assert!(with(|w| w.updated = 3).is_some());
        assert!(with(|w| w.total = 5).is_some());
    }

    #[test]
    fn a_field_is_ours_only_while_nobody_else_holds_it_too() {
        let held_by = |names: &[&str]| WorkloadNow {
            uid: "u".into(),
            replicas: 4,
            ready: 4,
            managers: names.iter().map(|name| FieldManager((*name).to_owned())).collect(),
        };
        assert!(held_by(&[MANAGER]).is_ours());
        assert!(!held_by(&[MANAGER, "kubectl"]).is_ours());
        assert!(!held_by(&["kubectl"]).is_ours());
        assert!(!held_by(&[]).is_ours());
        assert_eq!(held_by(&[MANAGER, "kubectl", "x"]).others(), "kubectl and x");
    }
}
