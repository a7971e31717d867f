//! The share of failed requests.

use super::breach_of;
use crate::model::{BreachKind, Measured, Observed, RatioSeverity, Severity, Traffic, Verdict, ratio};

pub(super) fn judge(
    traffic: &Traffic,
    target: f64,
    severities: &[RatioSeverity],
    severity: Severity,
) -> (Verdict, Option<Measured>) {
    let failed = match &traffic.errors {
        Observed::Known { value, .. } => *value,
        Observed::Missing(no_data) => return (Verdict::NoData(no_data.clone()), None),
    };
    let total = traffic.completed();
    // Some exporters count a failed request in the errors and not in the histogram: more failures than requests is all.
    let share = (failed / total.max(failed)).clamp(0.0, 1.0);
    let measured = Measured {
        requests: total,
        value: Some(share),
        bound: None,
        sentence: format!(
            "{} of {:.0} requests failed, at most {} may",
            ratio::percent(share),
            total.max(failed),
            ratio::percent(target)
        ),
        notes: Vec::new(),
    };
    if share <= target {
        return (Verdict::Healthy, Some(measured));
    }
    let exceeded = severities.iter().filter(|level| share > level.above).map(|level| level.level);
    (Verdict::Breached(breach_of(BreachKind::Errors, severity, exceeded)), Some(measured))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{Breach, Bucket, NoDataReason, TrafficWindow};

    fn verdict(total: f64, errors: Option<f64>) -> Verdict {
        let traffic = Traffic::from(TrafficWindow {
            window: Duration::from_secs(10),
            buckets: vec![Bucket { le: f64::INFINITY, count: total }],
            in_flight: Observed::missing(NoDataReason::Empty, ""),
            errors: match errors {
                Some(value) => Observed::Known { at: Timestamp::UNIX_EPOCH, value },
                None => Observed::missing(NoDataReason::Empty, "no such series"),
            },
            views: Observed::missing(NoDataReason::NotYetRead, ""),
        });
        judge(&traffic, 0.01, &[RatioSeverity { level: Severity::P1, above: 0.05 }], Severity::P2).0
    }

    #[test]
    fn over_the_target_is_breached_and_over_a_level_is_worse() {
        assert_eq!(verdict(100.0, Some(1.0)), Verdict::Healthy);
        let breach = |severity| Verdict::Breached(Breach { kind: BreachKind::Errors, severity });
        assert_eq!(verdict(100.0, Some(2.0)), breach(Severity::P2));
        assert_eq!(verdict(100.0, Some(6.0)), breach(Severity::P1));
        assert_eq!(verdict(100.0, Some(500.0)), breach(Severity::P1));
    }

    #[test]
    fn unknown_errors_are_not_no_errors() {
        assert!(matches!(verdict(100.0, None), Verdict::NoData(_)));
    }
}
