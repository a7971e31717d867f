//! What may be done, in order.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::actions::Action;
use crate::api::text::{Label, Word};

/// Words of `mode`.
pub const MODES: &[&str] = &["Observe", "Auto"];

/// One remediation: an action, and the causes that it answers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRemediation {
    /// Name of the remediation; Events and status use it. Example: cancel
    pub name: Label,
    /// Mode of this remediation: Observe or Auto. It lowers the policy's mode and cannot raise it. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Word>,
    /// Least severity of an incident in which it runs: P0, P1 or P2. This version stores it and does not act on it. Default: P1
    /// for TerminateIdle, P2 for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Word>,
    /// Causes that it answers. Default: all that the action can answer. Example: [RunawayQuery]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub causes: Vec<Word>,
    /// What it does. Example: {type: CancelQuery, cancelQuery: {terminateAfter: 20s}}
    pub action: Action,
}
