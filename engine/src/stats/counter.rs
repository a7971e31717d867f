//! Counters that a server keeps since its start, or since somebody reset them: only differences say how it does now.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::{earlier, elapsed};

/// What a server counts.
pub trait Counters {
    /// What was counted since `then`; none where a counter went back, so that both are not of one life.
    fn since(&self, then: &Self) -> Option<Self>
    where
        Self: Sized;
}

/// How much a counter has grown; none where it went back.
#[must_use]
pub fn grown(now: u64, then: u64) -> Option<u64> {
    now.checked_sub(then)
}

/// The counters of the last looks. Differences between two of them are never taken across a reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting<T> {
    looks: Vec<(Timestamp, T)>,
}

impl<T> Default for Counting<T> {
    fn default() -> Self {
        Self { looks: Vec::new() }
    }
}

impl<T: Counters> Counting<T> {
    /// A gap between two looks is this small a part of the older one's age, or there was no look between them. So the
    /// beginning of any window is found to a sixteenth of it, however many looks there are.
    pub(super) const PRECISION: u32 = 16;

    /// Takes in a look, and keeps those of the last `span`. After a reset only this look is left. The same look taken in twice,
    /// or an older one, changes nothing.
    pub fn note(&mut self, at: Timestamp, counters: T, span: Duration) {
        if let Some((last, known)) = self.looks.last() {
            if *last >= at {
                return;
            }
            if counters.since(known).is_none() {
                self.looks.clear();
            }
        }
        self.looks.push((at, counters));
        self.prune(earlier(at, span));
    }

    /// The server is known to have started again at `at`, and to have counted from nothing since then.
    pub fn restart(&mut self, at: Timestamp, nothing: T) {
        self.looks.clear();
        self.looks.push((at, nothing));
    }

    /// Keeps the looks since `oldest` and one older, and of them fewer and fewer the older they are. The oldest is always
    /// kept.
    fn prune(&mut self, oldest: Timestamp) {
        let before = self.looks.iter().take_while(|(at, _)| *at <= oldest).count();
        let looks = std::mem::take(&mut self.looks);
        let mut kept = Vec::with_capacity(looks.len() - before.saturating_sub(1));
        let newest = looks.last().map(|(at, _)| *at);
        let mut looks = looks.into_iter().skip(before.saturating_sub(1)).peekable();
        while let Some(look) = looks.next() {
            let last: Option<&(Timestamp, T)> = kept.last();
            let neighbours = last.zip(looks.peek());
            let is_dense = neighbours.zip(newest).is_some_and(|(((older, _), (newer, _)), newest)| {
                elapsed(*newer, *older).saturating_mul(Self::PRECISION) <= elapsed(newest, *older)
            });
            if !is_dense {
                kept.push(look);
            }
        }
        self.looks = kept;
    }

    /// The newest look.
    #[must_use]
    pub fn newest(&self) -> Option<&(Timestamp, T)> {
        self.looks.last()
    }

    /// The look that `window` before the newest one begins with, or the oldest one where none is as old.
    #[must_use]
    pub fn first_of(&self, window: Duration) -> Option<&(Timestamp, T)> {
        let (newest, _) = self.looks.last()?;
        let begin = earlier(*newest, window);
        self.looks.iter().rev().find(|(at, _)| *at <= begin).or_else(|| self.looks.first())
    }

    /// The oldest look of `window` that is not older than `since`; the newest one where all are.
    #[must_use]
    pub fn first_since(&self, window: Duration, since: Option<Timestamp>) -> Option<&(Timestamp, T)> {
        let (first, _) = self.first_of(window)?;
        let counts = |at: Timestamp| at >= *first && since.is_none_or(|since| at >= since);
        self.looks.iter().find(|(at, _)| counts(*at)).or_else(|| self.looks.last())
    }

    /// How many looks are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.looks.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }
}
