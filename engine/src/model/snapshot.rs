//! Everything that is known at one instant: the only input of `tick` besides its memory.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ActionKind, ClosedIncident, Dependency, Facts, Incident, Observations, Place, Policy, Read, Remediation,
    ResourceKey, Root, Shared, Subject, Target, TargetRef,
};

/// Where a pause was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PausedBy {
    /// On the policy.
    Policy,
    /// On the target.
    Target,
    /// On the namespace.
    Namespace,
}

impl fmt::Display for PausedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "the policy",
            Self::Target => "the target",
            Self::Namespace => "the namespace",
        })
    }
}

/// An annotation `latency-operator.dev/paused-until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Where it stands.
    pub by: PausedBy,
    /// Its text: an RFC 3339 time or `forever`; anything else counts as paused.
    pub until: String,
    /// The annotation `latency-operator.dev/paused-reason` beside it.
    pub reason: Option<String>,
}

impl Pause {
    /// When it ends, where its text says so.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.until.trim().parse().ok()
    }

    /// Whether it holds at `now`. What cannot be read as a time is a pause without an end: a typo must not act.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.ends_at().is_none_or(|end| now < end)
    }
}

/// What the operator knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHealth {
    /// Since when this process leads and evaluates.
    pub leading_since: Timestamp,
    /// The last time that the Kubernetes API answered.
    pub api_contact_at: Timestamp,
    /// Without an answer for longer than this nothing is done.
    pub api_contact_within: Duration,
    /// Actions that the administrator has not switched off.
    pub enabled_actions: Shared<Vec<ActionKind>>,
    /// Database roles that are never touched, whatever a policy says.
    pub protected_roles: Shared<Vec<String>>,
}

/// Something that was done, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PastAct {
    /// When.
    pub acted_at: Timestamp,
    /// The incident's name.
    pub incident: String,
    /// What.
    pub kind: ActionKind,
    /// To what.
    pub resource: ResourceKey,
    /// It was followed by recovery, and caused it.
    pub healed: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The instant. Never earlier than that of the snapshot before.
    pub now: Timestamp,
    /// The policy.
    pub policy: Policy,
    /// What was read.
    pub observations: Observations,
    /// The open incident.
    pub incident: Option<Incident>,
    /// Where none is open: the last one, as long as a breach may open it again.
    pub closed: Option<ClosedIncident>,
    /// The number of the next incident.
    pub next_ordinal: u64,
    /// The LatencyRemediations of the open incident (or of the closed one, above), and all others of the policy that are not over.
    pub remediations: Vec<Remediation>,
    /// What the policy did in the last 24 hours, oldest first, whatever became of the objects.
    pub history: Vec<PastAct>,
    /// The operator.
    pub operator: OperatorHealth,
}

impl Snapshot {
    /// What was read, of a policy to which nothing has happened. What has is set on its fields.
    #[must_use]
    pub fn new(now: Timestamp, policy: Policy, observations: Observations, operator: OperatorHealth) -> Self {
        Self {
            now,
            policy,
            observations,
            incident: None,
            closed: None,
            next_ordinal: 1,
            remediations: Vec::new(),
            history: Vec::new(),
            operator,
        }
    }

    /// The culprit that a subject names, where the subject is a session of a database that could be read.
    #[must_use]
    pub fn root(&self, subject: &Subject) -> Option<Root> {
        let Subject::Session { dependency, session } = subject else { return None };
        let (_, facts) = self.observations.postgres(dependency)?.ok()?;
        Root::of_resource(&ResourceKey::database(&self.policy.id.namespace, &facts.server), session)
    }

    /// What was read of the target, or of a dependency that is this workload; none where the policy names it nowhere.
    #[must_use]
    pub fn workload(&self, workload: &TargetRef) -> Option<Read<'_, Target>> {
        if *workload == self.policy.target {
            return Some(self.observations.target.as_result());
        }
        let of = |declared: &Dependency| match declared.place() {
            Place::Workload { target, .. } => target == workload,
            Place::Store(_) => false,
        };
        let (name, _) = self.policy.dependencies.iter().find(|(_, declared)| of(declared))?;
        self.observations.of(name, Facts::workload)
    }

    /// Whether no database failed to be read.
    pub(crate) fn sees_all_databases(&self) -> bool {
        let mut databases = self.policy.databases().map(|(name, _)| self.observations.postgres(name));
        databases.all(|read| !matches!(read, Some(Err(_))))
    }
}
