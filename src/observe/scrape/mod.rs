//! `/metrics` of the target's own Pods, read by the operator itself: what was counted in a window, over all Pods.
//!
//! Policies that ask for the same share the scrapes. Of each target one round is under way at a time; a round asks each ready
//! Pod once. What is kept is the preset's series and nothing else of an answer.

mod history;
mod series;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{
    Bucket, ByName, Measurement, NoData, NoDataReason, Observed, Policy, Scheme, ScrapeSource, Source,
    TargetRef, Traffic, TrafficWindow, ViewTraffic, duration::human,
};
use futures::StreamExt;
use jiff::Timestamp;

use self::history::{Delta, History};
use self::series::{Counted, Part, Scraped, counted, read};
use super::sources::ObjectiveSource;
use crate::clock::Clock;
use crate::connections::Services;
use crate::connections::http::{Answer, Failure, Get, UrlPath, fetch};
use crate::connections::services::Endpoint;
use crate::telemetry::Metrics;

/// An answer is read so far; of a longer one nothing is used.
const LARGEST: usize = 4 << 20;
/// Pods that are asked at one time.
const AT_ONCE: usize = 20;
/// So long one Pod may take.
const POD_WITHIN: Duration = Duration::from_secs(3);
/// A round takes so long at most, and not longer than the policy's interval.
const ROUND_WITHIN: Duration = Duration::from_secs(10);
/// While all Pods answer, they are looked for so often.
const ADDRESSES: Duration = Duration::from_secs(30);
/// Two rounds are at least so far apart.
const LEAST: Duration = Duration::from_secs(1);
/// What nobody asks for any more is kept so long.
const KEPT: Duration = Duration::from_secs(300);
/// Pods of one target of which something is kept: those that are there, and those that were there within the window.
const MOST_PODS: usize = 200;

/// What stands for the views while nobody needs them.
const VIEWS_LATER: &str = "views are read once something is broken";

/// Whose metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: String,
    target: String,
    source: ScrapeSource,
}

type Slot = Arc<tokio::sync::Mutex<Scrapes>>;

struct Known {
    /// With the instant at which somebody asked last.
    slots: BTreeMap<Key, (Instant, Slot)>,
    swept: Instant,
}

/// The scrapes of one target.
#[derive(Default)]
struct Scrapes {
    pods: BTreeMap<Endpoint, History>,
    /// When somebody looked first.
    since: Option<(Instant, Timestamp)>,
    /// The longest window that was asked for.
    longest: Duration,
    round: Option<Round>,
}

/// The newest round.
struct Round {
    at: Instant,
    time: Timestamp,
    found: Result<Found, NoData>,
}

/// What a round has found.
struct Found {
    pods: usize,
    in_flight: Option<f64>,
    /// How many Pods could not be read, and why the first of them could not.
    unread: usize,
    why: Option<NoData>,
}

/// The scraper of all policies. Cheap to clone.
#[derive(Clone)]
pub struct Scraper {
    services: Services,
    clock: Clock,
    metrics: Metrics,
    known: Arc<Mutex<Known>>,
}

/// The objectives that are read from Pods, by name.
fn sources(policy: &Policy) -> impl Iterator<Item = (&str, &ScrapeSource)> {
    policy.objectives.iter().filter_map(|objective| {
        let Source::Scrape(source) = &objective.source else { return None };
        Some((objective.name.as_str(), source))
    })
}

impl ObjectiveSource for Scraper {
    async fn measure(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Measurement>> {
        let read = self.traffic(policy, elevated).await;
        read.into_iter().map(|(name, traffic)| (name, traffic.map(Into::into))).collect()
    }

    fn problems(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        sources(policy).next().map(|_| apart(policy))
    }
}

/// How far two rounds for a policy are apart at least.
fn apart(policy: &Policy) -> Duration {
    (policy.evaluation.interval / 2).max(LEAST)
}

impl Scraper {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(services: Services, clock: Clock, metrics: Metrics) -> Self {
        let known = Known { slots: BTreeMap::new(), swept: Instant::now() };
        Self { services, clock, metrics, known: Arc::new(Mutex::new(known)) }
    }

