//! Whether a few views are slow or all of them: isolated slowness is never answered by more replicas.
//!
//! With N requests and S of them over their bucket bound: a view *breaches alone* when the share of its own requests
//! within its own bound is below the quantile. N and S of all views that do are taken out. If the rest keeps the promise,
//! they are all there is (`Isolated`); if it does not, or if no view breaches alone, the time is lost before the views,
//! where it is shared by all (`SystemWide`). So a slow view behind an edge whose queue is full does not hide the queue, and
//! one that alone drags the edge over its target is told as what it is.
//!
//! - A rest of fewer than 50 requests says nothing. Then it is `Isolated` if exactly one view breaches alone and there
//!   are others, and `SystemWide` otherwise: also when all views breach alone, and when there is only one.
//! - The views have a histogram, and with it a bound, of their own: they may be counted by another exporter than the rest.
//!   N and S of such views may exceed the source's own, so the rest is never less than nothing.
//! - Views without requests in the window are none of its views.
//! - Views that hold less than half of the requests are those of something else: `Unknown`.

use std::time::Duration;

use super::latency::EPSILON;
use super::{MIN_REQUESTS, f64_of};
use crate::model::{NoData, NoDataReason, Observed, Scope, Traffic, ViewTraffic, duration::human};

/// A part of the window's requests.
#[derive(Clone, Copy, Default)]
struct Part {
    requests: f64,
    slow: f64,
}

impl Part {
    fn keeps(self, quantile: f64) -> bool {
        self.requests <= 0.0 || (self.requests - self.slow) / self.requests >= quantile - EPSILON
    }

    fn with(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, slow: self.slow + other.slow }
    }

    /// Two sources do not count to the request alike; nothing is less than none, and no more are slow than there are.
    fn without(self, other: Self) -> Self {
        let requests = (self.requests - other.requests).max(0.0);
        Self { requests, slow: (self.slow - other.slow).clamp(0.0, requests) }
    }
}

/// The scope of a window that was judged to be slow.
pub(super) fn judge(traffic: &Traffic, quantile: f64, target: Duration) -> Scope {
    assess(traffic, quantile, target).unwrap_or_else(Scope::Unknown)
}

fn assess(traffic: &Traffic, quantile: f64, target: Duration) -> Result<Scope, NoData> {
    let views = match &traffic.views {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return Err(no_data.clone()),
    };
    let served: Vec<&ViewTraffic> = views.iter().filter(|view| view.completed() > 0.0).collect();
    let all = whole(traffic, target)?;
    belong(&served, all.requests)?;
    let mut alone: Vec<&str> = Vec::new();
    let mut taken = Part::default();
    for view in &served {
        let part = of_view(view, target)?;
        if !part.keeps(quantile) {
            alone.push(&view.view);
            taken = taken.with(part);
        }
    }
    let rest = all.without(taken);
    let isolated = if alone.is_empty() {
        false
    } else if rest.requests < f64_of(MIN_REQUESTS) {
        alone.len() == 1 && served.len() > 1
    } else {
        rest.keeps(quantile)
    };
    if !isolated {
        return Ok(Scope::SystemWide);
    }
    // By name: an order that follows the numbers would be news at every look.
    alone.sort_unstable();
    Ok(Scope::Isolated { views: alone.into_iter().map(str::to_owned).collect() })
}

/// All requests, and those of them that are over the bound by which the objective is judged.
fn whole(traffic: &Traffic, target: Duration) -> Result<Part, NoData> {
    let requests = traffic.completed();
    let bucket = traffic.bucket_at(target.as_secs_f64());
    let bucket = bucket.ok_or_else(|| beyond(target, "the histogram", traffic.largest_bound()))?;
    Ok(Part { requests, slow: requests - bucket.count })
}

fn of_view(view: &ViewTraffic, target: Duration) -> Result<Part, NoData> {
    let requests = view.completed();
    let bucket = view.bucket_at(target.as_secs_f64());
    let bucket = bucket.ok_or_else(|| beyond(target, "the views' histogram", view.largest_bound()))?;
    Ok(Part { requests, slow: requests - bucket.count })
}

