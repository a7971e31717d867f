//! `LatencyPolicy`: what is guarded, what slow means, and what may be done about it.

mod dependencies;
mod objectives;
mod remediations;
mod warming;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::dependencies::*;
pub use self::objectives::*;
pub use self::remediations::*;
pub use self::warming::*;
use super::text::{Duration, Label, ObjectName, Ratio, Sentence, Word};

/// What is guarded, what slow means, and what may be done about it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "LatencyPolicy",
    plural = "latencypolicies",
    shortname = "lp",
    category = "latency",
    namespaced,
    status = "LatencyPolicyStatus",
    derive = "PartialEq",
    doc = "What is guarded, what slow means, and what may be done about it.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name must be at most 63 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(
        name = "Within",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"WithinObjective\")].status"
    ),
    printcolumn(name = "Severity", type_ = "string", json_path = ".status.severity"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".status.causes[0].name"),
    printcolumn(name = "Last action", type_ = "string", json_path = ".status.lastRemediation.result"),
    printcolumn(name = "Paused", type_ = "string", json_path = ".status.paused"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new(
    "duration(self.verification.within) >= duration(self.verification.after) + duration(self.evaluation.window) \
     + duration(self.evaluation.interval) + duration(self.evaluation.interval)"
).message("verification.within must be at least verification.after + evaluation.window + 2 x evaluation.interval").field_path(".verification.within"))]
#[x_kube(validation = Rule::new(
    "duration(self.evaluation.window) >= duration(self.evaluation.interval)"
).message("evaluation.window must be at least evaluation.interval").field_path(".evaluation.window"))]
#[serde(rename_all = "camelCase")]
pub struct LatencyPolicySpec {
    /// How much the operator may do: Observe (look, explain, write down what would be done) or Auto (act). A rung of
    /// `remediations` may lower it, never raise it.
    #[serde(default = "observe")]
    pub mode: Word,

    /// Suspends remediation, for GitOps; looking and telling go on. The annotation latency-operator.dev/paused-until does
    /// the same and survives a GitOps controller.
    #[serde(default)]
    pub suspend: bool,

    /// The workload whose latency is guarded, in the policy's namespace. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("targetRef is immutable; create another policy"))]
    pub target_ref: TargetRef,

    /// How and how long is looked before something is believed.
    #[serde(default)]
    pub evaluation: Evaluation,

    /// What users are promised. Without any: p95 within 200ms (P1 above 2s), p99 within 5s (P0 above it), at most 5% of
    /// requests failed (P1), from the Django histogram in the backend `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub objectives: Vec<Objective>,

    /// What the target depends on: where causes are looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,

    /// Thresholds that replace the defaults of the causes.
    #[serde(default, skip_serializing_if = "Diagnosis::is_default")]
    pub diagnosis: Diagnosis,

    /// A ladder of remedies: the first rung whose causes were found and which every guard lets through is taken. Without
    /// any the operator diagnoses only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub remediations: Vec<Rung>,

    /// The policy's own limits.
    #[serde(default)]
    pub guards: Guards,

    /// When an act is judged.
    #[serde(default)]
    pub verification: Verification,

    /// So many LatencyRemediations, and so many closed LatencyIncidents, are kept; more while a window still counts them, or
    /// while something is owed.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "history_limit")]
    pub history_limit: i32,
}

fn history_limit() -> i32 {
    20
}

fn observe() -> Word {
    Word::text("Observe")
}

/// A workload.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Its API version.
    #[serde(default = "apps_v1")]
    #[schemars(length(max = 63))]
    pub api_version: String,
    /// Deployment or StatefulSet.
    #[serde(default = "deployment")]
    pub kind: Word,
    /// Its name.
    pub name: ObjectName,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}

fn deployment() -> Word {
    Word::text("Deployment")
}

