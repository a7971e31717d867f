//! What a tick remembers. `docs/state.md` says for each field why it is safe to lose with the process.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ByName, DependencyMemory, Shared, Source};
use crate::stats::{Credit, Held, Samples, median};

/// One healthy window, as far as later ones are compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BaselineWindow {
    /// Its end.
    pub at: Timestamp,
    /// Requests completed in it.
    pub completed: f64,
    /// Requests in flight at its end.
    pub in_flight: f64,
}

/// A window as it is kept, in few bytes: seven digits suffice for what is compared with a multiple of a median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Kept {
    completed: f32,
    in_flight: f32,
}

/// The healthy windows of the last 30 minutes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    windows: Samples<Kept>,
}

impl Baseline {
    /// Takes in a healthy window.
    pub fn learn(&mut self, window: BaselineWindow) {
        #[expect(clippy::cast_possible_truncation, reason = "seven digits suffice")]
        let (completed, in_flight) = (window.completed as f32, window.in_flight as f32);
        self.windows.learn(window.at, Kept { completed, in_flight });
    }

    /// The medians of completed requests and of requests in flight over the last 30 minutes; none while there are fewer
    /// than three windows.
    #[must_use]
    pub fn medians(&self, now: Timestamp) -> Option<(f64, f64)> {
        let recent = self.windows.recent(now)?;
        let completed = median(recent.clone().map(|kept| kept.completed), f32::total_cmp)?;
        let in_flight = median(recent.map(|kept| kept.in_flight), f32::total_cmp)?;
        Some((f64::from(completed), f64::from(in_flight)))
    }
}

/// What is remembered of one objective.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveMemory {
    /// The window and the source that its healthy windows are of: those of another one compare with nothing.
    pub measured: Option<Shared<(Duration, Source)>>,
    /// Its healthy windows.
    pub baseline: Baseline,
    /// NoData readings in a row.
    pub missing: Held,
}

impl ObjectiveMemory {
    /// Forgets everything where another window or another source is measured now.
    pub fn is_of(&mut self, window: Duration, source: &Source) {
        let is_same = |(known, of): &(Duration, Source)| *known == window && of == source;
        if !self.measured.as_deref().is_some_and(is_same) {
            *self = Self { measured: Some((window, source.clone()).into()), ..Self::default() };
        }
    }
}

/// A breach that is being watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreachMemory {
    /// The first Breached reading.
    pub first_at: Timestamp,
    /// For how long it has been seen. Time without data does not count.
    pub counted: Duration,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Objectives by name.
    pub objectives: ByName<ObjectiveMemory>,
    /// Dependencies by name.
    pub dependencies: ByName<DependencyMemory>,
    /// The breach that is being watched or has opened the incident.
    pub breach: Option<BreachMemory>,
    /// Every reading has shown at least as many requests in flight as the target has workers.
    pub saturated: Held,
    /// For how long calm has been seen since the last breach.
    pub calm: Duration,
    /// When all was well for the last time: what was there before did no harm.
    pub last_healthy_at: Option<Timestamp>,
    /// When a cause was found for the last time.
    pub last_found_at: Option<Timestamp>,
    /// The last reading that was not NoData: when it was made, and whether it was Breached. It speaks for the time until the next.
    pub last_judged: Credit,
    /// Look closely: something is breached, or an incident is open.
    pub alert: bool,
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::guards::testing::Setup;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_learnt_of_another_window_or_source_is_forgotten() {
        let setup = Setup::acting();
        let source = setup.snapshot.policy.objectives[0].source.clone();
        let mut memory = ObjectiveMemory::default();
        memory.is_of(SECOND, &source);
        memory.missing.note(true, setup.now);
        memory.is_of(SECOND, &source);
        assert_eq!(memory.missing.looks(), 1);
        memory.is_of(2 * SECOND, &source);
        assert_eq!(memory.missing.looks(), 0);
        memory.missing.note(true, setup.now);
        let Source::Prometheus(mut other) = source else { panic!("another source") };
        other.match_labels.insert("job".to_owned(), "another".to_owned());
        memory.is_of(2 * SECOND, &Source::Prometheus(other));
        assert_eq!(memory.missing.looks(), 0);
    }
}
