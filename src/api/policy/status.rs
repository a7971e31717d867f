//! What the operator sees and does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Label, ObjectName, Sentence, Word};

/// What the operator sees and does. It changes only when something changed.
//
// The default is what a new policy has until it has been looked at for the first time: without an `observedGeneration`
// GitOps controllers take an object for settled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct LatencyPolicyStatus {
    /// The generation of the spec that this status is about; -1 before the operator has looked at the policy at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, DataAvailable, WithinObjective, RemediationAllowed; Stalled only while it is true.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How bad the open incident is at its worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Word>,
    /// The open LatencyIncident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_incident: Option<ObjectName>,
    /// The number of the newest LatencyIncident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_ordinal: Option<i64>,
    /// The causes that are found now, roots first.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseStatus>,
    /// The rungs that would act and are refused.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<RefusalStatus>,
    /// The newest LatencyRemediation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_remediation: Option<RemediationSummary>,
    /// Until when it is paused, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub paused: Option<String>,
}

/// A cause that was found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CauseStatus {
    /// Its name.
    pub name: Word,
    /// Possible, Likely or Certain.
    pub confidence: Word,
    /// The cause that explains it; it is a mere symptom then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained_by: Option<Word>,
    /// What was found, with the numbers of the moment.
    pub message: Sentence,
}

/// A rung that would act and is refused.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RefusalStatus {
    /// The rung.
    pub rung: Label,
    /// The guard.
    pub guard: Word,
    /// Why, with the numbers of the moment.
    pub message: Sentence,
}

/// A LatencyRemediation in short.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RemediationSummary {
    /// Its name.
    pub name: ObjectName,
    /// Its action and how it stands: `CancelQuery Healed`.
    #[schemars(length(max = 128))]
    pub result: String,
}
