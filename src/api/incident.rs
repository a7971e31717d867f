//! `LatencyIncident`: one breach episode, with its timeline.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{CauseStatus, RefusalStatus, TargetRef};
use super::text::{Instant, Label, ObjectName, Sentence, Word};

/// One breach episode: what was breached, why, what was tried, and how it ended. The operator writes it.
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
    doc = "One breach episode: what was breached, why, what was tried, and how it ended. The operator writes it.",
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
    /// Policy whose objectives were breached.
    pub policy_ref: PolicyReference,
    /// Workload that the policy guards. Example: {apiVersion: apps/v1, kind: Deployment, name: orders-api}
    pub target_ref: TargetRef,
    /// Number of the incident within the policy, from 1. It is the end of the name.
    #[schemars(range(min = 1))]
    pub ordinal: i64,
    /// Time of the first reading that was Breached. Example: "2026-12-24T03:00:00Z"
    pub first_breached_at: Instant,
    /// Time at which the breach had lasted for `evaluation.breachFor`. Example: "2026-12-24T03:01:00Z"
    pub opened_at: Instant,
}

/// A policy of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyReference {
    /// Name of the policy. Example: orders-api
    pub name: ObjectName,
    /// Uid of the policy: it tells the policy from a later one of the same name.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// The state of the incident. It is written only when something changed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyIncidentStatus {
    /// Resolved: False (reason Open) while the incident is open, True once it is closed, with the outcome as the reason.
    /// `kubectl wait --for=condition=Resolved li/NAME` waits for the end.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Open or Closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Word>,
    /// Worst severity so far: P0, P1 or P2. P0 is the worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Word>,
    /// Time at which the incident was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Instant>,
    /// Time at which a new leader confirmed the closed incident. The API server has refused late writes of earlier leaders since
    /// then, because the object has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure_confirmed_at: Option<Instant>,
    /// Last time that the incident was reopened: a breach within 30 minutes of its end belongs to the same incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reopened: Option<Reopening>,
    /// How the incident ended: Healed (a remediation had its effect), RecoveredUnattributed (a remediation ran, and no effect
    /// was seen) or RecoveredAlone (nothing was done).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
    /// Objectives that are or were breached, each with the numbers of the moment.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub breached: Vec<Sentence>,
    /// Causes that were found last, root causes first.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseStatus>,
    /// Remediations that were refused last, each with the guard and the numbers of the moment.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalStatus>,
    /// LatencyRemediations of this incident: actions, dry runs, and what was refused at the last moment.
    #[schemars(length(max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remediations: Vec<IncidentRemediation>,
    /// Why the incident was escalated to on-call. It is left out while the incident is not escalated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Sentence>,
    /// Notifications that were sent, so that another leader does not send them again. This version sends none and keeps the list.
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["route", "key"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notified: Vec<Notified>,
    /// Events of the incident, in order. At most 64 entries are kept; the oldest go first.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineEntry>,
}

/// Last time that an incident was reopened.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Reopening {
    /// Number of times that the incident was reopened.
    #[schemars(range(min = 1))]
    pub times: i32,
    /// Time of the first reading that was Breached, of the last time.
    pub first_breached_at: Instant,
    /// Time at which that breach had lasted for `evaluation.breachFor`.
    pub at: Instant,
}

/// A LatencyRemediation of the incident.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct IncidentRemediation {
    /// Name of the LatencyRemediation.
    pub name: ObjectName,
    /// Phase of the LatencyRemediation. Example: Verifying
    pub phase: Word,
    /// Outcome of the LatencyRemediation, once it has one. Example: Healed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
}

/// A notification that was sent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Notified {
    /// Name of the notification in the policy, or in the operator's configuration. Example: oncall
    pub route: Label,
    /// Key of the message: one key is sent to one route once. Example: opened/P1
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// Time at which the message was sent.
    pub at: Instant,
}

/// One entry of the timeline.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// Time of the entry.
    pub at: Instant,
    /// Reason of the Event that reported it. Example: CauseFound
    pub reason: Word,
    /// One sentence with the numbers of the moment.
    pub message: Sentence,
}
