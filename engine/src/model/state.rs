//! What a tick remembers. `docs/state.md` says for each field why it is safe to lose with the process.

use std::time::Duration;

use jiff::Timestamp;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::{ByName, CacheMemory, Said, Session, SessionIdentity, Shared, Slot, Source, earlier};

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

/// A window as it is kept: in each of thousands of policies there are sixty. A millisecond and seven digits suffice for what is
/// compared with a multiple of a median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Kept {
    at_ms: i64,
    completed: f32,
    in_flight: f32,
}

/// The healthy windows of the last 30 minutes, thinned to at most 60.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    windows: Vec<Kept>,
    spacing: Duration,
}

impl Baseline {
    const SPAN: Duration = Duration::from_secs(30 * 60);
    const MOST: usize = 60;
    /// Fewer healthy windows are an accident, not a baseline.
    const LEAST: usize = 3;

    /// Takes in a healthy window. The windows lie as close as they come until there are 60; then every other one goes
    /// and the distance doubles, up to 30 s: an operator that has just started compares soon, and memory stays bounded.
    pub fn learn(&mut self, window: BaselineWindow) {
        let oldest = earlier(window.at, Self::SPAN).as_millisecond();
        self.windows.retain(|known| known.at_ms >= oldest);
        let at_ms = window.at.as_millisecond();
        let spacing = i64::try_from(self.spacing.as_millis()).unwrap_or(i64::MAX);
        if self.windows.last().is_some_and(|last| at_ms.saturating_sub(last.at_ms) < spacing) {
            return;
        }
        if self.windows.len() >= Self::MOST {
            let mut keep = false;
            self.windows.retain(|_| {
                keep = !keep;
                keep
            });
            let widest = Self::SPAN / 60;
            self.spacing = (self.spacing * 2).clamp(Duration::from_secs(1), widest);
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven digits suffice")]
        let (completed, in_flight) = (window.completed as f32, window.in_flight as f32);
        self.windows.push(Kept { at_ms, completed, in_flight });
    }

    /// The medians of completed requests and of requests in flight over the last 30 minutes; none while there are fewer
    /// than three windows.
    #[must_use]
    pub fn medians(&self, now: Timestamp) -> Option<(f64, f64)> {
        let oldest = earlier(now, Self::SPAN).as_millisecond();
        let recent: Vec<_> = self.windows.iter().filter(|known| known.at_ms >= oldest).collect();
        if recent.len() < Self::LEAST {
            return None;
        }
        let completed = median(recent.iter().map(|w| f64::from(w.completed)).collect())?;
        let in_flight = median(recent.iter().map(|w| f64::from(w.in_flight)).collect())?;
        Some((completed, in_flight))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What is remembered of one objective.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveMemory {
    /// The window and the source that its healthy windows are of: those of another one compare with nothing.
    pub measured: Option<Shared<(Duration, Source)>>,
    /// Its healthy windows.
    pub baseline: Baseline,
    /// NoData readings in a row.
    pub missing: u32,
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

/// What tells one transaction of one session from the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionIdentity {
    /// Process id and start of the session.
    pub session: (i32, Timestamp),
    /// When the transaction began.
    pub xact_start: Option<Timestamp>,
}

impl TransactionIdentity {
    /// That of a session as it is now.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self { session: session.identity.session(), xact_start: session.xact_start }
    }
}

/// What one look at a database showed, as far as the next look is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseGlance {
    /// When it was read.
    pub read_at: Timestamp,
    /// The transactions that block others and wait for nobody. Not the statements: a blocker may run many. Not the sessions
    /// either: locks are held as long as the transaction, and one that takes the same hot lock again and again is no blocker.
    pub roots: Vec<TransactionIdentity>,
    /// The session that took most of the active time, if one did.
    pub dominant: Option<SessionIdentity>,
}

/// The last two looks at a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseMemory {
    /// The newest.
    pub latest: Option<Shared<DatabaseGlance>>,
    /// The one before.
    pub previous: Option<Shared<DatabaseGlance>>,
    /// Ticks in a row in which it could not be read.
    pub missing: u32,
}

