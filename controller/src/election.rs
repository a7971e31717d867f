//! One leader, by a Lease.
//!
//! Whether a Lease has run out is judged by how long it has been seen unchanged on the own monotonic clock, never by
//! comparing wall clocks. A leader knows for how long it provably holds: from before its last successful renewal was sent.
//! A Lease is a hint all the same; what makes acting safe are the compare-and-swaps and the fences of the effects.
//!
//! A person who uninstalls the operator marks the Lease: its leader begins nothing any more.

mod dates;
mod term;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::model::Draining;

pub use self::dates::{Ahead, Dates};
pub use self::term::{LONGEST_DRAIN, Term};
use crate::objects::Version;
use crate::ports::{Read, ReadError, Timer, WriteError, Written};
use crate::timeout::within;

/// How soon giving the Lease back is tried again when somebody has written it meanwhile.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);
/// How many tries of others a polite elector lets pass.
const COURTESY: u32 = 3;

/// The times of a Lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// How long a Lease is held without being renewed.
    pub duration: Duration,
    /// How long a leader goes on that could not renew.
    pub renew_deadline: Duration,
    /// How long between two tries.
    pub retry_period: Duration,
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The operator that holds it.
    pub holder: Option<String>,
    /// The term; none where nobody has held it yet.
    pub transitions: Option<u64>,
    /// How long its holder holds it without renewing.
    pub duration: Duration,
    /// The text of the mark of an uninstallation.
    pub mark: Option<String>,
}

/// A stored Lease. `Raw`: what else an implementation has to write back.
#[derive(Debug, Clone)]
pub struct StoredLease<Raw> {
    /// What it says.
    pub record: LeaseRecord,
    /// Its version.
    pub version: Version,
    /// The object.
    pub raw: Raw,
}

/// The Lease of an election. An implementation repeats no write, and writes the time of a renewal itself.
pub trait Leases: Send + Sync + 'static {
    /// See [`StoredLease`].
    type Raw: Send + Sync;

    /// The Lease.
    fn lease(&self) -> impl Future<Output = Read<Option<StoredLease<Self::Raw>>>> + Send;
    /// Creates it.
    fn create(&self, record: &LeaseRecord) -> impl Future<Output = Written<StoredLease<Self::Raw>>> + Send;
    /// Replaces exactly this version of it.
    fn replace(
        &self,
        stored: &StoredLease<Self::Raw>,
        record: &LeaseRecord,
    ) -> impl Future<Output = Written<StoredLease<Self::Raw>>> + Send;
    /// Deletes exactly this version of it.
    fn delete(&self, stored: &StoredLease<Self::Raw>) -> impl Future<Output = Written<()>> + Send;
    /// The election goes on; whether the API server could be reached, where it was asked.
    fn tried(&self, reachable: Option<bool>);
    /// The mark on the Lease has changed.
    fn marked(&self);
    /// How far the API server's clock is ahead of [`Timer::monotonic`], by its last answers; nothing where it is not known.
    fn ahead(&self) -> Option<Ahead>;
}

/// How a term was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Every change was rolled back, and the Lease deleted: this process is about to be ended.
    Drained,
    /// In another way.
    Otherwise(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("it was deleted when every change had been rolled back"),
            Self::Otherwise(how) => f.write_str(how),
        }
    }
}

/// How a term was ended.
enum Ended {
    GivenBack,
    Deleted,
    NotOurs,
}

/// Why a Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Takes part in the election.
pub struct Elector<L: Leases, T: Timer> {
    leases: L,
    time: T,
    times: LeaseTimes,
    identity: Arc<str>,
    /// When a Lease was last seen that was marked, if that is what was seen last.
    marked: Mutex<Option<Duration>>,
    /// How much longer than others it waits before it takes a Lease that is free.
    courtesy: Duration,
}

/// A Lease as it was last seen to change: its version, and since when.
type Unchanged = Option<(Version, Duration)>;

impl<L: Leases, T: Timer> Elector<L, T> {
    /// An elector of that identity.
    #[must_use]
    pub fn new(leases: L, time: T, times: LeaseTimes, identity: &str) -> Self {
        let (marked, courtesy) = (Mutex::default(), Duration::ZERO);
        Self { leases, time, times, identity: identity.into(), marked, courtesy }
    }

