//! The API server: objects with versions, compare-and-swap, finalizers, the scale subresource, a Lease, and watches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use controller::PolicyKey;
use controller::objects::{IncidentSpec, NewRemediation, StoredBudget};
use controller::report::{BudgetReport, IncidentPhase, IncidentReport, PolicyReport};
use engine::effects::SetReplicas;
use engine::invariants::{Replicas, What};
use engine::model::{
    Budget, Draining, EntryKey, FieldManager, MANAGER, Pause, PausedBy, Phase, Policy, PolicyRef,
    Remediation, RemediationStatus, TargetRef, UndoState, WorkloadKey, WorkloadNow,
};
use jiff::Timestamp;

use super::target::Metadata;
use super::{World, instant};

/// Why a request failed, as far as the one who sent it can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// Somebody else was first; nothing was written.
    Conflict,
    /// It is not there; nothing was written.
    NotFound,
    /// The server refused; nothing was written.
    Refused,
    /// No answer: it may have been written.
    Lost,
}

/// What the API server answers.
pub type Answer<T> = Result<T, ApiError>;

/// A LatencyPolicy with its metadata and its status.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyObject {
    /// Its spec.
    pub policy: Policy,
    /// `metadata.resourceVersion`.
    pub version: u64,
    /// The annotation that pauses it.
    pub paused: Option<String>,
    /// Its status.
    pub report: PolicyReport,
}

impl PolicyObject {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> PolicyKey {
        policy_key(&self.policy.id)
    }
}

/// A LatencyRemediation with its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The object.
    pub object: Remediation,
    /// Which life of its name it is: the version that it was created with.
    pub uid: u64,
    /// `metadata.resourceVersion`.
    pub version: u64,
}

impl Stored {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        (self.object.namespace.clone(), self.object.name.clone())
    }
}

/// A LatencyIncident. It goes with the policy that owns it.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentObject {
    /// Its name.
    pub name: String,
    /// What it says once and for all.
    pub spec: IncidentSpec,
    /// Its status.
    pub report: IncidentReport,
    /// Which life of its name it is: the version that it was created with.
    pub uid: u64,
    /// `metadata.resourceVersion`.
    pub version: u64,
}

impl IncidentObject {
    /// Whether its phase is not Closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.report.phase != Some(IncidentPhase::Closed)
    }
}

/// The Lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseObject {
    /// Who holds it.
    pub holder: Option<String>,
    /// `leaseTransitions`.
    pub epoch: u64,
    /// The mark of who uninstalls the operator.
    pub draining: Option<Draining>,
    /// `metadata.resourceVersion`; 0 where it does not exist.
    pub version: u64,
}

