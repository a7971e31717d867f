//! The ports of the driver over the stage of a scenario: every answer comes at once.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use controller::PolicyKey;
use controller::announcement::Announcement;
use controller::conditions::ConditionReport;
use controller::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, LiveReplicas, LiveTarget, Measurement, NewRemediation,
    PolicyMeta, Recorded, Stored, StoredBudget, StoredIncident, StoredPolicy, StoredReport, Version,
};
use controller::ports::{
    Act, Announce, Cadence, Cluster, Detail, Environment, Leading, Observe, Ports, Read, Time, Timer,
    WriteError, Written,
};
use controller::report::{BudgetReport, IncidentPhase, IncidentReport, PolicyReport, PolicyState};
use engine::advance::EffectReport;
use engine::effects::{Inspection, Requests, SetReplicas, SignalSession};
use engine::invariants::{Request, What};
use engine::model::{
    ByName, DependencyKind, Draining, EntryKey, Facts, Limits, Observations, Observed, Pause, Policy,
    PolicyRef, Remediation, RemediationStatus, SecretRef, Target, TargetRef, Workload, elapsed, later,
};
use engine::replay::Evaluation;
use jiff::Timestamp;

use super::builders;
use super::stage::{Cancel, Stage};

/// The environment of a scenario.
pub(crate) struct Scenario;

/// All ports.
#[derive(Clone)]
pub(crate) struct Port(Arc<Mutex<Stage>>);

impl Environment for Scenario {
    type Cluster = Port;
    type Observe = Port;
    type Act = Port;
    type Announce = Port;
    type Time = Port;
    type Leading = Port;
}

impl Port {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Arc::new(Mutex::new(stage)))
    }

    pub(crate) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Ports<Scenario> {
        let port = || self.clone();
        Ports {
            cluster: port(),
            observe: port(),
            act: port(),
            announce: port(),
            time: port(),
            leading: port(),
        }
    }
}

fn conflict<T>() -> Written<T> {
    Err(WriteError::Conflict("it has another version".to_owned()))
}

impl Cluster for Port {
    type StatusPermit = ();

    async fn policy(&self, _: &PolicyKey) -> Read<Option<StoredPolicy>> {
        let stage = self.stage();
        Ok((!stage.policy_gone).then(|| stage.stored_policy()))
    }

    async fn policy_meta(&self, _: &PolicyKey) -> Read<Option<PolicyMeta>> {
        let stage = self.stage();
        let meta = || PolicyMeta { uid: stage.policy.id.uid.clone(), deleting: false };
        Ok((!stage.policy_gone).then(meta))
    }

    async fn status_permit(&self) -> Option<()> {
        Some(())
    }

    async fn write_policy_status(
        &self,
        _: &PolicyRef,
        _: &Version,
        report: &PolicyReport,
    ) -> Written<StoredReport> {
        let mut stage = self.stage();
        stage.report = report.clone();
        stage.bump();
        Ok(stage.stored_policy().stored_report())
    }

    async fn write_conditions(&self, _: &PolicyKey, _: i64, conditions: &[ConditionReport]) -> Written<()> {
        let mut stage = self.stage();
        (stage.report.conditions, stage.report.state) = (conditions.to_vec(), Some(PolicyState::Stalled));
        Ok(())
    }

    async fn incident(&self, _: &str, name: &str) -> Read<Option<FoundIncident>> {
        let found = self.stage().incidents.get(name).cloned();
        Ok(found.map(|found| FoundIncident::Readable(Box::new(found))))
    }

    async fn incidents(&self, _: &PolicyKey) -> Read<Vec<IncidentSummary>> {
        let summary = |one: &StoredIncident| IncidentSummary {
            name: one.name.clone(),
            uid: one.name.clone(),
            version: one.version.clone(),
            closed: (one.report.phase == Some(IncidentPhase::Closed)).then_some((one.opened_at, one.ordinal)),
        };
        Ok(self.stage().incidents.values().map(summary).collect())
    }

    async fn create_incident(&self, name: &str, spec: &IncidentSpec) -> Written<StoredIncident> {
        let mut stage = self.stage();
        if stage.incidents.contains_key(name) {
            return conflict();
        }
        let stored = StoredIncident {
            namespace: spec.policy.namespace.clone(),
            name: name.to_owned(),
            version: stage.bump().into(),
            ordinal: spec.ordinal,
            first_breached_at: spec.first_breached_at,
            opened_at: spec.opened_at,
            report: IncidentReport::default(),
        };
        stage.incidents.insert(name.to_owned(), stored.clone());
        Ok(stored)
    }

