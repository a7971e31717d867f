//! The API server, as a process reaches it.

use controller::PolicyKey;
use controller::conditions::ConditionReport;
use controller::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, LiveReplicas, LiveTarget, NewRemediation, PolicyMeta,
    Stored, StoredBudget, StoredIncident, StoredPolicy, StoredReport, Version,
};
use controller::ports::{Cluster, Read, Written};
use controller::report::{BudgetReport, IncidentReport, PolicyReport, PolicyState};
use engine::effects::SetReplicas;
use engine::model::{
    EntryKey, Limits, Phase, PolicyRef, Remediation, RemediationStatus, TargetRef, Workload,
};

use super::Port;
use crate::exec::lock;
use crate::planted;
use crate::world::World;
use crate::world::api::{Answer, ApiError};
use crate::world::faults::Op;
use crate::world::instant;

impl Port {
    async fn read<T: Send + 'static>(
        &self,
        op: Op,
        read: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Read<T> {
        self.0.ask(op, read).await.map_err(Into::into)
    }

    async fn write<T: Send + 'static>(
        &self,
        op: Op,
        write: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Written<T> {
        self.0.ask(op, write).await.map_err(Into::into)
    }

    /// What a write of replicas is for: the act itself, or its rollback.
    fn purpose(&self, remediation: &EntryKey) -> Op {
        let world = self.0.sim.world();
        let stored = world.api.remediations.get(remediation);
        let acts = stored.is_some_and(|stored| stored.object.status.phase == Phase::Executing);
        if acts { Op::Scale } else { Op::Restore }
    }
}

/// Every version here is one of the world's numbers.
fn number(version: &Version) -> u64 {
    version.number().unwrap_or_default()
}

impl Cluster for Port {
    type StatusPermit = ();

    async fn policy(&self, key: &PolicyKey) -> Read<Option<StoredPolicy>> {
        let key = key.clone();
        self.read(Op::Confirm, move |world| Ok(world.api.policies.get(&key).map(StoredPolicy::from))).await
    }

    async fn policy_meta(&self, key: &PolicyKey) -> Read<Option<PolicyMeta>> {
        let key = key.clone();
        self.read(Op::Read, move |world| Ok(world.api.policies.get(&key).map(PolicyMeta::from))).await
    }

    async fn status_permit(&self) -> Option<()> {
        Some(())
    }

    async fn write_policy_status(
        &self,
        policy: &PolicyRef,
        version: &Version,
        report: &PolicyReport,
    ) -> Written<StoredReport> {
        let key = (policy.namespace.clone(), policy.name.clone());
        let (version, report) = (number(version), report.clone());
        let write = move |world: &mut World| Ok(world.write_policy_status(&key, version, report)?.into());
        self.write(Op::PolicyStatus, write).await
    }

    async fn write_conditions(
        &self,
        key: &PolicyKey,
        generation: i64,
        conditions: &[ConditionReport],
    ) -> Written<()> {
        let (key, conditions, observed_generation) = (key.clone(), conditions.to_vec(), Some(generation));
        let write = move |world: &mut World| {
            let stored = world.api.policies.get(&key).ok_or(ApiError::NotFound)?;
            let state = Some(PolicyState::Stalled);
            let report = PolicyReport { conditions, observed_generation, state, ..stored.report.clone() };
            let version = stored.version;
            world.write_policy_status(&key, version, report).map(drop)
        };
        self.write(Op::PolicyStatus, write).await
    }

    async fn incident(&self, namespace: &str, name: &str) -> Read<Option<FoundIncident>> {
        let key = (namespace.to_owned(), name.to_owned());
        let read = move |world: &mut World| {
            let found = world.api.incidents.get(&key).cloned();
            Ok(found.map(|found| FoundIncident::Readable(Box::new(found.into()))))
        };
        self.read(Op::Read, read).await
    }

    async fn incidents(&self, policy: &PolicyKey) -> Read<Vec<IncidentSummary>> {
        let policy = policy.clone();
        let read = move |world: &mut World| {
            let all = world.api.incidents.values();
            let of = |id: &PolicyRef| (&id.namespace, &id.name) == (&policy.0, &policy.1);
            Ok(all.filter(|one| of(&one.spec.policy)).map(IncidentSummary::from).collect())
        };
        self.read(Op::Read, read).await
    }

    async fn create_incident(&self, name: &str, spec: &IncidentSpec) -> Written<StoredIncident> {
        let (name, spec) = (name.to_owned(), spec.clone());
        self.write(Op::Incident, move |world| Ok(world.create_incident(&name, &spec)?.into())).await
    }

    async fn write_incident(
        &self,
        stored: &StoredIncident,
        report: &IncidentReport,
    ) -> Written<StoredIncident> {
        let key = (stored.namespace.clone(), stored.name.clone());
        let (version, report) = (number(&stored.version), report.clone());
        self.write(Op::Incident, move |world| Ok(world.write_incident(&key, version, report)?.into())).await
    }

