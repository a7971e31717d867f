//! A workload's replicas, who sets them, and what else scales it: read live.

use std::time::Duration;

use engine::model::{
    Autoscaler, FieldManager, NoDataReason, Observed, TargetKind, TargetRef, Workload, WorkloadNow,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ManagedFieldsEntry};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectMeta};
use kube::{Api, Client, ResourceExt};

use crate::connections::secrets::brief;

/// A Deployment or StatefulSet as the API server holds it at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Which Pods are its own.
    pub selector: LabelSelector,
    /// Its replicas; the autoscalers have not been looked for.
    pub workload: Workload,
}

impl Read {
    /// What an effect or an undo is compared with.
    #[must_use]
    pub fn now(&self) -> WorkloadNow {
        WorkloadNow {
            uid: self.metadata.uid.clone().unwrap_or_default(),
            replicas: self.workload.desired,
            ready: self.workload.ready,
            managers: self.workload.managers.clone(),
        }
    }
}

/// Reads a workload.
///
/// # Errors
/// The API server cannot be asked, or does not know it.
pub async fn read(client: &Client, namespace: &str, target: &TargetRef) -> kube::Result<Read> {
    match target.kind {
        TargetKind::Deployment => {
            let all: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            Ok(deployment(all.get(&target.name).await?))
        }
        TargetKind::StatefulSet => {
            let all: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
            Ok(stateful_set(all.get(&target.name).await?))
        }
    }
}

fn count(count: Option<i32>) -> u32 {
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
}

fn unread() -> Observed<Vec<Autoscaler>> {
    Observed::missing(NoDataReason::NotYetRead, "what else scales it has not been looked for")
}

/// How long the Pods of a template are given to end.
fn grace(template: &PodTemplateSpec) -> Option<Duration> {
    let seconds = template.spec.as_ref()?.termination_grace_period_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn deployment(object: Deployment) -> Read {
    let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
    let workload = Workload {
        generation: object.metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        desired: count(spec.replicas.or(Some(1))),
        total: count(status.replicas),
        updated: count(status.updated_replicas),
        ready: count(status.ready_replicas),
        grace: grace(&spec.template),
        paused: spec.paused.unwrap_or_default(),
        managers: managers(&object.metadata),
        autoscalers: unread(),
    };
    Read { metadata: object.metadata, selector: spec.selector, workload }
}

fn stateful_set(object: StatefulSet) -> Read {
    let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
    let desired = count(spec.replicas.or(Some(1)));
    // Once all pods are of one revision the controller counts none as updated.
    let settled = status.current_revision == status.update_revision;
    let workload = Workload {
        generation: object.metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        desired,
        total: count(Some(status.replicas)),
        updated: if settled { count(Some(status.replicas)) } else { count(status.updated_replicas) },
        ready: count(status.ready_replicas),
        grace: grace(&spec.template),
        paused: false,
        managers: managers(&object.metadata),
        autoscalers: unread(),
    };
    Read { metadata: object.metadata, selector: spec.selector, workload }
}

/// Who holds `spec.replicas`, each once.
fn managers(metadata: &ObjectMeta) -> Vec<FieldManager> {
    let holds = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
    };
    let entries = metadata.managed_fields.iter().flatten().filter(holds);
    let mut managers: Vec<FieldManager> =
        entries.map(|entry| FieldManager(entry.manager.clone().unwrap_or_default())).collect();
    managers.sort();
    managers.dedup();
    managers
}

/// What else scales the target: objects whose `scaleTargetRef` is the target, also those that have not scaled it yet.
pub async fn autoscalers(
    client: &Client,
    namespace: &str,
    target: &TargetRef,
    now: Timestamp,
) -> Observed<Vec<Autoscaler>> {
    match tokio::try_join!(horizontal(client, namespace, target), keda(client, namespace, target)) {
        Ok((mut found, scaled)) => {
            found.extend(scaled);
            Observed::Known { at: now, value: found }
        }
        Err(kube::Error::Api(status)) if status.code == 403 => Observed::missing(
            NoDataReason::PermissionDenied,
            format!("the operator may not list what scales workloads: {}", brief(&kube::Error::Api(status))),
        ),
        Err(error) => Observed::missing(NoDataReason::ApiUnavailable, brief(&error)),
    }
}

async fn horizontal(client: &Client, namespace: &str, target: &TargetRef) -> kube::Result<Vec<Autoscaler>> {
    let all: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let found = all.list(&ListParams::default()).await?.items.into_iter().filter(|hpa| {
        let of = hpa.spec.as_ref().map(|spec| &spec.scale_target_ref);
        of.is_some_and(|of| of.kind == target.kind.to_string() && of.name == target.name)
    });
    Ok(found
        .map(|hpa| Autoscaler { kind: "HorizontalPodAutoscaler".to_owned(), name: hpa.name_any() })
        .collect())
}

async fn keda(client: &Client, namespace: &str, target: &TargetRef) -> kube::Result<Vec<Autoscaler>> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    let all: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let listed = match all.list(&ListParams::default()).await {
        Ok(listed) => listed.items,
        // KEDA is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let found = listed.into_iter().filter(|scaled| {
        let text = |path: &str| scaled.data.pointer(path).and_then(serde_json::Value::as_str);
        let of_kind = text("/spec/scaleTargetRef/kind").unwrap_or("Deployment");
        of_kind == target.kind.to_string() && text("/spec/scaleTargetRef/name") == Some(&target.name)
    });
    Ok(found.map(|scaled| Autoscaler { kind: "ScaledObject".to_owned(), name: scaled.name_any() }).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_holds_the_replicas_is_read_from_managed_fields() {
        let entry = |manager: &str, fields: serde_json::Value| json!({"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields});
        let object: Deployment = serde_json::from_value(json!({
            "metadata": {"uid": "u", "generation": 2, "managedFields": [
                entry("kubectl", json!({"f:spec": {"f:replicas": {}, "f:template": {}}})),
                entry("latency-operator", json!({"f:spec": {"f:replicas": {}}})),
                entry("kubectl", json!({"f:spec": {"f:replicas": {}}})),
                entry("kube-controller-manager", json!({"f:status": {"f:replicas": {}}})),
            ]},
            "spec": {"selector": {}, "template": {}},
            "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "observedGeneration": 2},
        }))
        .unwrap();
        let read = deployment(object);
        assert_eq!(read.workload.desired, 1, "the API server's default");
        assert_eq!((read.workload.total, read.workload.ready), (3, 2));
        let names: Vec<&str> = read.workload.managers.iter().map(|manager| manager.0.as_str()).collect();
        assert_eq!(names, ["kubectl", "latency-operator"]);
    }
}
