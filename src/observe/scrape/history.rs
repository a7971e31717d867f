//! What has been counted in one Pod: its newest scrapes, with the counts before a restart carried on.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason};

use super::series::{MOST_SERIES, Scraped, Series};

/// A window is seen in at least so many steps; scrapes that are closer are not all kept.
const STEPS: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    /// Each series that was ever seen, and its place in a scrape.
    index: BTreeMap<Series, usize>,
    /// What the newest scrape shows.
    newest: Vec<f64>,
    /// By ascending time, what had been counted by then. A series that is not there yet has counted nothing.
    scrapes: VecDeque<(Instant, Vec<f64>)>,
    /// When another process answered, and whether it was a new one.
    changes: VecDeque<(Instant, bool)>,
    started: Started,
    first: Instant,
    /// The age of the process at the first scrape.
    age: Option<Duration>,
}

/// When the process began that answered last, and the youngest that ever answered.
#[derive(Debug, Clone, Copy, Default)]
struct Started {
    last: Option<f64>,
    latest: Option<f64>,
}

/// What was counted within a window.
#[derive(Debug, PartialEq)]
pub(super) enum Delta {
    /// By the place of the series.
    Counted(Vec<f64>),
    /// It is not known for so long.
    TooYoung,
}

impl History {
    /// The first scrape, at that instant, which is `now` in seconds since 1970.
    pub(super) fn new(at: Instant, now: f64, scraped: &Scraped) -> Self {
        let age =
            scraped.started.and_then(|started| Duration::try_from_secs_f64((now - started).max(0.0)).ok());
        let (index, newest): (BTreeMap<Series, usize>, Vec<f64>) = (scraped.counts.iter().enumerate())
            .map(|(place, (series, count))| ((series.clone(), place), *count))
            .unzip();
        Self {
            index,
            scrapes: VecDeque::from([(at, newest.clone())]),
            newest,
            changes: VecDeque::new(),
            started: Started { last: scraped.started, latest: scraped.started },
            first: at,
            age,
        }
    }

    /// A later scrape. It remembers what a window of that length needs.
    pub(super) fn add(&mut self, at: Instant, scraped: &Scraped, longest: Duration) -> Result<(), NoData> {
        let mut newest = vec![0.0; self.index.len()];
        for (series, count) in &scraped.counts {
            let next = self.index.len();
            let place = *self.index.entry(series.clone()).or_insert(next);
            if place == newest.len() {
                newest.push(0.0);
            }
            if let Some(known) = newest.get_mut(place) {
                *known = *count;
            }
        }
        if self.index.len() > MOST_SERIES {
            let detail = format!("it has had more than {MOST_SERIES} series; name views, not paths");
            return Err(NoData::new(NoDataReason::ManySeries, detail));
        }
        let fell = self.newest.iter().zip(&newest).any(|(before, now)| now < before);
        let changed = self.another(at, scraped.started, fell);
        let total = self.scrapes.back().map(|(_, total)| total.as_slice()).unwrap_or_default();
        let of = |all: &[f64], place: usize| all.get(place).copied().unwrap_or_default();
        let counted = |(place, now): (usize, &f64)| {
            let before = if changed { 0.0 } else { of(&self.newest, place) };
            of(total, place) + now - before
        };
        let total = newest.iter().enumerate().map(counted).collect();
        self.newest = newest;
        self.keep(at, total, longest);
        Ok(())
    }

    /// Whether another process answers than before.
    fn another(&mut self, at: Instant, started: Option<f64>, fell: bool) -> bool {
        let later = |one: Option<f64>, other: Option<f64>| {
            one.zip(other).is_some_and(|(one, other)| one - other > 0.001)
        };
        let (new, old) = (later(started, self.started.latest), later(self.started.last, started));
        let changed = fell || old || later(started, self.started.last);
        if changed {
            self.changes.push_back((at, new));
        }
        // No restart goes back to an older process.
        if old {
            self.changes.push_back((at, false));
        }
        if started.is_some() {
            let latest = if new || self.started.latest.is_none() { started } else { self.started.latest };
            self.started = Started { last: started, latest };
        }
        changed
    }