/// How and how long is looked before something is believed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Time between two evaluations while all is well; they come faster while something is broken.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h"))]
    #[serde(default = "Evaluation::interval")]
    pub interval: Duration,
    /// The span of traffic that one reading judges.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')").message("must be from 5s to 1h"))]
    #[serde(default = "Evaluation::window")]
    pub window: Duration,
    /// How long a breach must last before it opens an incident.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h"))]
    #[serde(default = "Evaluation::breach_for")]
    pub breach_for: Duration,
    /// How long calm must last before an incident is closed.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h"))]
    #[serde(default = "Evaluation::recover_for")]
    pub recover_for: Duration,
    /// Requests that a window needs before it is judged at all.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default = "Evaluation::min_requests")]
    pub min_requests: i32,
    /// Readings without data in a row after which data counts as unavailable.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "Evaluation::missing_data_after")]
    pub missing_data_after: i32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            interval: Self::interval(),
            window: Self::window(),
            breach_for: Self::breach_for(),
            recover_for: Self::recover_for(),
            min_requests: Self::min_requests(),
            missing_data_after: Self::missing_data_after(),
        }
    }
}

impl Evaluation {
    fn interval() -> Duration {
        Duration::text("15s")
    }

    fn window() -> Duration {
        Duration::text("2m")
    }

    fn breach_for() -> Duration {
        Duration::text("30s")
    }

    fn recover_for() -> Duration {
        Duration::text("3m")
    }

    fn min_requests() -> i32 {
        50
    }

    fn missing_data_after() -> i32 {
        3
    }
}

/// Thresholds that replace the defaults of the causes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Requests that one pod of the target serves at a time: its workers times their threads. Without it the cause
    /// WorkersSaturated is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub workers_per_pod: Option<i32>,
    /// One entry for each cause whose defaults do not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cause".into()]))]
    pub thresholds: Vec<Threshold>,
}

impl Diagnosis {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A cause's threshold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// The cause.
    pub cause: Word,
    /// From which age on its subject counts (RunawayQuery: the statement, IdleInTransaction: its idleness).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Duration>,
    /// Below which share of lookups that find their key it counts (ColdCache), such as "80%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio_below: Option<Ratio>,
}

/// The policy's own limits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Acts of this policy in any 60 minutes.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "Guards::max_actions_per_hour")]
    pub max_actions_per_hour: i32,
    /// Attempts in one incident.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default = "Guards::max_attempts_per_incident")]
    pub max_attempts_per_incident: i32,
    /// Rest of a resource between two acts on it.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h"))]
    #[serde(default = "Guards::cooldown")]
    pub cooldown: Duration,
    /// The share of the target's replicas that must be ready before any are added: where more are missing, something else is
    /// wrong.
    #[serde(default = "Guards::min_available")]
    pub min_available: Ratio,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            max_actions_per_hour: Self::max_actions_per_hour(),
            max_attempts_per_incident: Self::max_attempts_per_incident(),
            cooldown: Self::cooldown(),
            min_available: Self::min_available(),
        }
    }
}

impl Guards {
    fn max_actions_per_hour() -> i32 {
        6
    }

    fn max_attempts_per_incident() -> i32 {
        3
    }

    fn cooldown() -> Duration {
        Duration::text("5m")
    }

    fn min_available() -> Ratio {
        Ratio("60%".to_owned())
    }
}

/// When an act is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The judged window begins this long after the effect.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h"))]
    #[serde(default = "Verification::after")]
    pub after: Duration,
    /// Without a verdict by then the act is inconclusive.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h"))]
    #[serde(default = "Verification::within")]
    pub within: Duration,
}

impl Default for Verification {
    fn default() -> Self {
        Self { after: Self::after(), within: Self::within() }
    }
}

impl Verification {
    fn after() -> Duration {
        Duration::text("30s")
    }

    fn within() -> Duration {
        Duration::text("5m")
    }
}

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
    /// Its action and how it stands: `CancelQueries Healed`.
    #[schemars(length(max = 128))]
    pub result: String,
}
