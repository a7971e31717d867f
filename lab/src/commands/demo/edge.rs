//! What the users feel, from Prometheus: the same histogram that the policies judge.

use std::time::{Duration, SystemTime};

use lab::{Error, Result};
use tokio::time::MissedTickBehavior;

use super::cluster::{EDGE_NAMESPACE_LABEL, NAMESPACE};
use super::stack::Stack;

/// What the policies promise, in seconds.
pub(super) const TARGET: f64 = 0.5;
/// So many seconds in a row are no luck.
pub(super) const STEADY: usize = 5;
/// A whole window, so that nothing of the cold start is left in it.
const WARM: usize = 10;
/// Many times the three looks that tell the operator what is usual for a cache.
pub(super) const LEARNED: usize = 10;
/// A cold start takes a window, and a slow machine a few.
const WARM_LIMIT: Duration = Duration::from_secs(120);
/// 100 users who think for two seconds send 48 requests a second.
const BUSY: f64 = 30.0;

/// One second at the edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: SystemTime,
    /// Over 10 s, in seconds; `None` when no request was finished.
    pub(super) p95: Option<f64>,
    /// Requests that were finished, per second.
    pub(super) rate: f64,
    /// Those that failed, per second.
    pub(super) errors: f64,
    pub(super) in_flight: f64,
    pub(super) counts: Counts,
    /// The share of the cache's lookups that found their key, since the sample before; where there is a cache.
    pub(super) hits: Option<f64>,
}

/// Requests that were finished since the edge was started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) all: f64,
    /// Those that took longer than was promised, or failed.
    pub(super) bad: f64,
    /// Those that failed.
    pub(super) failed: f64,
    /// Those that fill the cache, which users never ask for.
    pub(super) filling: f64,
}

impl Counts {
    /// What was added since then.
    pub(super) fn since(self, then: Self) -> Self {
        Self {
            all: self.all - then.all,
            bad: self.bad - then.bad,
            failed: self.failed - then.failed,
            filling: self.filling - then.filling,
        }
    }
}

impl Sample {
    /// Nothing is measured yet.
    #[cfg(test)]
    pub(super) fn quiet(at: SystemTime) -> Self {
        Self { at, p95: None, rate: 0.0, errors: 0.0, in_flight: 0.0, counts: Counts::default(), hits: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.p95.is_some_and(|p95| p95 > TARGET)
    }

    pub(super) fn is_under(&self) -> bool {
        self.p95.is_some_and(|p95| p95 <= TARGET)
    }
}

/// Asks for everything at once: one instant, one request.
pub(super) async fn sample(stack: &Stack) -> Result<Sample> {
    let at = SystemTime::now();
    let found = stack.prometheus.query(&expression()).await?;
    let hits = match stack.known_cache() {
        Some(cache) => cache.hits().await?,
        None => None,
    };
    let value = |name: &str| {
        let is = |sample: &&lab::prometheus::Sample| sample.labels.get("is").is_some_and(|is| is == name);
        found.iter().find(is).map(|sample| sample.value).filter(|value| value.is_finite())
    };
    let number = |name: &str| value(name).unwrap_or_default();
    Ok(Sample {
        at,
        p95: value("p95"),
        rate: number("rate"),
        errors: number("errors"),
        in_flight: number("in_flight"),
        counts: Counts {
            all: number("all"),
            bad: number("bad"),
            failed: number("failed"),
            filling: number("filling"),
        },
        hits,
    })
}

/// Django counts the requests of each view.
const FILLING: &str = "django_http_requests_latency_seconds_by_view_method_count";

fn expression() -> String {
    let own = format!(r#"handler="reverse_proxy",{EDGE_NAMESPACE_LABEL}="{NAMESPACE}""#);
    let seconds = "caddy_http_request_duration_seconds";
    // What the edge itself failed to forward is not in its histogram.
    let not_forwarded = format!("(sum(caddy_http_request_errors_total{{{own}}}) or vector(0))");
    let failed = format!(r#"((sum({seconds}_count{{{own},code=~"5.."}}) or vector(0)) + {not_forwarded})"#);
    let all = format!("(sum({seconds}_count{{{own}}}) + {not_forwarded})");
    let good = format!(r#"sum({seconds}_bucket{{{own},le="{TARGET}",code!~"5.."}})"#);
    let parts = [
        ("p95", format!("histogram_quantile(0.95, sum by (le) (rate({seconds}_bucket{{{own}}}[10s])))")),
        ("rate", format!("sum(rate({seconds}_count{{{own}}}[3s]))")),
        (
            "errors",
            format!(
                r#"(sum(rate({seconds}_count{{{own},code=~"5.."}}[3s])) or vector(0)) + (sum(rate(caddy_http_request_errors_total{{{own}}}[3s])) or vector(0))"#
            ),
        ),
        ("in_flight", format!("sum(caddy_http_requests_in_flight{{{own}}})")),
        ("bad", format!("({all} - {good})")),
        ("all", all),
        ("failed", failed),
        (
            "filling",
            format!(r#"sum({FILLING}{{namespace="{NAMESPACE}",view="portfolio-list"}}) or vector(0)"#),
        ),
    ];
    let labelled = parts.map(|(name, part)| format!(r#"label_replace({part}, "is", "{name}", "", "")"#));
    labelled.join(" or ")
}

/// A clock that strikes each second, and leaves out what it missed.
pub(super) fn seconds() -> tokio::time::Interval {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds
}

/// Looks at the users while something else is done.
pub(super) async fn meanwhile<T>(
    stack: &Stack,
    doing: impl Future<Output = Result<T>>,
) -> Result<(Vec<Sample>, T)> {
    let mut samples = Vec::new();
    let mut doing = std::pin::pin!(doing);
    let mut seconds = seconds();
    loop {
        tokio::select! {
            done = &mut doing => return Ok((samples, done?)),
            _ = seconds.tick() => samples.extend(sample(stack).await.ok()),
        }
    }
}

/// Waits until everybody is served fast: right after the start the first requests are slow. Returns the steady seconds.
pub(super) async fn until_steady(stack: &Stack) -> Result<Vec<Sample>> {
    steady_for(stack, WARM).await
}

/// Waits until everybody was served fast for so many seconds in a row, and returns them.
pub(super) async fn steady_for(stack: &Stack, many: usize) -> Result<Vec<Sample>> {
    let mut steady = Vec::new();
    let mut last = None;
    let watching = async {
        let mut seconds = seconds();
        while steady.len() < many {
            seconds.tick().await;
            stack.must_run()?;
            let sample = sample(stack).await?;
            // Half of the target: what is steady only just below it would pass it by itself.
            let is_fast = sample.p95.is_some_and(|p95| p95 < TARGET / 2.0);
            if !is_fast || sample.rate <= BUSY || sample.errors > 0.0 {
                steady.clear();
            } else {
                steady.push(sample);
            }
            last = Some(sample);
        }
        Ok(())
    };
    match lab::within(WARM_LIMIT, watching).await {
        Some(done) => done.map(|()| steady),
        None => Err(Error::setup(
            "waiting until the API is warm and steady",
            format!(
                "after {} it is not: p95 must be under {} ms with more than {BUSY} requests a second and \
                 no errors, but it last was {last:?}",
                lab::patience::told(WARM_LIMIT),
                TARGET * 500.0
            ),
            "end what else keeps this machine busy",
        )),
    }
}