    /// What was counted for each objective that is read from Pods; with the views, where it is looked `closely`.
    pub async fn traffic(&self, policy: &Policy, closely: bool) -> ByName<Observed<Traffic>> {
        let reads = sources(policy).map(|(name, source)| async move {
            let observed = self.of_source(policy, source, closely).await;
            if let Observed::Missing(NoData { reason, .. }) = &observed {
                self.metrics.no_data(&reason.to_string());
            }
            (name.to_owned(), observed)
        });
        futures::future::join_all(reads).await.into_iter().collect()
    }

    async fn of_source(&self, policy: &Policy, source: &ScrapeSource, closely: bool) -> Observed<Traffic> {
        let Some(counted) = counted(source.preset) else {
            let detail =
                format!("{:?} is an edge; it is read from a backend (type: Prometheus)", source.preset);
            return Observed::missing(NoDataReason::Empty, detail);
        };
        let key = Key {
            namespace: policy.id.namespace.clone(),
            target: policy.target.to_string(),
            source: source.clone(),
        };
        let slot = self.slot(key);
        // Who comes while a round is under way waits for it.
        let mut scrapes = slot.lock().await;
        let window = policy.evaluation.window;
        scrapes.longest = scrapes.longest.max(window);
        if scrapes.round.as_ref().is_none_or(|round| round.at.elapsed() >= apart(policy)) {
            let started = Instant::now();
            self.round(&mut scrapes, policy, source, counted).await;
            self.metrics.read("scrape", started.elapsed());
        }
        match (scrapes.judged(window, counted, closely), &scrapes.round) {
            (Ok(value), Some(Round { time, .. })) => Observed::Known { at: *time, value: value.into() },
            (Err(no_data), _) => Observed::Missing(no_data),
            (Ok(_), None) => Observed::missing(NoDataReason::NotYetRead, "no Pod has been read yet"),
        }
    }

    fn slot(&self, key: Key) -> Slot {
        // What a panicking task leaves behind here is a whole slot or none.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.swept.elapsed() > KEPT {
            known.swept = Instant::now();
            known.slots.retain(|_, (asked, slot)| Arc::strong_count(slot) > 1 || asked.elapsed() < KEPT);
        }
        let (asked, slot) = known.slots.entry(key).or_insert_with(|| (Instant::now(), Slot::default()));
        *asked = Instant::now();
        slot.clone()
    }

    /// Asks each Pod once.
    async fn round(&self, scrapes: &mut Scrapes, policy: &Policy, source: &ScrapeSource, counted: &Counted) {
        let (at, namespace, target) = (Instant::now(), &policy.id.namespace, &policy.target);
        let within = policy.evaluation.interval.clamp(LEAST, ROUND_WITHIN);
        let looking = self.services.pods(namespace, target, &source.port, ADDRESSES);
        let endpoints = tokio::time::timeout(within, looking).await.unwrap_or_else(|_| {
            let detail = format!("the Pods of {target} were not found within {}", human(within));
            Err(NoData::new(NoDataReason::ApiUnavailable, detail))
        });
        let read = match endpoints {
            Ok(endpoints) => {
                let one = |endpoint: Endpoint| async {
                    let left = within.saturating_sub(at.elapsed()).min(POD_WITHIN);
                    let scraped = scrape(&endpoint, &source.path, left, counted).await;
                    (endpoint, scraped)
                };
                let asked = futures::stream::iter(endpoints).map(one).buffer_unordered(AT_ONCE);
                Ok(asked.collect::<Vec<_>>().await)
            }
            Err(no_data) => Err(no_data),
        };
        let time = self.clock.now();
        let found = read.map(|read| scrapes.add((at, time), read));
        if !found.as_ref().is_ok_and(|found| found.unread == 0) {
            self.services.doubt(namespace, &target.to_string());
        }
        tell(namespace, target, scrapes.round.as_ref(), &found);
        scrapes.round = Some(Round { at, time, found });
    }
}

