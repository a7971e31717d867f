//! What is usual: bounded samples of good times, and their median.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::earlier;

/// Samples of the last 30 minutes, thinned to at most 60. There is one for each objective of thousands of policies: a sample
/// has its time in milliseconds, and a type of as few bytes as will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples<T> {
    samples: Vec<(i64, T)>,
    spacing: Duration,
}

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Self { samples: Vec::new(), spacing: Duration::ZERO }
    }
}

impl<T> Samples<T> {
    /// How long a sample counts.
    pub const SPAN: Duration = Duration::from_secs(30 * 60);
    /// Maximum number of samples.
    pub const MOST: usize = 60;
    /// Minimum number of samples of which a median says what is usual. Fewer are an accident.
    pub const LEAST: usize = 3;

    /// Takes in a sample. Samples lie as close as they come until there are 60. Then every other one goes and the least
    /// distance doubles, up to 30 s: an operator that has just started compares soon, and memory stays bounded.
    pub fn learn(&mut self, at: Timestamp, sample: T) {
        let oldest = earlier(at, Self::SPAN).as_millisecond();
        self.samples.retain(|(known, _)| *known >= oldest);
        let at = at.as_millisecond();
        let spacing = i64::try_from(self.spacing.as_millis()).unwrap_or(i64::MAX);
        if self.samples.last().is_some_and(|(last, _)| at.saturating_sub(*last) < spacing) {
            return;
        }
        if self.samples.len() >= Self::MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            let widest = Self::SPAN / 60;
            self.spacing = (self.spacing * 2).clamp(Duration::from_secs(1), widest);
        }
        self.samples.push((at, sample));
    }

    /// Whether there are enough to say what is usual.
    #[must_use]
    pub fn suffice(&self) -> bool {
        self.samples.len() >= Self::LEAST
    }

    /// All samples that are kept; none where they are too few to say what is usual.
    #[must_use]
    pub fn all(&self) -> Option<impl Iterator<Item = &T> + Clone> {
        self.suffice().then(|| self.samples.iter().map(|(_, sample)| sample))
    }

    /// The samples of the 30 minutes before `now`; none where they are too few to say what is usual.
    #[must_use]
    pub fn recent(&self, now: Timestamp) -> Option<impl Iterator<Item = &T> + Clone> {
        let oldest = earlier(now, Self::SPAN).as_millisecond();
        let recent = self.samples.iter().filter(move |(at, _)| *at >= oldest).map(|(_, sample)| sample);
        (recent.clone().count() >= Self::LEAST).then_some(recent)
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// The median; of an even number of values the upper one of the two in the middle.
#[must_use]
pub fn median<V: Copy>(
    values: impl Iterator<Item = V>,
    order: impl Fn(&V, &V) -> std::cmp::Ordering,
) -> Option<V> {
    let mut values: Vec<V> = values.collect();
    values.sort_by(order);
    values.get(values.len() / 2).copied()
}
