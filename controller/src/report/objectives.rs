//! The objectives in the status of a policy: the last verdict on each, with its numbers. Pure.
//!
//! A quiet policy is not written. So the numbers that are stored stay until a verdict changes or something else is written
//! anyway; and, at most hourly, until a value has moved by more than a fifth. What is compared with is the stored status, so
//! the rule holds across leaders.

use std::fmt;
use std::time::Duration;

use engine::Tick;
use engine::model::duration::{format, human, of_seconds, parse};
use engine::model::{Breach, BreachKind, Objective, ObjectiveKind, Reading, Snapshot, Verdict, elapsed};
use engine::record::RecordKind;
use jiff::Timestamp;

use super::{PolicyReport, said};
use crate::conditions::to_the_second;

/// Minimum time between two writes for a value that has moved.
const MOVED_EVERY: Duration = Duration::from_secs(3600);
/// A value has moved when it differs from the stored one by more than this share of it.
const MOVED_BY: f64 = 0.2;
/// Maximum number of requests that a status shows.
const REQUESTS: f64 = 1e15;

/// The verdict on an objective, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It is breached.
    Breached,
    /// It is met.
    Healthy,
    /// It cannot be judged.
    NoData,
}

impl Judged {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Breached, Self::Healthy, Self::NoData];

    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Breached(_) => Self::Breached,
            Verdict::Healthy => Self::Healthy,
            Verdict::NoData(_) => Self::NoData,
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An objective with its last verdict. Values are texts with their units, as the status stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveReport {
    /// Its name.
    pub name: String,
    /// The verdict.
    pub verdict: Judged,
    /// The measured value: `812ms`, `3.1%`.
    pub measured: Option<String>,
    /// The threshold of the spec.
    pub threshold: String,
    /// The bucket bound at which the threshold is judged.
    pub bucket_bound: Option<String>,
    /// The requests in the window.
    pub requests: Option<i64>,
    /// When the verdict began, to the second.
    pub since: Timestamp,
    /// When the numbers were read, to the second.
    pub measured_at: Timestamp,
}

/// Which numbers a status shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// The stored ones, where the verdict is the stored one.
    Stored,
    /// Those of this evaluation.
    Current,
}

/// The objectives as they are to be reported.
pub(super) fn objectives(
    before: &PolicyReport,
    snapshot: &Snapshot,
    ticked: &Tick,
    numbers: Numbers,
) -> Vec<ObjectiveReport> {
    let report = |objective: &Objective| {
        let stored = before.objectives.iter().find(|stored| stored.name == objective.name);
        let stored = stored.filter(|stored| stored.threshold == threshold(objective));
        let current = current(objective, snapshot, ticked);
        next(stored, current, numbers, snapshot.policy.evaluation.interval)
    };
    snapshot.policy.objectives.iter().filter_map(report).collect()
}

/// What is reported of an objective of which this is stored, and this is current.
fn next(
    stored: Option<&ObjectiveReport>,
    current: Option<ObjectiveReport>,
    numbers: Numbers,
    interval: Duration,
) -> Option<ObjectiveReport> {
    // Without a current verdict the stored one stays: a new leader has not read everything at once.
    let Some(current) = current else { return stored.cloned() };
    let Some(stored) = stored else { return Some(current) };
    if stored.verdict != current.verdict {
        // A value that swings around its threshold is not written at every swing.
        let stands = is_over(stored.since, interval, current.measured_at);
        return Some(if stands { current } else { stored.clone() });
    }
    let bounds = (&stored.bucket_bound, &current.bucket_bound);
    let other_bound = matches!(bounds, (Some(stored), Some(current)) if stored != current);
    if numbers == Numbers::Stored && !other_bound {
        return Some(stored.clone());
    }
    Some(ObjectiveReport { since: stored.since, ..current })
}

