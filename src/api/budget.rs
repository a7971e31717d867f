//! `LatencyBudget`: an administrator's ceiling over all policies.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::text::{Instant, ObjectName, Word, or_for_ever};

/// An administrator's ceiling over all policies, or over those of some namespaces. Of all budgets that apply to a namespace
/// the strictest holds. Where none sets a ceiling of its own, there are 3 open remediations at one time and 20 acts an hour in
/// the cluster, and 6 an hour in a namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "LatencyBudget",
    plural = "latencybudgets",
    shortname = "lb",
    category = "latency",
    derive = "PartialEq",
    doc = "An administrator's ceiling over all policies, or over those of some namespaces. The strictest that applies holds.",
    printcolumn(name = "Freeze", type_ = "string", json_path = ".spec.freeze"),
    printcolumn(name = "Per hour", type_ = "integer", json_path = ".spec.maxActionsPerHour"),
    printcolumn(
        name = "Per namespace",
        type_ = "integer",
        json_path = ".spec.maxActionsPerHourAndNamespace"
    ),
    printcolumn(name = "Concurrent", type_ = "integer", json_path = ".spec.maxConcurrent"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LatencyBudgetSpec {
    /// The namespaces that it is about; all, where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub namespaces: Vec<ObjectName>,
    /// Acts in any 60 minutes, over all of its namespaces together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_actions_per_hour: Option<i32>,
    /// Acts in any 60 minutes in each of its namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_actions_per_hour_and_namespace: Option<i32>,
    /// Open remediations at one time, over all of its namespaces together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_concurrent: Option<i32>,
    /// Actions that are not carried out in its namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub denied_actions: Vec<Word>,
    /// None; New: nothing is begun; All: nothing is begun, nor anything taken back. A word that this version does not know
    /// counts as All.
    #[serde(default = "none")]
    pub freeze: Word,
    /// Spans of time in which it is frozen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub freeze_windows: Vec<FreezeWindow>,
}

/// A span of time in which a budget is frozen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from < self.until").message("a freeze window ends after it begins"))]
pub struct FreezeWindow {
    /// Its first instant.
    pub from: Instant,
    /// The first instant after it. What lies beyond the calendar is its end: `9999-12-31T23:59:59Z` is for ever.
    #[serde(deserialize_with = "or_for_ever")]
    pub until: Instant,
    /// New or All.
    #[serde(default = "new")]
    pub freeze: Word,
}

fn none() -> Word {
    Word::text("None")
}

fn new() -> Word {
    Word::text("New")
}
