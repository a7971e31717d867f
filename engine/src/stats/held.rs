//! Conditions that have held for some looks in a row, or for some time.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::elapsed;

/// How often in a row, and since when, a condition has been seen to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    since: Option<Timestamp>,
    looks: u32,
}

impl Held {
    /// Takes in a look: `since` is when the condition began to hold, if this is the first look that shows it.
    pub fn note(&mut self, holds: bool, since: Timestamp) {
        if holds {
            self.looks = self.looks.saturating_add(1);
            self.since.get_or_insert(since);
        } else {
            *self = Self::default();
        }
    }

    /// Since when every look has shown it; none where the last one did not.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// How many looks in a row have shown it.
    #[must_use]
    pub fn looks(&self) -> u32 {
        self.looks
    }

    /// Whether every look has shown it for at least `span`.
    #[must_use]
    pub fn lasts(&self, now: Timestamp, span: Duration) -> bool {
        self.since.is_some_and(|since| elapsed(now, since) >= span)
    }
}

/// Time that is credited to the last verdict: until the next one comes, it speaks for the time that passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    last: Option<(Timestamp, bool)>,
}

impl Credit {
    /// The time since the last verdict, at most `longest`, and that verdict. None after a look without a verdict: time of
    /// which nothing is known is credited to nobody.
    #[must_use]
    pub fn since_last(&self, now: Timestamp, longest: Duration) -> Option<(Duration, bool)> {
        self.last.map(|(at, verdict)| (elapsed(now, at).min(longest), verdict))
    }

    /// Takes in a verdict, or that there is none.
    pub fn note(&mut self, now: Timestamp, verdict: Option<bool>) {
        self.last = verdict.map(|verdict| (now, verdict));
    }
}

/// The last two looks at something, for conditions that count only if both show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTwo<T> {
    latest: Option<(Timestamp, T)>,
    previous: Option<(Timestamp, T)>,
}

impl<T> Default for LastTwo<T> {
    fn default() -> Self {
        Self { latest: None, previous: None }
    }
}

impl<T> LastTwo<T> {
    /// Takes in a look. The same look taken in twice, or an older one, changes nothing.
    pub fn note(&mut self, at: Timestamp, look: T) {
        if self.latest.as_ref().is_none_or(|(latest, _)| *latest < at) {
            self.previous = self.latest.replace((at, look));
        }
    }

    /// Whether there are two looks and both show it.
    #[must_use]
    pub fn both(&self, shows: impl Fn(&T) -> bool) -> bool {
        let shows = |look: &Option<(Timestamp, T)>| look.as_ref().is_some_and(|(_, look)| shows(look));
        shows(&self.latest) && shows(&self.previous)
    }

    /// When the older of the two was made.
    #[must_use]
    pub fn from(&self) -> Option<Timestamp> {
        self.previous.as_ref().map(|(at, _)| *at)
    }

    /// When the newer of the two was made.
    #[must_use]
    pub fn to(&self) -> Option<Timestamp> {
        self.latest.as_ref().map(|(at, _)| *at)
    }
}
