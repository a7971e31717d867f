//! Latency by bucket counts.
//!
//! With b the smallest finite bucket bound at or above the target, the objective is Breached when the share of requests
//! within b is below the quantile. Interpolated quantiles (Prometheus' `histogram_quantile`) are for people only: between
//! two bounds they assume an even spread that no latency has.

use std::time::Duration;

use super::breach_of;
use crate::model::{
    Breach, BreachKind, Bucket, LatencySeverity, Measured, NoData, NoDataReason, Severity, Traffic, Verdict,
    duration::{human, of_seconds},
    ratio,
};

/// Shares are quotients of extrapolated counts; what differs by less than this is equal.
pub(super) const EPSILON: f64 = 1e-9;

pub(super) fn judge(
    traffic: &Traffic,
    wanted: f64,
    target: Duration,
    severities: &[LatencySeverity],
    severity: Severity,
) -> (Verdict, Option<Measured>) {
    let total = traffic.completed();
    let value = quantile(&traffic.buckets, wanted);
    let Some(bucket) = traffic.bucket_at(target.as_secs_f64()) else {
        let largest = traffic.largest_bound().map_or("none at all".to_owned(), |le| format!("{le}s"));
        let no_data = NoData::new(
            NoDataReason::TargetBeyondBuckets,
            format!("the target {} lies beyond the largest finite bucket bound, {largest}", human(target)),
        );
        return (Verdict::NoData(no_data), None);
    };
    let share = bucket.count / total;
    let measured = Measured {
        requests: total,
        value,
        bound: Some(of_seconds(bucket.le)),
        sentence: format!(
            "about {}; {} of {total:.0} requests within {}, {} are promised",
            value.map_or("unknown".to_owned(), |seconds| human(of_seconds(seconds))),
            ratio::percent(share),
            human(of_seconds(bucket.le)),
            ratio::percent(wanted),
        ),
        notes: notes(traffic, bucket, target, severities),
    };
    if share >= wanted - EPSILON {
        return (Verdict::Healthy, Some(measured));
    }
    let exceeded =
        severities.iter().filter(|level| exceeds(traffic, wanted, level.above)).map(|level| level.level);
    let breach: Breach = breach_of(BreachKind::Slow, severity, exceeded);
    (Verdict::Breached(breach), Some(measured))
}

/// What a reader of the policy should know: bounds are the exporter's, not the policy's.
fn notes(traffic: &Traffic, bucket: Bucket, target: Duration, severities: &[LatencySeverity]) -> Vec<String> {
    let mut notes = Vec::new();
    if (bucket.le - target.as_secs_f64()).abs() > EPSILON {
        let bound = human(of_seconds(bucket.le));
        notes.push(format!("{} is judged at the next bucket bound, {bound}", human(target)));
    }
    for level in severities.iter().filter(|level| traffic.bucket_at(level.above.as_secs_f64()).is_none()) {
        let largest = traffic.largest_bound().unwrap_or_default();
        notes.push(format!(
            "{} above {} cannot be seen: the largest bucket bound is {largest}s",
            level.level,
            human(level.above)
        ));
    }
    notes
}

/// Whether the quantile lies above `threshold`; a threshold beyond the buckets cannot be seen to be exceeded.
fn exceeds(traffic: &Traffic, wanted: f64, threshold: Duration) -> bool {
    traffic
        .bucket_at(threshold.as_secs_f64())
        .is_some_and(|bucket| bucket.count / traffic.completed() < wanted - EPSILON)
}

