//! What a leader knows about its term, and about the mark of an uninstallation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::model::Draining;
use jiff::Timestamp;

use super::{Ahead, LeaseRecord};
use crate::planted;

/// Maximum time for which anybody drains. A mark is forgotten this long after it was first seen (and after the time for which
/// every mark lingers), whatever time it names: a typo does not stop the operator for ever.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

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
    /// How far the API server's clock was ahead at that time.
    ahead: Option<Ahead>,
    mark: Option<Mark>,
    /// Whether the time is known, and so when a mark is over.
    knows_time: bool,
}

impl Term {
    /// A term that begins; it is held once it is renewed.
    pub(super) fn new(identity: Arc<str>, epoch: u64, provable_for: Duration) -> Self {
        let known = Known { renewed: Duration::ZERO, ahead: None, mark: None, knows_time: false };
        Self { identity, epoch, provable_for, known: Mutex::new(known) }
    }

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

    /// Whether the Lease is provably held at that monotonic time, where the API server's clock is so far ahead of it. A process
    /// that was frozen finds that it is not.
    #[must_use]
    pub fn held(&self, now: Duration, ahead: Option<Ahead>) -> bool {
        self.since_contact(now) < self.provable_for && !self.is_older_than_it_seems(ahead)
    }

    /// Whether more time has passed at the API server since the last renewal than here: this machine was paused.
    pub(super) fn is_older_than_it_seems(&self, ahead: Option<Ahead>) -> bool {
        self.lock().ahead.zip(ahead).is_some_and(|(before, now)| now.has_grown_since(before))
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

    /// A renewal succeeded that was sent at that monotonic time; the API server's clock is so far ahead of it.
    pub(super) fn renewed_at(&self, sent: Duration, ahead: Option<Ahead>) {
        let mut known = self.lock();
        (known.renewed, known.ahead) = (sent, ahead);
    }

    /// Takes in the mark of a Lease that was read; whether it is another one.
    pub(super) fn hear(&self, record: &LeaseRecord, now: Duration) -> bool {
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

    /// Whether that Lease carries a mark that says nothing any more at this instant. While the time is not known, none does.
    pub(super) fn is_over(&self, record: &LeaseRecord, now: Duration, instant: Timestamp) -> bool {
        let known = self.lock();
        let mark = Mark::on(record, known.mark.as_ref(), now);
        let is_over = |mark: Mark| mark.draining(now).is_none_or(|draining| !draining.holds(instant));
        known.knows_time && mark.is_some_and(is_over)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use engine::model::{earlier, later};

    use super::super::Dates;
    use super::*;

    fn marked(text: Option<&str>) -> LeaseRecord {
        let mark = text.map(str::to_owned);
        LeaseRecord { holder: None, transitions: None, duration: Duration::ZERO, mark }
    }

    fn term() -> Term {
        let term = Term::new("a".into(), 1, Duration::from_secs(10));
        term.time_is_known();
        term
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
        let term = term();
        let held = |seconds| term.held(Duration::from_secs(seconds), None);
        assert!(held(9) && !held(10));
        term.renewed_at(Duration::from_secs(5), None);
        assert!(held(14) && !held(15));
    }

    #[test]
    fn a_term_is_not_held_on_a_machine_that_was_paused_since_its_renewal() {
        let (term, mut dates) = (term(), Dates::default());
        let date: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let mut hear = |date| {
            dates.hear(date, Duration::ZERO, Duration::ZERO);
            dates.ahead()
        };
        let ahead = [date; 3].map(&mut hear).last().copied().flatten();
        term.renewed_at(Duration::ZERO, ahead);
        assert!(term.held(Duration::ZERO, ahead));
        let paused = later(date, Duration::from_secs(20));
        assert!(term.held(Duration::ZERO, hear(paused)), "one answer may be wrong");
        let ahead = hear(paused);
        assert!(!term.held(Duration::ZERO, ahead));
        term.renewed_at(Duration::ZERO, ahead);
        assert!(term.held(Duration::ZERO, ahead), "nobody has taken it meanwhile");
    }

    #[test]
    fn no_mark_is_over_while_the_time_is_not_known() {
        let term = Term::new("a".into(), 1, Duration::from_secs(10));
        let is_over = || term.is_over(&marked(Some("soon")), Duration::ZERO, Timestamp::UNIX_EPOCH);
        assert!(!is_over());
        term.time_is_known();
        assert!(is_over());
    }
}
