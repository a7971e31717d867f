//! A validated policy. Invalid states cannot be written down here; `src/api/convert.rs` is the only way in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ActionKind, ByName, DependencyKind, Name, Scheme, SecretRef, WarmSettings};

/// How much the operator may do. A later variant may do more than an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Look, explain, and write down what would have been done.
    Observe,
    /// Act without asking.
    Auto,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How bad a breach is. Ordered: `P2 < P1 < P0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Over the target.
    P2,
    /// Users are suffering.
    P1,
    /// The service is as good as down.
    P0,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which policy something belongs to. The uid tells a policy from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its namespace, which is also that of everything it refers to.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of workload that can be guarded.
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

/// The workload whose latency is guarded; in the policy's namespace.
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

/// How and how long is looked before something is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Time between two evaluations while all is well.
    pub interval: Duration,
    /// The span of traffic that one reading judges.
    pub window: Duration,
    /// How long a breach must last before it opens an incident.
    pub breach_for: Duration,
    /// How long calm must last before an incident is closed.
    pub recover_for: Duration,
    /// NoData readings in a row after which data counts as unavailable and an unconfirmed breach is forgotten.
    pub missing_data_after: u32,
}

/// The metrics of a known exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Preset {
    /// django-prometheus in the application's own pods.
    Django,
    /// Caddy as the edge in front of the application.
    Caddy,
}

/// Where an objective's readings come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A Prometheus-compatible backend of the operator's configuration.
    Prometheus {
        /// The backend's name there.
        backend: String,
        /// Whose metrics.
        preset: Preset,
        /// Further equality matchers; they narrow the preset's own and cannot replace them.
        match_labels: BTreeMap<String, String>,
        /// Where the views are counted, when the preset counts none.
        views: Option<ViewSource>,
    },
    /// A request of the operator's own; for latency only.
    Probe(ProbeSource),
}

/// What is asked for, and of whom. The answer is judged by itself: quantile and window do not apply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeSource {
    /// The Service, in the policy's namespace.
    pub service: String,
    /// Its port, by name or number.
    pub port: String,
    /// What is asked for.
    pub path: String,
    /// So long an answer may take, connecting included; longer than the target.
    pub timeout: Duration,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// How many of the last `of` answers must be slow or failed for a breach.
    pub failures: u32,
    /// How many of the last answers are judged.
    pub of: u32,
}

/// Where the views of the application behind a source are counted; in the source's own backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewSource {
    /// Whose metrics.
    pub preset: Preset,
    /// Further equality matchers; they narrow the preset's own and cannot replace them.
    pub match_labels: BTreeMap<String, String>,
}

/// From which latency on a breach is worse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySeverity {
    /// The level.
    pub level: Severity,
    /// The quantile lies above this.
    pub above: Duration,
}

/// From which share of errors on a breach is worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioSeverity {
    /// The level.
    pub level: Severity,
    /// The share lies above this (0 to 1).
    pub above: f64,
}

/// What an objective demands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ObjectiveKind {
    /// The quantile of request latency stays at or under the target.
    Latency {
        /// The quantile, 0 to 1.
        quantile: f64,
        /// The target.
        target: Duration,
        /// From when on it is worse.
        severities: Vec<LatencySeverity>,
    },
    /// The share of failed requests stays at or under the target.
    ErrorRatio {
        /// The target, 0 to 1.
        target: f64,
        /// From when on it is worse.
        severities: Vec<RatioSeverity>,
    },
}

/// One thing that users are promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Its name in the policy.
    pub name: String,
    /// What it demands.
    pub kind: ObjectiveKind,
    /// How bad a breach is that no level makes worse.
    pub severity: Severity,
    /// Where it is read.
    pub source: Source,
}

/// A PostgreSQL database that the target depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresDependency {
    /// The Secret that says where it is and how to log in.
    pub secret: SecretRef,
    /// Roles that the target connects as; empty means the Secret's user.
    pub client_roles: Vec<String>,
    /// Beginnings of the application names of the target's sessions; empty means all.
    pub client_applications: Vec<String>,
    /// Roles whose sessions may be signalled; empty means none.
    pub cancellable_roles: Vec<String>,
    /// CPU cores of the server, where they are declared.
    pub cores: Option<u32>,
    /// Connections that one pod of the target opens, where they are declared.
    pub connections_per_pod: Option<u32>,
}

/// What a Redis server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheUse {
    /// What it holds can be computed again.
    Cache,
    /// It hands tasks to workers: what it holds exists nowhere else, and lookups that find nothing are normal.
    Broker,
    /// It is both, so its hit ratio says nothing about the cache.
    Shared,
}

/// A Redis server that the target depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisDependency {
    /// The Secret that says where it is and how to log in.
    pub secret: SecretRef,
    /// What it is for.
    pub usage: CacheUse,
}

/// Something that the target depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dependency {
    /// A PostgreSQL database.
    Postgres(PostgresDependency),
    /// A Redis server.
    Redis(RedisDependency),
}

impl Dependency {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> DependencyKind {
        match self {
            Self::Postgres(_) => DependencyKind::Postgres,
            Self::Redis(_) => DependencyKind::Redis,
        }
    }

    /// The dependency that this one stands in front of: a pool in front of its database. Neither kind of today is one.
    #[must_use]
    pub fn stands_before(&self) -> Option<&str> {
        match self {
            Self::Postgres(_) | Self::Redis(_) => None,
        }
    }
}

/// Which databases the target uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Databases {
    /// Those among the dependencies. Where there are none it is not known that one is well.
    Declared,
    /// None.
    None,
}

impl fmt::Display for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Thresholds by dimension: the defaults of a cause, or what a policy sets instead of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// The age from which on the cause's subject counts.
    pub older_than: Option<Duration>,
    /// The value above which the cause counts; a ratio from 0 to 1 where it is one.
    pub above: Option<f64>,
    /// The value below which the cause counts; a ratio from 0 to 1 where it is one.
    pub below: Option<f64>,
    /// The number beyond which the cause counts.
    pub more_than: Option<u64>,
}

impl Thresholds {
    /// None of them.
    pub const NONE: Self = Self { older_than: None, above: None, below: None, more_than: None };

    /// These, and those of `others` in the dimensions that these do not set.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            older_than: self.older_than.or(others.older_than),
            above: self.above.or(others.above),
            below: self.below.or(others.below),
            more_than: self.more_than.or(others.more_than),
        }
    }
}

/// What is done with a transaction that has written and has not been committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UncommittedWrites {
    /// It is left alone: its work would be lost, and rolling it back takes time.
    Protect,
    /// It may be cancelled like any other; what it wrote is rolled back.
    RollBack,
}

impl fmt::Display for UncommittedWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How far, and under which conditions, replicas are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleSettings {
    /// How much is added at a time.
    pub step: ScaleStep,
    /// Never more replicas than these.
    pub max: u32,
    /// What was added is taken back after this time at the latest.
    pub max_hold: Duration,
}

/// How many replicas one step adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ScaleStep {
    /// A share of the replicas there are (0 to 1), rounded up; at least one.
    Share(f64),
    /// So many.
    Count(u32),
}

/// What a rung does, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RungAction {
    /// Cancel the running statement that is the cause.
    CancelQuery {
        /// Whether a transaction that has written may be cancelled.
        writes: UncommittedWrites,
        /// The session is ended when its statement still runs so long after it was cancelled; `None`: never.
        terminate_after: Option<Duration>,
    },
    /// End the session that is idle in a transaction.
    TerminateIdle {
        /// Whether a transaction that has written may be ended.
        writes: UncommittedWrites,
        /// So long it must have been idle.
        min_idle: Duration,
    },
    /// Add replicas.
    Scale(ScaleSettings),
    /// Fill a cache by asking the target for what it keeps there.
    WarmCache(WarmSettings),
}

impl RungAction {
    /// The kinds that must be allowed for everything that it may come to, as [`Action::permissions`] asks for each act.
    ///
    /// [`Action::permissions`]: super::Action::permissions
    #[must_use]
    pub fn permissions(&self) -> &'static [ActionKind] {
        match self {
            Self::CancelQuery { terminate_after: None, .. } => &[ActionKind::CancelQuery],
            Self::CancelQuery { terminate_after: Some(_), .. } => {
                &[ActionKind::CancelQuery, ActionKind::TerminateIdle]
            }
            Self::TerminateIdle { .. } => &[ActionKind::TerminateIdle],
            Self::Scale(_) => &[ActionKind::Scale],
            Self::WarmCache(_) => &[ActionKind::WarmCache],
        }
    }
}

/// One rung of the ladder of remedies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Its name in the policy.
    pub name: String,
    /// The causes that it answers.
    pub causes: Vec<Name>,
    /// What it does.
    pub action: RungAction,
    /// A mode of its own; it lowers the policy's and cannot raise it.
    pub mode: Option<Mode>,
    /// The least severity of an incident in which it runs.
    pub min_severity: Severity,
}

/// The policy's own limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardSettings {
    /// Acts of this policy in any 60 minutes.
    pub max_actions_per_hour: u32,
    /// Attempts in one incident.
    pub max_attempts_per_incident: u32,
    /// Rest of a resource between two acts on it.
    pub cooldown: Duration,
    /// The share of the target's replicas that must be ready (0 to 1): where more are missing, something else is wrong.
    pub min_available: f64,
}

/// When an act is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The judged window begins this long after the effect.
    pub after: Duration,
    /// Without a verdict by then it is inconclusive.
    pub within: Duration,
}

/// A validated policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Which one.
    pub id: PolicyRef,
    /// When it was created: of two policies on one workload the older one owns it.
    pub created_at: Timestamp,
    /// `metadata.generation`: which version of the spec this is.
    pub generation: i64,
    /// How much may be done.
    pub mode: Mode,
    /// The workload that is guarded.
    pub target: TargetRef,
    /// How it is looked.
    pub evaluation: Evaluation,
    /// What users are promised; never empty.
    pub objectives: Vec<Objective>,
    /// What the target depends on, by name.
    pub dependencies: ByName<Dependency>,
    /// Requests that one pod of the target serves at a time; without it saturation is not judged.
    pub concurrency_per_pod: Option<u32>,
    /// Which databases the target uses.
    pub databases: Databases,
    /// Overridden thresholds, by cause.
    pub thresholds: BTreeMap<Name, Thresholds>,
    /// The ladder; empty means diagnose only.
    pub rungs: Vec<Rung>,
    /// Limits.
    pub guards: GuardSettings,
    /// When an act is judged.
    pub verification: Verification,
    /// So many remediations, and so many closed incidents, are kept.
    pub history_limit: usize,
    /// What this version does not know of it and passes over, each with the field's path and the reason.
    pub ignored: Vec<String>,
    /// Paths of what this version stores and does not act on.
    pub unused: Vec<String>,
}

impl Policy {
    /// The mode that holds on a rung: the lower of the two.
    #[must_use]
    pub fn mode_of(&self, rung: &Rung) -> Mode {
        rung.mode.map_or(self.mode, |own| own.min(self.mode))
    }

    /// The rung of that name.
    #[must_use]
    pub fn rung(&self, name: &str) -> Option<&Rung> {
        self.rungs.iter().find(|rung| rung.name == name)
    }

    /// The objectives that are probed, by name, with what is asked for.
    pub fn probes(&self) -> impl Iterator<Item = (&str, &ProbeSource)> {
        self.objectives.iter().filter_map(|objective| match &objective.source {
            Source::Probe(probe) => Some((objective.name.as_str(), probe)),
            Source::Prometheus { .. } => None,
        })
    }

    /// The dependencies in the order in which people read them: kind by kind, and by name.
    #[must_use]
    pub fn by_kind(&self) -> Vec<(&String, &Dependency)> {
        let mut all: Vec<_> = self.dependencies.iter().collect();
        all.sort_by_key(|(_, declared)| declared.kind());
        all
    }

    /// The PostgreSQL databases among the dependencies, by name.
    pub fn databases(&self) -> impl Iterator<Item = (&String, &PostgresDependency)> {
        self.dependencies.iter().filter_map(|(name, dependency)| match dependency {
            Dependency::Postgres(postgres) => Some((name, postgres)),
            Dependency::Redis(_) => None,
        })
    }

    /// The Redis servers among the dependencies, by name.
    pub fn caches(&self) -> impl Iterator<Item = (&String, &RedisDependency)> {
        self.dependencies.iter().filter_map(|(name, dependency)| match dependency {
            Dependency::Redis(redis) => Some((name, redis)),
            Dependency::Postgres(_) => None,
        })
    }
}
