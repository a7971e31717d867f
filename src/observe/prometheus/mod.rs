//! Prometheus-compatible backends: everything that one reading needs in one query, judged nowhere in here.

mod answer;
mod asking;
#[cfg(test)]
mod hostile;
pub mod presets;
mod query;
mod together;
mod views;

use std::collections::BTreeMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{
    ByName, Measurement, NoData, NoDataReason, Observed, Policy, PrometheusSource, Source, Traffic,
    ViewTraffic,
};
use futures::StreamExt;
use jiff::Timestamp;

use self::presets::Place;
use self::together::{Member, Shape, Together};
use super::sources::ObjectiveSource;
use crate::clock::Clock;
use crate::config::Backend;
use crate::connections::cached::Cached;
use crate::connections::hidden::without;
use crate::telemetry::Metrics;

/// An answer is cut off here; a reading is a few kilobytes.
const LARGEST: usize = 4 << 20;

/// How long an answer is kept that nobody asks for any more.
const KEPT: Duration = Duration::from_secs(300);

/// A backend that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("backend {name} of the configuration: {reason}")]
pub struct BackendError {
    name: String,
    reason: String,
}

/// What stands for the views while nobody needs them.
const VIEWS_LATER: &str = "views are read once something is broken";

/// The objectives that a metrics backend is asked about, by name.
fn sources(policy: &Policy) -> impl Iterator<Item = (&str, &PrometheusSource)> {
    policy.objectives.iter().filter_map(|objective| {
        let Source::Prometheus(source) = &objective.source else { return None };
        Some((objective.name.as_str(), source))
    })
}

/// All backends of the configuration.
#[derive(Clone)]
pub struct Prometheus {
    backends: Arc<BTreeMap<String, Connected>>,
    clock: Clock,
    metrics: Metrics,
    readings: Cached<Reading, Observed<Traffic>>,
    views: Cached<(String, String), Observed<Vec<ViewTraffic>>>,
    together: Arc<Together>,
}

/// By what an answer is known.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Reading {
    /// The reading of a target, which may be asked for together with others of its shape.
    Of(Shape, Member),
    /// The answer of a backend to a query.
    To(String, String),
}

struct Connected {
    config: Backend,
    http: reqwest::Client,
}

impl ObjectiveSource for Prometheus {
    async fn measure(&self, policy: &Policy, elevated: bool) -> ByName<Observed<Measurement>> {
        let read = self.traffic(policy, elevated).await;
        read.into_iter().map(|(name, traffic)| (name, traffic.map(Into::into))).collect()
    }

    fn problems(&self, policy: &Policy) -> Vec<String> {
        let mut problems: Vec<String> = Vec::new();
        for (_, source) in sources(policy) {
            // Not the whole query: each evaluation asks this.
            if let Err(no_data) = self.own_series(policy, source)
                && !problems.contains(&no_data.detail)
            {
                problems.push(no_data.detail);
            }
        }
        problems
    }

    fn resolution(&self, policy: &Policy) -> Option<Duration> {
        let backends = sources(policy).filter_map(|(_, source)| self.backend(&source.backend));
        backends.map(|backend| backend.scrape_interval).max()
    }
}

impl Prometheus {
    /// Sets the backends up; nothing is sent yet.
    ///
    /// # Errors
    /// A CA file or a header of the configuration is not usable.
    pub fn new(backends: &[Backend], clock: Clock, metrics: Metrics) -> Result<Self, BackendError> {
        let mut connected = BTreeMap::new();
        for config in backends {
            let http = client(config).map_err(|reason| BackendError { name: config.name.clone(), reason })?;
            connected.insert(config.name.clone(), Connected { config: config.clone(), http });
        }
        Ok(Self {
            backends: Arc::new(connected),
            clock,
            metrics,
            readings: Cached::new(KEPT),
            views: Cached::new(KEPT),
            together: Arc::default(),
        })
    }