    async fn write_incident(
        &self,
        stored: &StoredIncident,
        report: &IncidentReport,
    ) -> Written<StoredIncident> {
        let mut stage = self.stage();
        let version = stage.bump().into();
        let written = StoredIncident { version, report: report.clone(), ..stored.clone() };
        stage.incidents.insert(stored.name.clone(), written.clone());
        Ok(written)
    }

    async fn delete_incident(&self, _: &str, incident: &IncidentSummary) -> Written<()> {
        self.stage().incidents.remove(&incident.name);
        Ok(())
    }

    async fn remediations(&self) -> Read<Vec<Remediation>> {
        Ok(self.stage().remediations.values().map(|stored| stored.value.clone()).collect())
    }

    async fn remediation(&self, (_, name): &EntryKey) -> Read<Option<Stored<Remediation>>> {
        Ok(self.stage().remediations.get(name).cloned())
    }

    async fn is_deleting(&self, (_, name): &EntryKey) -> Read<Option<bool>> {
        Ok(self.stage().remediations.get(name).map(|stored| stored.value.deleting))
    }

    async fn create_remediation(&self, new: &NewRemediation) -> Written<Stored<Remediation>> {
        let mut stage = self.stage();
        let (namespace, name) = new.key.clone();
        if stage.remediations.contains_key(&name) {
            assert!(stage.foreign.contains(&name), "an object was created twice");
            return conflict();
        }
        let created_at = stage.now;
        Ok(stage.store(Remediation {
            namespace,
            name,
            created_at,
            deleting: false,
            held: new.held,
            spec: new.spec.clone(),
            status: RemediationStatus::default(),
        }))
    }

    async fn write_remediation(
        &self,
        stored: &Stored<Remediation>,
        status: &RemediationStatus,
    ) -> Written<Stored<Remediation>> {
        Ok(self.stage().store(Remediation { status: status.clone(), ..stored.value.clone() }))
    }

    async fn release_remediation(&self, stored: &Stored<Remediation>) -> Written<Stored<Remediation>> {
        let value = &stored.value;
        assert!(value.held && !value.owes(), "released while something is owed");
        Ok(self.stage().store(Remediation { held: false, ..value.clone() }))
    }

    async fn delete_remediation(&self, stored: &Stored<Remediation>) -> Written<()> {
        let mut stage = self.stage();
        stage.remediations.remove(&stored.value.name);
        stage.removed.push((stored.value.namespace.clone(), stored.value.name.clone()));
        Ok(())
    }

    fn requeue(&self, _: EntryKey) {
        self.stage().requeued = true;
    }

    fn limits(&self) -> Limits {
        self.stage().limits()
    }

    async fn refresh_limits(&self, _: &str) -> Result<Limits, Limits> {
        Ok(self.stage().limits())
    }

    fn budgets(&self) -> Vec<StoredBudget> {
        Vec::new()
    }

    async fn write_budget(&self, name: &str, _: &BudgetReport) -> Written<()> {
        panic!("nobody asked for the status of budget {name}")
    }

    async fn live_target(&self, _: &str, target: &TargetRef) -> Read<LiveTarget> {
        let stage = self.stage();
        let (uid, opt_out) = (Some(stage.cluster_of(target).uid()), stage.opt_out_of(target));
        Ok(LiveTarget { uid, opt_out, pauses: stage.other_pauses() })
    }

    async fn live_workload(&self, _: &str, target: &TargetRef) -> Read<Workload> {
        let stage = self.stage();
        Ok(stage.cluster_of(target).workload(stage.now))
    }

    async fn replicas(&self, _: &str, target: &TargetRef) -> Read<LiveReplicas> {
        Ok(match self.stage().cluster_of(target).look() {
            Inspection::Workload(now) => LiveReplicas::Present(now, 1.into()),
            Inspection::Gone | Inspection::Running | Inspection::Unreadable(_) => LiveReplicas::Gone,
        })
    }

    async fn write_replicas(&self, (_, name): &EntryKey, scale: &SetReplicas, _: &Version) -> Written<()> {
        let answer = self.stage().scale(name, scale);
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(Cancel::IsLost)) => Err(WriteError::Lost("the connection broke".to_owned())),
            Some(Err(_)) => Err(WriteError::Gone("somebody had set other replicas".to_owned())),
            None => pending().await,
        }
    }
}