    /// An elector that lets others go first: it takes the Lease only where several tries of theirs have not come.
    #[must_use]
    pub fn after_others(self) -> Self {
        Self { courtesy: self.times.retry_period.saturating_mul(COURTESY), ..self }
    }

    /// The Lease.
    pub fn leases(&self) -> &L {
        &self.leases
    }

    /// Waits until this process leads.
    pub async fn acquire(&self) -> Arc<Term> {
        let mut unchanged: Unchanged = None;
        loop {
            self.leases.tried(None);
            match within(&self.time, self.times.renew_deadline, self.try_acquire(&mut unchanged)).await {
                Some(Ok(Some(term))) => return term,
                Some(Ok(None)) => self.leases.tried(Some(true)),
                None => {
                    self.leases.tried(Some(false));
                    tracing::warn!("the Lease could neither be read nor written in time");
                }
                Some(Err(error)) => {
                    self.leases.tried(Some(false));
                    tracing::warn!(%error, "the Lease cannot be read or written");
                }
            }
            self.time.sleep(self.times.retry_period).await;
        }
    }

    /// Renews until the Lease is lost, and says how.
    pub async fn keep(&self, term: &Term) -> Lost {
        loop {
            self.time.sleep(self.times.retry_period).await;
            self.leases.tried(None);
            let left = self.times.renew_deadline.saturating_sub(term.since_contact(self.time.monotonic()));
            if left.is_zero() {
                let seconds = self.times.renew_deadline.as_secs_f64();
                return Lost::Otherwise(format!("it could not be renewed for {seconds} s"));
            }
            if term.is_older_than_it_seems(self.leases.ahead()) {
                return Lost::Otherwise(
                    "more time has passed at the API server than here since it was renewed".to_owned(),
                );
            }
            match within(&self.time, left, self.renew(term)).await {
                Some(Ok(true)) | None => {}
                Some(Ok(false)) => return Lost::Otherwise("another operator holds it".to_owned()),
                // A marked Lease is deleted only at the end of a drain, or of its leader.
                Some(Err(Failed::Write(WriteError::Gone(_))))
                    if term.draining(self.time.monotonic()).is_some() =>
                {
                    return Lost::Drained;
                }
                Some(Err(error)) => tracing::warn!(%error, "the Lease could not be renewed"),
            }
        }
    }

    /// Waits to be ended, leading nothing. Should nobody end it after all, it returns after a while: the uninstallation was
    /// given up.
    pub async fn linger(&self) {
        let since = self.time.monotonic();
        while self.time.monotonic().saturating_sub(since) < Draining::LINGERS {
            self.leases.tried(None);
            self.time.sleep(self.times.retry_period).await;
        }
    }

    /// Gives the Lease back, so that a successor need not wait. A marked Lease is deleted: there is no successor.
    pub async fn release(&self, term: &Term) {
        self.end_in_time(term, true).await;
    }

    /// The same, but the Lease stays, with its mark if it has one.
    pub async fn give_back(&self, term: &Term) {
        self.end_in_time(term, false).await;
    }

    async fn end_in_time(&self, term: &Term, for_good: bool) {
        let ended = async {
            loop {
                match self.end(term, for_good).await {
                    // Somebody has written the mark meanwhile.
                    Err(Failed::Write(WriteError::Conflict(_))) => self.time.sleep(AFTER_CONFLICT).await,
                    ended => return ended,
                }
            }
        };
        match within(&self.time, self.times.renew_deadline, ended).await {
            Some(Ok(Ended::GivenBack)) => tracing::info!("the Lease was given back"),
            Some(Ok(Ended::Deleted)) => {
                tracing::info!("the operator is being uninstalled: the Lease was deleted");
            }
            Some(Ok(Ended::NotOurs)) => tracing::info!("the Lease is not ours any more"),
            Some(Err(error)) => tracing::warn!(%error, "the Lease could not be given back"),
            None => tracing::warn!("the Lease could not be given back in time"),
        }
    }

    async fn end(&self, term: &Term, for_good: bool) -> Result<Ended, Failed> {
        let found = self.leases.lease().await?;
        let Some(stored) = found.filter(|stored| stored.record.holder.as_deref() == Some(term.identity()))
        else {
            return Ok(Ended::NotOurs);
        };
        let (now, instant) = (self.time.monotonic(), self.time.now());
        if for_good && stored.record.mark.is_some() && !term.is_over(&stored.record, now, instant) {
            self.leases.delete(&stored).await?;
            return Ok(Ended::Deleted);
        }
        let duration = Duration::from_secs(1);
        let record = LeaseRecord { holder: None, duration, ..stored.record.clone() };
        self.leases.replace(&stored, &record).await?;
        Ok(Ended::GivenBack)
    }

