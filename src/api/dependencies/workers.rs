//! Background workers.

use std::time::Duration;

use engine::dependencies::workers::WorkersDependency;
use engine::model;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::{Reader, target_ref_of};
use crate::api::policy::TargetRef;
use crate::api::text::{self, RoleName};

/// Background workers, such as those of Celery, that work on the same databases as the target. They can be shed for a while
/// (action ShedWorkers).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// Workload of the workers, in the policy's namespace; not the target. Example: {kind: Deployment, name: orders-celery}
    pub target_ref: TargetRef,
    /// Database roles that the workers log in as, and nobody else: by these their sessions are known. Example: [celery]
    #[schemars(length(min = 1, max = 16))]
    pub client_roles: Vec<RoleName>,
    /// Whether a task is acknowledged once it is done, so that one that is cut off runs again (Celery: acks_late). Without it
    /// the workers are not shed. Default: false. Example: true
    #[serde(default)]
    pub acks_late: bool,
    /// How long a task takes at most. Workers are shed only if their Pods are given as long to end
    /// (terminationGracePeriodSeconds). 1s to 168h. Default: not known, and the workers are not shed. Example: 20s
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("must be from 1s to 168h, such as 20s"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_task_duration: Option<text::Duration>,
}

impl Workers {
    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<WorkersDependency> {
        let path = format!("{path}.workers");
        let place = format!("{path}.targetRef.kind");
        let kind = reader.one_of(&place, &self.target_ref.kind, &["Deployment", "StatefulSet"])?;
        if self.target_ref.api_version != "apps/v1" {
            let message = format!("{} cannot be shed; use apps/v1", self.target_ref.api_version);
            reader.problem(format!("{path}.targetRef.apiVersion"), message);
        }
        if self.client_roles.is_empty() {
            reader.problem(
                format!("{path}.clientRoles"),
                "name the roles that the workers log in as: by these their sessions are known",
            );
        }
        let max_task = self.max_task_duration.as_ref();
        let max_task = max_task
            .map(|text| reader.duration(&format!("{path}.maxTaskDuration"), text, Duration::from_secs(1)));
        Some(WorkersDependency {
            target: model::TargetRef { kind, name: self.target_ref.name.0.clone() },
            client_roles: self.client_roles.iter().map(|role| role.0.clone()).collect(),
            acks_late: self.acks_late,
            max_task,
        })
    }

    pub(super) fn stored(workers: &WorkersDependency) -> Self {
        Self {
            target_ref: target_ref_of(&workers.target),
            client_roles: workers.client_roles.iter().cloned().map(RoleName).collect(),
            acks_late: workers.acks_late,
            max_task_duration: workers.max_task.map(text::Duration::of),
        }
    }
}
