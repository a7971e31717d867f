//! The API server behind the port [`controller::ports::Cluster`].

use std::time::Duration;

use controller::PolicyKey;
use controller::conditions::ConditionReport;
use controller::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, LiveReplicas, LiveTarget, NewRemediation, PolicyMeta,
    Stored, StoredBudget, StoredIncident, StoredPolicy, StoredReport, Version,
};
use controller::ports::{self, Read, ReadError, WriteError, Written};
use controller::report::{BudgetReport, IncidentReport, PolicyReport, PolicyState};
use engine::effects::SetReplicas;
use engine::model::{
    ActionKind, EntryKey, Limits, MANAGER, PolicyRef, Remediation, RemediationStatus, Shared, TargetKind,
    TargetRef, Workload,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budgets::Budgets;
use super::watched::{self, Watched};
use super::{convert, write};
use crate::api::convert as values;
use crate::api::incident::PolicyReference;
use crate::api::text::{Instant, ObjectName};
use crate::api::{
    LatencyIncident, LatencyIncidentSpec, LatencyPolicy, LatencyRemediation, MetadataOf, POLICY_LABEL,
    RemediationBudget,
};
use crate::clock::Clock;
use crate::connections::secrets::brief;
use crate::connections::workload;
use crate::scope::Scope;
use crate::telemetry::Metrics;

/// Maximum number of policy statuses that are being written at one time: as many as an API server answers within a blink. A
/// new operator has one to write for each policy, and each request under way takes a connection of its own.
const STATUS_WRITES: usize = 32;
/// How long a status waits for its place while many are being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The API server.
pub struct Cluster {
    client: Client,
    mutating: Client,
    clock: Clock,
    metrics: Metrics,
    budgets: Budgets,
    enabled: Shared<Vec<ActionKind>>,
    scopes: Vec<Watched>,
    status_writes: std::sync::Arc<Semaphore>,
}

fn unread(error: kube::Error) -> ReadError {
    ReadError(brief(&error))
}

impl Cluster {
    /// The API server, by a client that reads and retries, and one that changes things and never retries.
    #[must_use]
    pub fn new(
        (client, mutating): (Client, Client),
        clock: Clock,
        metrics: Metrics,
        budgets: Budgets,
        enabled: Shared<Vec<ActionKind>>,
        scopes: Vec<Watched>,
    ) -> Self {
        let status_writes = std::sync::Arc::new(Semaphore::new(STATUS_WRITES));
        Self { client, mutating, clock, metrics, budgets, enabled, scopes, status_writes }
    }

    /// A policy as the watch shows it.
    #[must_use]
    pub fn policy_of(&self, object: &LatencyPolicy) -> StoredPolicy {
        convert::policy(object, &self.enabled)
    }

    fn reading<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn writing<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.mutating.clone(), namespace)
    }

    fn workloads(&self, namespace: &str) -> Read<&crate::observe::kubernetes::Workloads> {
        let watched = watched::of(&self.scopes, namespace);
        let unwatched = || ReadError(format!("namespace {namespace} is not watched"));
        watched.map(|watched| &watched.workloads).ok_or_else(unwatched)
    }
}

/// A stored remediation, where its write succeeded and this version understands the answer. Otherwise it was written, and what
/// became of it is unknown here: the next one who reads it resolves that.
fn understood(object: &LatencyRemediation) -> Written<Stored<Remediation>> {
    convert::remediation(object).map_err(WriteError::Lost)
}

impl ports::Cluster for Cluster {
    type StatusPermit = OwnedSemaphorePermit;

    async fn policy(&self, (namespace, name): &PolicyKey) -> Read<Option<StoredPolicy>> {
        let policies: Api<crate::api::Stored<LatencyPolicy>> = self.reading(namespace);
        match policies.get_opt(name).await.map_err(unread)? {
            Some(crate::api::Stored(Ok(object))) => Ok(Some(self.policy_of(&object))),
            Some(crate::api::Stored(Err(undecodable))) => {
                Err(ReadError(format!("the policy cannot be decoded: {}", undecodable.error)))
            }
            None => Ok(None),
        }
    }

    async fn policy_meta(&self, (namespace, name): &PolicyKey) -> Read<Option<PolicyMeta>> {
        let policies: Api<MetadataOf<LatencyPolicy>> = self.reading(namespace);
        let found = policies.get_opt(name).await.map_err(unread)?;
        Ok(found.map(|found| PolicyMeta {
            uid: found.metadata.uid.unwrap_or_default(),
            deleting: found.metadata.deletion_timestamp.is_some(),
        }))
    }

    async fn status_permit(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.status_writes.clone().acquire_owned();
        tokio::time::timeout(PATIENCE, turn).await.ok()?.ok()
    }

