//! Sources of objectives and data stores, and what watches show of targets.

use std::time::Duration;

use controller::ports::{Cadence, Detail, Observe};
use engine::advance::Look;
use engine::model::{
    Action, ByName, Dependency, Facts, NoData, NoDataReason, Observations, Observed, Pause, Policy, Probed,
    Source, Target, TargetRef, Traffic,
};

use super::watched::{self, Watched};
use crate::clock::Clock;
use crate::observe::postgres::Databases;
use crate::observe::probe::Probes;
use crate::observe::prometheus::Prometheus;
use crate::observe::redis::Caches;

/// Reads everything that policies name.
pub struct Observer {
    /// The clock that readings are on.
    pub clock: Clock,
    /// Metrics backends.
    pub prometheus: Prometheus,
    /// Requests of our own.
    pub probes: Probes,
    /// PostgreSQL.
    pub databases: Databases,
    /// Redis.
    pub caches: Caches,
    /// What is watched in each scope.
    pub scopes: Vec<Watched>,
}

impl Observe for Observer {
    async fn traffic(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Traffic>> {
        self.prometheus.traffic(policy, elevated).await
    }

    async fn probes(&self, policy: &Policy) -> ByName<Observed<Probed>> {
        self.probes.probed(policy).await
    }

    async fn dependency(
        &self,
        namespace: &str,
        dependency: &Dependency,
        cadence: Cadence,
    ) -> Observed<Facts> {
        let (namespace, Cadence { max_age, patience }) = (namespace.to_owned(), cadence);
        match dependency {
            Dependency::Postgres(postgres) => {
                let (databases, secret) = (self.databases.clone(), postgres.secret.clone());
                let reading = async move { databases.facts(&namespace, &secret, max_age).await };
                patiently(patience, reading).await.map(Facts::from)
            }
            Dependency::Redis(redis) => {
                let (caches, secret) = (self.caches.clone(), redis.secret.clone());
                let reading = async move { caches.facts(&namespace, &secret, max_age).await };
                patiently(patience, reading).await.map(Facts::from)
            }
        }
    }

    async fn target(&self, namespace: &str, target: &TargetRef, detail: Detail) -> Observed<Target> {
        match watched::of(&self.scopes, namespace) {
            Some(watched) => watched.workloads.target(namespace, target, detail, self.clock.now()).await,
            None => Observed::missing(NoDataReason::NotFound, "its namespace is not watched"),
        }
    }

    fn observed(&self, _: &Policy, _: &Observations) {}

    fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause> {
        let watched = watched::of(&self.scopes, namespace);
        watched.map(|watched| watched.workloads.pauses(namespace, target)).unwrap_or_default()
    }

    fn problems(&self, policy: &Policy) -> Vec<String> {
        self.prometheus.problems(policy)
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        let resolution = policy.objectives.iter().filter_map(|objective| match &objective.source {
            Source::Prometheus { backend, .. } => {
                self.prometheus.backend(backend).map(|backend| backend.scrape_interval)
            }
            // Each request tells something new.
            Source::Probe(_) => None,
        });
        resolution.max()
    }

    async fn session(&self, namespace: &str, action: &Action) -> Look {
        match action.session() {
            Some(target) => self.databases.look(namespace, action, target).await,
            None => Look::Unreadable(NoData::new(NoDataReason::NotFound, "it is done to no session")),
        }
    }
}

/// What a reading yields within our patience. It goes on without us: the next one who asks finds its result.
async fn patiently<T: Send + 'static>(
    patience: Duration,
    reading: impl Future<Output = Observed<T>> + Send + 'static,
) -> Observed<T> {
    match tokio::time::timeout(patience, tokio::spawn(reading)).await {
        Ok(Ok(observed)) => observed,
        Ok(Err(_)) => Observed::missing(NoDataReason::QueryFailed, "the task that read it was stopped"),
        Err(_) => {
            let detail = format!("no answer within {}", engine::model::duration::human(patience));
            Observed::missing(NoDataReason::Timeout, detail)
        }
    }
}