/// Whether a value has moved so far, and the stored numbers are so old, that they are written for that alone.
pub(super) fn have_moved(before: &PolicyReport, snapshot: &Snapshot, ticked: &Tick) -> bool {
    let newest = before.objectives.iter().map(|stored| stored.measured_at).max();
    if !newest.is_some_and(|newest| is_over(newest, MOVED_EVERY, snapshot.now)) {
        return false;
    }
    let moved = |objective: &Objective| {
        let stored = before.objectives.iter().find(|stored| stored.name == objective.name)?;
        let current = current(objective, snapshot, ticked)?;
        has_moved(stored.measured.as_deref(), current.measured.as_deref(), least_move(objective))
            .then_some(())
    };
    snapshot.policy.objectives.iter().any(|objective| moved(objective).is_some())
}

/// The movement that is noise. A window has many requests. A probe is a single one: 4 ms after 2 ms says nothing, so what
/// counts is a share of the threshold.
fn least_move(objective: &Objective) -> f64 {
    match (objective.source.timed(), &objective.kind) {
        (Some(_), ObjectiveKind::Latency { target, .. }) => target.as_secs_f64() * MOVED_BY,
        (None, _) | (Some(_), ObjectiveKind::ErrorRatio { .. }) => 0.0,
    }
}

fn has_moved(stored: Option<&str>, current: Option<&str>, least: f64) -> bool {
    let Some(current) = current else { return false };
    match (stored.and_then(number), number(current)) {
        (Some(stored), Some(current)) => (current - stored).abs() > (stored.abs() * MOVED_BY).max(least),
        (None, _) => true,
        (Some(_), None) => false,
    }
}

/// An instant in the future comes from another clock, and nothing waits for it.
fn is_over(since: Timestamp, span: Duration, now: Timestamp) -> bool {
    since > now || elapsed(now, since) >= span
}

