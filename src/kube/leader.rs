//! One leader, by a Lease of Kubernetes. The election itself is [`controller::election`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller::election::{self, Ahead, LeaseRecord, LeaseTimes, Leases, StoredLease, Term};
pub use controller::election::{LONGEST_DRAIN as LONGEST, Lost};
use controller::ports::{Leading, Read, ReadError, Timer, Written};
use engine::model::Draining;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;

use super::convert::version;
use super::dates::Dates;
use super::write::classify;
use crate::api::DRAINING_UNTIL;
use crate::clock::{Clock, since_boot};
use crate::config::LeaseConfig;
use crate::connections::secrets::brief;
use crate::telemetry::Health;

/// Tokio's timers, and the clock that was last agreed on with the API server. Cheap to clone.
#[derive(Debug, Clone, Default)]
struct Instants(Arc<Mutex<Option<Clock>>>);

impl Timer for Instants {
    /// Before the first agreement it is this machine's time; the election asks only afterwards.
    fn now(&self) -> Timestamp {
        let clock = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock.map_or_else(Timestamp::now, |clock| clock.now())
    }

    fn monotonic(&self) -> Duration {
        since_boot()
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(span)
    }
}

/// The Lease of the API server.
struct KubernetesLeases {
    api: Api<Lease>,
    name: String,
    health: Health,
    dates: Dates,
    /// Tells whenever the mark has changed.
    marks: watch::Sender<()>,
}

fn spec_of(record: &LeaseRecord, before: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    // The API server answers with what it keeps, and the election goes on with that.
    let transitions = record.transitions.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let held = record.holder.is_some();
    let goes_on = before.is_some_and(|spec| !held || spec.lease_transitions == transitions);
    let acquired = before.and_then(|spec| spec.acquire_time.clone()).filter(|_| goes_on);
    let renewed = before.and_then(|spec| spec.renew_time.clone()).filter(|_| !held);
    LeaseSpec {
        holder_identity: record.holder.clone(),
        lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
        acquire_time: acquired.or_else(|| Some(now.clone())),
        renew_time: renewed.or(Some(now)),
        lease_transitions: transitions,
        ..LeaseSpec::default()
    }
}

fn record_of(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    let number = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok());
    LeaseRecord {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        transitions: number(spec.lease_transitions),
        duration: Duration::from_secs(number(spec.lease_duration_seconds).unwrap_or_default()),
        mark: text_on(lease).map(str::to_owned),
    }
}

fn stored(lease: Lease) -> StoredLease<Lease> {
    StoredLease { record: record_of(&lease), version: version(&lease.metadata), raw: lease }
}

impl Leases for KubernetesLeases {
    type Raw = Lease;

    async fn lease(&self) -> Read<Option<StoredLease<Lease>>> {
        let found = self.api.get_opt(&self.name).await.map_err(|error| ReadError(brief(&error)))?;
        Ok(found.map(stored))
    }

    async fn create(&self, record: &LeaseRecord) -> Written<StoredLease<Lease>> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..Default::default() };
        let mut lease = Lease { metadata, spec: Some(spec_of(record, None)) };
        put(&mut lease, record.mark.clone());
        let created = self.api.create(&PostParams::default(), &lease).await;
        created.map(stored).map_err(|error| classify(&error))
    }

    async fn replace(
        &self,
        before: &StoredLease<Lease>,
        record: &LeaseRecord,
    ) -> Written<StoredLease<Lease>> {
        let mut lease = before.raw.clone();
        lease.spec = Some(spec_of(record, before.raw.spec.as_ref()));
        put(&mut lease, record.mark.clone());
        let replaced = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        replaced.map(stored).map_err(|error| classify(&error))
    }

    async fn delete(&self, before: &StoredLease<Lease>) -> Written<()> {
        self.remove(&before.raw).await.map_err(|error| classify(&error))
    }

    fn tried(&self, reachable: Option<bool>) {
        match reachable {
            Some(ready) => self.health.set_ready(ready),
            None => self.health.beat(),
        }
    }

    fn marked(&self) {
        self.marks.send_replace(());
    }

    fn ahead(&self) -> Option<Ahead> {
        self.dates.ahead()
    }
}

