//! `LatencyRemediation`: one action, from admission to outcome.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::actions;
use super::dependencies::Dependency;
use super::incident::PolicyReference;
use super::policy::{Evaluation, Objective, TargetRef};
use super::text::{Duration, Instant, Label, ObjectName, Sentence, Word};
use super::unions::Union;

/// The types of changes that a rollback takes back.
pub const CHANGES: Union = Union::new(&[("Replicas", Some("replicas"))]);

/// Fields of the spec that are always there, and those that may be left out. None of them ever changes.
const ALWAYS: &[&str] = &[
    "policyRef",
    "targetRef",
    "incident",
    "remediation",
    "attempt",
    "mode",
    "cause",
    "action",
    "cooldown",
    "deadline",
    "verification",
];
const OPTIONAL: &[&str] = &["rollback"];

/// The rule that nothing but `approval` changes.
fn immutable() -> Rule {
    let mut parts: Vec<String> =
        ALWAYS.iter().map(|field| format!("self.{field} == oldSelf.{field}")).collect();
    parts.extend(OPTIONAL.iter().map(|field| {
        format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})")
    }));
    Rule::new(parts.join(" && ")).message("the spec of a LatencyRemediation is immutable but for approval")
}

/// One action, from admission to outcome; or, as a dry run, what would have been done. The operator writes it. It outlives its
/// policy: all LatencyRemediations together are the ledger of what was done to which resource.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "LatencyRemediation",
    plural = "latencyremediations",
    shortname = "lr",
    category = "latency",
    namespaced,
    status = "LatencyRemediationStatus",
    derive = "PartialEq",
    doc = "One action, from admission to outcome; or, as a dry run, what would have been done. The operator writes it.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action.type"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".spec.cause.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Rollback", type_ = "string", json_path = ".status.rollback.state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.cause.subject", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[x_kube(validation = immutable())]
#[x_kube(validation = Rule::new(
    "!has(oldSelf.approval) || (has(self.approval) && self.approval == oldSelf.approval)"
).message("approval is written once; it cannot be changed or removed").field_path(".approval"))]
#[serde(rename_all = "camelCase")]
pub struct LatencyRemediationSpec {
    /// Policy that the remediation was made for.
    pub policy_ref: PolicyReference,
    /// Workload that the policy guards.
    pub target_ref: TargetRef,
    /// Name of the LatencyIncident.
    pub incident: ObjectName,
    /// Name of the entry in the policy's `remediations`.
    pub remediation: Label,
    /// Number of the attempt within incident and remediation, from 1.
    #[schemars(range(min = 1))]
    pub attempt: i32,
    /// Mode in which it was made. It says what a missing status means: Observe (a dry run), Approve (it waits for approval) or
    /// Auto (it was admitted). This version makes none in mode Approve, and carries none out.
    pub mode: Word,
    /// Cause that it answers.
    pub cause: Cause,
    /// Action to carry out.
    pub action: actions::Stored,
    /// How long the resource is left alone after the action.
    pub cooldown: Duration,
    /// How long after the gate the action may still be sent. Nothing is sent later.
    pub deadline: Duration,
    /// How its effect is judged.
    pub verification: Verification,
    /// How it is rolled back. Left out for actions that cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// Decision of a person, in mode Approve. Written once. This version asks nobody and reads no decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// Cause that a remediation answers, as it was when the remediation was made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Cause {
    /// Name of the cause. Example: RunawayQuery
    pub name: Word,
    /// Confidence in it: Possible, Likely or Certain.
    pub confidence: Word,
    /// Object that it was found in, for people. Example: pid 21226 of db
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Sentence>,
    /// Evidence, with the numbers.
    pub message: Sentence,
}

/// Decision of a person about a remediation that waits for approval.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Approval {
    /// Approved or Denied.
    pub decision: Word,
    /// Name of the user who decided, as the API server knows it.
    #[schemars(length(min = 1, max = 253))]
    pub user: String,
    /// Reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Sentence>,
}

/// How an action is rolled back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// How long after the action the rollback is due, if nothing else makes it due before.
    pub max_hold: Duration,
    /// Number of replicas removed at a time, with a full window between steps.
    #[schemars(range(min = 1))]
    pub step: i32,
    /// Objectives and dependencies that must be well before capacity is removed: a copy of the policy's, which may be gone by
    /// then.
    pub watch: Watch,
}