impl DatabaseMemory {
    /// Takes in a look. The same look taken in twice is one look.
    pub fn learn(&mut self, glance: DatabaseGlance) {
        if self.latest.as_ref().is_none_or(|latest| latest.read_at < glance.read_at) {
            self.previous = self.latest.replace(glance.into());
        }
    }

    /// Whether the session was a root in both looks, in the same transaction.
    #[must_use]
    pub fn root_twice(&self, session: &Session) -> bool {
        let transaction = TransactionIdentity::of(session);
        self.twice(|glance| glance.roots.contains(&transaction))
    }

    /// Whether the session took most of the active time in both looks.
    #[must_use]
    pub fn dominant_twice(&self, session: &SessionIdentity) -> bool {
        self.twice(|glance| glance.dominant.as_ref() == Some(session))
    }

    fn twice(&self, holds: impl Fn(&DatabaseGlance) -> bool) -> bool {
        self.latest.as_deref().is_some_and(&holds) && self.previous.as_deref().is_some_and(&holds)
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Objectives by name.
    pub objectives: ByName<ObjectiveMemory>,
    /// Databases by the dependency's name.
    pub databases: ByName<DatabaseMemory>,
    /// Caches by the dependency's name.
    pub caches: ByName<CacheMemory>,
    /// The breach that is being watched or has opened the incident.
    pub breach: Option<BreachMemory>,
    /// Since when every reading has shown more requests in flight than the target has workers.
    pub saturated_since: Option<Timestamp>,
    /// For how long calm has been seen since the last breach.
    pub calm: Duration,
    /// When all was well for the last time: what was there before did no harm.
    pub last_healthy_at: Option<Timestamp>,
    /// When a cause was found for the last time.
    pub last_found_at: Option<Timestamp>,
    /// The last reading that was not NoData: when it was made, and whether it was Breached.
    pub last_judged: Option<(Timestamp, bool)>,
    /// What was said last about each thing.
    pub said: LiteMap<Slot, Said>,
    /// Look closely: something is breached, or an incident is open.
    pub alert: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::guards::testing::Setup;
    use crate::model::later;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_learnt_of_another_window_or_source_is_forgotten() {
        let setup = Setup::acting();
        let source = setup.snapshot.policy.objectives[0].source.clone();
        let mut memory = ObjectiveMemory::default();
        memory.is_of(SECOND, &source);
        memory.missing = 7;
        memory.is_of(SECOND, &source);
        assert_eq!(memory.missing, 7);
        memory.is_of(2 * SECOND, &source);
        assert_eq!(memory.missing, 0);
        memory.missing = 7;
        let Source::Prometheus { backend, preset, views, .. } = source else { panic!("another source") };
        let match_labels = BTreeMap::from([("job".to_owned(), "another".to_owned())]);
        memory.is_of(2 * SECOND, &Source::Prometheus { backend, preset, match_labels, views });
        assert_eq!(memory.missing, 0);
    }

    #[test]
    fn a_root_twice_is_the_same_transaction_twice() {
        let setup = Setup::acting();
        let facts = setup.snapshot.databases.get("db").unwrap().known().unwrap();
        let mut session = facts.sessions[0].clone();
        let glance = |session: &Session, read_at| DatabaseGlance {
            read_at,
            roots: vec![TransactionIdentity::of(session)],
            dominant: None,
        };
        let mut memory = DatabaseMemory::default();
        session.xact_start = Some(setup.now);
        memory.learn(glance(&session, setup.now));
        assert!(!memory.root_twice(&session));
        memory.learn(glance(&session, later(setup.now, SECOND)));
        session.identity.query_start = later(setup.now, SECOND);
        assert!(memory.root_twice(&session), "another statement of the same transaction");
        session.xact_start = Some(later(setup.now, SECOND));
        memory.learn(glance(&session, later(setup.now, 2 * SECOND)));
        assert!(!memory.root_twice(&session), "a hot session, not a blocker");
    }
}
