//! `RemediationBudget`: an administrator's ceiling over all policies.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::actions::TYPES;
use super::text::{Instant, Label, Word, or_for_ever};
use super::unions::listed;

/// Words of `mode` in `maxMode`.
pub const MODES: &[&str] = &["Observe", "Approve", "Auto"];
/// Types of freezes.
pub const FREEZES: &[&str] = &["None", "Actions", "ActionsAndRollbacks"];
/// Operators of a label selector.
pub const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];

/// An administrator's ceiling over all policies, or over those of some namespaces. Of all budgets that apply to a namespace
/// the strictest holds. Where no budget sets a ceiling, the operator permits 3 open remediations at one time and 20 actions an
/// hour in the cluster, and 6 actions an hour in a namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "RemediationBudget",
    plural = "remediationbudgets",
    shortname = "rb",
    category = "latency",
    status = "RemediationBudgetStatus",
    derive = "PartialEq",
    doc = "An administrator's ceiling over all policies, or over those of some namespaces. The strictest that applies holds.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Frozen", type_ = "string", json_path = ".status.usage.frozen"),
    printcolumn(name = "Actions", type_ = "integer", json_path = ".status.usage.actionsInLastHour"),
    printcolumn(name = "Per hour", type_ = "integer", json_path = ".spec.maxActionsPerHour"),
    printcolumn(name = "Open", type_ = "integer", json_path = ".status.usage.openRemediations"),
    printcolumn(name = "Concurrent", type_ = "integer", json_path = ".spec.maxConcurrent"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RemediationBudgetSpec {
    /// Namespaces to which the budget applies, by their labels. Default: all namespaces. A namespace whose labels are not known
    /// counts as selected. Example: {matchLabels: {tier: production}}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// Maximum number of actions in any 60 minutes, over all of its namespaces together. Default: 20 in the cluster. Example: 20
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_actions_per_hour: Option<i32>,
    /// Maximum number of open remediations at one time, over all of its namespaces together. Default: 3 in the cluster.
    /// Example: 3
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_concurrent: Option<i32>,
    /// Ceilings that hold in each of its namespaces by itself. Default: 6 actions an hour.
    /// Example: {maxActionsPerHour: 6, maxConcurrent: 2}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_namespace: Option<PerNamespace>,
    /// Actions that never run in its namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set", "description" = denied()))]
    pub denied_actions: Vec<Word>,
    /// Highest mode in which an action may run in its namespaces. Default: the mode of the policy.
    /// Example: [{action: Scale, mode: Observe}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["action"]))]
    pub max_mode: Vec<MaxMode>,
    /// Freeze that holds now, until it is changed. Default: {type: None}. Example: {type: Actions}
    #[serde(default)]
    pub freeze: Freeze,
    /// Spans of time in which the budget is frozen. Default: none.
    /// Example: [{name: sale, from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z", type: Actions}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub freeze_windows: Vec<FreezeWindow>,
}

/// Labels that a namespace must have. An empty selector selects all namespaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that the namespace must have, each with this value. Default: none. Example: {tier: production}
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that the labels of the namespace must all meet. Default: none.
    /// Example: [{key: tier, operator: In, values: [production, staging]}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// Requirement on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new(
    "!(self.operator in ['In', 'NotIn']) || has(self.values) && size(self.values) > 0"
).message("In and NotIn need values: {key: tier, operator: In, values: [production]}").field_path(".values"))]
#[x_kube(validation = Rule::new(
    "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0"
).message("Exists and DoesNotExist have no values: {key: tier, operator: Exists}").field_path(".values"))]
pub struct LabelRequirement {
    /// Name of the label. Example: tier
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Comparison of the label with the values: In, NotIn, Exists or DoesNotExist. An unknown value makes the budget apply to
    /// all namespaces, and not Ready. Example: In
    pub operator: Word,
    /// Values of the label, for In and NotIn. Default: none. Example: [production, staging]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

fn match_labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Ceilings that hold in each namespace by itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PerNamespace {
    /// Maximum number of actions in any 60 minutes in one namespace. Default: 6. Example: 6
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_actions_per_hour: Option<i32>,
    /// Maximum number of open remediations at one time in one namespace. Default: no ceiling but that of the cluster.
    /// Example: 2
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_concurrent: Option<i32>,
}

/// All actions, for a description.
fn known_actions() -> String {
    listed(&TYPES.words())
}

fn denied() -> String {
    let actions = known_actions();
    format!(
        "Actions that never run in its namespaces: {actions}. Default: none. An unknown value denies nothing and makes the \
         budget not Ready. Example: [TerminateIdle]"
    )
}

fn limited() -> String {
    let actions = known_actions();
    format!(
        "The action: {actions}. An unknown value limits nothing and makes the budget not Ready. Example: Scale"
    )
}

/// Highest mode of an action.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct MaxMode {
    /// The action.
    #[schemars(extend("description" = limited()))]
    pub action: Word,
    /// The highest mode: Observe (dry runs only), Approve (no action runs without an approval; this version asks for none) or
    /// Auto. An unknown value counts as Observe and makes the budget not Ready.
    /// Example: Observe
    pub mode: Word,
}

/// Freeze that holds until it is changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Freeze {
    /// Type of the freeze: None, Actions (no new action starts, rollbacks still run) or ActionsAndRollbacks. Default: None. An
    /// unknown value counts as ActionsAndRollbacks and makes the budget not Ready. Example: Actions
    #[serde(default = "none")]
    pub r#type: Word,
}

impl Default for Freeze {
    fn default() -> Self {
        Self { r#type: none() }
    }
}

/// Span of time in which a budget is frozen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from < self.until").message("a freeze window ends after it begins"))]
pub struct FreezeWindow {
    /// Name of the window, unique in the budget. Example: christmas
    pub name: Label,
    /// First instant of the window (RFC 3339). Example: 2026-12-24T00:00:00Z
    pub from: Instant,
    /// First instant after the window (RFC 3339). A time beyond the calendar has no end. Example: 9999-12-31T23:59:59Z
    #[serde(deserialize_with = "or_for_ever")]
    pub until: Instant,
    /// Type of the freeze in the window: None, Actions or ActionsAndRollbacks. Default: Actions. An unknown value counts as
    /// ActionsAndRollbacks and makes the budget not Ready. Example: Actions
    #[serde(default = "actions")]
    pub r#type: Word,
}

fn none() -> Word {
    Word::text("None")
}

fn actions() -> Word {
    Word::text("Actions")
}

/// State of the budget, as the operator reports it. It changes only when something changed.
//
// The default is what a new budget has until it has been read for the first time: without an `observedGeneration` GitOps
// controllers take an object for settled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct RemediationBudgetStatus {
    /// Generation of the spec that this status is about; -1 before the operator has read the budget. Example: 2
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Condition Ready: False, with the field's path, when the spec has an unknown value.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How much of the budget is used. Example: {actionsInLastHour: 4, openRemediations: 1, frozen: None}
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<BudgetUsage>,
}

/// How much of a budget is used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BudgetUsage {
    /// Number of actions in the last 60 minutes in all of its namespaces. An open remediation counts before it acts. Example: 4
    pub actions_in_last_hour: i64,
    /// Number of open remediations in all of its namespaces. Example: 1
    pub open_remediations: i64,
    /// Freeze that holds now, by the spec or a window: None, Actions or ActionsAndRollbacks. Example: None
    pub frozen: Word,
}
