//! One leader, by a Lease.
//!
//! Whether a Lease has run out is judged by how long it has been seen unchanged on the own monotonic clock, never by
//! comparing wall clocks. A leader knows for how long it provably holds: from before its last successful renewal was sent.
//! A Lease is a hint all the same; what makes acting safe are the compare-and-swaps and the fences of the effects.
//!
//! A person who uninstalls the operator marks the Lease: its leader begins nothing any more.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::model::Draining;
use jiff::Timestamp;

use crate::objects::Version;
use crate::planted;
use crate::ports::{Read, Timer, WriteError, Written};
use crate::timeout::within;

/// Maximum time for which anybody drains. A mark is forgotten this long after it was first seen (and after the time for which
/// every mark lingers), whatever time it names: a typo does not stop the operator for ever.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
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
}

/// The mark of an uninstallation, as this process knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    text: String,
    /// None where the text is no time.
    draining: Option<Draining>,
    /// When this process saw it first, as a monotonic time.
    seen: Duration,
}

impl Mark {
    /// The mark that a Lease carries at `now`; one that is `known` already has been seen since.
    fn on(record: &LeaseRecord, known: Option<&Self>, now: Duration) -> Option<Self> {
        let text = record.mark.as_deref()?;
        if let Some(known) = known.filter(|known| known.text == text) {
            return Some(known.clone());
        }
        let draining = text.trim().parse().ok().map(|until| Draining { until });
        Some(Self { text: text.to_owned(), draining, seen: now })
    }

    /// What it says, while it may say anything.
    fn draining(&self, now: Duration) -> Option<Draining> {
        let seen_for = now.saturating_sub(self.seen);
        self.draining.filter(|_| seen_for < LONGEST_DRAIN + Draining::LINGERS)
    }
}

/// What a leader knows about its term.
#[derive(Debug)]
pub struct Term {
    identity: Arc<str>,
    epoch: u64,
    provable_for: Duration,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// When the last renewal that succeeded was sent, as a monotonic time.
    renewed: Duration,
    mark: Option<Mark>,
    /// Whether the time is known, and so when a mark is over.
    knows_time: bool,
}

impl Term {
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

    /// Whether the Lease is provably held at that monotonic time. A process that was frozen finds that it is not.
    #[must_use]
    pub fn held(&self, now: Duration) -> bool {
        self.since_contact(now) < self.provable_for
    }

    /// How long ago the API server last answered a renewal, counted from before it was sent.
    #[must_use]
    pub fn since_contact(&self, now: Duration) -> Duration {
        now.saturating_sub(self.lock().renewed)
    }

    /// What the mark on the Lease says, as it was last read. It may be over.
    #[must_use]
    pub fn draining(&self, now: Duration) -> Option<Draining> {
        self.lock().mark.as_ref().and_then(|mark| mark.draining(now))
    }

    /// From now on the clock of the port shows the time that was agreed on with the API server.
    pub fn time_is_known(&self) {
        self.lock().knows_time = true;
    }

    /// Takes in the mark of a Lease that was read; whether it is another one.
    fn hear(&self, record: &LeaseRecord, now: Duration) -> bool {
        let mut known = self.lock();
        let mark = Mark::on(record, known.mark.as_ref(), now).filter(|_| !planted::is("mark_is_not_heard"));
        if mark == known.mark {
            return false;
        }
        match &mark {
            Some(mark) => tracing::warn!(
                until = mark.text,
                "the Lease is marked: the operator is being uninstalled; nothing is begun, and pending rollbacks are due"
            ),
            None => tracing::warn!("the mark of an uninstallation is gone: the operator acts again"),
        }
        known.mark = mark;
        true
    }

