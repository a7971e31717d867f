//! What the operator sees and does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Threshold;
use crate::api::text::{Duration, Instant, Label, ObjectName, Sentence, Word};

/// The operator's findings and actions. It is written only when something changed.
//
// The default is what a new policy has until it has been looked at for the first time: without an `observedGeneration`
// GitOps controllers take an object for settled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct LatencyPolicyStatus {
    /// Generation of the spec that this status is about; -1 until the operator has looked at the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, DataAvailable, WithinObjective, RemediationAllowed; Stalled only while it is true.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The policy in one word, the first that applies: Stalled (the spec cannot be used), Paused, Breached (an objective is
    /// breached), Recovering (all are met again, and the incident is still open), NotReady (something that the policy refers to
    /// is missing), Pending (nothing has been read yet), NoData (not every objective can be judged) or Healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Word>,
    /// Worst objective in short, against the bound that it is judged at. Example: p95 812ms > 500ms
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub measured: Option<String>,
    /// Objectives with their last verdict. The numbers are those of the last write: a write comes with a new verdict, with
    /// another change of this status, and at most hourly where a value moved by more than a fifth.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveStatus>,
    /// Values in force that the spec leaves out, or that are derived from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Worst severity of the open incident: P0, P1 or P2. P0 is the worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Word>,
    /// Name of the open LatencyIncident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_incident: Option<ObjectName>,
    /// Number of the newest LatencyIncident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_ordinal: Option<i64>,
    /// Causes that are found now, root causes first.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseStatus>,
    /// Remediations that would run and are refused, each with the guard and the numbers of the moment.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalStatus>,
    /// Newest LatencyRemediation of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_remediation: Option<RemediationSummary>,
    /// Time until which the policy is paused, as the annotation says it. It is left out while the policy is not paused.
    /// Example: forever
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub paused: Option<String>,
}

/// An objective with its last verdict.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveStatus {
    /// Name of the objective in the spec. Example: p95
    pub name: Label,
    /// Breached, Healthy, or NoData (it cannot be judged; the condition DataAvailable says why).
    pub verdict: Word,
    /// Measured value: a percentile of the latency, or the share of failed requests. It is left out where there is none.
    /// Example: 812ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub measured: Option<String>,
    /// Threshold of the spec. Example: 500ms
    #[schemars(length(max = 32))]
    pub threshold: String,
    /// Bucket bound of the histogram at which the threshold is judged: the smallest one that is not below the threshold. It is
    /// left out where the source is no histogram. Example: 500ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub bucket_bound: Option<String>,
    /// Number of requests in the window. It is left out where they cannot be counted. Example: 379
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub requests: Option<i64>,
    /// Time since which the verdict stands. A verdict stands for at least one `evaluation.interval`.
    pub since: Instant,
    /// Time of the numbers.
    pub measured_at: Instant,
}

/// Values in force that the spec leaves out, or that are derived from it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Effective {
    /// How the objectives are evaluated.
    pub evaluation: EffectiveEvaluation,
    /// How the effect of an action is judged.
    pub verification: EffectiveVerification,
    /// Thresholds of the causes that have one: those of `spec.diagnosis`, else the defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cause".into()]))]
    pub thresholds: Vec<Threshold>,
}

/// How the objectives are evaluated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveEvaluation {
    /// Time without data after which an objective is NoData: `evaluation.noDataAfter` in whole intervals. Example: 45s
    pub no_data_after: Duration,
    /// Time between two readings that can differ: the longest `scrapeInterval` of the backends that the objectives use. During a
    /// breach, evaluations come at this pace. It is left out where all objectives are probes. Example: 15s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Duration>,
}

/// How the effect of an action is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EffectiveVerification {
    /// Time after which an action without a verdict is inconclusive. Example: 5m
    pub within: Duration,
}

/// A cause that was found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CauseStatus {
    /// Name of the cause. Example: RunawayQuery
    pub name: Word,
    /// Possible, Likely or Certain.
    pub confidence: Word,
    /// Cause that explains this one. This one is a symptom then, and no remediation answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained_by: Option<Word>,
    /// Session, dependency or workload that the cause points at, where it is known. Example: db: pid 21226
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub subject: Option<String>,
    /// One sentence with the numbers of the moment.
    pub message: Sentence,
    /// The numbers one by one. Example: [{name: running for, value: 6.5s}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<EvidenceStatus>,
}

/// One number behind a cause.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EvidenceStatus {
    /// Name of the number. Example: running for
    #[schemars(length(max = 63))]
    pub name: String,
    /// Value with its unit. Example: 6.5s
    #[schemars(length(max = 256))]
    pub value: String,
}

/// A remediation that would run and is refused.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RefusalStatus {
    /// Name of the remediation in the policy. Example: cancel
    pub remediation: Label,
    /// Guard that refused. Example: Cooldown
    pub guard: Word,
    /// Why it refused, with the numbers of the moment.
    pub message: Sentence,
}

/// A LatencyRemediation in short.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RemediationSummary {
    /// Name of the LatencyRemediation.
    pub name: ObjectName,
    /// Action, with the outcome or else the phase. Example: CancelQuery Healed
    #[schemars(length(max = 128))]
    pub result: String,
}
