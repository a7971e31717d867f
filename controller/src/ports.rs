//! The ports: everything that the driver asks of the world.
//!
//! A port answers with values of the engine. What failed is told apart only as far as a driver may know it: see
//! [`WriteError`]. An implementation never repeats a write whose answer was lost.

use std::future::Future;
use std::time::Duration;

use engine::advance::EffectReport;
use engine::effects::{Inspection, Requests, SetReplicas, SignalSession};
use engine::model::{
    ByName, DependencyKind, Draining, EntryKey, Facts, Limits, Observations, Observed, Pause, Policy,
    PolicyRef, Remediation, RemediationStatus, SecretRef, Target, TargetRef, Workload,
};
use jiff::Timestamp;

use crate::PolicyKey;
use crate::announcement::Announcement;
use crate::conditions::ConditionReport;
use crate::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, LiveReplicas, LiveTarget, Measurement, NewRemediation,
    PolicyMeta, Recorded, Stored, StoredBudget, StoredIncident, StoredPolicy, StoredReport, Version,
};
use crate::report::{BudgetReport, IncidentReport, PolicyReport};

/// Why a write has not certainly succeeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Somebody else wrote first, or created it first. Nothing was written.
    #[error("somebody else was first: {0}")]
    Conflict(String),
    /// The object does not exist. Nothing was written.
    #[error("it does not exist any more: {0}")]
    Gone(String),
    /// The API server refused. Nothing was written.
    #[error("the API server refused: {0}")]
    Refused(String),
    /// The answer was lost: it may have been written.
    #[error("the answer was lost: {0}")]
    Lost(String),
}

/// Why something could not be read, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// What a write answers.
pub type Written<T> = Result<T, WriteError>;
/// What a read answers.
pub type Read<T> = Result<T, ReadError>;

/// The types that implement the ports of one process.
pub trait Environment: Send + Sync + Sized + 'static {
    /// See [`Cluster`].
    type Cluster: Cluster;
    /// See [`Observe`].
    type Observe: Observe;
    /// See [`Act`].
    type Act: Act;
    /// See [`Announce`].
    type Announce: Announce;
    /// See [`Time`].
    type Time: Time;
    /// See [`Leading`].
    type Leading: Leading;
}

/// The ports of one process.
pub struct Ports<E: Environment> {
    /// The API server.
    pub cluster: E::Cluster,
    /// Sources of objectives, data stores, and what watches show of targets.
    pub observe: E::Observe,
    /// Effects outside of the API server.
    pub act: E::Act,
    /// Events, logs and metrics.
    pub announce: E::Announce,
    /// Clock, timers and tasks.
    pub time: E::Time,
    /// This process's term.
    pub leading: E::Leading,
}

