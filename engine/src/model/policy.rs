//! A validated policy. Invalid states cannot be written down here; `src/api/convert.rs` is the only way in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ByName, Dependency, Name, PostgresDependency, ProbeSource, RungAction, Source, TargetRef};

/// How much the operator may do. A later variant may do more than an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Look, explain, and write down what would have been done.
    Observe,
    /// Act after a person has approved. Policies of this version do not have it; a stored remediation may.
    Approve,
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

    /// The workload that a rung's action changes, if it changes one.
    #[must_use]
    pub fn changes<'a>(&'a self, rung: &'a Rung) -> Option<&'a TargetRef> {
        rung.action.settings().changes(self)
    }

    /// The objectives for which single requests are timed, by name, with what is asked for.
    pub fn probes(&self) -> impl Iterator<Item = (&str, &ProbeSource)> {
        self.objectives
            .iter()
            .filter_map(|objective| Some((objective.name.as_str(), objective.source.timed()?)))
    }

    /// The dependencies in the order in which people read them: kind by kind, and by name.
    #[must_use]
    pub fn by_kind(&self) -> Vec<(&String, &Dependency)> {
        let mut all: Vec<_> = self.dependencies.iter().collect();
        all.sort_by_key(|(_, declared)| declared.kind());
        all
    }

    /// The dependencies of one kind, by name. `of` picks the kind, as [`Dependency::postgres`] does.
    pub fn each<'a, D: 'a>(
        &'a self,
        of: fn(&'a Dependency) -> Option<&'a D>,
    ) -> impl Iterator<Item = (&'a String, &'a D)> {
        self.dependencies.iter().filter_map(move |(name, dependency)| Some((name, of(dependency)?)))
    }

    /// The PostgreSQL databases among the dependencies, by name.
    pub fn databases(&self) -> impl Iterator<Item = (&String, &PostgresDependency)> {
        self.each(Dependency::postgres)
    }
}
