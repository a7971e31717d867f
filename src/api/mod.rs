//! The resources of `latency-operator.dev/v1alpha1`: types, schema, printed columns. No logic but the conversion into the
//! engine's values in [`convert`].

// kube's derive takes several printed columns with arguments of the same names.
#![allow(clippy::duplicated_attributes)]

pub mod actions;
pub mod budget;
pub mod convert;
pub mod dependencies;
pub mod incident;
pub mod policy;
pub mod remediation;
pub mod sources;
pub mod stored;
pub mod text;
pub mod unions;
pub mod vocabulary;

pub use budget::{RemediationBudget, RemediationBudgetSpec, RemediationBudgetStatus};
pub use incident::{LatencyIncident, LatencyIncidentSpec, LatencyIncidentStatus};
pub use policy::{LatencyPolicy, LatencyPolicySpec, LatencyPolicyStatus};
pub use remediation::{LatencyRemediation, LatencyRemediationSpec, LatencyRemediationStatus};
pub use stored::{MetadataOf, Stored};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group.
pub const GROUP: &str = "latency-operator.dev";

/// Pauses remediation: an RFC 3339 time or `forever`, on a policy, its target or its namespace.
pub const PAUSED_UNTIL: &str = "latency-operator.dev/paused-until";
/// Why it is paused, for people.
pub const PAUSED_REASON: &str = "latency-operator.dev/paused-reason";
/// On a target: leave it alone.
pub const OPT_OUT: &str = "latency-operator.dev/opt-out";
/// On a LatencyRemediation: it stays until nothing is owed any more.
pub const FINALIZER: &str = "latency-operator.dev/rollback";
/// On the Lease: the operator is being uninstalled; until then (RFC 3339) what is owed is taken back.
pub const DRAINING_UNTIL: &str = "latency-operator.dev/draining-until";
/// On everything that belongs to a policy: the policy's name.
pub const POLICY_LABEL: &str = "latency-operator.dev/policy";
/// On a Secret: the operator may read it, when it is `"true"`.
pub const ALLOWED: &str = "latency-operator.dev/allowed";

/// The definitions of all kinds, in the order in which they are printed.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![LatencyPolicy::crd(), LatencyIncident::crd(), LatencyRemediation::crd(), RemediationBudget::crd()]
}