    fn keep(&mut self, at: Instant, total: Vec<f64>, longest: Duration) {
        let before_last = self.scrapes.len().checked_sub(2).and_then(|place| self.scrapes.get(place));
        if before_last.is_some_and(|(before, _)| at.duration_since(*before) < longest / STEPS) {
            self.scrapes.pop_back();
        }
        self.scrapes.push_back((at, total));
        let is_old = |(then, _): &(Instant, Vec<f64>)| at.duration_since(*then) >= longest;
        while self.scrapes.get(1).is_some_and(is_old) {
            self.scrapes.pop_front();
        }
        while self.changes.front().is_some_and(|(then, _)| at.duration_since(*then) >= longest) {
            self.changes.pop_front();
        }
    }

    /// How long ago it was scraped.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.scrapes.back().map_or(Duration::MAX, |(at, _)| now.duration_since(*at))
    }

    /// Whether several processes answer in turn: counters fell more than once, and no new process explains it.
    pub(super) fn alternates(&self, now: Instant, window: Duration) -> bool {
        let unexplained = |(at, new): &&(Instant, bool)| !new && now.duration_since(*at) < window;
        self.changes.iter().filter(unexplained).count() >= 2
    }

    /// What was counted in the window before `now`. `anyway`: with what there is, where that is less.
    pub(super) fn within(&self, now: Instant, window: Duration, anyway: bool) -> Delta {
        let since = |at: &Instant| now.duration_since(*at);
        let Some((_, newest)) = self.scrapes.back() else { return Delta::TooYoung };
        let inside = self.scrapes.iter().find(|(at, _)| since(at) < window);
        let before = self.scrapes.iter().rev().find(|(at, _)| since(at) >= window);
        // Nobody has looked for a whole window: what was counted then is not of this one.
        let before = before.filter(|(at, _)| since(at) < window * 2 || inside.is_none());
        let began_inside = self.age.is_some_and(|age| age.saturating_add(since(&self.first)) <= window);
        let base: &[f64] = match (before, inside) {
            (Some((_, before)), _) => before,
            (None, _) if began_inside => &[],
            (None, Some((at, inside))) if anyway || *at != self.first => inside,
            (None, _) => return Delta::TooYoung,
        };
        let of = |place: usize| base.get(place).copied().unwrap_or_default();
        Delta::Counted(newest.iter().enumerate().map(|(place, count)| (count - of(place)).max(0.0)).collect())
    }

    /// The series, by their places.
    pub(super) fn series(&self) -> impl Iterator<Item = (&Series, usize)> {
        self.index.iter().map(|(series, place)| (series, *place))
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::{counted, read};
    use super::*;
    use engine::model::Preset;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(120);
    /// Of the first scrape, since 1970.
    const NOW: f64 = 1_000_000.0;

    fn scrape(count: u32, started: Option<f64>) -> Scraped {
        let started = started.map(|at| format!("process_start_time_seconds {at}\n")).unwrap_or_default();
        let text = format!(
            "{started}django_http_requests_latency_seconds_by_view_method_bucket{{le=\"+Inf\",view=\"a\"}} {count}\n"
        );
        read(text.as_bytes(), counted(Preset::Django).unwrap()).unwrap()
    }

    /// Scrapes every 15 s: the counts, and when the process began.
    fn history(scrapes: &[(u32, Option<f64>)]) -> (History, Instant) {
        let begun = Instant::now();
        let mut history: Option<History> = None;
        let mut at = begun;
        for (step, (count, started)) in (0..).zip(scrapes) {
            at = begun + 15 * SECOND * step;
            let scraped = scrape(*count, *started);
            match &mut history {
                Some(history) => history.add(at, &scraped, WINDOW).unwrap(),
                None => history = Some(History::new(at, NOW, &scraped)),
            }
        }
        (history.unwrap(), at)
    }

    fn counted_in(scrapes: &[(u32, Option<f64>)]) -> Option<f64> {
        let (history, at) = history(scrapes);
        match history.within(at, WINDOW, false) {
            Delta::Counted(counts) => Some(counts.iter().sum()),
            Delta::TooYoung => None,
        }
    }

    #[test]
    fn a_window_is_the_newest_scrape_less_the_one_before_the_window() {
        let steady: Vec<_> = (0..20).map(|step| (1000 + 10 * step, None)).collect();
        assert_eq!(counted_in(&steady[..9]), Some(80.0), "exactly a window");
        assert_eq!(counted_in(&steady), Some(80.0));
        assert_eq!(counted_in(&steady[..8]), None, "a window has not been seen yet");
        let (history, at) = history(&steady[..8]);
        assert_eq!(history.within(at, WINDOW, true), Delta::Counted(vec![70.0]));
        assert_eq!(history.within(at, 60 * SECOND, false), Delta::Counted(vec![40.0]), "a shorter one");
    }

    #[test]
    fn a_process_that_began_within_the_window_has_counted_all_of_it_there() {
        let young = [(30, Some(NOW - 20.0)), (40, Some(NOW - 20.0))];
        assert_eq!(counted_in(&young), Some(40.0));
        let old = [(30, Some(NOW - 500.0)), (40, Some(NOW - 500.0))];
        assert_eq!(counted_in(&old), None);
    }

    #[test]
    fn a_restart_is_counted_from_zero_also_where_it_has_overtaken() {
        let mut scrapes: Vec<_> = (0..9).map(|step| (1000 + 10 * step, None)).collect();
        scrapes[8].0 = 4;
        assert_eq!(counted_in(&scrapes), Some(74.0), "it fell");
        let (history, at) = history(&scrapes);
        assert!(!history.alternates(at, WINDOW), "once is a restart");
        let scrapes: Vec<_> =
            (0..9).map(|step| if step < 8 { (10 * step, Some(1.0)) } else { (100, Some(2.0)) }).collect();
        assert_eq!(counted_in(&scrapes), Some(170.0), "it rose, of another process");
    }

    #[test]
    fn processes_that_answer_in_turn_are_told_from_restarts() {
        let alternates = |scrapes: &[(u32, Option<f64>)]| {
            let (history, at) = history(scrapes);
            history.alternates(at, WINDOW)
        };
        assert!(alternates(&[(100, None), (7, None), (110, None), (8, None)]));
        assert!(
            alternates(&[(100, Some(1.0)), (200, Some(2.0)), (110, Some(1.0))]),
            "back to an older process"
        );
        let crashes: Vec<_> = [10, 5, 3, 2].into_iter().zip([1.0, 2.0, 3.0, 4.0].map(Some)).collect();
        assert!(!alternates(&crashes), "a new process each time");
        let mut long: Vec<_> = [(100, None), (7, None), (110, None), (8, None)].to_vec();
        long.extend((9..20).map(|count| (count, None)));
        assert!(!alternates(&long), "it was long ago");
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_gap_is_not_the_window() {
        let (mut history, at) = history(&[(0, None)]);
        for step in 1..2000 {
            history.add(at + SECOND * step, &scrape(step, None), WINDOW).unwrap();
        }
        assert!(history.scrapes.len() <= STEPS as usize + 3, "{}", history.scrapes.len());
        let last = at + SECOND * 1999;
        let Delta::Counted(counts) = history.within(last, WINDOW, false) else { panic!("it is known") };
        assert!((120.0..130.0).contains(&counts[0]), "{counts:?}");
        for step in [2600, 2601] {
            history.add(at + SECOND * step, &scrape(step, None), WINDOW).unwrap();
        }
        assert_eq!(history.within(at + SECOND * 2601, WINDOW, true), Delta::Counted(vec![1.0]));
    }
}