/// The last word on an objective, with the numbers of this evaluation where they belong to it.
fn current(objective: &Objective, snapshot: &Snapshot, ticked: &Tick) -> Option<ObjectiveReport> {
    let last = said(ticked).find_map(|record| {
        let RecordKind::Objective(reading) = &record.kind else { return None };
        (reading.objective == objective.name).then_some(reading)
    })?;
    let verdict = Judged::of(&last.verdict);
    let fits =
        |reading: &&Reading| reading.objective == objective.name && Judged::of(&reading.verdict) == verdict;
    let reading = ticked.situation.readings.iter().find(fits).unwrap_or(last);
    let measured = reading.measured.as_ref();
    let now = to_the_second(snapshot.now);
    Some(ObjectiveReport {
        name: objective.name.clone(),
        verdict,
        measured: value(objective, reading),
        threshold: threshold(objective),
        bucket_bound: measured.and_then(|measured| measured.bound).map(format),
        requests: measured.map(|measured| whole(measured.requests)),
        since: now,
        measured_at: now,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "it is bounded, and what is no number counts as zero")]
fn whole(requests: f64) -> i64 {
    requests.clamp(0.0, REQUESTS).round() as i64
}

/// The measured value as a text. A request that was answered with an error has a time, which is not what was wrong with it.
fn value(objective: &Objective, reading: &Reading) -> Option<String> {
    let is_error = matches!(reading.verdict, Verdict::Breached(Breach { kind: BreachKind::Errors, .. }));
    let is_missing = matches!(reading.verdict, Verdict::NoData(_));
    let value = reading.measured.as_ref()?.value.filter(|_| !is_missing)?;
    match &objective.kind {
        ObjectiveKind::Latency { .. } if is_error && objective.source.timed().is_some() => None,
        ObjectiveKind::Latency { .. } => Some(human(of_seconds(value))),
        ObjectiveKind::ErrorRatio { .. } => Some(percent(value, 2)),
    }
}

fn threshold(objective: &Objective) -> String {
    match &objective.kind {
        ObjectiveKind::Latency { target, .. } => format(*target),
        ObjectiveKind::ErrorRatio { target, .. } => percent(*target, 6),
    }
}

/// A share from 0 to 1 as a percentage with at most that many decimals.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The number of a value: seconds, or a share.
fn number(text: &str) -> Option<f64> {
    if let Some(percentage) = text.strip_suffix('%') {
        return percentage.parse::<f64>().ok().map(|percentage| percentage / 100.0);
    }
    // `2.1s` is how people read it; the syntax of a policy has no decimals.
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.or_else(|| parse(text).ok().map(|duration| duration.as_secs_f64()))
}

/// The worst objective in short: `p95 812ms > 500ms`.
pub(super) fn worst(objectives: &[ObjectiveReport]) -> Option<String> {
    let rank = |objective: &ObjectiveReport| {
        let group = match objective.verdict {
            Judged::Breached => 2,
            Judged::Healthy => 1,
            Judged::NoData => 0,
        };
        // A breach without a value is a standstill: nothing is worse.
        let of_limit = objective.measured.as_deref().and_then(number);
        let of_limit = of_limit.zip(number(limit(objective))).map(|(value, limit)| value / limit.max(1e-9));
        (group, of_limit.unwrap_or(f64::INFINITY))
    };
    // Of equals the first: the order is the policy's.
    let worse = |a: &&ObjectiveReport, b: &&ObjectiveReport| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    objectives.iter().rev().max_by(worse).map(short)
}

/// An objective in short. The comparison is with what it is judged at.
pub(super) fn short(objective: &ObjectiveReport) -> String {
    let (name, limit) = (&objective.name, limit(objective));
    let limit = parse(limit).map_or(limit.to_owned(), human);
    match (objective.verdict, &objective.measured) {
        (Judged::Breached, Some(measured)) => format!("{name} {measured} > {limit}"),
        (Judged::Breached, None) => format!("{name} breached"),
        (Judged::Healthy, Some(measured)) => format!("{name} {measured} <= {limit}"),
        (Judged::Healthy, None) => format!("{name} healthy"),
        (Judged::NoData, _) => format!("{name} no data"),
    }
}

fn limit(objective: &ObjectiveReport) -> &str {
    objective.bucket_bound.as_deref().unwrap_or(&objective.threshold)
}

#[cfg(test)]
mod tests {
    use engine::model::later;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn start() -> Timestamp {
        Timestamp::from_second(1_767_236_400).unwrap()
    }

    fn report(verdict: Judged, measured: &str, after: Duration) -> ObjectiveReport {
        let at = later(start(), after);
        ObjectiveReport {
            name: "p95".into(),
            verdict,
            measured: Some(measured.into()),
            threshold: "500ms".into(),
            bucket_bound: None,
            requests: Some(379),
            since: at,
            measured_at: at,
        }
    }

    #[test]
    fn a_verdict_is_written_at_its_transition_and_numbers_stay() {
        let stored = report(Judged::Healthy, "90ms", Duration::ZERO);
        let after = |verdict, measured, seconds| {
            let current = report(verdict, measured, Duration::from_secs(seconds));
            next(Some(&stored), Some(current), Numbers::Stored, INTERVAL).unwrap()
        };
        assert_eq!(after(Judged::Healthy, "400ms", 60), stored, "numbers alone are no transition");
        assert_eq!(after(Judged::Breached, "812ms", 14), stored, "it swings");
        let breached = report(Judged::Breached, "812ms", INTERVAL);
        assert_eq!(after(Judged::Breached, "812ms", 15), breached);
        assert_eq!(
            next(Some(&stored), None, Numbers::Stored, INTERVAL),
            Some(stored.clone()),
            "a new leader"
        );
        assert_eq!(next(None, None, Numbers::Stored, INTERVAL), None);
    }

    #[test]
    fn with_another_write_the_numbers_are_current_and_the_verdict_keeps_its_beginning() {
        let stored = report(Judged::Healthy, "90ms", Duration::ZERO);
        let current = report(Judged::Healthy, "95ms", Duration::from_secs(60));
        let written = next(Some(&stored), Some(current.clone()), Numbers::Current, INTERVAL).unwrap();
        assert_eq!(written, ObjectiveReport { since: stored.since, ..current });
    }

    #[test]
    fn another_bucket_bound_is_written_and_a_missing_one_is_not() {
        let bound = |bound: Option<&str>, seconds| ObjectiveReport {
            bucket_bound: bound.map(ToOwned::to_owned),
            ..report(Judged::Breached, "812ms", Duration::from_secs(seconds))
        };
        let stored = bound(Some("500ms"), 0);
        let with = |current| next(Some(&stored), Some(current), Numbers::Stored, INTERVAL).unwrap();
        assert_eq!(with(bound(None, 60)), stored, "requests hang");
        assert_eq!(with(bound(Some("1s"), 60)).bucket_bound.as_deref(), Some("1s"));
    }

    #[test]
    fn a_value_has_moved_beyond_a_fifth() {
        for (stored, current, moved) in [
            (Some("100ms"), Some("120ms"), false),
            (Some("100ms"), Some("121ms"), true),
            (Some("100ms"), Some("79ms"), true),
            (Some("2.1s"), Some("2.5s"), false),
            (Some("2.1s"), Some("2.6s"), true),
            (Some("1m10s"), Some("1m30s"), true),
            (Some("5%"), Some("5.9%"), false),
            (Some("5%"), Some("6.1%"), true),
            (Some("0%"), Some("0%"), false),
            (Some("0%"), Some("0.1%"), true),
            (Some("many"), Some("1s"), true),
            (None, Some("1s"), true),
            (Some("1s"), None, false),
            (None, None, false),
        ] {
            assert_eq!(has_moved(stored, current, 0.0), moved, "{stored:?} {current:?}");
        }
    }

    #[test]
    fn a_probe_has_moved_beyond_a_fifth_of_its_threshold_too() {
        let moved = |stored, current| has_moved(Some(stored), Some(current), 0.1);
        assert!(!moved("2ms", "60ms") && !moved("60ms", "2ms"), "one request after another");
        assert!(moved("20ms", "121ms") && !moved("1s", "1.2s") && moved("1s", "1.3s"));
    }

    #[test]
    fn an_instant_of_a_clock_ahead_delays_nothing() {
        let ahead = later(start(), 10 * MOVED_EVERY);
        assert!(is_over(ahead, MOVED_EVERY, start()));
        assert!(!is_over(start(), MOVED_EVERY, later(start(), INTERVAL)));
    }

    #[test]
    fn the_worst_objective_is_shown_against_what_it_is_judged_at() {
        let of = |name: &str, verdict, measured: Option<&str>, bound: Option<&str>| ObjectiveReport {
            name: name.into(),
            bucket_bound: bound.map(ToOwned::to_owned),
            measured: measured.map(ToOwned::to_owned),
            ..report(verdict, "", Duration::ZERO)
        };
        let p95 = of("p95", Judged::Breached, Some("812ms"), None);
        let p99 = of("p99", Judged::Healthy, Some("2.1s"), Some("2s500ms"));
        let hangs = of("hangs", Judged::Breached, None, None);
        let unknown = of("unknown", Judged::NoData, None, None);
        let shown = |all: &[&ObjectiveReport]| worst(&all.iter().copied().cloned().collect::<Vec<_>>());
        assert_eq!(shown(&[&unknown, &p99, &p95]).as_deref(), Some("p95 812ms > 500ms"));
        assert_eq!(shown(&[&p95, &hangs]).as_deref(), Some("hangs breached"));
        assert_eq!(shown(&[&unknown, &p99]).as_deref(), Some("p99 2.1s <= 2.5s"));
        assert_eq!(shown(&[&unknown]).as_deref(), Some("unknown no data"));
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn shares_are_written_without_loss() {
        assert_eq!(percent(0.05, 6), "5%");
        assert_eq!(percent(0.0005, 6), "0.05%");
        assert_eq!(percent(0.0312, 2), "3.12%");
        assert_eq!(percent(0.0, 2), "0%");
        assert_eq!(percent(1.0, 2), "100%");
    }
}