/// Says in the log that some Pods cannot be read, once for as long as they are as many.
fn tell(namespace: &str, target: &TargetRef, before: Option<&Round>, now: &Result<Found, NoData>) {
    let unread = |found: &Found| found.unread;
    let before = before.and_then(|round| round.found.as_ref().ok()).map(unread).unwrap_or_default();
    match now {
        Ok(Found { pods, unread, why: Some(why), .. }) if *unread != before => {
            tracing::warn!(namespace, %target, unread, pods, reason = %why.reason, detail = why.detail, "Pods cannot be scraped");
        }
        Ok(_) | Err(_) => {}
    }
}

/// Asks one Pod.
async fn scrape(endpoint: &Endpoint, path: &str, within: Duration, of: &Counted) -> Result<Scraped, NoData> {
    let bad = |what: String| NoData::new(NoDataReason::BadAnswer, what);
    if within.is_zero() {
        return Err(NoData::new(NoDataReason::Timeout, "other Pods took all of the time"));
    }
    let request = Get {
        address: endpoint.address,
        scheme: Scheme::Http,
        // As Prometheus asks: whoever allows that allows this.
        host: endpoint.address.to_string(),
        path: UrlPath::parse(path).map_err(bad)?,
    };
    let (Answer { status, cut, .. }, body) = fetch(&request, within, LARGEST).await.map_err(|failure| {
        let reason = match &failure {
            Failure::Unreachable(_) => NoDataReason::Unreachable,
            Failure::ConnectTimeout(_) | Failure::TimedOut(_) => NoDataReason::Timeout,
            Failure::Tls(_) | Failure::NotHttp(_) | Failure::BrokenOff => NoDataReason::BadAnswer,
        };
        NoData::new(reason, failure.to_string())
    })?;
    match status {
        200 if cut => Err(bad("the answer has more than 4 MiB".to_owned())),
        200 => read(&body, of),
        300..=399 => Err(NoData::new(
            NoDataReason::Redirected,
            format!("HTTP status {status}; no redirect is followed"),
        )),
        _ => Err(NoData::new(NoDataReason::HttpError, format!("HTTP status {status}"))),
    }
}

impl Scrapes {
    /// Takes in what a round has read.
    fn add(
        &mut self,
        (at, time): (Instant, Timestamp),
        read: Vec<(Endpoint, Result<Scraped, NoData>)>,
    ) -> Found {
        self.since.get_or_insert((at, time));
        let mut found = Found { pods: read.len(), in_flight: None, unread: 0, why: None };
        let longest = self.longest;
        self.pods.retain(|known, history| {
            history.age(at) < longest || read.iter().any(|(endpoint, _)| endpoint == known)
        });
        for (endpoint, scraped) in read {
            let added = scraped.and_then(|scraped| {
                let in_flight = scraped.in_flight;
                self.add_one(at, time, &endpoint, &scraped)?;
                Ok(in_flight)
            });
            match added {
                Ok(None) => {}
                Ok(Some(here)) => *found.in_flight.get_or_insert(0.0) += here,
                Err(no_data) => {
                    found.unread += 1;
                    let NoData { reason, detail } = no_data;
                    found.why.get_or_insert(NoData::new(reason, format!("Pod {}: {detail}", endpoint.pod)));
                }
            }
        }
        found
    }

    fn add_one(
        &mut self,
        at: Instant,
        time: Timestamp,
        of: &Endpoint,
        scraped: &Scraped,
    ) -> Result<(), NoData> {
        let longest = self.longest;
        if let Some(history) = self.pods.get_mut(of) {
            let added = history.add(at, scraped, longest);
            if added.is_err() {
                self.pods.remove(of);
            }
            return added;
        }
        if self.pods.len() >= MOST_PODS {
            // The one that has been gone for the longest time.
            let oldest =
                self.pods.iter().max_by_key(|(_, history)| history.age(at)).map(|(pod, _)| pod.clone());
            oldest.map(|oldest| self.pods.remove(&oldest));
        }
        let now = time.as_duration().as_secs_f64();
        self.pods.insert(of.clone(), History::new(at, now, scraped));
        Ok(())
    }