/// The API server. Reads are live unless a method says otherwise.
pub trait Cluster: Send + Sync + 'static {
    /// Holds one of the places for policy statuses that may be written at one time.
    type StatusPermit: Send;

    /// A policy. One that cannot be decoded is an error.
    fn policy(&self, key: &PolicyKey) -> impl Future<Output = Read<Option<StoredPolicy>>> + Send;
    /// A policy's metadata, also where the rest of it cannot be decoded.
    fn policy_meta(&self, key: &PolicyKey) -> impl Future<Output = Read<Option<PolicyMeta>>> + Send;
    /// A place to write a policy's status; none where many are being written and it took too long to get one.
    fn status_permit(&self) -> impl Future<Output = Option<Self::StatusPermit>> + Send;
    /// Replaces a policy's status, if it still has that version.
    fn write_policy_status(
        &self,
        policy: &PolicyRef,
        version: &Version,
        report: &PolicyReport,
    ) -> impl Future<Output = Written<StoredReport>> + Send;
    /// Sets the conditions of a policy that cannot be decoded, and its state, which is Stalled then; nothing else of it is
    /// touched.
    fn write_conditions(
        &self,
        key: &PolicyKey,
        generation: i64,
        conditions: &[ConditionReport],
    ) -> impl Future<Output = Written<()>> + Send;

    /// An incident.
    fn incident(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Read<Option<FoundIncident>>> + Send;
    /// All incidents of policies of that name, those that cannot be decoded included.
    fn incidents(&self, policy: &PolicyKey) -> impl Future<Output = Read<Vec<IncidentSummary>>> + Send;
    /// Creates an incident under its name, owned by its policy.
    fn create_incident(
        &self,
        name: &str,
        spec: &IncidentSpec,
    ) -> impl Future<Output = Written<StoredIncident>> + Send;
    /// Replaces an incident's status, if it still has that version.
    fn write_incident(
        &self,
        stored: &StoredIncident,
        report: &IncidentReport,
    ) -> impl Future<Output = Written<StoredIncident>> + Send;
    /// Deletes exactly this version of an incident.
    fn delete_incident(
        &self,
        namespace: &str,
        incident: &IncidentSummary,
    ) -> impl Future<Output = Written<()>> + Send;

    /// Every LatencyRemediation that can be understood, consistently.
    fn remediations(&self) -> impl Future<Output = Read<Vec<Remediation>>> + Send;
    /// A remediation. One that cannot be understood is an error.
    fn remediation(&self, key: &EntryKey) -> impl Future<Output = Read<Option<Stored<Remediation>>>> + Send;
    /// Whether a remediation is being deleted, also where the rest of it cannot be understood; nothing where it is gone.
    fn is_deleting(&self, key: &EntryKey) -> impl Future<Output = Read<Option<bool>>> + Send;
    /// Creates a remediation under its name.
    fn create_remediation(
        &self,
        new: &NewRemediation,
    ) -> impl Future<Output = Written<Stored<Remediation>>> + Send;
    /// Replaces a remediation's status, if it still has that version.
    fn write_remediation(
        &self,
        stored: &Stored<Remediation>,
        status: &RemediationStatus,
    ) -> impl Future<Output = Written<Stored<Remediation>>> + Send;
    /// Removes our finalizer from a remediation, if it still has that version.
    fn release_remediation(
        &self,
        stored: &Stored<Remediation>,
    ) -> impl Future<Output = Written<Stored<Remediation>>> + Send;
    /// Deletes exactly this version of a remediation.
    fn delete_remediation(&self, stored: &Stored<Remediation>) -> impl Future<Output = Written<()>> + Send;
    /// Queues a remediation, because something that it waits for may have changed.
    fn requeue(&self, remediation: EntryKey);

    /// The administrator's ceilings as the watch shows them.
    fn limits(&self) -> Limits;
    /// The ceilings as the API server holds them at this moment, for something that is done in `namespace`. Where they, or
    /// the labels of that namespace, cannot be read: limits that let nothing through.
    fn refresh_limits(&self, namespace: &str) -> impl Future<Output = Result<Limits, Limits>> + Send;
    /// All RemediationBudgets that can be decoded, with their statuses, as the watch shows them.
    fn budgets(&self) -> Vec<StoredBudget>;
    /// Sets the status of a RemediationBudget.
    fn write_budget(&self, name: &str, report: &BudgetReport) -> impl Future<Output = Written<()>> + Send;

    /// Target and namespace: uid, opt-out and pauses.
    fn live_target(
        &self,
        namespace: &str,
        target: &TargetRef,
    ) -> impl Future<Output = Read<LiveTarget>> + Send;
    /// The target's replicas, who set them, and what else scales it.
    fn live_workload(
        &self,
        namespace: &str,
        target: &TargetRef,
    ) -> impl Future<Output = Read<Workload>> + Send;
    /// The replicas of a workload, with the version for [`Self::write_replicas`].
    fn replicas(
        &self,
        namespace: &str,
        target: &TargetRef,
    ) -> impl Future<Output = Read<LiveReplicas>> + Send;
    /// Sets a workload's replicas through its scale subresource, if it still has that version and uid. `remediation` says for what.
    fn write_replicas(
        &self,
        remediation: &EntryKey,
        set: &SetReplicas,
        version: &Version,
    ) -> impl Future<Output = Written<()>> + Send;
}

/// How a dependency is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// An earlier reading is good enough if it is not older than this.
    pub max_age: Duration,
    /// Nobody waits longer for an answer. The reading goes on; the next one who asks finds its result.
    pub patience: Duration,
}

/// How much is read of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What the watch shows: while all is well.
    Watched,
    /// The replicas as well, live.
    Live {
        /// And what else scales the target: where a remediation would.
        autoscalers: bool,
    },
}

