//! How far the API server's clock is ahead of the own monotonic one, by the header `Date` of its answers.
//!
//! A hypervisor can pause a machine without any clock in it going on. The API server's clock goes on: it tells that a Lease is
//! older than it seems.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How many answers are kept: the median forgives one of three.
const KEPT: usize = 3;

/// By how much more time may pass at the API server than here. `Date` says whole seconds.
const TOLERATED: SignedDuration = SignedDuration::from_secs(3);

/// How far the API server's clock is ahead of the own monotonic one. An answer takes a while: there are two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// As if the answer had been dated when it was received.
    at_least: SignedDuration,
    /// As if the answer had been dated when its request was sent.
    at_most: SignedDuration,
}

impl Ahead {
    /// Whether certainly more time has passed at the API server since `before` than here.
    pub(super) fn has_grown_since(self, before: Self) -> bool {
        self.at_least.saturating_sub(before.at_most) > TOLERATED
    }
}

/// The last answers of the API server.
#[derive(Debug, Default)]
pub struct Dates(VecDeque<Ahead>);

impl Dates {
    /// Takes in the date of an answer, and the monotonic times at which it was asked for and received.
    pub fn hear(&mut self, date: Timestamp, sent: Duration, received: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        let ahead_of = |own: Duration| {
            let own = SignedDuration::try_from(own).unwrap_or(SignedDuration::MAX);
            date.duration_since(Timestamp::UNIX_EPOCH).saturating_sub(own)
        };
        self.0.push_back(Ahead { at_least: ahead_of(received), at_most: ahead_of(sent) });
    }

    /// The median of the last three answers; nothing before there are three.
    #[must_use]
    pub fn ahead(&self) -> Option<Ahead> {
        if self.0.len() < KEPT {
            return None;
        }
        let median = |of: fn(&Ahead) -> SignedDuration| {
            let mut all: Vec<SignedDuration> = self.0.iter().map(of).collect();
            all.sort_unstable();
            all.get(KEPT / 2).copied()
        };
        let (at_least, at_most) = (median(|ahead| ahead.at_least)?, median(|ahead| ahead.at_most)?);
        Some(Ahead { at_least, at_most })
    }
}

#[cfg(test)]
mod tests {
    use engine::model::later;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The answers to requests that took a second each; the API server's clock has gone on by so much more since the first.
    fn heard(more: &[u64]) -> Option<Ahead> {
        let start: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let mut dates = Dates::default();
        for (number, more) in (1_u32..).zip(more) {
            let sent = SECOND * number;
            dates.hear(later(start, sent + Duration::from_secs(*more)), sent, sent + SECOND);
        }
        dates.ahead()
    }

    #[test]
    fn three_answers_are_needed() {
        assert!(heard(&[0, 0]).is_none() && heard(&[0, 0, 0]).is_some());
    }

    #[test]
    fn one_answer_of_three_may_be_wrong_and_two_tell() {
        let before = heard(&[0, 0, 0]).unwrap();
        let has_grown = |more: &[u64]| heard(more).unwrap().has_grown_since(before);
        assert!(!has_grown(&[0, 0, 0, 60]), "one");
        assert!(has_grown(&[0, 0, 0, 60, 60]), "two");
        assert!(!has_grown(&[0, 0, 0, 60, 60, 0, 0]), "they are replaced");
    }

    #[test]
    fn only_more_than_the_answers_took_and_three_seconds_counts() {
        let before = heard(&[0, 0, 0]).unwrap();
        let has_grown = |more: u64| heard(&[more; 3]).unwrap().has_grown_since(before);
        assert!(!has_grown(4) && has_grown(5));
    }

    #[test]
    fn a_clock_that_is_set_back_tells_nothing() {
        let before = heard(&[60, 60, 60]).unwrap();
        assert!(!heard(&[0, 0, 0]).unwrap().has_grown_since(before));
    }
}