/// What a watch shows.
#[derive(Debug, Clone)]
pub enum Shown {
    /// A policy was created or changed.
    Policy(Arc<PolicyObject>),
    /// A policy has gone.
    PolicyGone(PolicyKey),
    /// A remediation was created or changed.
    Remediation(Arc<Stored>),
    /// A remediation has gone.
    RemediationGone(EntryKey),
    /// All RemediationBudgets, after one has changed.
    Budgets(Vec<StoredBudget>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Api {
    version: u64,
    /// LatencyPolicies.
    pub policies: BTreeMap<PolicyKey, PolicyObject>,
    /// Policies that nobody has written again since they were created. Their status is the definition's default, which is stored
    /// with the first write, whatever that changes.
    pub untouched: BTreeSet<PolicyKey>,
    /// LatencyRemediations.
    pub remediations: BTreeMap<EntryKey, Stored>,
    /// LatencyIncidents, by namespace and name.
    pub incidents: BTreeMap<EntryKey, IncidentObject>,
    /// RemediationBudgets.
    pub budgets: Vec<StoredBudget>,
    /// Annotations that pause namespaces.
    pub namespaces: BTreeMap<String, String>,
    /// The Lease.
    pub lease: LeaseObject,
    /// What watches have not been told yet.
    pub news: VecDeque<(u64, Shown)>,
}

impl Api {
    fn announce(&mut self, shown: Shown) {
        let version = self.bump();
        self.news.push_back((version, shown));
    }

    /// The newest version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The next version.
    pub fn bump(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}

/// The API server's clock has seconds.
fn created(world: &World) -> Timestamp {
    instant(world.now - world.now % 1_000_000)
}

impl World {
    /// The administrator changes the budgets.
    pub fn set_budgets(&mut self, budgets: Vec<Budget>) {
        let stored = |budget: &Budget| {
            let known = self.api.budgets.iter().find(|known| known.budget.name == budget.name);
            StoredBudget {
                budget: budget.clone(),
                generation: known.map_or(1, |known| known.generation + 1),
                problems: Vec::new(),
                report: known.map(|known| known.report.clone()).unwrap_or_default(),
            }
        };
        self.api.budgets = budgets.iter().map(stored).collect();
        self.api.announce(Shown::Budgets(self.api.budgets.clone()));
        self.tell(What::Budgets(budgets));
    }

    /// Sets the status of a budget.
    pub fn write_budget_status(&mut self, name: &str, report: BudgetReport) -> Answer<()> {
        let stored = self.api.budgets.iter_mut().find(|stored| stored.budget.name == name);
        stored.ok_or(ApiError::NotFound)?.report = report;
        self.api.announce(Shown::Budgets(self.api.budgets.clone()));
        Ok(())
    }

    /// People create a policy. What they say of its status is not heard; it is the definition's default.
    pub fn create_policy(&mut self, mut object: PolicyObject) -> Answer<PolicyObject> {
        if self.api.policies.contains_key(&policy_key(&object.policy.id)) {
            return Err(ApiError::Conflict);
        }
        object.policy.generation = 1;
        object.report = PolicyReport { observed_generation: Some(-1), ..PolicyReport::default() };
        self.api.untouched.insert(policy_key(&object.policy.id));
        Ok(self.store_policy(object))
    }

    /// People change a policy's spec or its annotation, whatever version it has. Only a change of the spec is a new generation.
    pub fn edit_policy(
        &mut self,
        key: &PolicyKey,
        change: impl FnOnce(&mut PolicyObject),
    ) -> Answer<PolicyObject> {
        let stored = self.api.policies.get(key).cloned().ok_or(ApiError::NotFound)?;
        let mut object = stored.clone();
        change(&mut object);
        let first = self.api.untouched.remove(key);
        if object == stored && !first {
            // No version is made, and no watch shows it.
            return Ok(stored);
        }
        if object.policy != stored.policy {
            object.policy.generation += 1;
        }
        Ok(self.store_policy(object))
    }

    fn store_policy(&mut self, mut object: PolicyObject) -> PolicyObject {
        object.version = self.api.bump();
        self.tell(What::Policy(Box::new(object.policy.clone())));
        self.api.announce(Shown::Policy(Arc::new(object.clone())));
        self.api.policies.insert(policy_key(&object.policy.id), object.clone());
        object
    }

    /// A policy is deleted: it goes at once, and what it owns soon after; here at once, too.
    pub fn delete_policy(&mut self, key: &PolicyKey) -> Answer<()> {
        let gone = self.api.policies.remove(key).ok_or(ApiError::NotFound)?;
        self.api.untouched.remove(key);
        self.tell(What::PolicyGone(gone.policy.id.clone()));
        self.collect_garbage();
        self.api.announce(Shown::PolicyGone(key.clone()));
        Ok(())
    }

    /// Incidents whose policy is not there go, also where another one has its name.
    fn collect_garbage(&mut self) {
        let policies = &self.api.policies;
        let owned =
            |incident: &IncidentObject| policies.values().any(|p| p.policy.id == incident.spec.policy);
        let all = self.api.incidents.iter();
        let gone: Vec<EntryKey> = all.filter(|(_, one)| !owned(one)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.api.incidents.remove(&key);
            self.tell(What::Incident { key, open: false });
        }
    }

    /// A policy's status is replaced, by compare-and-swap.
    pub fn write_policy_status(
        &mut self,
        key: &PolicyKey,
        version: u64,
        report: PolicyReport,
    ) -> Answer<PolicyObject> {
        let stored = self.api.policies.get_mut(key).ok_or(ApiError::NotFound)?;
        if stored.version != version {
            return Err(ApiError::Conflict);
        }
        let first = self.api.untouched.remove(key);
        let changed = stored.report != report;
        if changed || first {
            self.api.version += 1;
            (stored.version, stored.report) = (self.api.version, report);
        }
        let written = stored.clone();
        if changed || first {
            self.api.announce(Shown::Policy(Arc::new(written.clone())));
        }
        self.tell(What::Wrote(format!("status of LatencyPolicy {}/{}", key.0, key.1)));
        Ok(written)
    }

    /// An incident of the policy is created under its name, without a status.
    pub fn create_incident(&mut self, name: &str, spec: &IncidentSpec) -> Answer<IncidentObject> {
        let key = (spec.policy.namespace.clone(), name.to_owned());
        if self.api.incidents.contains_key(&key) {
            return Err(ApiError::Conflict);
        }
        let version = self.api.bump();
        let object = IncidentObject {
            name: name.to_owned(),
            spec: spec.clone(),
            report: IncidentReport::default(),
            uid: version,
            version,
        };
        self.tell(What::Wrote(format!("LatencyIncident {}/{}", key.0, key.1)));
        self.api.incidents.insert(key.clone(), object.clone());
        self.tell(What::Incident { key, open: true });
        self.collect_garbage();
        Ok(object)
    }

    /// An incident's status is replaced, by compare-and-swap.
    pub fn write_incident(
        &mut self,
        key: &EntryKey,
        version: u64,
        report: IncidentReport,
    ) -> Answer<IncidentObject> {
        let stored = self.api.incidents.get_mut(key).ok_or(ApiError::NotFound)?;
        if stored.version != version {
            return Err(ApiError::Conflict);
        }
        if stored.report != report {
            self.api.version += 1;
            (stored.version, stored.report) = (self.api.version, report);
        }
        let written = stored.clone();
        self.tell(What::Wrote(format!("status of LatencyIncident {}/{}", key.0, key.1)));
        self.tell(What::Incident { key: key.clone(), open: written.is_open() });
        Ok(written)
    }

    /// This version of an incident is deleted: it goes at once.
    pub fn delete_incident(&mut self, key: &EntryKey, version: u64) -> Answer<()> {
        let stored = self.api.incidents.get(key).ok_or(ApiError::NotFound)?;
        if stored.version != version {
            return Err(ApiError::Conflict);
        }
        self.api.incidents.remove(key);
        self.tell(What::Incident { key: key.clone(), open: false });
        Ok(())
    }

    /// A remediation is created under its name.
    pub fn create_remediation(&mut self, new: NewRemediation) -> Answer<Stored> {
        let NewRemediation { key, spec, held } = new;
        if self.api.remediations.contains_key(&key) {
            return Err(ApiError::Conflict);
        }
        let object = Remediation {
            namespace: key.0.clone(),
            name: key.1.clone(),
            created_at: created(self),
            deleting: false,
            held,
            spec,
            status: RemediationStatus::default(),
        };
        let version = self.api.bump();
        let stored = Stored { object, uid: version, version };
        self.show(key, &stored);
        Ok(stored)
    }

    fn show(&mut self, key: EntryKey, stored: &Stored) {
        self.api.remediations.insert(key, stored.clone());
        self.api.announce(Shown::Remediation(Arc::new(stored.clone())));
        self.tell(What::Remediation(Box::new(stored.object.clone())));
    }

    /// A remediation's status is replaced, by compare-and-swap.
    pub fn write_remediation(
        &mut self,
        key: &EntryKey,
        version: u64,
        status: &RemediationStatus,
    ) -> Answer<Stored> {
        let stored = self.api.remediations.get(key).cloned().ok_or(ApiError::NotFound)?;
        if stored.version != version {
            return Err(ApiError::Conflict);
        }
        if stored.object.status == *status {
            return Ok(self.unchanged(&stored));
        }
        let mut object = stored.object;
        let before = std::mem::replace(&mut object.status, status.clone());
        let written = Stored { object, uid: stored.uid, version: self.api.bump() };
        self.show(key.clone(), &written);
        self.count_ends(&before, status);
        Ok(written)
    }

    /// The finalizer goes, and with it an object that is being deleted.
    pub fn release_remediation(&mut self, key: &EntryKey, version: u64) -> Answer<Stored> {
        let stored = self.api.remediations.get(key).cloned().ok_or(ApiError::NotFound)?;
        if stored.version != version {
            return Err(ApiError::Conflict);
        }
        if !stored.object.held {
            return Ok(self.unchanged(&stored));
        }
        let mut object = stored.object;
        object.held = false;
        if object.deleting {
            // Nothing is stored any more: the answer carries the version that was.
            self.remove(key);
            return Ok(Stored { object, uid: stored.uid, version });
        }
        let released = Stored { object, uid: stored.uid, version: self.api.bump() };
        self.show(key.clone(), &released);
        Ok(released)
    }

    /// Somebody deletes a remediation: it goes once its finalizer has.
    pub fn delete_remediation(&mut self, key: &EntryKey, version: Option<u64>) -> Answer<()> {
        let stored = self.api.remediations.get(key).cloned().ok_or(ApiError::NotFound)?;
        if version.is_some_and(|version| version != stored.version) {
            return Err(ApiError::Conflict);
        }
        if stored.object.held && stored.object.deleting {
            return Ok(());
        }
        if stored.object.held {
            let mut object = stored.object;
            object.deleting = true;
            let marked = Stored { object, uid: stored.uid, version: self.api.bump() };
            self.show(key.clone(), &marked);
        } else {
            self.remove(key);
        }
        Ok(())
    }

    /// A write that changes nothing makes no version, and no watch shows it. It is a write all the same.
    fn unchanged(&mut self, stored: &Stored) -> Stored {
        self.tell(What::Remediation(Box::new(stored.object.clone())));
        stored.clone()
    }

    fn remove(&mut self, key: &EntryKey) {
        self.api.remediations.remove(key);
        self.api.announce(Shown::RemediationGone(key.clone()));
        self.tell(What::RemediationGone(key.clone()));
    }

    /// The workload of that name.
    pub fn target(&self, namespace: &str, target: &TargetRef) -> Option<&super::Target> {
        self.targets.iter().find(|known| known.namespace == namespace && known.name == *target)
    }

    /// The workload of that name.
    pub fn target_mut(&mut self, namespace: &str, target: &TargetRef) -> Option<&mut super::Target> {
        self.targets.iter_mut().find(|known| known.namespace == namespace && known.name == *target)
    }

    /// A live read of a workload, with its version.
    pub fn read_workload(&mut self, namespace: &str, target: &TargetRef) -> Answer<(WorkloadNow, u64)> {
        let now = self.now;
        let found = self.target_mut(namespace, target).ok_or(ApiError::NotFound)?;
        found.settle(now);
        Ok((found.look(), found.version))
    }

    /// A write to the scale subresource, with version and uid.
    pub fn write_scale(
        &mut self,
        namespace: &str,
        set: &SetReplicas,
        version: Option<u64>,
        key: &EntryKey,
        sent: Timestamp,
    ) -> Answer<()> {
        let (next, now) = (self.api.bump(), self.now);
        let found = self.target_mut(namespace, &set.target).ok_or(ApiError::NotFound)?;
        if version.is_some_and(|version| version != found.version || found.uid != set.uid) {
            return Err(ApiError::Conflict);
        }
        let (before, uid) = (found.replicas, found.uid.clone());
        found.set(set.to, FieldManager(MANAGER.to_owned()), next, now);
        let workload = WorkloadKey { namespace: namespace.to_owned(), target: set.target.clone(), uid };
        let acts = set.to > before;
        self.tell(What::Replicas(Replicas {
            workload,
            from: Some(before),
            to: set.to,
            manager: MANAGER.to_owned(),
            sent: Some(sent),
            remediation: Some(key.clone()),
        }));
        if acts {
            self.acted(key);
        } else {
            self.counts.undo_steps += 1;
        }
        self.refresh();
        Ok(())
    }

    /// Somebody else sets the replicas.
    pub fn others_scale(&mut self, place: usize, to: u32, manager: &str) {
        let (next, now) = (self.api.bump(), self.now);
        let Some(found) = self.targets.get_mut(place) else { return };
        let before = found.replicas;
        found.set(to, FieldManager(manager.to_owned()), next, now);
        let fact = Replicas {
            workload: found.key(),
            from: Some(before),
            to,
            manager: manager.to_owned(),
            sent: None,
            remediation: None,
        };
        self.tell(What::Replicas(fact));
        self.refresh();
    }

    /// A person sets the replicas of the workload that the operator is about to set, or set back.
    pub fn overtake(&mut self) {
        let about = |stored: &&Stored| {
            let undo = stored.object.status.undo.as_ref();
            let undoes =
                undo.is_some_and(|undo| undo.state == UndoState::Pending && undo.change.writing().is_some());
            undoes || stored.object.status.phase == Phase::Executing
        };
        let newest = self.api.remediations.values().filter(about).max_by_key(|s| s.object.created_at);
        let Some(Remediation { namespace, spec, .. }) = newest.map(|stored| &stored.object) else { return };
        let is = |known: &super::Target| known.namespace == *namespace && known.name == spec.target;
        if let Some(place) = self.targets.iter().position(is) {
            let to = u32::try_from(self.dice.between(3, 8)).unwrap_or(4);
            self.others_scale(place, to, "kubectl");
        }
    }

    /// The pauses on a workload and its namespace, read live.
    #[must_use]
    pub fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause> {
        let of = |by: PausedBy, until: Option<&String>| {
            until.map(|until| Pause { by, until: until.clone(), reason: None })
        };
        let target = self.target(namespace, target).and_then(|target| target.paused.as_ref());
        [of(PausedBy::Target, target), of(PausedBy::Namespace, self.api.namespaces.get(namespace))]
            .into_iter()
            .flatten()
            .collect()
    }

    /// What a watch shows of a workload and its namespace.
    #[must_use]
    pub fn metadata(&self, namespace: &str, target: &TargetRef) -> Option<Metadata> {
        let found = self.target(namespace, target)?;
        let (uid, opt_out) = (found.uid.clone(), found.opt_out.clone());
        Some(Metadata { uid, opt_out, pauses: self.pauses(namespace, target) })
    }

    /// The Lease is written, by compare-and-swap.
    pub fn write_lease(&mut self, lease: &LeaseObject) -> Answer<()> {
        if self.api.lease.version != lease.version {
            return Err(ApiError::Conflict);
        }
        let version = self.api.bump();
        let taken = self.api.lease.epoch != lease.epoch || self.api.lease.holder != lease.holder;
        let marked = self.api.lease.draining != lease.draining;
        self.api.lease = LeaseObject { version, ..lease.clone() };
        if marked {
            self.tell(What::Draining(lease.draining));
        }
        if taken {
            if lease.holder.is_some() {
                self.counts.terms += 1;
            }
            self.tell(What::Lease { holder: lease.holder.clone(), epoch: lease.epoch });
        }
        Ok(())
    }

    /// The Lease is deleted, if it is the one that was read.
    pub fn delete_lease(&mut self, version: u64) -> Answer<()> {
        if self.api.lease.version != version {
            return Err(ApiError::Conflict);
        }
        self.api.bump();
        self.api.lease = LeaseObject::default();
        self.tell(What::Draining(None));
        self.tell(What::Lease { holder: None, epoch: 0 });
        Ok(())
    }
}

fn policy_key(id: &PolicyRef) -> PolicyKey {
    (id.namespace.clone(), id.name.clone())
}