    /// The traffic of a window that ends with the newest round.
    fn judged(&self, window: Duration, of: &Counted, closely: bool) -> Result<TrafficWindow, NoData> {
        let never = || NoData::new(NoDataReason::NotYetRead, "no Pod has been read yet");
        let round = self.round.as_ref().ok_or_else(never)?;
        let found = round.found.as_ref().map_err(Clone::clone)?;
        if let Some(why) = &found.why
            && (found.pods - found.unread) * 2 < found.pods
        {
            let detail = format!("{} of {} Pods cannot be read; {}", found.unread, found.pods, why.detail);
            return Err(NoData::new(why.reason, detail));
        }
        let (since, first) = self.since.ok_or_else(never)?;
        let settled = round.at.duration_since(since) >= window;
        let mut sum = Sum::default();
        for (endpoint, history) in self.pods.iter().filter(|(_, history)| history.age(round.at) < window) {
            if history.alternates(round.at, window) {
                let detail = format!(
                    "the counters of Pod {} jump back again and again: each scrape is answered by another process; set \
                     PROMETHEUS_MULTIPROC_DIR, so that they count together",
                    endpoint.pod
                );
                return Err(NoData::new(NoDataReason::BadAnswer, detail));
            }
            match history.within(round.at, window, settled) {
                Delta::Counted(counts) => sum.add(history, &counts),
                Delta::TooYoung => {
                    let whole =
                        first.saturating_add(jiff::SignedDuration::try_from(window).unwrap_or_default());
                    let at = whole.unwrap_or(first).strftime("%H:%M:%S UTC");
                    let detail = format!("the first window of {} is complete at {at}", human(window));
                    return Err(NoData::new(NoDataReason::NotYetRead, detail));
                }
            }
        }
        sum.traffic(window, of, closely, round.time, found.in_flight)
    }
}

/// Counts by the bits of their bounds; bounds are not negative, so that their order is that of their bits.
type Buckets = BTreeMap<u64, f64>;

/// What was counted in all Pods.
#[derive(Default)]
struct Sum {
    all: Buckets,
    views: BTreeMap<String, Buckets>,
    errors: f64,
}

impl Sum {
    fn add(&mut self, history: &History, counts: &[f64]) {
        for (series, place) in history.series() {
            let count = counts.get(place).copied().unwrap_or_default();
            match series.part {
                Part::Errors => self.errors += count,
                Part::Bucket => {
                    *self.all.entry(series.le).or_default() += count;
                    let view = self.views.entry(series.view.clone()).or_default();
                    *view.entry(series.le).or_default() += count;
                }
            }
        }
    }

    fn traffic(
        self,
        window: Duration,
        of: &Counted,
        closely: bool,
        time: Timestamp,
        in_flight: Option<f64>,
    ) -> Result<TrafficWindow, NoData> {
        if self.all.is_empty() {
            let detail = format!("no Pod has a series {} yet", of.histogram);
            return Err(NoData::new(NoDataReason::Empty, detail));
        }
        let views = if closely {
            let view =
                |(view, buckets): (String, Buckets)| Ok(ViewTraffic { view, buckets: histogram(&buckets)? });
            match self.views.into_iter().map(view).collect() {
                Ok(value) => Observed::Known { at: time, value },
                Err(no_data) => Observed::Missing(no_data),
            }
        } else {
            Observed::missing(NoDataReason::NotYetRead, VIEWS_LATER)
        };
        let in_flight = match in_flight {
            Some(count) => Observed::Known { at: time, value: count.max(0.0) },
            None => Observed::missing(NoDataReason::Empty, "no Pod has series for requests in flight"),
        };
        let errors = Observed::Known { at: time, value: self.errors };
        Ok(TrafficWindow { window, buckets: histogram(&self.all)?, in_flight, errors, views })
    }
}

/// A bucket never counts less than the one below it.
fn histogram(counts: &Buckets) -> Result<Vec<Bucket>, NoData> {
    let mut most: f64 = 0.0;
    let bucket = |(le, count): (&u64, &f64)| {
        most = most.max(*count);
        Bucket { le: f64::from_bits(*le), count: most }
    };
    let buckets: Vec<Bucket> = counts.iter().map(bucket).collect();
    if buckets.last().is_none_or(|last| last.le.is_finite()) {
        return Err(NoData::new(NoDataReason::BadAnswer, "the histogram has no infinite bucket"));
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests;
