//! The one stub of the laboratory: an exporter whose histograms show the traffic that a test declares.
//!
//! Everything behind it is real: Prometheus scrapes it, and what the operator reads are Prometheus' own answers.

mod crowd;
mod text;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

pub use crowd::{Crowd, PodName};
pub use traffic::Traffic;

use crate::error::{Error, Result};
use traffic::Ledger;

/// The view that [`Exporter::set`] means.
pub const DEFAULT_VIEW: &str = "order-list";

/// How an exporter presents its traffic.
#[derive(Debug, Clone)]
pub struct ExporterOptions {
    /// The value of the label `server` in Caddy's metrics.
    pub server: String,
    /// The finite bounds of Django's histogram, ascending, in seconds.
    pub django_bounds: Vec<f64>,
    /// The finite bounds of Caddy's histogram, ascending, in seconds.
    pub caddy_bounds: Vec<f64>,
}

impl Default for ExporterOptions {
    /// The bounds are the two programs' own.
    fn default() -> Self {
        Self {
            server: "edge".to_owned(),
            django_bounds: vec![
                0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 25.0, 50.0, 75.0,
            ],
            caddy_bounds: vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        }
    }
}

/// How a scrape is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Answer {
    /// With the metrics.
    #[default]
    Metrics,
    /// With this text in their place.
    Text(String),
    /// With this HTTP status and nothing else.
    Status(u16),
    /// Not at all: the connection stays open.
    Nothing,
}

/// A running exporter. It serves from a thread of its own until it is dropped.
pub struct Exporter {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    // Closed by the drop; that ends the thread.
    _stop: oneshot::Sender<()>,
}

struct State {
    options: ExporterOptions,
    ledger: Ledger,
    answer: Answer,
    scrapes: u64,
}

impl Exporter {
    /// Starts an exporter without traffic.
    pub fn start(options: ExporterOptions) -> Result<Self> {
        let doing = "starting the exporter";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io(doing))?;
        listener.set_nonblocking(true).map_err(Error::io(doing))?;
        let address = listener.local_addr().map_err(Error::io(doing))?;
        let ledger = Ledger::new(Instant::now());
        let state = Arc::new(Mutex::new(State { options, ledger, answer: Answer::default(), scrapes: 0 }));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        // Of its own, so that it outlives the runtime of the test that started it.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::io(doing))?;
        std::thread::Builder::new()
            .name("lab-exporter".into())
            .spawn(move || runtime.block_on(serve(listener, shared, stopped)))
            .map_err(Error::io(doing))?;
        Ok(Self { address, state, _stop: stop })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the only traffic is this, to [`DEFAULT_VIEW`].
    pub fn set(&self, traffic: Traffic) {
        let mut state = lock(&self.state);
        state.ledger.advance(Instant::now());
        state.ledger.stop();
        state.ledger.set(DEFAULT_VIEW, traffic);
    }

    /// From now on the traffic to one view is this; the others go on as they were.
    pub fn set_view(&self, view: &str, traffic: Traffic) {
        let mut state = lock(&self.state);
        state.ledger.advance(Instant::now());
        state.ledger.set(view, traffic);
    }

    /// How scrapes are answered from now on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.state).answer = answer;
    }

    /// Begins to count from nothing, as a process that was restarted. The traffic goes on.
    pub fn reset(&self) {
        lock(&self.state).ledger.forget(Instant::now());
    }

    /// How often it was scraped.
    pub fn scrapes(&self) -> u64 {
        lock(&self.state).scrapes
    }
}

/// Each change under the lock is whole: a panic elsewhere leaves nothing half done.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let router = Router::new().route("/metrics", get(move || scrape(Arc::clone(&state))));
    tokio::select! {
        // Neither ends by itself; what comes first is the drop of the exporter.
        _ = axum::serve(listener, router) => {}
        _ = stopped => {}
    }
}

async fn scrape(state: Arc<Mutex<State>>) -> Response {
    let (answer, text) = {
        let mut state = lock(&state);
        state.scrapes += 1;
        state.ledger.advance(Instant::now());
        (state.answer.clone(), text::render(&state.ledger, &state.options))
    };
    let plain = |text: String| ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response();
    match answer {
        Answer::Metrics => plain(text),
        Answer::Text(text) => plain(text),
        Answer::Status(code) => {
            StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Answer::Nothing => std::future::pending().await,
    }
}
