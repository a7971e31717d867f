//! `LatencyIncident`: one breach episode, and the story of it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{CauseStatus, RefusalStatus};
use super::text::{Instant, ObjectName, Sentence, Word};

/// One breach episode: what was broken, why, what was tried, and how it ended. Written by the operator.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "LatencyIncident",
    plural = "latencyincidents",
    shortname = "li",
    category = "latency",
    namespaced,
    status = "LatencyIncidentStatus",
    derive = "PartialEq",
    doc = "One breach episode: what was broken, why, what was tried, and how it ended. Written by the operator.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Severity", type_ = "string", json_path = ".status.severity"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".status.causes[0].name"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("the spec of a LatencyIncident is immutable"))]
#[serde(rename_all = "camelCase")]
pub struct LatencyIncidentSpec {
    /// The policy whose objectives were broken.
    pub policy_ref: PolicyReference,
    /// The workload that is guarded: `Deployment/orders-api`.
    #[schemars(length(max = 320))]
    pub target: String,
    /// Its number within the policy.
    #[schemars(range(min = 1))]
    pub ordinal: i64,
    /// The first reading that said Breached.
    pub first_breached_at: Instant,
    /// When the breach had lasted long enough to be believed.
    pub opened_at: Instant,
}

/// A policy of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyReference {
    /// Its name.
    pub name: ObjectName,
    /// Its uid, which tells it from a later one of the same name.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What is known about the episode. It changes only when something changed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyIncidentStatus {
    /// Open or Closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Word>,
    /// How bad it was at its worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Word>,
    /// When it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Instant>,
    /// When a leader that had just taken over made sure that it stays closed: whatever an earlier one was about to write is
    /// refused by the API server since then, because the object has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure_confirmed_at: Option<Instant>,
    /// The last time that it was opened again: a breach within 30 minutes of its end is the same trouble come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reopened: Option<Reopening>,
    /// How it ended: Healed, RecoveredUnattributed (something of ours was tried, no effect was seen), or RecoveredAlone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
    /// What is or was broken, with the numbers of the moment.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Sentence>,
    /// The causes that were found last, roots first.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseStatus>,
    /// What was refused last, and by which guard.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<RefusalStatus>,
    /// The LatencyRemediations of this incident.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Why people have to decide, where they have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Sentence>,
    /// What happened, in order. The oldest entries go when there are more than 64.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineEntry>,
}

/// An incident that goes on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Reopening {
    /// How often it has been opened again.
    #[schemars(range(min = 1))]
    pub times: i32,
    /// The first reading that said Breached, of the last time.
    pub first_breached_at: Instant,
    /// When that breach had lasted long enough to be believed.
    pub at: Instant,
}

/// A LatencyRemediation of the incident.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its name.
    pub name: ObjectName,
    /// Its phase.
    pub phase: Word,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
}

/// One thing that happened.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// When.
    pub at: Instant,
    /// What, as the reason of the Event that told it.
    pub reason: Word,
    /// One sentence, with the numbers.
    pub message: Sentence,
}
