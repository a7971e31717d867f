//! Thresholds of causes.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Duration, Ratio, Word};

/// Thresholds that replace the defaults of causes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// One entry for each cause whose default does not fit. Example: [{cause: RunawayQuery, olderThan: 30s}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cause".into()]))]
    pub thresholds: Vec<Threshold>,
}

impl Diagnosis {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The threshold of one cause, in the dimension that the cause has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.olderThan) || has(self.above) || has(self.below) || has(self.moreThan)").message("set the threshold: olderThan, above, below or moreThan"))]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// Name of the cause: RunawayQuery and IdleInTransaction have olderThan, ColdCache has below.
    pub cause: Word,
    /// Age from which on it counts: of a statement (RunawayQuery), or how long a session has been idle (IdleInTransaction).
    /// Example: 30s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Duration>,
    /// Share above which it counts. Example: "90%"
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Ratio>,
    /// Share below which it counts: of lookups that find their key (ColdCache). Example: "80%"
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Ratio>,
    /// Number above which it counts. Example: 20
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub more_than: Option<i32>,
}