impl KubernetesLeases {
    /// Deletes exactly this version of the Lease.
    async fn remove(&self, lease: &Lease) -> kube::Result<()> {
        let preconditions = Preconditions {
            uid: lease.metadata.uid.clone(),
            resource_version: lease.metadata.resource_version.clone(),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await.map(drop)
    }
}

/// What the leader knows about its term. Cheap to clone; a follower has none.
#[derive(Debug, Clone)]
pub struct Leadership {
    term: Arc<Term>,
    instants: Instants,
    dates: Dates,
    marks: watch::Sender<()>,
}

impl Leadership {
    /// Tells whenever the mark has changed.
    #[must_use]
    pub fn marks(&self) -> watch::Receiver<()> {
        self.marks.subscribe()
    }

    /// From now on it is known what time it is, and so when a mark is over.
    pub fn agree_on(&self, clock: Clock) {
        *self.instants.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        self.term.time_is_known();
    }
}

impl Leading for Leadership {
    fn held(&self) -> bool {
        self.term.held(self.instants.monotonic(), self.dates.ahead())
    }

    fn identity(&self) -> &str {
        self.term.identity()
    }

    fn epoch(&self) -> u64 {
        self.term.epoch()
    }

    fn draining(&self) -> Option<Draining> {
        self.term.draining(self.instants.monotonic())
    }

    fn since_contact(&self) -> Duration {
        self.term.since_contact(self.instants.monotonic())
    }
}

/// Takes part in the election.
pub struct Elector {
    election: election::Elector<KubernetesLeases, Instants>,
    instants: Instants,
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
            marked_until: until_on(lease),
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

impl Elector {
    /// An elector for the configured Lease, in `namespace`. The client must not retry by itself, and be one of `dates`.
    #[must_use]
    pub fn new(
        (client, dates): (Client, Dates),
        namespace: &str,
        config: LeaseConfig,
        identity: &str,
        health: Health,
    ) -> Self {
        let leases = KubernetesLeases {
            api: Api::namespaced(client, namespace),
            name: config.name,
            health,
            dates,
            marks: watch::Sender::new(()),
        };
        let times = LeaseTimes {
            duration: config.duration,
            renew_deadline: config.renew_deadline,
            retry_period: config.retry_period,
        };
        let instants = Instants::default();
        let election = election::Elector::new(leases, instants.clone(), times, identity);
        Self { election, instants }
    }

    /// One that lets others go first: it takes the Lease only where several tries of theirs have not come.
    #[must_use]
    pub fn after_others(self) -> Self {
        Self { election: self.election.after_others(), ..self }
    }

    /// Waits until this process leads.
    pub async fn acquire(&self) -> Leadership {
        let term = self.election.acquire().await;
        let KubernetesLeases { dates, marks, .. } = self.leases();
        Leadership { term, instants: self.instants.clone(), dates: dates.clone(), marks: marks.clone() }
    }

    /// Renews until the Lease is lost, and says how.
    pub async fn keep(&self, leadership: &Leadership) -> Lost {
        self.election.keep(&leadership.term).await
    }

    /// Waits to be ended, leading nothing; see [`election::Elector::linger`].
    pub async fn linger(&self) {
        self.election.linger().await;
    }

    /// Gives the Lease back, so that the next one need not wait. Where it is marked nobody comes next, and it is deleted.
    pub async fn release(&self, leadership: &Leadership) {
        self.election.release(&leadership.term).await;
    }

    /// The same, but the Lease stays, with its mark if it has one.
    pub async fn give_back(&self, leadership: &Leadership) {
        self.election.give_back(&leadership.term).await;
    }