/// What is evaluated while a rollback is pending.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// How often and over which span the objectives are evaluated.
    pub evaluation: Evaluation,
    /// Objectives of the policy.
    #[schemars(length(max = 8))]
    pub objectives: Vec<Objective>,
    /// Dependencies of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub dependencies: Vec<Dependency>,
}

/// How the effect of an action is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Time between the effect and the begin of the judged window.
    pub after: Duration,
    /// Time after which it is judged inconclusive, without a verdict.
    pub within: Duration,
    /// Length of the window.
    pub window: Duration,
    /// For an action that a stronger one follows: time after which it has failed if no effect is seen and the breach goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_within: Option<Duration>,
}

/// State of the remediation. Only the remediation controller writes it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyRemediationStatus {
    /// AwaitingApproval, Admitted, Executing, Verifying, Completed, Denied, Expired, Refused, Failed, DryRun or OutcomeUnknown.
    /// Without a status, `spec.mode` tells the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Word>,
    /// Complete (reason: the outcome, or the phase where there is none) and RollbackPending.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Operator that passed the gate: the intent, durable before the effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executing: Option<Executing>,
    /// Time at which the effect was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Instant>,
    /// Whether the effect was seen: Confirmed, NotSeen or Unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Word>,
    /// Time at which that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_at: Option<Instant>,
    /// Objectives after the action: Recovered, NotRecovered, Worse or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Word>,
    /// Effect and objectives together: Healed, RecoveredUnattributed, Ineffective, Worse or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
    /// State of the rollback, from the gate on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,
    /// Guard that refused, in phase Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<RefusedBy>,
    /// State in one sentence, with the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Sentence>,
    /// Time at which it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Instant>,
}

/// State of a rollback. Written before the action.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// None, Pending, Done, Contested (a later value of somebody else stands) or Abandoned (the change stays).
    pub state: Word,
    /// Change to take back.
    pub change: Change,
    /// Time at which it is due at the latest; once it is due, the time since then.
    pub due_at: Instant,
    /// Reason for which it became due: Calm, MaxHold, Worse, InVain (taking capacity away did not help) or Drain (the operator is
    /// being uninstalled).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_by: Option<Word>,
    /// Time at which the last step was seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepped_at: Option<Instant>,
    /// Whether it is past `maxHold` and cannot be carried out, which an Event has said.
    #[serde(default)]
    pub overdue: bool,
}

/// Change to take back. The member that belongs to the type is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = CHANGES.rule())]
pub struct Change {
    /// Replicas.
    pub r#type: Word,
    /// For type Replicas: number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicasChange>,
}

/// Change of a number of replicas.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ReplicasChange {
    /// Number before the action.
    #[schemars(range(min = 0))]
    pub baseline: i32,
    /// Number that the operator wrote last.
    #[schemars(range(min = 0))]
    pub wrote: i32,
    /// Number that is about to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub writing: Option<i32>,
}

/// Operator that passed the gate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Executing {
    /// Identity of the operator.
    #[schemars(length(max = 253))]
    pub holder: String,
    /// Its term: the transitions of the Lease.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// Time, by its clock.
    pub started_at: Instant,
    /// How long the effect may take. The holder counts from before it sent the write, a successor from its first sight of it.
    pub deadline: Duration,
}

/// Guard that refused.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RefusedBy {
    /// Name of the guard.
    pub guard: Word,
    /// Reason, with the numbers.
    pub message: Sentence,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;

    use super::*;

    #[test]
    fn every_field_of_the_spec_but_approval_is_immutable() {
        let definition = serde_json::to_value(LatencyRemediation::crd()).unwrap();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let required: BTreeSet<&str> =
            spec["required"].as_array().unwrap().iter().flat_map(|f| f.as_str()).collect();
        assert_eq!(required, ALWAYS.iter().copied().collect());
        let fields: BTreeSet<&str> =
            spec["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let known = ALWAYS.iter().chain(OPTIONAL).copied().chain(["approval"]).collect();
        assert_eq!(fields, known);
    }
}