    /// Whether that Lease carries a mark that says nothing any more at this instant.
    fn is_over(&self, record: &LeaseRecord, now: Duration, instant: Timestamp) -> bool {
        let known = self.lock();
        let mark = Mark::on(record, known.mark.as_ref(), now);
        let is_over = |mark: Mark| mark.draining(now).is_none_or(|draining| !draining.holds(instant));
        known.knows_time && mark.is_some_and(is_over)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
                    tracing::warn!(error, "the Lease cannot be read or written");
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
            match within(&self.time, left, self.renew(term)).await {
                Some(Ok(true)) | None => {}
                Some(Ok(false)) => return Lost::Otherwise("another operator holds it".to_owned()),
                // A marked Lease is deleted only at the end of a drain, or of its leader.
                Some(Err(WriteError::Gone(_))) if term.draining(self.time.monotonic()).is_some() => {
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
                    Err(WriteError::Conflict(_)) => self.time.sleep(AFTER_CONFLICT).await,
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

    async fn end(&self, term: &Term, for_good: bool) -> Written<Ended> {
        let found = self.leases.lease().await.map_err(|error| WriteError::Refused(error.to_string()))?;
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

    async fn try_acquire(&self, unchanged: &mut Unchanged) -> Result<Option<Arc<Term>>, String> {
        let found = self.leases.lease().await.map_err(|error| error.to_string())?;
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
            Ok(stored) => Ok(Some(self.term(transitions, sent, &stored.record))),
            Err(WriteError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
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
    async fn renew(&self, term: &Term) -> Written<bool> {
        let found = self.leases.lease().await.map_err(|error| WriteError::Refused(error.to_string()))?;
        let Some(stored) = found else { return Err(WriteError::Gone("it was deleted".to_owned())) };
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
                term.lock().renewed = sent;
                self.hear(term, &renewed.record);
                Ok(true)
            }
            // Somebody has marked it meanwhile, or has taken it: the next read tells.
            Err(WriteError::Conflict(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn hear(&self, term: &Term, record: &LeaseRecord) {
        if term.hear(record, self.time.monotonic()) {
            self.leases.marked();
        }
    }

    fn term(&self, epoch: u64, sent: Duration, record: &LeaseRecord) -> Arc<Term> {
        let known = Known { renewed: sent, mark: None, knows_time: false };
        let term = Term {
            identity: self.identity.clone(),
            epoch,
            provable_for: self.times.renew_deadline,
            known: Mutex::new(known),
        };
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

#[cfg(test)]
mod tests {
    use engine::model::{earlier, later};

    use super::*;

    fn marked(text: Option<&str>) -> LeaseRecord {
        let mark = text.map(str::to_owned);
        LeaseRecord { holder: None, transitions: None, duration: Duration::ZERO, mark }
    }

    fn term() -> Term {
        let known = Known { renewed: Duration::ZERO, mark: None, knows_time: true };
        let provable_for = Duration::from_secs(10);
        Term { identity: "a".into(), epoch: 1, provable_for, known: Mutex::new(known) }
    }

    #[test]
    fn a_mark_holds_until_a_while_after_its_time_and_one_that_is_no_time_says_nothing() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let is_over = |text: &str| term().is_over(&marked(Some(text)), Duration::ZERO, now);
        assert!(!is_over(&later(now, LONGEST_DRAIN).to_string()));
        assert!(!is_over(&earlier(now, Draining::LINGERS / 2).to_string()));
        assert!(is_over(&earlier(now, Draining::LINGERS).to_string()));
        assert!(is_over("soon") && is_over(""));
        assert!(!term().is_over(&marked(None), Duration::ZERO, now));
    }

    #[test]
    fn a_mark_that_names_no_end_is_forgotten_by_a_process_that_has_seen_it_for_long() {
        let term = term();
        let far = marked(Some("9999-12-30T00:00:00Z"));
        assert!(term.hear(&far, Duration::ZERO));
        let long = LONGEST_DRAIN + Draining::LINGERS;
        assert!(term.draining(Duration::ZERO).is_some() && term.draining(long).is_none());
        assert!(term.is_over(&far, long, Timestamp::UNIX_EPOCH));
        assert!(!term.hear(&far, long), "it is the same one");
        assert!(term.hear(&marked(Some("9999-12-29T00:00:00Z")), long) && term.draining(long).is_some());
    }

    #[test]
    fn a_term_is_held_while_its_renewal_proves_it() {
        assert!(term().held(Duration::from_secs(9)) && !term().held(Duration::from_secs(10)));
    }
}