    async fn try_acquire(&self, unchanged: &mut Unchanged) -> Result<Option<Arc<Term>>, Failed> {
        let found = self.leases.lease().await?;
        self.remember(found.as_ref().map(|stored| &stored.record));
        let transitions = match &found {
            None if self.was_marked() => return Ok(None),
            None => 0,
            Some(stored) if !self.is_free(stored, unchanged) => return Ok(None),
            Some(stored) => stored.record.transitions.unwrap_or(0).saturating_add(1),
        };
        let sent = self.time.monotonic();
        let record = self.record(transitions, found.as_ref().and_then(|stored| stored.record.mark.clone()));
        let taken = match &found {
            None => self.leases.create(&record).await,
            // With the version that was read: of two that find it free, one wins.
            Some(stored) => self.leases.replace(stored, &record).await,
        };
        match taken {
            Ok(stored) => Ok(Some(self.term(sent, &stored.record))),
            Err(WriteError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes whether a Lease is marked; nothing where there is none.
    fn remember(&self, found: Option<&LeaseRecord>) {
        if let Some(record) = found {
            let marked = record.mark.as_ref().map(|_| self.time.monotonic());
            *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = marked;
        }
    }

    /// Whether a Lease that is gone was marked: then its leader has ended because the operator is being uninstalled, and so
    /// will this process. It does not begin again what has just been ended, unless it is still there after a while.
    fn was_marked(&self) -> bool {
        let marked = *self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        marked.is_some_and(|at| self.time.monotonic().saturating_sub(at) < Draining::LINGERS)
    }

    /// Whether nobody holds it: it was given back, or this process has seen it unchanged for its whole duration.
    fn is_free(&self, stored: &StoredLease<L::Raw>, unchanged: &mut Unchanged) -> bool {
        let given_back = stored.record.holder.is_none();
        if given_back && self.courtesy.is_zero() {
            return true;
        }
        let now = self.time.monotonic();
        match unchanged {
            Some((version, since)) if *version == stored.version => {
                let promised = stored.record.duration.max(self.times.duration);
                let held = if given_back { Duration::ZERO } else { promised };
                now.saturating_sub(*since) > held.saturating_add(self.courtesy)
            }
            _ => {
                *unchanged = Some((stored.version.clone(), now));
                false
            }
        }
    }

    /// Renews once; false where another operator holds it.
    async fn renew(&self, term: &Term) -> Result<bool, Failed> {
        let found = self.leases.lease().await?;
        let Some(stored) = found else { return Err(WriteError::Gone("it was deleted".to_owned()).into()) };
        let ours = stored.record.holder.as_deref() == Some(term.identity())
            && stored.record.transitions.unwrap_or(0) == term.epoch();
        if !ours {
            return Ok(false);
        }
        self.hear(term, &stored.record);
        let sent = self.time.monotonic();
        let is_over = term.is_over(&stored.record, sent, self.time.now());
        let record = self.record(term.epoch(), stored.record.mark.clone().filter(|_| !is_over));
        match self.leases.replace(&stored, &record).await {
            Ok(renewed) => {
                term.renewed_at(sent, self.leases.ahead());
                self.hear(term, &renewed.record);
                Ok(true)
            }
            // Somebody has marked it meanwhile, or has taken it: the next read tells.
            Err(WriteError::Conflict(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&self, term: &Term, record: &LeaseRecord) {
        if term.hear(record, self.time.monotonic()) {
            self.leases.marked();
        }
    }

    /// The term that a write has begun; `record` is what is stored since.
    fn term(&self, sent: Duration, record: &LeaseRecord) -> Arc<Term> {
        let epoch = record.transitions.unwrap_or(0);
        let term = Term::new(self.identity.clone(), epoch, self.times.renew_deadline);
        term.renewed_at(sent, self.leases.ahead());
        self.hear(&term, record);
        Arc::new(term)
    }

    fn record(&self, transitions: u64, mark: Option<String>) -> LeaseRecord {
        LeaseRecord {
            holder: Some(self.identity.to_string()),
            transitions: Some(transitions),
            duration: self.times.duration,
            mark,
        }
    }
}
