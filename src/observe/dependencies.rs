//! Data stores that policies declare: one reader for each kind, and what all kinds have in common.
//!
//! A kind has one file with its [`DependencyReader`], and one line in the table of [`super`].

use std::time::{Duration, Instant};

use engine::model::{DependencyKind, Facts, NoDataReason, Observed, SecretRef};

use super::looks::Looks;
use crate::clock::Clock;
use crate::connections::{Registry, Secrets, Store};
use crate::telemetry::Metrics;

/// How a kind of data store is reached, and what one look at it shows.
pub trait DependencyReader: 'static {
    /// The connection that is read through. Stores with equal credentials share it and its looks.
    type Store: Store;
    /// What one look shows.
    type Facts: Clone + Send + Sync + Into<Facts>;
    /// The kind in the metrics.
    const SOURCE: &'static str;

    /// Looks once. `before` is the last look that succeeded.
    fn look(
        connection: &Self::Store,
        clock: Clock,
        before: Option<Self::Facts>,
    ) -> impl Future<Output = Observed<Self::Facts>> + Send;
}

/// What all readers use. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    /// Where credentials come from.
    pub secrets: Secrets,
    /// Connections.
    pub registry: Registry,
    /// The clock that readings are on.
    pub clock: Clock,
    /// Where reads are counted.
    pub metrics: Metrics,
}

/// All data stores of one kind. Each is looked at once for everybody who asks at the same time. Cheap to clone.
pub struct Stores<R: DependencyReader> {
    pub(super) access: Access,
    looks: Looks<<R::Store as Store>::Credentials, R::Facts>,
}

impl<R: DependencyReader> Clone for Stores<R> {
    fn clone(&self) -> Self {
        Self { access: self.access.clone(), looks: self.looks.clone() }
    }
}

impl<R: DependencyReader> Stores<R> {
    /// Reads through these connections.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access, looks: Looks::default() }
    }

    /// What the store behind a Secret shows, not older than `max_age`.
    pub async fn facts(&self, namespace: &str, secret: &SecretRef, max_age: Duration) -> Observed<R::Facts> {
        let Access { secrets, registry, clock, metrics } = &self.access;
        let credentials = match secrets.credentials::<R::Store>(namespace, secret).await {
            Ok(credentials) => credentials,
            Err(no_data) => return Observed::Missing(no_data),
        };
        let connection = registry.connection::<R::Store>(&credentials);
        let look = |before| async move {
            let started = Instant::now();
            let observed = R::look(&connection, *clock, before).await;
            metrics.read(R::SOURCE, started.elapsed());
            if let Observed::Missing(_) = &observed {
                // A new password, or another host: the Secret knows.
                secrets.doubt(namespace, secret);
            }
            observed
        };
        self.looks.at(&credentials, max_age, look).await
    }

    pub(super) async fn patiently(
        &self,
        (namespace, secret): (&str, &SecretRef),
        max_age: Duration,
        patience: Duration,
    ) -> Observed<Facts> {
        let (stores, namespace, secret) = (self.clone(), namespace.to_owned(), secret.clone());
        let reading = async move { stores.facts(&namespace, &secret, max_age).await };
        patiently(patience, reading).await.map(Into::into)
    }
}

/// Makes a field and an arm from each line of the table of readers.
macro_rules! readers {
    ($($kind:ident: $field:ident, $reader:ty;)*) => {
        /// The readers of all kinds.
        #[derive(Clone)]
        pub struct Dependencies {
            $(pub(crate) $field: dependencies::Stores<$reader>,)*
        }

        impl Dependencies {
            /// Reads through these connections.
            #[must_use]
            pub fn new(access: &dependencies::Access) -> Self {
                Self { $($field: dependencies::Stores::new(access.clone()),)* }
            }

            /// What a dependency of this kind shows, at the server that the Secret leads to: not older than `max_age`, if it
            /// answers within `patience`.
            pub async fn read(
                &self,
                kind: engine::model::DependencyKind,
                place: (&str, &engine::model::SecretRef),
                max_age: std::time::Duration,
                patience: std::time::Duration,
            ) -> engine::model::Observed<engine::model::Facts> {
                match kind {
                    $(engine::model::DependencyKind::$kind => self.$field.patiently(place, max_age, patience).await,)*
                    #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "kinds that are read in Kubernetes")]
                    _ => dependencies::no_server(kind),
                }
            }
        }
    };
}
pub(super) use readers;

/// A kind that no reader is for.
pub(super) fn no_server(kind: DependencyKind) -> Observed<Facts> {
    Observed::missing(NoDataReason::NoBackend, format!("{kind:?} is not read at a server"))
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
