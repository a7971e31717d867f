//! What policies name, through the observer, and what watches show of targets.

use std::time::Duration;

use controller::ports::{Cadence, Detail, Observe};
use engine::effects::{Inspection, SignalSession};
use engine::model::{
    ByName, DependencyKind, Facts, Measurement, NoDataReason, Observations, Observed, Pause, Policy,
    SecretRef, Target, TargetRef,
};

use super::watched::{self, Watched};
use crate::clock::Clock;
use crate::observe::Observer;

/// Reads everything that one evaluation needs.
pub struct ObservePort {
    /// The clock that readings are on.
    pub clock: Clock,
    /// Reads sources and dependencies.
    pub observer: Observer,
    /// What is watched in each scope.
    pub scopes: Vec<Watched>,
}

impl Observe for ObservePort {
    async fn measurements(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Measurement>> {
        self.observer.measurements(policy, elevated).await
    }

    async fn dependency(
        &self,
        namespace: &str,
        kind: DependencyKind,
        secret: &SecretRef,
        Cadence { max_age, patience }: Cadence,
    ) -> Observed<Facts> {
        self.observer.dependency(kind, (namespace, secret), max_age, patience).await
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
        self.observer.problems(policy)
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        self.observer.resolution(policy)
    }

    async fn session(&self, namespace: &str, signal: &SignalSession) -> Inspection {
        self.observer.session(namespace, signal).await
    }
}
