//! `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::Metrics;

/// A beat that is older than this means that the process is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Whether the process lives, and whether it does its work. A follower that waits for its turn is ready.
#[derive(Debug, Clone)]
pub struct Health {
    started: Instant,
    ready: Arc<AtomicBool>,
    beat: Arc<AtomicU64>,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), ready: Arc::default(), beat: Arc::default() }
    }
}

impl Health {
    /// The operator has reached the API server and takes part in the election (or leads, with its stores filled).
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The runtime still runs tasks. Called by the election at every try.
    pub fn beat(&self) {
        self.beat.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }

    fn alive(&self) -> bool {
        let last = Duration::from_secs(self.beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last) < STUCK
    }
}

#[derive(Clone)]
struct Served {
    metrics: Metrics,
    health: Health,
}

/// Serves for as long as it is polled.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(listen: SocketAddr, metrics: Metrics, health: Health) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {listen} (--listen): {error}"))?;
    let app = Router::new()
        .route("/metrics", get(expose))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Served { metrics, health });
    tracing::info!(%listen, "serving /metrics, /healthz and /readyz");
    axum::serve(listener, app).await?;
    Ok(())
}

async fn expose(State(served): State<Served>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.expose())
}

async fn healthz(State(served): State<Served>) -> impl IntoResponse {
    if served.health.alive() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "stuck") }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    if served.health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    }
}
