//! Prometheus-compatible backends: everything that one reading needs in one query, judged nowhere in here.

mod answer;
pub mod presets;
mod query;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, Objective, Observed, Policy, Source, Traffic};
use futures::StreamExt;

use crate::clock::Clock;
use crate::config::Backend;
use crate::telemetry::Metrics;

/// An answer is cut off here; a reading is a few kilobytes.
const LARGEST: usize = 4 << 20;

/// A backend that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("backend {name} of the configuration: {reason}")]
pub struct BackendError {
    name: String,
    reason: String,
}

type Shared = Arc<tokio::sync::Mutex<Option<(Instant, Observed<Traffic>)>>>;

/// All backends of the configuration.
#[derive(Clone)]
pub struct Prometheus {
    backends: Arc<BTreeMap<String, Connected>>,
    clock: Clock,
    metrics: Metrics,
    /// Equal queries are sent once and shared.
    shared: Arc<Mutex<HashMap<(String, String), Shared>>>,
}

struct Connected {
    config: Backend,
    http: reqwest::Client,
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
        Ok(Self { backends: Arc::new(connected), clock, metrics, shared: Arc::default() })
    }

    /// The configuration of the backend of that name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.get(name).map(|connected| &connected.config)
    }

    /// Why a policy's sources cannot be used at all, for those objectives where that is so.
    #[must_use]
    pub fn problems(&self, policy: &Policy) -> Vec<String> {
        let mut problems: Vec<String> = Vec::new();
        for objective in &policy.objectives {
            if let Err(no_data) = self.plan(policy, objective)
                && !problems.contains(&no_data.detail)
            {
                problems.push(no_data.detail);
            }
        }
        problems
    }

    /// What the sources say for each objective. Objectives with one source are read together.
    pub async fn traffic(&self, policy: &Policy) -> BTreeMap<String, Observed<Traffic>> {
        let reads = policy.objectives.iter().map(|objective| async {
            let observed = match self.plan(policy, objective) {
                Ok((backend, query)) => self.read(backend, query, policy.evaluation.window).await,
                Err(no_data) => Observed::Missing(no_data),
            };
            (objective.name.clone(), observed)
        });
        futures::future::join_all(reads).await.into_iter().collect()
    }

    fn plan(&self, policy: &Policy, objective: &Objective) -> Result<(&Connected, String), NoData> {
        let Source::Prometheus { backend, preset, match_labels } = &objective.source;
        let connected = self.backends.get(backend).ok_or_else(|| {
            let detail = format!("the operator's configuration has no backend {backend}");
            NoData::new(NoDataReason::NoBackend, detail)
        })?;
        let metrics = presets::metrics(*preset);
        let injected = presets::injected(metrics, &connected.config, &policy.id.namespace, &policy.target)
            .map_err(|reason| NoData::new(NoDataReason::NoBackend, reason))?;
        Ok((connected, query::reading(metrics, &injected, match_labels, policy.evaluation.window)))
    }

    /// One reading; one that was made within the last scrape is shared.
    async fn read(&self, backend: &Connected, query: String, window: Duration) -> Observed<Traffic> {
        let key = (backend.config.name.clone(), query);
        let shared = {
            let mut known = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|other, slot| *other == key || Arc::strong_count(slot) > 1 || recent(slot));
            known.entry(key.clone()).or_default().clone()
        };
        let mut slot = shared.lock().await;
        // Half a scrape: younger than any change that could be seen, and older than what two readers do at once.
        let fresh = backend.config.scrape_interval / 2;
        if let Some((at, observed)) = slot.as_ref()
            && at.elapsed() < fresh
        {
            return observed.clone();
        }
        let started = Instant::now();
        let answered =
            tokio::time::timeout(backend.config.timeout, ask(backend, &key.1)).await.unwrap_or_else(|_| {
                let within = engine::model::duration::human(backend.config.timeout);
                Err(NoData::new(
                    NoDataReason::Timeout,
                    format!("{} did not answer within {within}", backend.config.name),
                ))
            });
        self.metrics.read("prometheus", started.elapsed());
        let now = self.clock.now();
        let observed = answered
            .and_then(|body| answer::traffic(&body, &backend.config, window, now))
            .map_or_else(Observed::Missing, |value| Observed::Known { at: now, value });
        *slot = Some((Instant::now(), observed.clone()));
        observed
    }
}

fn recent(slot: &Shared) -> bool {
    slot.try_lock()
        .is_ok_and(|slot| slot.as_ref().is_some_and(|(at, _)| at.elapsed() < Duration::from_secs(300)))
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
    if let Some(path) = &backend.config.bearer_token_file {
        request = request.bearer_auth(token(path).await.map_err(|error| {
            NoData::new(
                NoDataReason::Unreachable,
                format!("{name}: bearerTokenFile {}: {error}", path.display()),
            )
        })?);
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
        return Ok(body);
    }
    Err(NoData::new(NoDataReason::HttpError, format!("{name} answered with HTTP status {}", status.as_u16())))
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
