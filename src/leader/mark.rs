//! The mark of who uninstalls the operator, on its Lease. Whoever leads sees it when it renews, and whoever takes the Lease
//! before: it is in the very version that is replaced.

use std::time::{Duration, Instant};

use engine::model::Draining;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use crate::api::DRAINING_UNTIL;
use crate::clock::Clock;

/// The longest time for which anybody drains. A mark is forgotten so long after it was first seen (and after the while for
/// which every mark lingers), whatever time it names: a typo does not stop the operator for ever.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// A mark as this process knows it.
#[derive(Debug, Clone)]
pub struct Mark {
    text: String,
    /// None where the text is no time.
    draining: Option<Draining>,
    seen: Instant,
}

impl Mark {
    /// The mark on a Lease; one that is `known` already has been seen since.
    pub(super) fn on(lease: &Lease, known: Option<&Self>) -> Option<Self> {
        let text = text_on(lease)?;
        if let Some(known) = known.filter(|known| known.text == text) {
            return Some(known.clone());
        }
        let draining = until_on(lease).map(|until| Draining { until });
        Some(Self { text: text.to_owned(), draining, seen: Instant::now() })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What it says, while it may say anything.
    #[must_use]
    pub fn draining(&self) -> Option<Draining> {
        self.draining.filter(|_| self.seen.elapsed() < LONGEST + Draining::LINGERS)
    }

    /// Whether it says nothing (any more), by this clock.
    pub(super) fn is_over(&self, clock: &Clock) -> bool {
        self.draining().is_none_or(|draining| !draining.holds(clock.now()))
    }
}

pub(super) fn text_on(lease: &Lease) -> Option<&str> {
    lease.metadata.annotations.as_ref()?.get(DRAINING_UNTIL).map(String::as_str)
}

/// The time that the mark names, where it is one.
pub(super) fn until_on(lease: &Lease) -> Option<Timestamp> {
    text_on(lease)?.trim().parse().ok()
}

/// Writes the mark down, or takes it away.
pub(super) fn put(lease: &mut Lease, until: Option<Timestamp>) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match until {
        Some(until) => drop(annotations.insert(DRAINING_UNTIL.to_owned(), until.to_string())),
        None => drop(annotations.remove(DRAINING_UNTIL)),
    }
}

#[cfg(test)]
mod tests {
    use engine::model::{earlier, later};

    use super::*;

    fn marked(text: &str) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.annotations = Some([(DRAINING_UNTIL.to_owned(), text.to_owned())].into());
        lease
    }

    #[test]
    fn a_mark_holds_until_a_while_after_its_time_and_one_that_is_no_time_says_nothing() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let clock = Clock::at(now);
        let is_over = |text: &str| Mark::on(&marked(text), None).unwrap().is_over(&clock);
        assert!(!is_over(&later(now, LONGEST).to_string()));
        assert!(!is_over(&earlier(now, Draining::LINGERS / 2).to_string()));
        assert!(is_over(&earlier(now, Draining::LINGERS).to_string()));
        assert!(is_over("soon") && is_over(""));
        assert!(Mark::on(&Lease::default(), None).is_none());
    }

    #[test]
    fn a_mark_that_names_no_end_is_forgotten_by_whoever_has_seen_it_for_long() {
        let far = marked("9999-12-30T00:00:00Z");
        let mut mark = Mark::on(&far, None).unwrap();
        assert!(mark.draining().is_some());
        let Some(long_ago) = Instant::now().checked_sub(LONGEST + Draining::LINGERS) else { return };
        mark.seen = long_ago;
        assert!(mark.draining().is_none() && mark.is_over(&Clock::at(Timestamp::UNIX_EPOCH)));
        let again = Mark::on(&far, Some(&mark)).unwrap();
        assert!(again.draining().is_none(), "it is the same one");
        assert!(Mark::on(&marked("9999-12-29T00:00:00Z"), Some(&mark)).unwrap().draining().is_some());
    }

    #[test]
    fn what_is_put_is_read() {
        let until: Timestamp = "2026-11-24T12:00:00.123456789Z".parse().unwrap();
        let mut lease = marked("soon");
        put(&mut lease, Some(until));
        assert_eq!(until_on(&lease), Some(until));
        put(&mut lease, None);
        assert_eq!(text_on(&lease), None);
    }
}