    /// The configuration of the backend of that name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.get(name).map(|connected| &connected.config)
    }

    /// What the sources say for each objective. Objectives with one source are read together. The views, which are the
    /// larger answer, are read only when it is looked `closely`; whatever becomes of them, the reading stands.
    pub async fn traffic(&self, policy: &Policy, closely: bool) -> ByName<Observed<Traffic>> {
        let mut distinct: Vec<&PrometheusSource> = Vec::new();
        for (_, source) in sources(policy) {
            if !distinct.contains(&source) {
                distinct.push(source);
            }
        }
        let reads = distinct.iter().map(|source| async move {
            let (reading, views) =
                tokio::join!(self.reading(policy, source), self.by_view(policy, source, closely));
            match reading {
                Observed::Known { at, mut value } => {
                    // Where there is nothing to add, it stays the one that everybody has.
                    if value.views != views {
                        value.views = views;
                    }
                    Observed::Known { at, value }
                }
                Observed::Missing(no_data) => Observed::Missing(no_data),
            }
        });
        let read = futures::future::join_all(reads).await;
        let of = |source| distinct.iter().zip(&read).find(|(known, _)| **known == source);
        sources(policy).filter_map(|(name, source)| Some((name.to_owned(), of(source)?.1.clone()))).collect()
    }

    async fn reading(&self, policy: &Policy, source: &PrometheusSource) -> Observed<Traffic> {
        let window = policy.evaluation.window;
        if presets::metrics(source.preset).place == Place::Application
            && let Ok(backend) = self.connected(&source.backend)
        {
            let (shape, member) = place(policy, source);
            let key = Reading::Of(shape.clone(), member.clone());
            return self.readings.get(key, |_| fresh(backend), |_| self.in_company(shape, member)).await;
        }
        match self.plan(policy, source) {
            Ok((backend, query)) => {
                let parse = |body: &[u8], now: Timestamp| answer::traffic(body, &backend.config, window, now);
                let key = Reading::To(backend.config.name.clone(), query.clone());
                self.read(&self.readings, key, backend, query, parse).await
            }
            Err(no_data) => Observed::Missing(no_data),
        }
    }

    async fn by_view(
        &self,
        policy: &Policy,
        source: &PrometheusSource,
        closely: bool,
    ) -> Observed<Vec<ViewTraffic>> {
        if !closely {
            return Observed::missing(NoDataReason::NotYetRead, VIEWS_LATER);
        }
        match self.plan_views(policy, source) {
            Ok((backend, label, query)) => {
                let parse = |body: &[u8], _: Timestamp| views::views(body, &backend.config, label);
                let key = (backend.config.name.clone(), query.clone());
                self.read(&self.views, key, backend, query, parse).await
            }
            Err(no_data) => Observed::Missing(no_data),
        }
    }

    fn plan(&self, policy: &Policy, source: &PrometheusSource) -> Result<(&Connected, String), NoData> {
        let (connected, injected) = self.own_series(policy, source)?;
        let metrics = presets::metrics(source.preset);
        Ok((connected, query::reading(metrics, &injected, &source.match_labels, policy.evaluation.window)))
    }

    /// The backend, and the matchers that keep the policy to its own series there.
    fn own_series(&self, policy: &Policy, source: &PrometheusSource) -> Result<(&Connected, String), NoData> {
        let connected = self.connected(&source.backend)?;
        let injected = injected(presets::metrics(source.preset), connected, policy)?;
        Ok((connected, injected))
    }

    /// The backend, the label that tells the views apart, and the query.
    fn plan_views(
        &self,
        policy: &Policy,
        source: &PrometheusSource,
    ) -> Result<(&Connected, &'static str, String), NoData> {
        let PrometheusSource { backend, preset, match_labels, views } = source;
        let connected = self.connected(backend)?;
        let own = presets::metrics(*preset);
        let (metrics, match_labels) = match views {
            Some(views) if own.view_label.is_none() => (presets::metrics(views.preset), &views.match_labels),
            Some(_) | None => (own, match_labels),
        };
        let label = metrics.view_label.ok_or_else(|| {
            let preset = metrics.preset;
            let detail = format!(
                "{preset:?} counts no routes; name where they are counted (source.prometheus.routes)"
            );
            NoData::new(NoDataReason::Empty, detail)
        })?;
        let injected = injected(metrics, connected, policy)?;
        let query = query::views(metrics, label, &injected, match_labels, policy.evaluation.window);
        Ok((connected, label, query))
    }

    fn connected(&self, backend: &str) -> Result<&Connected, NoData> {
        self.backends.get(backend).ok_or_else(|| {
            let detail = format!("the operator's configuration has no backend {backend}");
            NoData::new(NoDataReason::NoBackend, detail)
        })
    }

    /// One answer; one that came within the last scrape is shared.
    async fn read<K: Hash + Eq + Clone, T: Clone>(
        &self,
        cache: &Cached<K, Observed<T>>,
        key: K,
        backend: &Connected,
        query: String,
        parse: impl FnOnce(&[u8], Timestamp) -> Result<T, NoData>,
    ) -> Observed<T> {
        let asked = async {
            let (now, answered) = self.ask(backend, &query).await;
            answered
                .and_then(|body| parse(&body, now))
                .map_or_else(Observed::Missing, |value| Observed::Known { at: now, value })
        };
        cache.get(key, |_| fresh(backend), |_| asked).await
    }

    /// What a backend answers, and when.
    async fn ask(&self, backend: &Connected, query: &str) -> (Timestamp, Result<Vec<u8>, NoData>) {
        let started = Instant::now();
        let answered = tokio::time::timeout(backend.config.timeout, ask(backend, query)).await;
        self.metrics.read("prometheus", started.elapsed());
        let answered = answered.unwrap_or_else(|_| {
            let within = engine::model::duration::human(backend.config.timeout);
            let detail = format!("{} did not answer within {within}", backend.config.name);
            Err(NoData::new(NoDataReason::Timeout, detail))
        });
        (self.clock.now(), answered)
    }
}