/// Sources of objectives and data stores. Each answers within its own time limit; what does not answer is a missing value.
pub trait Observe: Send + Sync + 'static {
    /// What is measured for each objective, by its name. `elevated`: something is wrong, so nothing old is used.
    fn measurements(
        &self,
        policy: &Policy,
        elevated: bool,
    ) -> impl Future<Output = ByName<Observed<engine::model::Measurement>>> + Send;
    /// A dependency of this kind, at the server that the Secret leads to.
    fn dependency(
        &self,
        namespace: &str,
        kind: DependencyKind,
        secret: &SecretRef,
        cadence: Cadence,
    ) -> impl Future<Output = Observed<Facts>> + Send;
    /// The target, or another workload that a policy names.
    fn target(
        &self,
        namespace: &str,
        target: &TargetRef,
        detail: Detail,
    ) -> impl Future<Output = Observed<Target>> + Send;
    /// Everything of one policy has been read.
    fn observed(&self, policy: &Policy, observations: &Observations);
    /// The pauses on target and namespace, as the watch shows them.
    fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause>;
    /// What is wrong with the references of a policy's objectives, each with its field.
    fn problems(&self, policy: &Policy) -> Vec<String>;
    /// How often the sources of a policy's objectives can say something new; nothing where each reading does.
    fn resolution(&self, policy: &Policy) -> Option<Duration>;
    /// What has become of the session that is signalled, or of its statement where that is cancelled.
    fn session(&self, namespace: &str, signal: &SignalSession) -> impl Future<Output = Inspection> + Send;
}

/// Effects outside of the API server. Each is sent at most once, and cannot happen after its fence.
pub trait Act: Send + Sync + 'static {
    /// Signals a session, if it is still what was decided about. The fence is on the *server's* clock.
    fn signal(
        &self,
        remediation: &Remediation,
        signal: &SignalSession,
        fence: Timestamp,
    ) -> impl Future<Output = EffectReport> + Send;
    /// Sends the `number`-th request of a run to the target's Service. `may` is asked last before it is sent.
    fn request(
        &self,
        remediation: &Remediation,
        requests: &Requests,
        path: &str,
        number: usize,
        fence: Timestamp,
        may: impl Fn() -> bool + Send + Sync,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Where people and machines learn what was decided. Nothing in here blocks.
pub trait Announce: Send + Sync + 'static {
    /// Hands an announcement in, in the order in which decisions are made.
    fn announce(&self, announcement: &Announcement);
    /// Counts or sets a metric.
    fn measure(&self, measurement: Measurement<'_>);
    /// Takes in an evaluation that is over, where they are recorded.
    fn evaluated(&self, recorded: Recorded<'_>);
}

/// A place where announcements end: Events, the log, a chat. Each is one file, and one line of the table of sinks.
pub trait Sink: Send + Sync + 'static {
    /// Whether this announcement belongs there.
    fn wants(&self, announcement: &Announcement) -> bool;
    /// Takes in an announcement that it wants. It does not block: a sink that waits for a server has a queue of its own.
    fn deliver(&self, announcement: &Announcement);
}

/// Clock and timers.
pub trait Timer: Send + Sync + 'static {
    /// The instant, on the clock that was agreed on with the API server.
    fn now(&self) -> Timestamp;
    /// The time since some fixed instant. It goes on while the machine is suspended.
    fn monotonic(&self) -> Duration;
    /// Waits.
    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static;
}

/// Clock, timers, tasks and chance.
pub trait Time: Timer {
    /// Runs a task in the background until it ends, or the controllers do.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
    /// A number from 0 to 1, another one each time.
    fn chance(&self) -> f64;
}

/// This process's term as the leader.
pub trait Leading: Send + Sync + 'static {
    /// Whether the Lease is provably held at this instant.
    fn held(&self) -> bool;
    /// The operator's identity.
    fn identity(&self) -> &str;
    /// The term: the Lease's transitions.
    fn epoch(&self) -> u64;
    /// What the mark of an uninstallation on the Lease says.
    fn draining(&self) -> Option<Draining>;
    /// How long ago the API server last answered a renewal.
    fn since_contact(&self) -> Duration;
}
