//! Declared traffic, and how many requests of which kind it has made so far.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What clients do, and how they fare, from one moment on.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Requests that end each second.
    pub requests_per_second: f64,
    /// How long they take: shares that add up to one, and the time of each.
    pub latencies: Vec<(f64, Duration)>,
    /// The share that the application answers with status 500.
    pub error_ratio: f64,
    /// The share that never reaches the application: the edge answers 502 itself, outside its histogram.
    pub refused_ratio: f64,
    /// Requests that are under way at any moment.
    pub in_flight: u32,
}

impl Traffic {
    /// Requests that all take the same time and succeed.
    pub fn steady(requests_per_second: f64, latency: Duration) -> Self {
        Self {
            requests_per_second,
            latencies: vec![(1.0, latency)],
            error_ratio: 0.0,
            refused_ratio: 0.0,
            in_flight: 0,
        }
    }

    /// Of the requests so far, this share takes another time.
    #[must_use]
    pub fn slow(mut self, share: f64, latency: Duration) -> Self {
        for (before, _) in &mut self.latencies {
            *before *= 1.0 - share;
        }
        self.latencies.push((share, latency));
        self
    }

    /// This share fails in the application.
    #[must_use]
    pub fn errors(mut self, ratio: f64) -> Self {
        self.error_ratio = ratio;
        self
    }

    /// This share is refused at the edge.
    #[must_use]
    pub fn refused(mut self, ratio: f64) -> Self {
        self.refused_ratio = ratio;
        self
    }

    /// So many requests are under way at any moment.
    #[must_use]
    pub fn in_flight(mut self, requests: u32) -> Self {
        self.in_flight = requests;
        self
    }
}

/// Requests that ended, by status and time taken. Fractions count: a slow trickle adds up.
pub(super) type Done = BTreeMap<(u16, Duration), f64>;

/// What has happened so far.
pub(super) struct Ledger {
    views: BTreeMap<String, View>,
    refused: f64,
    /// Requests that the application has begun, and answered: both only ever rise, also when fewer are under way.
    begun: f64,
    answered: f64,
    until: Instant,
}

struct View {
    traffic: Option<Traffic>,
    done: Done,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self { views: BTreeMap::new(), refused: 0.0, begun: 0.0, answered: 0.0, until: now }
    }

    /// Adds what the declared traffic made since the last look.
    pub(super) fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.until).as_secs_f64();
        self.until = now;
        for view in self.views.values_mut() {
            let Some(traffic) = &view.traffic else { continue };
            let requests = traffic.requests_per_second * seconds;
            self.refused += requests * traffic.refused_ratio;
            let served = requests * (1.0 - traffic.refused_ratio);
            for (share, latency) in &traffic.latencies {
                let of = |ratio: f64| served * share * ratio;
                *view.done.entry((200, *latency)).or_default() += of(1.0 - traffic.error_ratio);
                if traffic.error_ratio > 0.0 {
                    *view.done.entry((500, *latency)).or_default() += of(traffic.error_ratio);
                }
            }
        }
        let done: f64 = self.views.values().flat_map(|view| view.done.values()).sum();
        let answered = self.answered.max(done.floor());
        self.begun = self.begun.max(answered + f64::from(self.in_flight()));
        self.answered = self.begun - f64::from(self.in_flight());
    }

    /// Requests begun and answered so far; the difference is under way.
    pub(super) fn begun_and_answered(&self) -> (f64, f64) {
        (self.begun, self.answered)
    }

    /// Ends all traffic; what was counted stays.
    pub(super) fn stop(&mut self) {
        for view in self.views.values_mut() {
            view.traffic = None;
        }
    }

    pub(super) fn set(&mut self, view: &str, traffic: Traffic) {
        let view =
            self.views.entry(view.to_owned()).or_insert_with(|| View { traffic: None, done: Done::new() });
        view.traffic = Some(traffic);
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.until = now;
        (self.refused, self.begun, self.answered) = (0.0, 0.0, 0.0);
        for view in self.views.values_mut() {
            view.done.clear();
        }
    }

    pub(super) fn views(&self) -> impl Iterator<Item = (&str, &Done)> {
        self.views.iter().map(|(name, view)| (name.as_str(), &view.done))
    }

    pub(super) fn refused(&self) -> f64 {
        self.refused
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.views.values().filter_map(|view| view.traffic.as_ref()).map(|traffic| traffic.in_flight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_shape_counts_from_its_own_moment() {
        let begin = Instant::now();
        let mut ledger = Ledger::new(begin);
        ledger.set("v", Traffic::steady(10.0, Duration::from_millis(50)));
        ledger.advance(begin + Duration::from_secs(2));
        ledger.set("v", Traffic::steady(100.0, Duration::from_secs(2)).errors(0.25));
        ledger.advance(begin + Duration::from_secs(3));
        let (_, done) = ledger.views().next().unwrap();
        let count =
            |status, millis| done.get(&(status, Duration::from_millis(millis))).copied().unwrap_or(0.0);
        assert!((count(200, 50) - 20.0).abs() < 1e-9);
        assert!((count(200, 2000) - 75.0).abs() < 1e-9);
        assert!((count(500, 2000) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn shares_of_slow_requests_add_up_to_one() {
        let traffic = Traffic::steady(1.0, Duration::ZERO)
            .slow(0.2, Duration::from_secs(1))
            .slow(0.5, Duration::from_secs(2));
        let sum: f64 = traffic.latencies.iter().map(|(share, _)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{traffic:?}");
    }
}
