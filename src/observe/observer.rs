//! The one place through which everything is read that policies name. It knows no controller, so that a command with credentials and
//! a policy can use it, too.

use std::time::Duration;

use engine::effects::{Inspection, SignalSession};
use engine::model::{ByName, DependencyKind, Facts, Measurement, Observed, Policy, SecretRef};

use super::{Dependencies, Sources};

/// See the module.
pub struct Observer {
    /// Sources of objectives.
    pub sources: Sources,
    /// Data stores.
    pub dependencies: Dependencies,
}

impl Observer {
    /// What is measured for each objective; `elevated`: without trusting an earlier answer.
    pub async fn measurements(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Measurement>> {
        self.sources.measure(policy, elevated).await
    }

    /// What a dependency of this kind shows, at the server that the Secret leads to: not older than `max_age`, if it answers within
    /// `patience`.
    pub async fn dependency(
        &self,
        kind: DependencyKind,
        place: (&str, &SecretRef),
        max_age: Duration,
        patience: Duration,
    ) -> Observed<Facts> {
        self.dependencies.read(kind, place, max_age, patience).await
    }

    /// What has become of the session that is signalled, live.
    pub async fn session(&self, namespace: &str, signal: &SignalSession) -> Inspection {
        self.dependencies.databases.session(namespace, signal).await
    }

    /// What is wrong with the sources that a policy names.
    #[must_use]
    pub fn problems(&self, policy: &Policy) -> Vec<String> {
        self.sources.problems(policy)
    }

    /// How often the slowest source of a policy has something new; none where each request tells something new.
    #[must_use]
    pub fn resolution(&self, policy: &Policy) -> Option<Duration> {
        self.sources.resolution(policy)
    }
}