/// The quantile in seconds as Prometheus' `histogram_quantile` computes it for classic histograms: linear within the
/// bucket, the highest finite bound where it falls into the infinite one; none without requests.
#[must_use]
pub fn quantile(buckets: &[Bucket], wanted: f64) -> Option<f64> {
    let total = buckets.last().map(|b| b.count).filter(|total| *total > 0.0)?;
    let rank = wanted * total;
    let position = buckets.iter().position(|b| b.count >= rank)?;
    let upper = buckets.get(position)?;
    let below = position.checked_sub(1).and_then(|index| buckets.get(index));
    if upper.le.is_infinite() {
        return below.map(|b| b.le);
    }
    let (start, counted) = below.map_or((0.0, 0.0), |b| (b.le, b.count));
    let within = upper.count - counted;
    if within <= 0.0 {
        return Some(upper.le);
    }
    Some(start + (upper.le - start) * ((rank - counted) / within))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Observed, TrafficWindow};

    fn traffic(counts: &[(f64, f64)]) -> Traffic {
        Traffic::from(TrafficWindow {
            window: Duration::from_secs(10),
            buckets: counts.iter().map(|(le, count)| Bucket { le: *le, count: *count }).collect(),
            in_flight: Observed::missing(NoDataReason::Empty, ""),
            errors: Observed::missing(NoDataReason::Empty, ""),
            views: Observed::missing(NoDataReason::NotYetRead, ""),
        })
    }

    fn verdict(counts: &[(f64, f64)], target_ms: u64, severities: &[LatencySeverity]) -> Verdict {
        judge(&traffic(counts), 0.95, Duration::from_millis(target_ms), severities, Severity::P2).0
    }

    #[test]
    fn the_share_within_the_bound_decides_to_the_request() {
        assert_eq!(verdict(&[(0.5, 95.0), (f64::INFINITY, 100.0)], 500, &[]), Verdict::Healthy);
        let breach = Breach { kind: BreachKind::Slow, severity: Severity::P2 };
        assert_eq!(verdict(&[(0.5, 94.0), (f64::INFINITY, 100.0)], 500, &[]), Verdict::Breached(breach));
    }

    #[test]
    fn a_target_between_two_bounds_is_judged_by_the_upper_one() {
        assert_eq!(verdict(&[(0.1, 0.0), (0.25, 96.0), (f64::INFINITY, 100.0)], 200, &[]), Verdict::Healthy);
    }

    #[test]
    fn a_target_between_bounds_and_a_level_beyond_them_are_told() {
        let levels = [LatencySeverity { level: Severity::P0, above: Duration::from_secs(99) }];
        let counts = [(0.25, 96.0), (75.0, 100.0), (f64::INFINITY, 100.0)];
        let measured =
            judge(&traffic(&counts), 0.95, Duration::from_millis(200), &levels, Severity::P2).1.unwrap();
        assert_eq!(measured.notes.len(), 2, "{:?}", measured.notes);
        assert!(
            measured.notes[0].contains("250ms") && measured.notes[1].contains("75s"),
            "{:?}",
            measured.notes
        );
    }

    #[test]
    fn a_target_beyond_the_finite_bounds_is_no_data_naming_the_largest() {
        let Verdict::NoData(no_data) = verdict(&[(1.0, 10.0), (f64::INFINITY, 100.0)], 2000, &[]) else {
            panic!("judged what cannot be judged");
        };
        assert_eq!(no_data.reason, NoDataReason::TargetBeyondBuckets);
        assert!(no_data.detail.contains("1s"), "{}", no_data.detail);
    }

    #[test]
    fn bounds_that_are_no_lengths_of_time_are_judged_and_shown_all_the_same() {
        for le in [1e20, 1e300, f64::MAX] {
            assert_eq!(verdict(&[(le, 100.0), (f64::INFINITY, 100.0)], 500, &[]), Verdict::Healthy);
        }
        assert_eq!(verdict(&[(-5.0, 96.0), (0.5, 96.0), (f64::INFINITY, 100.0)], 500, &[]), Verdict::Healthy);
    }

    #[test]
    fn the_worst_level_that_is_exceeded_counts() {
        let levels = [
            LatencySeverity { level: Severity::P1, above: Duration::from_secs(2) },
            LatencySeverity { level: Severity::P0, above: Duration::from_secs(5) },
            LatencySeverity { level: Severity::P0, above: Duration::from_secs(99) },
        ];
        let counts = [(0.5, 50.0), (2.0, 80.0), (5.0, 96.0), (f64::INFINITY, 100.0)];
        let breach = Breach { kind: BreachKind::Slow, severity: Severity::P1 };
        assert_eq!(verdict(&counts, 500, &levels), Verdict::Breached(breach));
    }

    #[test]
    fn quantiles_for_people_are_those_of_prometheus() {
        let buckets =
            traffic(&[(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (f64::INFINITY, 100.0)]).buckets.clone();
        assert_eq!(quantile(&buckets, 0.95), Some(0.75));
        assert_eq!(quantile(&buckets, 0.25), Some(0.05));
        let open = traffic(&[(1.0, 50.0), (f64::INFINITY, 100.0)]).buckets.clone();
        assert_eq!(quantile(&open, 0.95), Some(1.0));
        assert_eq!(quantile(&[], 0.95), None);
    }
}
