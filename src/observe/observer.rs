//! The one place through which everything is read that policies name. It knows no controller, so that whoever has credentials
//! and a policy can look, too.

use std::time::Duration;

use engine::advance::Look;
use engine::model::{
    Action, ByName, Dependency, Facts, NoData, NoDataReason, Observed, Policy, Probed, Source, Traffic,
};

use super::dependencies::Dependencies;
use super::probe::Probes;
use super::prometheus::Prometheus;

/// See the module.
pub struct Observer {
    /// Metrics backends.
    pub prometheus: Prometheus,
    /// Requests of our own.
    pub probes: Probes,
    /// Data stores.
    pub dependencies: Dependencies,
}

impl Observer {
    /// What each objective of a metrics backend shows; `elevated`: without trusting an earlier answer.
    pub async fn traffic(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Traffic>> {
        self.prometheus.traffic(policy, elevated).await
    }

    /// One timed request for each objective that is probed.
    pub async fn probes(&self, policy: &Policy) -> ByName<Observed<Probed>> {
        self.probes.probed(policy).await
    }

    /// What a declared dependency shows, not older than `max_age`, if it answers within `patience`.
    pub async fn dependency(
        &self,
        namespace: &str,
        declared: &Dependency,
        max_age: Duration,
        patience: Duration,
    ) -> Observed<Facts> {
        self.dependencies.read(namespace, declared, max_age, patience).await
    }

    /// What has become of the session that an action is done to, live.
    pub async fn session(&self, namespace: &str, action: &Action) -> Look {
        match action.session() {
            Some(target) => self.dependencies.databases.session(namespace, action, target).await,
            None => Look::Unreadable(NoData::new(NoDataReason::NotFound, "it is done to no session")),
        }
    }

    /// What is wrong with the sources that a policy names.
    #[must_use]
    pub fn problems(&self, policy: &Policy) -> Vec<String> {
        self.prometheus.problems(policy)
    }

    /// How often the slowest source of a policy has something new; none where each request tells something new.
    #[must_use]
    pub fn resolution(&self, policy: &Policy) -> Option<Duration> {
        let resolution = policy.objectives.iter().filter_map(|objective| match &objective.source {
            Source::Prometheus { backend, .. } => {
                self.prometheus.backend(backend).map(|backend| backend.scrape_interval)
            }
            Source::Probe(_) => None,
        });
        resolution.max()
    }
}