    async fn write_policy_status(
        &self,
        policy: &PolicyRef,
        version: &Version,
        report: &PolicyReport,
    ) -> Written<StoredReport> {
        let policies: Api<LatencyPolicy> = self.writing(&policy.namespace);
        let status = convert::policy_status(report);
        let written =
            write::status(&policies, &policy.name, version, &status, "LatencyPolicy", &self.metrics).await?;
        Ok(StoredReport {
            generation: written.metadata.generation.unwrap_or_default(),
            version: convert::version(&written.metadata),
            report: written.status.as_ref().map(convert::policy_report).unwrap_or_default(),
        })
    }

    async fn write_conditions(
        &self,
        (namespace, name): &PolicyKey,
        generation: i64,
        conditions: &[ConditionReport],
    ) -> Written<()> {
        let conditions: Vec<_> = conditions.iter().map(convert::condition_of).collect();
        let patch = serde_json::json!({
            "status": {
                "observedGeneration": generation, "conditions": conditions, "state": PolicyState::Stalled.to_string(),
            }
        });
        let policies: Api<MetadataOf<LatencyPolicy>> = self.writing(namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = policies.patch_status(name, &params, &patch);
        write::counted(patched, "LatencyPolicy", &self.metrics).await.map(drop)
    }

    async fn incident(&self, namespace: &str, name: &str) -> Read<Option<FoundIncident>> {
        let incidents: Api<crate::api::Stored<LatencyIncident>> = self.reading(namespace);
        let found = incidents.get_opt(name).await.map_err(unread)?;
        Ok(found.map(|stored| match stored.0 {
            Ok(object) => FoundIncident::Readable(Box::new(convert::incident(&object))),
            Err(undecodable) => FoundIncident::Undecodable(undecodable.error),
        }))
    }

    async fn incidents(&self, (namespace, name): &PolicyKey) -> Read<Vec<IncidentSummary>> {
        let incidents: Api<crate::api::Stored<LatencyIncident>> = self.reading(namespace);
        let params = ListParams::default().labels(&format!("{POLICY_LABEL}={name}"));
        let listed = incidents.list(&params).await.map_err(unread)?;
        Ok(listed.items.iter().map(|stored| convert::incident_summary(&stored.0)).collect())
    }

    async fn create_incident(&self, name: &str, spec: &IncidentSpec) -> Written<StoredIncident> {
        let policy = &spec.policy;
        let stored = LatencyIncidentSpec {
            policy_ref: PolicyReference { name: ObjectName(policy.name.clone()), uid: policy.uid.clone() },
            target_ref: values::target_ref_of(&spec.target),
            ordinal: i64::try_from(spec.ordinal).unwrap_or(i64::MAX),
            first_breached_at: Instant(spec.first_breached_at),
            opened_at: Instant(spec.opened_at),
        };
        let mut incident = LatencyIncident::new(name, stored);
        incident.metadata.namespace = Some(policy.namespace.clone());
        incident.metadata.owner_references = Some(vec![OwnerReference {
            api_version: LatencyPolicy::api_version(&()).into_owned(),
            kind: LatencyPolicy::kind(&()).into_owned(),
            name: policy.name.clone(),
            uid: policy.uid.clone(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        incident.labels_mut().insert(POLICY_LABEL.to_owned(), policy.name.clone());
        let incidents: Api<LatencyIncident> = self.writing(&policy.namespace);
        let created = write::create(&incidents, &incident, "LatencyIncident", &self.metrics).await?;
        Ok(convert::incident(&created))
    }

    async fn write_incident(
        &self,
        stored: &StoredIncident,
        report: &IncidentReport,
    ) -> Written<StoredIncident> {
        let incidents: Api<LatencyIncident> = self.writing(&stored.namespace);
        let (name, version) = (&stored.name, &stored.version);
        let status = convert::incident_status(report);
        let written =
            write::status(&incidents, name, version, &status, "LatencyIncident", &self.metrics).await?;
        Ok(convert::incident(&written))
    }

    async fn delete_incident(&self, namespace: &str, incident: &IncidentSummary) -> Written<()> {
        let incidents: Api<LatencyIncident> = self.writing(namespace);
        write::delete(&incidents, &incident.name, &incident.uid, &incident.version).await
    }

    async fn remediations(&self) -> Read<Vec<Remediation>> {
        let scopes: Vec<Scope> = self.scopes.iter().map(|watched| watched.scope.clone()).collect();
        list_remediations(&self.client, &scopes).await.map_err(unread)
    }

    async fn remediation(&self, (namespace, name): &EntryKey) -> Read<Option<Stored<Remediation>>> {
        let remediations: Api<LatencyRemediation> = self.reading(namespace);
        let found = remediations.get_opt(name).await.map_err(unread)?;
        found.as_ref().map(convert::remediation).transpose().map_err(ReadError)
    }

    async fn is_deleting(&self, (namespace, name): &EntryKey) -> Read<Option<bool>> {
        let remediations: Api<MetadataOf<LatencyRemediation>> = self.reading(namespace);
        let found = remediations.get_opt(name).await.map_err(unread)?;
        Ok(found.map(|found| found.metadata.deletion_timestamp.is_some()))
    }

    async fn create_remediation(&self, new: &NewRemediation) -> Written<Stored<Remediation>> {
        let remediations: Api<LatencyRemediation> = self.writing(&new.key.0);
        let object = convert::new_remediation(new);
        let created = write::create(&remediations, &object, "LatencyRemediation", &self.metrics).await?;
        understood(&created)
    }

    async fn write_remediation(
        &self,
        stored: &Stored<Remediation>,
        status: &RemediationStatus,
    ) -> Written<Stored<Remediation>> {
        let remediations: Api<LatencyRemediation> = self.writing(&stored.value.namespace);
        let (name, version) = (&stored.value.name, &stored.version);
        let status = values::status_of(status);
        let written =
            write::status(&remediations, name, version, &status, "LatencyRemediation", &self.metrics).await?;
        understood(&written)
    }

    async fn release_remediation(&self, stored: &Stored<Remediation>) -> Written<Stored<Remediation>> {
        let remediations: Api<LatencyRemediation> = self.writing(&stored.value.namespace);
        let (name, version, others) = (&stored.value.name, &stored.version, &stored.other_finalizers);
        let released =
            write::release(&remediations, name, version, others, "LatencyRemediation", &self.metrics).await?;
        understood(&released)
    }

    async fn delete_remediation(&self, stored: &Stored<Remediation>) -> Written<()> {
        let remediations: Api<LatencyRemediation> = self.writing(&stored.value.namespace);
        write::delete(&remediations, &stored.value.name, &stored.uid, &stored.version).await
    }

    fn requeue(&self, remediation: EntryKey) {
        if let Some(watched) = watched::of(&self.scopes, &remediation.0) {
            // The receiver is gone only when the controllers are being stopped.
            let _ = watched.requeue.send(remediation);
        }
    }

    fn limits(&self) -> Limits {
        self.budgets.limits()
    }

    async fn refresh_limits(&self, namespace: &str) -> Result<Limits, Limits> {
        self.budgets.refresh_for(&self.client, namespace).await
    }

    fn budgets(&self) -> Vec<StoredBudget> {
        self.budgets.stored()
    }

    async fn write_budget(&self, name: &str, report: &BudgetReport) -> Written<()> {
        let patch = serde_json::json!({ "status": convert::budget_status(report) });
        let budgets: Api<MetadataOf<RemediationBudget>> = Api::all(self.mutating.clone());
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = budgets.patch_status(name, &params, &patch);
        write::counted(patched, "RemediationBudget", &self.metrics).await.map(drop)
    }

    async fn live_target(&self, namespace: &str, target: &TargetRef) -> Read<LiveTarget> {
        self.workloads(namespace)?.live(namespace, target).await.map_err(unread)
    }

    async fn live_workload(&self, namespace: &str, target: &TargetRef) -> Read<Workload> {
        let now = self.clock.now();
        self.workloads(namespace)?.workload(namespace, target, true, now).await.map_err(unread)
    }

    async fn replicas(&self, namespace: &str, target: &TargetRef) -> Read<LiveReplicas> {
        match workload::read(&self.client, namespace, target).await {
            Ok(read) if read.metadata.deletion_timestamp.is_some() => Ok(LiveReplicas::Deleting),
            Ok(read) => Ok(LiveReplicas::Present(read.now(), convert::version(&read.metadata))),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(LiveReplicas::Gone),
            Err(error) => Err(unread(error)),
        }
    }

    async fn write_replicas(
        &self,
        (namespace, _): &EntryKey,
        set: &SetReplicas,
        version: &Version,
    ) -> Written<()> {
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": version.0, "uid": set.uid},
            "spec": {"replicas": set.to},
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let (patch, name) = (Patch::Merge(&patch), &set.target.name);
        let sent = match set.target.kind {
            TargetKind::Deployment => {
                let all: Api<Deployment> = self.writing(namespace);
                all.patch_scale(name, &params, &patch).await.map(drop)
            }
            TargetKind::StatefulSet => {
                let all: Api<StatefulSet> = self.writing(namespace);
                all.patch_scale(name, &params, &patch).await.map(drop)
            }
        };
        sent.map_err(|error| write::classify(&error))
    }
}

/// Every LatencyRemediation of the scopes that can be understood, as the API server holds them at this moment.
///
/// # Errors
/// The API server cannot be asked.
pub async fn list_remediations(client: &Client, scopes: &[Scope]) -> kube::Result<Vec<Remediation>> {
    let mut all = Vec::new();
    for scope in scopes {
        let api: Api<crate::api::Stored<LatencyRemediation>> = scope.api(client.clone());
        // No resourceVersion: the answer is consistent, not from a cache.
        let listed = api.list(&ListParams::default()).await?;
        for object in listed.items {
            let understood = object.0.as_ref().ok().map(values::remediation);
            match understood {
                Some(Ok(remediation)) => all.push(remediation),
                Some(Err(_)) | None => {
                    tracing::warn!(
                        name = object.name_any(),
                        "a LatencyRemediation cannot be understood; it is left as it is"
                    );
                }
            }
        }
    }
    Ok(all)
}