impl Observe for Port {
    async fn measurements(&self, policy: &Policy, _: bool) -> ByName<Observed<engine::model::Measurement>> {
        let (traffic, probes) = {
            let stage = self.stage();
            (stage.traffic.clone(), stage.probes.clone())
        };
        let counted = policy.objectives.iter().filter(|objective| objective.source.timed().is_none());
        let counted = counted.map(|objective| (objective.name.clone(), traffic.clone().map(Into::into)));
        counted.chain(probes.into_iter().map(|(name, probed)| (name, probed.map(Into::into)))).collect()
    }

    async fn dependency(&self, _: &str, kind: DependencyKind, _: &SecretRef, _: Cadence) -> Observed<Facts> {
        let stage = self.stage();
        match kind {
            DependencyKind::Postgres => stage.database().map(Facts::from),
            DependencyKind::PgBouncer => stage.pool.read(stage.now).map(Facts::from),
            DependencyKind::Redis => stage.cache.read(stage.now).map(Facts::from),
            DependencyKind::Workers => panic!("they are read in Kubernetes"),
        }
    }

    async fn target(&self, _: &str, target: &TargetRef, _: Detail) -> Observed<Target> {
        let stage = self.stage();
        let cluster = stage.cluster_of(target);
        let value = Target {
            uid: cluster.uid(),
            workload: Some(cluster.workload(stage.now)),
            opt_out: stage.opt_out_of(target),
        };
        Observed::Known { at: stage.now, value }
    }

    fn observed(&self, _: &Policy, _: &Observations) {}

    fn pauses(&self, _: &str, _: &TargetRef) -> Vec<Pause> {
        self.stage().other_pauses()
    }

    fn problems(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }

    fn resolution(&self, _: &Policy) -> Option<Duration> {
        None
    }

    async fn session(&self, _: &str, signal: &SignalSession) -> Inspection {
        self.stage().session_of(signal)
    }
}

impl Act for Port {
    async fn signal(&self, remediation: &Remediation, signal: &SignalSession, _: Timestamp) -> EffectReport {
        let report = self.stage().signal(&remediation.name, signal);
        match report {
            Some(report) => report,
            None => pending().await,
        }
    }

    async fn request(
        &self,
        remediation: &Remediation,
        _: &Requests,
        path: &str,
        _: usize,
        _: Timestamp,
        _: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), String> {
        let mut stage = self.stage();
        let (now, term) = (stage.now, stage.epoch);
        if stage.runs.insert((remediation.name.clone(), term)) {
            stage.effects_sent.push(remediation.name.clone());
        }
        let key = (remediation.namespace.clone(), remediation.name.clone());
        let request = Request { path: path.to_owned(), sent: None, remediation: key };
        stage.told.tell(now, What::Request(request));
        stage.cache.warm()
    }
}

impl Announce for Port {
    fn announce(&self, announcement: &Announcement) {
        if let Some(record) = announcement.record() {
            self.stage().write_down(record);
        }
    }

    fn evaluated(&self, recorded: Recorded<'_>) {
        let Recorded { snapshot, answers, records } = recorded;
        if let Some(recording) = &mut self.stage().recording {
            let (snapshot, answers, records) = (snapshot.clone(), answers.to_vec(), records.to_vec());
            recording.push(Evaluation { snapshot, answers, records });
        }
    }

    fn measure(&self, _: Measurement<'_>) {}
}

impl Timer for Port {
    fn now(&self) -> Timestamp {
        self.stage().now
    }

    fn monotonic(&self) -> Duration {
        elapsed(self.stage().now, builders::start())
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (port, until) = (self.clone(), later(self.stage().now, span));
        // It is polled at each tick.
        std::future::poll_fn(move |_| if port.stage().now >= until { Poll::Ready(()) } else { Poll::Pending })
    }
}

impl Time for Port {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.stage().spawned.push(Box::pin(task));
    }

    fn chance(&self) -> f64 {
        0.0
    }
}

impl Leading for Port {
    fn held(&self) -> bool {
        true
    }

    fn identity(&self) -> &'static str {
        "operator"
    }

    fn epoch(&self) -> u64 {
        self.stage().epoch
    }

    fn draining(&self) -> Option<Draining> {
        None
    }

    fn since_contact(&self) -> Duration {
        Duration::ZERO
    }
}
