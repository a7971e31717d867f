//! What is watched in each scope.

use tokio::sync::mpsc;

use crate::observe::kubernetes::Workloads;
use crate::scope::Scope;

/// What is watched in one scope, and its queue of remediations. Cheap to clone.
#[derive(Clone)]
pub struct Watched {
    /// Which scope.
    pub scope: Scope,
    /// The metadata of its workloads and namespaces.
    pub workloads: Workloads,
    /// Queues a remediation by namespace and name.
    pub requeue: mpsc::UnboundedSender<(String, String)>,
}

/// What is watched in the scope that a namespace belongs to.
pub(crate) fn of<'a>(scopes: &'a [Watched], namespace: &str) -> Option<&'a Watched> {
    scopes.iter().find(|watched| watched.scope.namespace().is_none_or(|name| name == namespace))
}