    fn leases(&self) -> &KubernetesLeases {
        self.election.leases()
    }

    /// The Lease as it is.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn look(&self) -> kube::Result<Option<Sight>> {
        let KubernetesLeases { api, name, .. } = self.leases();
        Ok(api.get_opt(name).await?.as_ref().map(Sight::of))
    }

    /// Marks the Lease, creating it where there is none, unless it is marked for longer already. The Lease as it is then;
    /// none where somebody else wrote it at the same time.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn mark(&self, until: Timestamp) -> kube::Result<Option<Sight>> {
        let KubernetesLeases { api, name, .. } = self.leases();
        let Some(mut lease) = api.get_opt(name).await? else {
            let metadata = ObjectMeta { name: Some(name.clone()), ..Default::default() };
            let mut lease = Lease { metadata, spec: Some(LeaseSpec::default()) };
            put(&mut lease, Some(until.to_string()));
            return unless_raced(api.create(&PostParams::default(), &lease).await);
        };
        if until_on(&lease).is_some_and(|known| known >= until) {
            return Ok(Some(Sight::of(&lease)));
        }
        put(&mut lease, Some(until.to_string()));
        unless_raced(api.replace(name, &PostParams::default(), &lease).await)
    }

    /// The drain is over: the marked Lease is deleted, whoever holds it. When the operator is deleted after that its account
    /// goes first, and nobody could. True once there is none, or none that is marked.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses.
    pub async fn remove(&self) -> kube::Result<bool> {
        let KubernetesLeases { api, name, .. } = self.leases();
        match api.get_opt(name).await? {
            Some(lease) if text_on(&lease).is_some() => match self.leases().remove(&lease).await {
                // It has been renewed meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                deleted => deleted.map(|()| true),
            },
            Some(_) | None => Ok(true),
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

fn text_on(lease: &Lease) -> Option<&str> {
    lease.metadata.annotations.as_ref()?.get(DRAINING_UNTIL).map(String::as_str)
}

/// The time that the mark names, where it is one.
fn until_on(lease: &Lease) -> Option<Timestamp> {
    text_on(lease)?.trim().parse().ok()
}

/// Writes the mark down, or takes it away.
fn put(lease: &mut Lease, mark: Option<String>) {
    let annotations: &mut BTreeMap<_, _> = lease.metadata.annotations.get_or_insert_default();
    match mark {
        Some(text) => drop(annotations.insert(DRAINING_UNTIL.to_owned(), text)),
        None => drop(annotations.remove(DRAINING_UNTIL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let until: Timestamp = "2026-11-24T12:00:00.123456789Z".parse().unwrap();
        let mut lease = Lease::default();
        put(&mut lease, Some("soon".to_owned()));
        assert_eq!((text_on(&lease), until_on(&lease)), (Some("soon"), None));
        put(&mut lease, Some(until.to_string()));
        assert_eq!(until_on(&lease), Some(until));
        put(&mut lease, None);
        assert_eq!(text_on(&lease), None);
    }

    #[test]
    fn a_renewal_keeps_the_time_at_which_the_lease_was_taken() {
        let record = |holder: Option<&str>, transitions| LeaseRecord {
            holder: holder.map(str::to_owned),
            transitions: Some(transitions),
            duration: Duration::from_secs(15),
            mark: None,
        };
        let taken = spec_of(&record(Some("a"), 1), None);
        let renewed = spec_of(&record(Some("a"), 1), Some(&taken));
        assert_eq!(renewed.acquire_time, taken.acquire_time);
        assert!(renewed.renew_time >= taken.renew_time);
        let given_back = spec_of(&record(None, 1), Some(&renewed));
        assert_eq!((given_back.holder_identity, given_back.renew_time), (None, renewed.renew_time.clone()));
        assert!(spec_of(&record(Some("b"), 2), Some(&renewed)).acquire_time > taken.acquire_time);
    }
}
