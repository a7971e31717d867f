//! One leader, by a Lease.
//!
//! Whether a Lease has run out is judged by how long it has been seen unchanged on the own monotonic clock, never by
//! comparing wall clocks. A leader knows for how long it provably holds: from before its last successful renewal was sent.
//! A Lease is a hint all the same; what makes acting safe are the compare-and-swaps and the fences of the effects.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::config::LeaseConfig;
use crate::connections::secrets::brief;
use crate::telemetry::Health;

/// What the leader knows about its term. Cheap to clone; a follower has none.
#[derive(Debug, Clone)]
pub struct Leadership {
    identity: Arc<str>,
    epoch: u64,
    renewed: Arc<Mutex<Instant>>,
    provable_for: Duration,
}

impl Leadership {
    /// The operator's identity.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The term: the Lease's transitions.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the Lease is provably held at this instant. A process that was frozen finds that it is not.
    #[must_use]
    pub fn held(&self) -> bool {
        self.since_contact() < self.provable_for
    }

    /// How long ago the API server last answered a renewal, counted from before it was sent.
    #[must_use]
    pub fn since_contact(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn renewed_at(&self, at: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// Takes part in the election.
pub struct Elector {
    leases: Api<Lease>,
    config: LeaseConfig,
    identity: Arc<str>,
    health: Health,
}

/// A Lease as it was last seen to change.
struct Observed {
    version: Option<String>,
    since: Instant,
}

impl Elector {
    /// An elector for the configured Lease, in `namespace`. The client must not retry by itself.
    #[must_use]
    pub fn new(client: Client, namespace: &str, config: LeaseConfig, identity: &str, health: Health) -> Self {
        Self { leases: Api::namespaced(client, namespace), config, identity: identity.into(), health }
    }

    /// Waits until this process leads.
    pub async fn acquire(&self) -> Leadership {
        let mut observed: Option<Observed> = None;
        loop {
            self.health.beat();
            let tried =
                tokio::time::timeout(self.config.renew_deadline, self.try_acquire(&mut observed)).await;
            match tried {
                Ok(Ok(Some(leadership))) => return leadership,
                Ok(Ok(None)) => self.health.set_ready(true),
                Err(_) => {
                    self.health.set_ready(false);
                    tracing::warn!("the Lease could neither be read nor written in time");
                }
                Ok(Err(error)) => {
                    self.health.set_ready(false);
                    tracing::warn!(error = brief(&error), "the Lease cannot be read or written");
                }
            }
            tokio::time::sleep(self.config.retry_period).await;
        }
    }

    /// Renews until the Lease is lost, and says how.
    pub async fn keep(&self, leadership: &Leadership) -> String {
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            self.health.beat();
            let left = self.config.renew_deadline.saturating_sub(leadership.since_contact());
            if left.is_zero() {
                return format!("it could not be renewed for {} s", self.config.renew_deadline.as_secs_f64());
            }
            match tokio::time::timeout(left, self.renew(leadership)).await {
                Ok(Ok(true)) | Err(_) => {}
                Ok(Ok(false)) => return "another operator holds it".to_owned(),
                Ok(Err(error)) => tracing::warn!(error = brief(&error), "the Lease could not be renewed"),
            }
        }
    }

    /// Gives the Lease back, so that the next one need not wait.
    pub async fn release(&self, leadership: &Leadership) {
        let given_back = async {
            let mut lease = self.leases.get(&self.config.name).await?;
            if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref())
                != Some(leadership.identity())
            {
                return Ok(());
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
            }
            self.leases.replace(&self.config.name, &PostParams::default(), &lease).await.map(|_| ())
        };
        match tokio::time::timeout(self.config.renew_deadline, given_back).await {
            Ok(Ok(())) => tracing::info!("the Lease was given back"),
            Ok(Err(error)) => tracing::warn!(error = brief(&error), "the Lease could not be given back"),
            Err(_) => tracing::warn!("the Lease could not be given back in time"),
        }
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> kube::Result<Option<Leadership>> {
        let Some(lease) = self.leases.get_opt(&self.config.name).await? else {
            let sent = Instant::now();
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.config.name.clone()), ..Default::default() },
                spec: Some(self.spec(0)),
            };
            return match self.leases.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Some(self.leadership(0, sent))),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.free(&lease, &spec, observed) {
            return Ok(None);
        }
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
        let sent = Instant::now();
        // With the resourceVersion that was read: of two that find it free, one wins.
        let taken = Lease { spec: Some(self.spec(transitions)), ..lease };
        match self.leases.replace(&self.config.name, &PostParams::default(), &taken).await {
            Ok(_) => Ok(Some(self.leadership(transitions, sent))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody holds it: it was given back, or has not changed before our eyes for its whole duration.
    fn free(&self, lease: &Lease, spec: &LeaseSpec, observed: &mut Option<Observed>) -> bool {
        if spec.holder_identity.as_deref().is_none_or(str::is_empty) {
            return true;
        }
        let version = lease.metadata.resource_version.clone();
        match observed {
            Some(seen) if seen.version == version => {
                let promised = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
                seen.since.elapsed() > Duration::from_secs(promised).max(self.config.duration)
            }
            _ => {
                *observed = Some(Observed { version, since: Instant::now() });
                false
            }
        }
    }

    /// Renews once; false where another one holds it.
    async fn renew(&self, leadership: &Leadership) -> kube::Result<bool> {
        let lease = self.leases.get(&self.config.name).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(leadership.identity())
            && u64::try_from(spec.lease_transitions.unwrap_or(0)).ok() == Some(leadership.epoch());
        if !ours {
            return Ok(false);
        }
        let sent = Instant::now();
        let mut renewed = self.spec(spec.lease_transitions.unwrap_or(0));
        renewed.acquire_time = spec.acquire_time;
        let renewed = Lease { spec: Some(renewed), ..lease };
        self.leases.replace(&self.config.name, &PostParams::default(), &renewed).await?;
        leadership.renewed_at(sent);
        Ok(true)
    }

    fn leadership(&self, transitions: i32, sent: Instant) -> Leadership {
        Leadership {
            identity: self.identity.clone(),
            epoch: u64::try_from(transitions).unwrap_or(0),
            renewed: Arc::new(Mutex::new(sent)),
            provable_for: self.config.renew_deadline,
        }
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.to_string()),
            lease_duration_seconds: i32::try_from(self.config.duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..Default::default()
        }
    }
}
