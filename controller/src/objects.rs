//! The values that cross the ports: stored objects, with what a compare-and-swap needs; what is measured.

use std::time::Duration;

use engine::model::{
    Budget, ClosedIncident, EntryKey, Incident, NoDataReason, Pause, Policy, PolicyRef, RemediationSpec,
    Severity, Snapshot, TargetRef, WorkloadNow,
};
use engine::record::DecisionRecord;
use engine::{Admitted, Overall};
use jiff::Timestamp;

use crate::PolicyKey;
use crate::conditions::Stalled;
use crate::report::{BudgetReport, IncidentPhase, IncidentReport, PolicyReport};

/// An object's resourceVersion. Equal versions of one object are the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub Box<str>);

impl Version {
    /// Its place among the versions of one API server, where it is a number (KEP-5504).
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

/// A stored object.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// What it says.
    pub value: T,
    /// Which life of its name it is.
    pub uid: String,
    /// Its version.
    pub version: Version,
    /// Finalizers that are not ours.
    pub other_finalizers: Vec<String>,
}

/// Why nothing can be done for a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The reason.
    pub why: Stalled,
    /// Each problem with its field's path.
    pub message: String,
}

/// A policy as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPolicy {
    /// Which policy.
    pub id: PolicyRef,
    /// The generation of its spec.
    pub generation: i64,
    /// Its version.
    pub version: Version,
    /// It is being deleted.
    pub deleting: bool,
    /// The pause that its annotations declare.
    pub pause: Option<Pause>,
    /// What it asks for.
    pub spec: Result<Policy, Rejected>,
    /// What its status says.
    pub report: PolicyReport,
}

impl StoredPolicy {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> (String, String) {
        (self.id.namespace.clone(), self.id.name.clone())
    }

    /// Its status, as it is stored.
    #[must_use]
    pub fn stored_report(&self) -> StoredReport {
        StoredReport {
            generation: self.generation,
            version: self.version.clone(),
            report: self.report.clone(),
        }
    }
}

/// A RemediationBudget as the watch shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBudget {
    /// What it asks for.
    pub budget: Budget,
    /// The generation of its spec.
    pub generation: i64,
    /// Each part of it that this version does not know, with the field's path.
    pub problems: Vec<String>,
    /// What its status says.
    pub report: BudgetReport,
}

/// A policy's status as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReport {
    /// The generation of the policy's spec.
    pub generation: i64,
    /// The policy's version.
    pub version: Version,
    /// What the status says.
    pub report: PolicyReport,
}

/// A stored policy of which only the metadata can be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecodablePolicy {
    /// Which policy.
    pub id: PolicyRef,
    /// The generation of its spec.
    pub generation: i64,
    /// What cannot be decoded, with the field's path.
    pub error: String,
}

/// A policy's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyMeta {
    /// Which life of its name it is.
    pub uid: String,
    /// It is being deleted.
    pub deleting: bool,
}

/// What an incident says once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentSpec {
    /// The policy that owns it.
    pub policy: PolicyRef,
    /// The workload that is guarded.
    pub target: TargetRef,
    /// Its number within the policy.
    pub ordinal: u64,
    /// The first Breached reading.
    pub first_breached_at: Timestamp,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// An incident as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIncident {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its number within the policy.
    pub ordinal: u64,
    /// The first Breached reading, before it was ever opened again.
    pub first_breached_at: Timestamp,
    /// When it was opened for the first time.
    pub opened_at: Timestamp,
    /// What its status says.
    pub report: IncidentReport,
}

/// What a stored incident is to the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Episode {
    /// It goes on.
    Open(Incident),
    /// It has ended; a breach soon after opens it again.
    Closed(ClosedIncident),
    /// It has ended at an unknown time.
    Over,
}

impl StoredIncident {
    /// What it is to the engine. There is no incident that cannot be understood.
    #[must_use]
    pub fn episode(&self) -> Episode {
        let again = self.report.reopened.as_ref();
        let incident = Incident {
            name: self.name.clone(),
            ordinal: self.ordinal,
            first_breached_at: again.map_or(self.first_breached_at, |again| again.first_breached_at),
            opened_at: again.map_or(self.opened_at, |again| again.at),
            severity: self.report.severity.unwrap_or(Severity::P2),
            reopened: again.map_or(0, |again| again.times),
        };
        match (self.report.phase, self.report.closed_at) {
            (Some(IncidentPhase::Closed), Some(at)) => Episode::Closed(ClosedIncident { incident, at }),
            (Some(IncidentPhase::Closed), None) => Episode::Over,
            (Some(IncidentPhase::Open) | None, _) => Episode::Open(incident),
        }
    }
}

/// What a live read of an incident finds.
#[derive(Debug, Clone, PartialEq)]
pub enum FoundIncident {
    /// The incident.
    Readable(Box<StoredIncident>),
    /// It is there and cannot be decoded; why.
    Undecodable(String),
}

/// What a list shows of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentSummary {
    /// Its name.
    pub name: String,
    /// Which life of its name it is.
    pub uid: String,
    /// Its version.
    pub version: Version,
    /// When it was opened, and its number, where it is closed.
    pub closed: Option<(Timestamp, u64)>,
}

/// A remediation that is to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRemediation {
    /// Namespace and name.
    pub key: EntryKey,
    /// What it says.
    pub spec: RemediationSpec,
    /// It gets our finalizer, so that what has to be rolled back is not lost with it.
    pub held: bool,
}

/// Target and namespace as the API server holds them at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTarget {
    /// The target's uid; none while it is being deleted.
    pub uid: Option<String>,
    /// The target's annotation that opts out, if it has one.
    pub opt_out: Option<String>,
    /// The pauses on target and namespace.
    pub pauses: Vec<Pause>,
}

/// A workload's replicas as the API server holds them at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveReplicas {
    /// The workload is there to stay.
    Present(WorkloadNow, Version),
    /// It is being deleted.
    Deleting,
    /// It does not exist.
    Gone,
}

/// An evaluation that is over: what it knew and what it decided.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// What was known.
    pub snapshot: &'a Snapshot,
    /// What admission answered to the proposals.
    pub answers: &'a [Admitted],
    /// What was decided.
    pub records: &'a [DecisionRecord],
}

/// Something that is counted or shown as a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measurement<'a> {
    /// An evaluation is over.
    Evaluated {
        /// What it found.
        overall: Overall,
        /// How long it took.
        took: Duration,
    },
    /// An evaluation began this much after it was due.
    Late(Duration),
    /// Everything that one evaluation needs was read in this time.
    Read(Duration),
    /// A source could not be read.
    NoData(NoDataReason),
    /// An incident was opened.
    Incident(Severity),
    /// How a policy stands.
    Policy {
        /// Which policy.
        policy: &'a PolicyKey,
        /// Its condition `Ready` is True.
        ready: bool,
        /// Whether its objectives are kept, where that is known.
        within: Option<bool>,
        /// The measured value of its first objective.
        value: Option<f64>,
    },
    /// A policy is gone, and its gauges with it.
    Forgotten(&'a PolicyKey),
}
