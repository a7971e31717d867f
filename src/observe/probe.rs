//! Probes: one request to one of a Service's ready Pods at each look, going round them.
//!
//! Equal probes of several policies are sent once and shared, and of each there is never more than one under way. A look does
//! not wait for an answer longer than it waits for anything: it judges the latest that there is, and the next look finds what
//! this one did not wait for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{
    ByName, Measurement, NoData, NoDataReason, Observed, Policy, ProbeAnswer, ProbeSource, Probed,
    duration::human,
};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::sources::ObjectiveSource;
use crate::clock::Clock;
use crate::connections::Services;
use crate::connections::http::{Answer, Failure, Get, UrlPath, get, host};
use crate::telemetry::Metrics;

/// While all is well the addresses of a Service are looked for so often; after a failure, at once.
const ADDRESSES: Duration = Duration::from_secs(60);
/// An evaluation waits so long for a probe at most, and not longer than its interval.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// An answer is shared by all who ask within so short a time: less than any interval.
const SHARED: Duration = Duration::from_millis(250);
/// What nobody asks for any more is kept so long.
const KEPT: Duration = Duration::from_secs(300);

/// Namespace and what is asked for there.
type Key = (String, ProbeSource);
type Flight = Shared<BoxFuture<'static, Observed<Probed>>>;

/// What is known of one probe.
#[derive(Default)]
struct Slot {
    /// The request that is under way, or that nobody has waited for.
    flight: Option<Flight>,
    /// The newest answer, and when it came.
    last: Option<(Instant, Observed<Probed>)>,
    /// How often it was asked: whose turn it is.
    turn: usize,
}

struct Known {
    slots: BTreeMap<Key, Slot>,
    swept: Instant,
}

/// All probes of all policies. Cheap to clone.
#[derive(Clone)]
pub struct Probes {
    services: Services,
    clock: Clock,
    metrics: Metrics,
    known: Arc<Mutex<Known>>,
}

impl ObjectiveSource for Probes {
    async fn measure(&self, policy: &Policy, _: bool) -> ByName<Observed<Measurement>> {
        let read = self.probed(policy).await;
        read.into_iter().map(|(name, probed)| (name, probed.map(Into::into))).collect()
    }

    fn problems(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }

    fn resolution(&self, _: &Policy) -> Option<Duration> {
        None
    }
}

impl Probes {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(services: Services, clock: Clock, metrics: Metrics) -> Self {
        let known = Known { slots: BTreeMap::new(), swept: Instant::now() };
        Self { services, clock, metrics, known: Arc::new(Mutex::new(known)) }
    }

    /// What is seen for each objective that is probed.
    pub async fn probed(&self, policy: &Policy) -> ByName<Observed<Probed>> {
        let interval = policy.evaluation.interval;
        let probes = policy.probes().map(|(name, source)| async move {
            let key = (policy.id.namespace.clone(), source.clone());
            let observed = self.latest(&key, interval).await;
            if let Observed::Missing(NoData { reason, .. }) = &observed {
                self.metrics.no_data(&reason.to_string());
            }
            (name.to_owned(), observed)
        });
        futures::future::join_all(probes).await.into_iter().collect()
    }

    async fn latest(&self, key: &Key, interval: Duration) -> Observed<Probed> {
        let patience = interval.clamp(Duration::from_secs(1), ANSWER_WITHIN);
        match tokio::time::timeout(patience, self.join(key)).await {
            Ok(observed) => observed,
            Err(_) => self.before(key, interval, patience),
        }
    }

    /// The request that is under way, or a new one.
    fn join(&self, key: &Key) -> Flight {
        let mut known = self.lock();
        if known.swept.elapsed() > KEPT {
            known.swept = Instant::now();
            known.slots.retain(|_, slot| slot.last.as_ref().is_none_or(|(at, _)| at.elapsed() < KEPT));
        }
        let slot = known.slots.entry(key.clone()).or_default();
        if let Some(flight) = slot.flight.as_ref().filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        if let Some((at, observed)) = slot.last.as_ref()
            && at.elapsed() < SHARED
        {
            return std::future::ready(observed.clone()).boxed().shared();
        }
        let (probes, asked, turn) = (self.clone(), key.clone(), slot.turn);
        slot.turn = turn.wrapping_add(1);
        // It goes on when nobody waits any more.
        let task = tokio::spawn(async move {
            let observed = probes.ask(&asked, turn).await;
            if let Some(slot) = probes.lock().slots.get_mut(&asked) {
                slot.last = Some((Instant::now(), observed.clone()));
            }
            observed
        });
        let stopped = || Observed::missing(NoDataReason::QueryFailed, "the task that asked was stopped");
        let flight = async move { task.await.unwrap_or_else(|_| stopped()) }.boxed().shared();
        slot.flight = Some(flight.clone());
        flight
    }

