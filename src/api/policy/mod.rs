//! `LatencyPolicy`: what is guarded, what slow means, and what may be done about it.

mod diagnosis;
mod evaluation;
mod guards;
mod notifications;
mod objectives;
mod remediations;
mod status;

use engine::actions::ACTIONS;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use self::diagnosis::*;
pub use self::evaluation::*;
pub use self::guards::*;
pub use self::notifications::*;
pub use self::objectives::*;
pub use self::remediations::*;
pub use self::status::*;
use super::dependencies::Dependency;
use super::sources::Source;
use super::text::{ObjectName, Word};

/// The rule that roles are named where an action may signal sessions.
fn sessions_need_roles() -> Rule {
    let signalling = ACTIONS.iter().filter(|line| line.traits.signals_sessions);
    let signalling: Vec<String> = signalling.map(|line| format!("'{}'", line.kind)).collect();
    let rule = format!(
        "self.mode == 'Observe' || !has(self.remediations) || !has(self.dependencies) \
         || !self.remediations.exists(r, r.action.type in [{}] && (!has(r.mode) || r.mode != 'Observe')) \
         || self.dependencies.all(d, !has(d.postgresql) || has(d.postgresql.cancellableRoles))",
        signalling.join(", ")
    );
    let message = "postgresql.cancellableRoles is required where sessions may be touched: name the roles, or [] for none";
    Rule::new(rule).message(message).field_path(".dependencies")
}

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
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Measured", type_ = "string", json_path = ".status.measured"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".status.causes[0].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        priority = 1
    ),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name", priority = 1),
    printcolumn(name = "Severity", type_ = "string", json_path = ".status.severity", priority = 1),
    printcolumn(name = "Incident", type_ = "string", json_path = ".status.activeIncident", priority = 1),
    printcolumn(
        name = "Last action",
        type_ = "string",
        json_path = ".status.lastRemediation.result",
        priority = 1
    ),
    printcolumn(name = "Paused", type_ = "string", json_path = ".status.paused", priority = 1)
)]
#[x_kube(validation = Rule::new(
    "!has(self.verification.within) || duration(self.verification.within) >= duration(self.verification.after) \
     + duration(self.evaluation.window) + duration(self.evaluation.interval) + duration(self.evaluation.interval)"
).message("verification.within must be at least verification.after + evaluation.window + 2 x evaluation.interval").field_path(".verification.within"))]
#[x_kube(validation = sessions_need_roles())]
#[x_kube(validation = Rule::new(
    "duration(self.evaluation.window) >= duration(self.evaluation.interval)"
).message("evaluation.window must be at least evaluation.interval").field_path(".evaluation.window"))]
#[serde(rename_all = "camelCase")]
pub struct LatencyPolicySpec {
    /// How much the operator may do: Observe (diagnose, and record what would be done) or Auto (act without asking). This
    /// version does not have Approve. A remediation may lower it, never raise it. Default: Observe.
    #[serde(default = "observe")]
    pub mode: Word,

    /// Workload whose latency is guarded, in the policy's namespace. Immutable. Example: {kind: Deployment, name: orders-api}
    #[x_kube(validation = Rule::new("self == oldSelf").message("targetRef is immutable; create another policy"))]
    pub target_ref: TargetRef,

    /// Facts about the workload that the operator cannot read. Example: {concurrencyPerPod: 4}
    #[serde(default)]
    pub target: Target,

    /// How often and over which span the objectives are evaluated.
    #[serde(default)]
    pub evaluation: Evaluation,

    /// Where objectives are read that name no source of their own. Default: the histogram of django-prometheus in the backend
    /// `default`. Example: {type: Prometheus, prometheus: {preset: Django, matchLabels: {job: orders}}}
    #[serde(default)]
    pub source: Source,

    /// What slow means. Default: p95 within 250ms (a breach is P2, above 2500ms P1), p99 within 5s (P0), at most 5% of requests
    /// failed (P1).
    #[serde(default = "objectives::defaults")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub objectives: Vec<Objective>,

    /// What the target depends on: causes are looked for there. Example: [{name: db, type: PostgreSQL, secretRef: {name:
    /// orders-db}, postgresql: {clientRoles: [orders], cancellableRoles: [orders, reporting]}}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,

    /// Thresholds that replace the defaults of causes.
    #[serde(default, skip_serializing_if = "Diagnosis::is_default")]
    pub diagnosis: Diagnosis,

    /// Remediations in order: the first one whose cause was found and that every guard allows runs. Without any the operator
    /// only diagnoses. Example: [{name: cancel, action: {type: CancelQuery, cancelQuery: {}}}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub remediations: Vec<PolicyRemediation>,

    /// How approvals are asked for, in mode Approve. This version does not have that mode.
    #[serde(default)]
    pub approval: Approval,

    /// Limits of this policy.
    #[serde(default)]
    pub guards: Guards,

    /// When the effect of an action is judged.
    #[serde(default)]
    pub verification: Verification,

    /// Who is notified, besides the Events. This version stores the list and sends nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub notifications: Vec<Notification>,

    /// When an open incident is escalated to people.
    #[serde(default)]
    pub escalation: Escalation,

    /// Number of finished LatencyRemediations, and of closed LatencyIncidents, to keep. Those that a cooldown or budget window
    /// still counts, or whose rollback is pending, are kept regardless. Default: 100.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "history_limit")]
    pub history_limit: i32,
}

fn history_limit() -> i32 {
    100
}

fn observe() -> Word {
    Word::text("Observe")
}

/// A workload.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API version of the workload. Default: apps/v1.
    #[serde(default = "apps_v1")]
    #[schemars(length(max = 63))]
    pub api_version: String,
    /// Kind of the workload: Deployment or StatefulSet. Default: Deployment.
    #[serde(default = "deployment")]
    pub kind: Word,
    /// Name of the workload. Example: orders-api
    pub name: ObjectName,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}

fn deployment() -> Word {
    Word::text("Deployment")
}

/// Facts about the workload that the operator cannot read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Number of requests that one pod serves at a time: its workers times their threads. Without it WorkersSaturated is not
    /// judged. Example: 4
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency_per_pod: Option<i32>,
    /// Which databases the workload uses: Declared (those among the dependencies; without one nothing that adds load is done) or
    /// None (it uses no database). Default: Declared.
    #[serde(default = "Target::databases")]
    pub databases: Word,
}

impl Default for Target {
    fn default() -> Self {
        Self { concurrency_per_pod: None, databases: Self::databases() }
    }
}

impl Target {
    fn databases() -> Word {
        Word::text("Declared")
    }
}
