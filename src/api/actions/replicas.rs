//! The replicas of a workload, as all actions that set them store it.

use engine::effects::SetReplicas;
use engine::model;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::{Reader, target_ref_of};
use crate::api::policy::TargetRef;

/// Replicas to set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoredReplicas {
    /// Workload to scale.
    pub target_ref: TargetRef,
    /// Its uid. Another workload of the same name is not scaled.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Number of replicas that was seen. With any other number nothing is done.
    #[schemars(range(min = 0))]
    pub from: i32,
    /// Number of replicas to set.
    #[schemars(range(min = 0))]
    pub to: i32,
}

impl StoredReplicas {
    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<SetReplicas> {
        let place = format!("{path}.targetRef.kind");
        let kind = reader.one_of(&place, &self.target_ref.kind, &["Deployment", "StatefulSet"])?;
        Some(SetReplicas {
            target: model::TargetRef { kind, name: self.target_ref.name.0.clone() },
            uid: self.uid.clone(),
            from: reader.count(&format!("{path}.from"), self.from, 0),
            to: reader.count(&format!("{path}.to"), self.to, 0),
        })
    }

    pub(super) fn of(set: &SetReplicas) -> Self {
        let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
        Self {
            target_ref: target_ref_of(&set.target),
            uid: set.uid.clone(),
            from: count(set.from),
            to: count(set.to),
        }
    }
}