    async fn delete_incident(&self, namespace: &str, incident: &IncidentSummary) -> Written<()> {
        let (key, version) = ((namespace.to_owned(), incident.name.clone()), number(&incident.version));
        self.write(Op::Delete, move |world| world.delete_incident(&key, version)).await
    }

    async fn remediations(&self) -> Read<Vec<Remediation>> {
        let read = |world: &mut World| {
            Ok(world.api.remediations.values().map(|stored| stored.object.clone()).collect())
        };
        self.read(Op::Read, read).await
    }

    async fn remediation(&self, key: &EntryKey) -> Read<Option<Stored<Remediation>>> {
        let key = key.clone();
        self.read(Op::Read, move |world| Ok(world.api.remediations.get(&key).map(Stored::from))).await
    }

    async fn is_deleting(&self, key: &EntryKey) -> Read<Option<bool>> {
        let key = key.clone();
        let read = move |world: &mut World| {
            Ok(world.api.remediations.get(&key).map(|stored| stored.object.deleting))
        };
        self.read(Op::Read, read).await
    }

    async fn create_remediation(&self, new: &NewRemediation) -> Written<Stored<Remediation>> {
        let new = new.clone();
        self.write(Op::Create, move |world| Ok(Stored::from(&world.create_remediation(new)?))).await
    }

    async fn write_remediation(
        &self,
        stored: &Stored<Remediation>,
        status: &RemediationStatus,
    ) -> Written<Stored<Remediation>> {
        let gate = stored.value.status.phase == Phase::Admitted && status.phase == Phase::Executing;
        let op = if gate { Op::Gate } else { Op::Status };
        let key = (stored.value.namespace.clone(), stored.value.name.clone());
        let (version, status) = (number(&stored.version), status.clone());
        let write =
            move |world: &mut World| Ok(Stored::from(&world.write_remediation(&key, version, &status)?));
        self.write(op, write).await
    }

    async fn release_remediation(&self, stored: &Stored<Remediation>) -> Written<Stored<Remediation>> {
        let key = (stored.value.namespace.clone(), stored.value.name.clone());
        let version = number(&stored.version);
        let release = move |world: &mut World| Ok(Stored::from(&world.release_remediation(&key, version)?));
        self.write(Op::Release, release).await
    }

    async fn delete_remediation(&self, stored: &Stored<Remediation>) -> Written<()> {
        let key = (stored.value.namespace.clone(), stored.value.name.clone());
        let version = number(&stored.version);
        self.write(Op::Delete, move |world| world.delete_remediation(&key, Some(version))).await
    }

    fn requeue(&self, remediation: EntryKey) {
        self.0.queue_remediation(remediation);
    }

    fn limits(&self) -> Limits {
        lock(&self.0.limits).clone()
    }

    async fn refresh_limits(&self, _: &str) -> Result<Limits, Limits> {
        self.0.refresh_limits(Op::Confirm).await
    }

    fn budgets(&self) -> Vec<StoredBudget> {
        lock(&self.0.watched).budgets.clone()
    }

    async fn write_budget(&self, name: &str, report: &BudgetReport) -> Written<()> {
        let (name, report) = (name.to_owned(), report.clone());
        self.write(Op::BudgetStatus, move |world| world.write_budget_status(&name, report)).await
    }

    async fn live_target(&self, namespace: &str, target: &TargetRef) -> Read<LiveTarget> {
        let (namespace, target) = (namespace.to_owned(), target.clone());
        let read = move |world: &mut World| {
            let pauses = world.pauses(&namespace, &target);
            let found = world.target(&namespace, &target).ok_or(ApiError::NotFound)?;
            Ok(LiveTarget { uid: Some(found.uid.clone()), opt_out: found.opt_out.clone(), pauses })
        };
        self.read(Op::Confirm, read).await
    }

    async fn live_workload(&self, namespace: &str, target: &TargetRef) -> Read<Workload> {
        let (namespace, target) = (namespace.to_owned(), target.clone());
        let read = move |world: &mut World| {
            let now = world.now;
            world.refresh();
            world.target(&namespace, &target).map(|found| found.workload(now)).ok_or(ApiError::NotFound)
        };
        self.read(Op::Confirm, read).await
    }

    async fn replicas(&self, namespace: &str, target: &TargetRef) -> Read<LiveReplicas> {
        let (namespace, target) = (namespace.to_owned(), target.clone());
        let read = move |world: &mut World| match world.read_workload(&namespace, &target) {
            Ok((now, version)) => Ok(LiveReplicas::Present(now, version.into())),
            Err(ApiError::NotFound) => Ok(LiveReplicas::Gone),
            Err(error) => Err(error),
        };
        self.read(Op::ReadScale, read).await
    }

    async fn write_replicas(
        &self,
        remediation: &EntryKey,
        set: &SetReplicas,
        version: &Version,
    ) -> Written<()> {
        let checked = !planted::is("scale_without_precondition");
        let version = Some(number(version)).filter(|_| checked);
        let (key, set) = (remediation.clone(), set.clone());
        let at = instant(self.0.sim.now());
        let write = move |world: &mut World| world.write_scale(&key.0, &set, version, &key, at);
        self.write(self.purpose(remediation), write).await
    }
}
