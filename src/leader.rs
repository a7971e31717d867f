//! One leader, by a Lease.
//!
//! Whether a Lease has run out is judged by how long it has been seen unchanged on the own monotonic clock, never by
//! comparing wall clocks. A leader knows for how long it provably holds: from before its last successful renewal was sent.
//! A Lease is a hint all the same; what makes acting safe are the compare-and-swaps and the fences of the effects.
//!
//! Who uninstalls the operator marks the Lease ([`mark`]): whoever leads begins nothing any more.

mod mark;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine::model::Draining;
use jiff::Timestamp;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;

pub use self::mark::{LONGEST, Mark};
use crate::clock::Clock;
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
    mark: watch::Sender<Option<Mark>>,
    clock: Arc<OnceLock<Clock>>,
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

    /// What the mark on the Lease says, as it was last read. It may be over.
    #[must_use]
    pub fn draining(&self) -> Option<Draining> {
        self.mark.borrow().as_ref().and_then(Mark::draining)
    }

    /// Tells whenever the mark has changed.
    #[must_use]
    pub fn marks(&self) -> watch::Receiver<Option<Mark>> {
        self.mark.subscribe()
    }

    /// From now on it is known what time it is, and so when a mark is over.
    pub fn agree_on(&self, clock: Clock) {
        // The first one is kept.
        let _ = self.clock.set(clock);
    }

    /// Takes in the mark of a Lease that was read.
    fn hear(&self, lease: &Lease) {
        let before = self.mark.borrow().clone();
        let now = Mark::on(lease, before.as_ref());
        let text = |mark: &Option<Mark>| mark.as_ref().map(|mark| mark.text().to_owned());
        if text(&before) == text(&now) {
            return;
        }
        match &now {
            Some(mark) => tracing::warn!(
                until = mark.text(),
                "the Lease is marked: the operator is being uninstalled; nothing is begun, and what is owed is taken back"
            ),
            None => tracing::warn!("the mark of an uninstallation has gone: the operator acts again"),
        }
        self.mark.send_replace(now);
    }

    /// Whether that Lease carries a mark that says nothing any more.
    fn is_over(&self, lease: &Lease) -> bool {
        let mark = Mark::on(lease, self.mark.borrow().as_ref());
        mark.zip(self.clock.get()).is_some_and(|(mark, clock)| mark.is_over(clock))
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
    /// When a Lease was last seen that was marked, if that is what was seen last.
    marked: Mutex<Option<Instant>>,
    /// So much longer than others it waits before it takes a Lease that is free.
    courtesy: Duration,
}

/// How a term was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Everything was taken back, and the Lease deleted: this process is about to be ended.
    Drained,
    /// In another way.
    Otherwise(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("it was deleted when everything had been taken back"),
            Self::Otherwise(how) => f.write_str(how),
        }
    }
}

/// What became of the end of a term.
enum Ended {
    GivenBack,
    Deleted,
    NotOurs,
}

/// The Lease as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Who holds it.
    pub holder: Option<String>,
    /// The time that the mark on it names.
    pub marked_until: Option<Timestamp>,
    term: Option<i32>,
    renewed: Option<MicroTime>,
}