    /// The answer before the one that is waited for. What took long is followed by what takes as long: it is believed for
    /// that time too. A quick answer is not: what is waited for longer than for that one is something else.
    fn before(&self, key: &Key, interval: Duration, waited: Duration) -> Observed<Probed> {
        let known = self.lock();
        let last = known.slots.get(key).and_then(|slot| slot.last.as_ref());
        let is_news = |(at, observed): &&(Instant, Observed<Probed>)| {
            let took = observed.known().map(|probed| probed.timing.total).unwrap_or_default();
            at.elapsed() <= took.saturating_add(interval.saturating_mul(2))
        };
        match last.filter(is_news) {
            Some((_, observed)) => observed.clone(),
            None => {
                let detail = format!("no answer within {}; it is waited for", human(waited));
                Observed::missing(NoDataReason::Timeout, detail)
            }
        }
    }

    async fn ask(&self, (namespace, source): &Key, turn: usize) -> Observed<Probed> {
        let started = Instant::now();
        let probed = self.probe(namespace, source, turn).await;
        self.metrics.read("probe", started.elapsed());
        let is_well =
            |probed: &Probed| matches!(probed.answer, ProbeAnswer::Status { status: 200..=299, .. });
        if !probed.as_ref().is_ok_and(is_well) {
            self.services.doubt(namespace, &source.service);
        }
        match probed {
            Ok(value) => Observed::Known { at: self.clock.now(), value },
            Err(no_data) => Observed::Missing(no_data),
        }
    }

    async fn probe(&self, namespace: &str, source: &ProbeSource, turn: usize) -> Result<Probed, NoData> {
        let ProbeSource { service, port, path, timeout, scheme, .. } = source;
        let path = UrlPath::parse(path).map_err(|problem| NoData::new(NoDataReason::BadAnswer, problem))?;
        let started = Instant::now();
        let looking = self.services.endpoints(namespace, service, port, None, ADDRESSES);
        let found = tokio::time::timeout(ANSWER_WITHIN, looking).await.unwrap_or_else(|_| {
            let within = human(ANSWER_WITHIN);
            let detail = format!("the addresses of Service {service} were not found within {within}");
            Err(NoData::new(NoDataReason::ApiUnavailable, detail))
        })?;
        let resolve = started.elapsed();
        let Some(endpoint) = found.get(turn % found.len().max(1)) else {
            return Err(NoData::new(NoDataReason::NoReadyAddress, format!("Service {service} has none")));
        };
        let request =
            Get { address: endpoint.address, scheme: *scheme, host: host(service, namespace), path };
        let (timing, answer) = match get(&request, *timeout).await {
            Ok(Answer { status, timing, cut }) => (timing, ProbeAnswer::Status { status, cut }),
            Err(Failure::TimedOut(timing)) => (timing, ProbeAnswer::TimedOut),
            Err(failure) => return Err(says_nothing(&failure, source)),
        };
        Ok(Probed { resolve, timing, answer })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking task leaves behind here is a whole slot or none.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was never answered, or by something that is no HTTP server.
fn says_nothing(failure: &Failure, source: &ProbeSource) -> NoData {
    let (reason, hint) = match failure {
        Failure::Unreachable(_) => (NoDataReason::Unreachable, "; does a container listen there?"),
        Failure::ConnectTimeout(_) => (NoDataReason::Timeout, "; a NetworkPolicy may keep the operator away"),
        Failure::Tls(_) => (NoDataReason::TlsFailed, "; scheme HTTP is without TLS"),
        Failure::NotHttp(_) => (NoDataReason::BadAnswer, "; scheme HTTPS is with TLS"),
        Failure::BrokenOff | Failure::TimedOut(_) => (NoDataReason::BadAnswer, ""),
    };
    let ProbeSource { service, port, .. } = source;
    NoData::new(reason, format!("a Pod of Service {service}, port {port}: {failure}{hint}"))
}