fn beyond(target: Duration, histogram: &str, largest: Option<f64>) -> NoData {
    let largest = largest.map_or("none at all".to_owned(), |le| format!("{le}s"));
    let target = human(target);
    let detail =
        format!("the target {target} lies beyond the largest finite bucket bound of {histogram}, {largest}");
    NoData::new(NoDataReason::TargetBeyondBuckets, detail)
}

/// Whether the views are those of these requests at all.
fn belong(served: &[&ViewTraffic], requests: f64) -> Result<(), NoData> {
    let known: f64 = served.iter().map(|view| view.completed()).sum();
    if known > 0.0 && known >= requests / 2.0 {
        return Ok(());
    }
    let detail = format!(
        "the views hold {known:.0} of {requests:.0} requests: they are not counted where this target's requests are, or \
         the labels of their source do not match it"
    );
    Err(NoData::new(NoDataReason::Empty, detail))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Bucket, TrafficWindow};

    /// The source judges at 1s, the views at 0.75s: a target of 600ms lies between the bounds of both.
    const TARGET: Duration = Duration::from_millis(600);

    fn buckets(bound: f64, requests: f64, slow: f64) -> Vec<Bucket> {
        let bucket = |le, count| Bucket { le, count };
        vec![bucket(0.5, 0.0), bucket(bound, requests - slow), bucket(f64::INFINITY, requests)]
    }

    fn traffic(requests: f64, slow: f64, views: Observed<Vec<ViewTraffic>>) -> Traffic {
        Traffic::from(TrafficWindow {
            window: Duration::from_secs(10),
            buckets: buckets(1.0, requests, slow),
            in_flight: Observed::missing(NoDataReason::Empty, ""),
            errors: Observed::missing(NoDataReason::Empty, ""),
            views,
        })
    }

    fn known(views: &[(&str, f64, f64)]) -> Observed<Vec<ViewTraffic>> {
        let view = |(view, requests, slow): &(&str, f64, f64)| ViewTraffic {
            view: (*view).to_owned(),
            buckets: buckets(0.75, *requests, *slow),
        };
        Observed::Known { at: Timestamp::UNIX_EPOCH, value: views.iter().map(view).collect() }
    }

    /// N and S of the source, then name, N and S of each view.
    fn scope(requests: f64, slow: f64, views: &[(&str, f64, f64)]) -> Scope {
        judge(&traffic(requests, slow, known(views)), 0.95, TARGET)
    }

    fn only(views: &[&str]) -> Scope {
        Scope::Isolated { views: views.iter().map(|view| (*view).to_owned()).collect() }
    }

    fn unknown(scope: Scope) -> NoData {
        let Scope::Unknown(no_data) = scope else { panic!("{scope:?} of what is not known") };
        no_data
    }

    #[test]
    fn one_slow_view_of_which_alone_the_edge_is_slow_is_isolated() {
        let views = [("/reports", 100.0, 100.0), ("/orders", 900.0, 0.0)];
        assert_eq!(scope(1000.0, 100.0, &views), only(&["/reports"]));
        // The rest may be a little slow, to the request as much as is promised.
        assert_eq!(scope(1000.0, 145.0, &views), only(&["/reports"]));
        assert_eq!(scope(1000.0, 146.0, &views), Scope::SystemWide);
    }

    #[test]
    fn a_slow_view_behind_a_full_backlog_does_not_hide_the_backlog() {
        let views = [("/reports", 40.0, 40.0), ("/orders", 960.0, 0.0)];
        assert_eq!(scope(1000.0, 1000.0, &views), Scope::SystemWide);
    }

    #[test]
    fn time_that_is_lost_before_every_view_is_shared_by_all() {
        let views = [("/reports", 500.0, 25.0), ("/orders", 500.0, 0.0)];
        assert_eq!(scope(1000.0, 900.0, &views), Scope::SystemWide);
    }

    #[test]
    fn several_slow_views_are_told_by_name_whatever_their_order() {
        let (a, b) = (("/a", 100.0, 60.0), ("/b", 100.0, 90.0));
        for views in [[a, b, ("/c", 800.0, 8.0)], [b, ("/c", 800.0, 8.0), a]] {
            assert_eq!(scope(1000.0, 158.0, &views), only(&["/a", "/b"]));
        }
    }

    #[test]
    fn all_views_slow_is_everything_slow() {
        let views = [("/a", 500.0, 100.0), ("/b", 500.0, 100.0)];
        assert_eq!(scope(1000.0, 200.0, &views), Scope::SystemWide);
        assert_eq!(scope(1000.0, 100.0, &[("/a", 1000.0, 100.0)]), Scope::SystemWide, "the only view");
    }

    #[test]
    fn a_rest_of_fewer_than_min_requests_says_nothing() {
        let one = [("/a", 960.0, 500.0), ("/b", 40.0, 0.0)];
        assert_eq!(scope(1000.0, 500.0, &one), only(&["/a"]));
        let two = [("/a", 500.0, 300.0), ("/b", 460.0, 300.0), ("/c", 40.0, 0.0)];
        assert_eq!(scope(1000.0, 600.0, &two), Scope::SystemWide);
        let enough = [("/a", 500.0, 300.0), ("/b", 450.0, 300.0), ("/c", 50.0, 0.0)];
        assert_eq!(scope(1000.0, 600.0, &enough), only(&["/a", "/b"]));
    }

    #[test]
    fn a_view_that_nobody_asked_for_is_no_other_view() {
        assert_eq!(scope(1000.0, 100.0, &[("/a", 1000.0, 100.0), ("/b", 0.0, 0.0)]), Scope::SystemWide);
    }

    #[test]
    fn views_may_count_more_than_their_edge_and_the_rest_is_never_less_than_nothing() {
        // A rest of 100 at most, of which more than all would be slow.
        let views = [("/a", 900.0, 100.0), ("/b", 300.0, 0.0)];
        assert_eq!(scope(1000.0, 900.0, &views), Scope::SystemWide);
        assert_eq!(scope(1000.0, 100.0, &[("/a", 2000.0, 200.0), ("/b", 300.0, 0.0)]), only(&["/a"]));
    }

    #[test]
    fn views_that_are_not_known_are_not_none() {
        let missing = Observed::missing(NoDataReason::Timeout, "no answer within 5s");
        let scope = judge(&traffic(1000.0, 100.0, missing), 0.95, TARGET);
        assert_eq!(unknown(scope), NoData::new(NoDataReason::Timeout, "no answer within 5s"));
    }

    #[test]
    fn the_views_of_something_else_are_told_with_the_numbers() {
        let no_data = unknown(scope(1000.0, 100.0, &[("/a", 300.0, 100.0), ("/b", 199.0, 0.0)]));
        assert!(no_data.detail.contains("499 of 1000"), "{}", no_data.detail);
        assert_eq!(unknown(scope(1000.0, 100.0, &[])).reason, NoDataReason::Empty);
        assert_eq!(scope(1000.0, 100.0, &[("/a", 300.0, 100.0), ("/b", 200.0, 0.0)]), only(&["/a"]));
    }

    #[test]
    fn a_target_beyond_the_views_own_bounds_is_not_judged_by_another_bound() {
        let mut traffic = traffic(1000.0, 100.0, known(&[("/a", 1000.0, 100.0)]));
        let target = Duration::from_millis(900);
        let no_data = unknown(judge(&traffic, 0.95, target));
        assert_eq!(no_data.reason, NoDataReason::TargetBeyondBuckets);
        assert!(no_data.detail.contains("900ms") && no_data.detail.contains("0.75s"), "{}", no_data.detail);
        traffic.buckets.clear();
        assert_eq!(unknown(judge(&traffic, 0.95, TARGET)).reason, NoDataReason::TargetBeyondBuckets);
    }
}
