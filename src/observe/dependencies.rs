//! Data stores that policies declare: one reader for each kind, and what all kinds have in common.
//!
//! A kind has one file with its [`DependencyReader`], and one line in the table below.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{Dependency, Facts, NoData, NoDataReason, Observed, SecretRef};

use super::looks::Looks;
use super::postgres::Postgres;
use super::redis::Redis;
use crate::clock::Clock;
use crate::connections::{Registry, Secrets};
use crate::telemetry::Metrics;

/// How a kind of data store is reached, and what one look at it shows.
pub trait DependencyReader: 'static {
    /// What a connection is made with. Stores with equal credentials share a connection and its looks.
    type Credentials: Hash + Eq + Send + Sync;
    /// What one look shows.
    type Facts: Clone + Send + Sync + Into<Facts>;
    /// The kind in the metrics.
    const SOURCE: &'static str;

    /// Reads the credentials from a Secret.
    fn credentials(
        secrets: &Secrets,
        namespace: &str,
        secret: &SecretRef,
    ) -> impl Future<Output = Result<Arc<Self::Credentials>, NoData>> + Send;

    /// Looks once. `before` is the last look that succeeded.
    fn look(
        registry: &Registry,
        credentials: &Arc<Self::Credentials>,
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
    looks: Looks<R::Credentials, R::Facts>,
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
        let credentials = match R::credentials(secrets, namespace, secret).await {
            Ok(credentials) => credentials,
            Err(no_data) => return Observed::Missing(no_data),
        };
        let used = &credentials;
        let look = |before| async move {
            let started = Instant::now();
            let observed = R::look(registry, used, *clock, before).await;
            metrics.read(R::SOURCE, started.elapsed());
            if let Observed::Missing(_) = &observed {
                // A new password, or another host: the Secret knows.
                secrets.doubt(namespace, secret);
            }
            observed
        };
        self.looks.at(&credentials, max_age, look).await
    }

    async fn patiently(
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

/// Makes a field and an arm from each line of the table.
macro_rules! readers {
    ($($kind:ident: $field:ident, $reader:ty;)*) => {
        /// The readers of all kinds.
        #[derive(Clone)]
        pub struct Dependencies {
            $(pub(super) $field: Stores<$reader>,)*
        }

        impl Dependencies {
            /// Reads through these connections.
            #[must_use]
            pub fn new(access: &Access) -> Self {
                Self { $($field: Stores::new(access.clone()),)* }
            }

            /// What a declared dependency shows, not older than `max_age`, if it answers within `patience`.
            pub async fn read(
                &self,
                namespace: &str,
                declared: &Dependency,
                max_age: Duration,
                patience: Duration,
            ) -> Observed<Facts> {
                match declared {
                    $(Dependency::$kind(declared) => {
                        self.$field.patiently((namespace, &declared.secret), max_age, patience).await
                    })*
                }
            }
        }
    };
}

readers! {
    Postgres: databases, Postgres;
    Redis: caches, Redis;
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