/// Half a scrape: younger than any change that could be seen, and older than what two readers do at once.
fn fresh(backend: &Connected) -> Duration {
    backend.config.scrape_interval / 2
}

/// With whom a target's reading can be asked for, and which it is.
fn place(policy: &Policy, source: &PrometheusSource) -> (Shape, Member) {
    let shape = Shape {
        backend: source.backend.to_owned(),
        preset: source.preset,
        kind: policy.target.kind,
        window: policy.evaluation.window,
        match_labels: source.match_labels.clone(),
    };
    (shape, Member { namespace: policy.id.namespace.clone(), target: policy.target.name.clone() })
}

/// The matchers that keep the policy to its own series.
fn injected(metrics: &presets::Metrics, backend: &Connected, policy: &Policy) -> Result<String, NoData> {
    presets::injected(metrics, &backend.config, &policy.id.namespace, &policy.target)
        .map_err(|reason| NoData::new(NoDataReason::NoBackend, reason))
}

fn client(config: &Backend) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent("latency-operator")
        .connect_timeout(config.timeout.min(Duration::from_secs(3)))
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| format!("caFile {}: {error}", path.display()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| format!("caFile: {error}"))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in &config.headers {
        let name: reqwest::header::HeaderName =
            name.parse().map_err(|_| format!("headers: {name} is not a header"))?;
        let value = value.parse().map_err(|_| format!("headers: the value of {name} is not a header's"))?;
        headers.insert(name, value);
    }
    builder.default_headers(headers).build().map_err(|error| error.to_string())
}

async fn ask(backend: &Connected, query: &str) -> Result<Vec<u8>, NoData> {
    let name = &backend.config.name;
    let mut url = backend.config.url.clone();
    let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let timeout = format!("{}s", backend.config.timeout.as_secs().max(1));
    let mut request = backend.http.post(url).form(&[("query", query), ("timeout", timeout.as_str())]);
    let mut secrets = backend.config.secrets();
    if let Some(path) = &backend.config.bearer_token_file {
        let token = token(path).await.map_err(|error| {
            NoData::new(
                NoDataReason::Unreachable,
                format!("{name}: bearerTokenFile {}: {error}", path.display()),
            )
        })?;
        request = request.bearer_auth(&token);
        secrets.push(token);
    }
    let broken = |error: &reqwest::Error| {
        // The URL is the administrator's business, and may carry a secret.
        let detail = format!("{name} cannot be reached: {}", cause(error));
        let reason = if error.is_timeout() { NoDataReason::Timeout } else { NoDataReason::Unreachable };
        NoData::new(reason, detail)
    };
    let response = request.send().await.map_err(|error| broken(&error))?;
    let status = response.status();
    let json = response
        .headers()
        .get(reqwest::header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
        if body.len() > LARGEST {
            return Err(NoData::new(
                NoDataReason::BadAnswer,
                format!("{name} answered with more than 4 MiB"),
            ));
        }
    }
    // Prometheus says what is wrong with a query in JSON, with a status of 4xx or 5xx.
    if status.is_success() || json {
        return Ok(unrepeated(&secrets, body));
    }
    Err(NoData::new(NoDataReason::HttpError, format!("{name} answered with HTTP status {}", status.as_u16())))
}

/// An answer without what it was asked with.
fn unrepeated(secrets: &[String], body: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(body) {
        Ok(text) => without(secrets, &text).into_bytes(),
        // It is no JSON either, and nothing of it is shown.
        Err(error) => error.into_bytes(),
    }
}

async fn token(path: &PathBuf) -> std::io::Result<String> {
    Ok(tokio::fs::read_to_string(path).await?.trim().to_owned())
}

/// The innermost reason of an error, without the URL.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
}