impl Sight {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            marked_until: mark::until_on(lease),
            term: spec.lease_transitions,
            renewed: spec.renew_time,
        }
    }

    /// Whether somebody has taken or renewed it since `before`: with that version in hand, whose mark it has read.
    #[must_use]
    pub fn is_heard_since(&self, before: &Self) -> bool {
        let of = |sight: &Self| (sight.holder.clone(), sight.term, sight.renewed.clone());
        self.holder.is_some() && of(self) != of(before)
    }
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
        Self {
            leases: Api::namespaced(client, namespace),
            config,
            identity: identity.into(),
            health,
            marked: Mutex::default(),
            courtesy: Duration::ZERO,
        }
    }

    /// One that lets others go first: it takes the Lease only where several tries of theirs have not come.
    #[must_use]
    pub fn after_others(self) -> Self {
        Self { courtesy: self.config.retry_period.saturating_mul(3), ..self }
    }

    /// The Lease as it is.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn look(&self) -> kube::Result<Option<Sight>> {
        Ok(self.leases.get_opt(&self.config.name).await?.as_ref().map(Sight::of))
    }

    /// Marks the Lease, creating it where there is none, unless it is marked for longer already. The Lease as it is then;
    /// none where somebody else wrote it at the same time.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn mark(&self, until: Timestamp) -> kube::Result<Option<Sight>> {
        let Some(lease) = self.leases.get_opt(&self.config.name).await? else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..Default::default() };
            let mut lease = Lease { metadata, spec: Some(LeaseSpec::default()) };
            mark::put(&mut lease, Some(until));
            return unless_raced(self.leases.create(&PostParams::default(), &lease).await);
        };
        if mark::until_on(&lease).is_some_and(|known| known >= until) {
            return Ok(Some(Sight::of(&lease)));
        }
        self.put(lease, until).await
    }

    /// The drain is over: the marked Lease is deleted, whoever holds it. When the operator is deleted after that its account
    /// goes first, and nobody could. True once there is none, or none that is marked.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn remove(&self) -> kube::Result<bool> {
        match self.leases.get_opt(&self.config.name).await? {
            Some(lease) if mark::text_on(&lease).is_some() => match self.delete(lease).await {
                // It has been renewed meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                deleted => deleted.map(|()| true),
            },
            Some(_) | None => Ok(true),
        }
    }

    /// Deletes exactly this version of the Lease.
    async fn delete(&self, lease: Lease) -> kube::Result<()> {
        let preconditions =
            Preconditions { uid: lease.metadata.uid, resource_version: lease.metadata.resource_version };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.leases.delete(&self.config.name, &params).await.map(drop)
    }

    async fn put(&self, mut lease: Lease, until: Timestamp) -> kube::Result<Option<Sight>> {
        mark::put(&mut lease, Some(until));
        unless_raced(self.leases.replace(&self.config.name, &PostParams::default(), &lease).await)
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
    pub async fn keep(&self, leadership: &Leadership) -> Lost {
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            self.health.beat();
            let left = self.config.renew_deadline.saturating_sub(leadership.since_contact());
            if left.is_zero() {
                let seconds = self.config.renew_deadline.as_secs_f64();
                return Lost::Otherwise(format!("it could not be renewed for {seconds} s"));
            }
            match tokio::time::timeout(left, self.renew(leadership)).await {
                Ok(Ok(true)) | Err(_) => {}
                Ok(Ok(false)) => return Lost::Otherwise("another operator holds it".to_owned()),
                // Only who has drained, or ends, deletes a Lease that is marked.
                Ok(Err(kube::Error::Api(status)))
                    if status.code == 404 && leadership.draining().is_some() =>
                {
                    return Lost::Drained;
                }
                Ok(Err(error)) => tracing::warn!(error = brief(&error), "the Lease could not be renewed"),
            }
        }
    }

    /// Waits to be ended, leading nothing. Should nobody end it after all, it returns after a while: the uninstallation was
    /// given up.
    pub async fn linger(&self) {
        let since = Instant::now();
        while since.elapsed() < Draining::LINGERS {
            self.health.beat();
            tokio::time::sleep(self.config.retry_period).await;
        }
    }

    /// Gives the Lease back, so that the next one need not wait. Where it is marked nobody comes next, and it is deleted.
    pub async fn release(&self, leadership: &Leadership) {
        self.end_in_time(leadership, true).await;
    }

    /// The same, but the Lease stays, with its mark if it has one.
    pub async fn give_back(&self, leadership: &Leadership) {
        self.end_in_time(leadership, false).await;
    }

    async fn end_in_time(&self, leadership: &Leadership, for_good: bool) {
        let ended = async {
            loop {
                match self.end(leadership, for_good).await {
                    // Somebody has written the mark meanwhile.
                    Err(kube::Error::Api(status)) if status.code == 409 => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    ended => return ended,
                }
            }
        };
        match tokio::time::timeout(self.config.renew_deadline, ended).await {
            Ok(Ok(Ended::GivenBack)) => tracing::info!("the Lease was given back"),
            Ok(Ok(Ended::Deleted)) => {
                tracing::info!("the operator is being uninstalled: the Lease was deleted")
            }
            Ok(Ok(Ended::NotOurs)) => tracing::info!("the Lease is not ours any more"),
            Ok(Err(error)) => tracing::warn!(error = brief(&error), "the Lease could not be given back"),
            Err(_) => tracing::warn!("the Lease could not be given back in time"),
        }
    }

    async fn end(&self, leadership: &Leadership, for_good: bool) -> kube::Result<Ended> {
        let Some(mut lease) = self.leases.get_opt(&self.config.name).await? else {
            return Ok(Ended::NotOurs);
        };
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(leadership.identity())
        {
            return Ok(Ended::NotOurs);
        }
        if for_good && mark::text_on(&lease).is_some() && !leadership.is_over(&lease) {
            self.delete(lease).await?;
            return Ok(Ended::Deleted);
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        self.leases.replace(&self.config.name, &PostParams::default(), &lease).await?;
        Ok(Ended::GivenBack)
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> kube::Result<Option<Leadership>> {
        let Some(lease) = self.leases.get_opt(&self.config.name).await? else {
            if self.was_marked() {
                return Ok(None);
            }
            let sent = Instant::now();
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.config.name.clone()), ..Default::default() },
                spec: Some(self.spec(0)),
            };
            return match self.leases.create(&PostParams::default(), &lease).await {
                Ok(lease) => Ok(Some(self.leadership(0, sent, &lease))),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(error) => Err(error),
            };
        };
        self.remember(&lease);
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.free(&lease, &spec, observed) {
            return Ok(None);
        }
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
        let sent = Instant::now();
        // With the resourceVersion that was read: of two that find it free, one wins.
        let taken = Lease { spec: Some(self.spec(transitions)), ..lease };
        match self.leases.replace(&self.config.name, &PostParams::default(), &taken).await {
            Ok(lease) => Ok(Some(self.leadership(transitions, sent, &lease))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes whether the Lease is marked.
    fn remember(&self, lease: &Lease) {
        let marked = mark::text_on(lease).map(|_| Instant::now());
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = marked;
    }

    /// Whether a Lease that has gone was marked: then its leader has ended because the operator is being uninstalled, and so
    /// will this process. It does not begin anew what has just been ended, unless it is still there after a while.
    fn was_marked(&self) -> bool {
        let marked = *self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        marked.is_some_and(|at| at.elapsed() < Draining::LINGERS)
    }

    /// Whether nobody holds it: it was given back, or has not changed before our eyes for its whole duration.
    fn free(&self, lease: &Lease, spec: &LeaseSpec, observed: &mut Option<Observed>) -> bool {
        let given_back = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        if given_back && self.courtesy.is_zero() {
            return true;
        }
        let version = lease.metadata.resource_version.clone();
        match observed {
            Some(seen) if seen.version == version => {
                let promised = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
                let promised = Duration::from_secs(promised).max(self.config.duration);
                let held = if given_back { Duration::ZERO } else { promised };
                seen.since.elapsed() > held.saturating_add(self.courtesy)
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
        leadership.hear(&lease);
        let sent = Instant::now();
        let mut renewed = self.spec(spec.lease_transitions.unwrap_or(0));
        renewed.acquire_time = spec.acquire_time;
        let is_over = leadership.is_over(&lease);
        let mut renewed = Lease { spec: Some(renewed), ..lease };
        if is_over {
            mark::put(&mut renewed, None);
        }
        match self.leases.replace(&self.config.name, &PostParams::default(), &renewed).await {
            Ok(renewed) => {
                leadership.renewed_at(sent);
                leadership.hear(&renewed);
                Ok(true)
            }
            // Somebody has marked it meanwhile, or has taken it: the next look tells.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn leadership(&self, transitions: i32, sent: Instant, lease: &Lease) -> Leadership {
        let leadership = Leadership {
            identity: self.identity.clone(),
            epoch: u64::try_from(transitions).unwrap_or(0),
            renewed: Arc::new(Mutex::new(sent)),
            provable_for: self.config.renew_deadline,
            mark: watch::Sender::new(None),
            clock: Arc::default(),
        };
        leadership.hear(lease);
        leadership
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
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

/// A write that another one came before says nothing.
fn unless_raced(written: kube::Result<Lease>) -> kube::Result<Option<Sight>> {
    match written {
        Ok(lease) => Ok(Some(Sight::of(&lease))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}
