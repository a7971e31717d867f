//! Many Pods behind one address, as if somebody scraped them all for Prometheus: a fleet of thousands needs no thousands of
//! listeners. All of them have calm traffic that is never quite the same.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::traffic::Ledger;
use super::{DEFAULT_VIEW, ExporterOptions, Traffic, text};
use crate::error::{Error, Result};

/// So many Pods share one traffic: it is counted once for all of them.
const SORTS: usize = 8;
/// In which the traffic rises and falls.
const WAVE: Duration = Duration::from_secs(47);
/// How often that is followed.
const STEP: Duration = Duration::from_secs(1);

/// A Pod, by namespace and name.
pub type PodName = (String, String);

/// A running exporter of many Pods. It serves from a thread of its own until it is dropped.
pub struct Crowd {
    address: SocketAddr,
    // Closed by the drop; that ends the thread.
    _stop: oneshot::Sender<()>,
}

struct State {
    pods: Vec<PodName>,
    options: ExporterOptions,
    begun: Instant,
    followed: Instant,
    sorts: Vec<Ledger>,
}

impl Crowd {
    /// Starts it: `/metrics` shows what django-prometheus shows, for each of these Pods, with its namespace and name as the
    /// labels `namespace` and `pod`.
    pub fn start(pods: Vec<PodName>) -> Result<Self> {
        let doing = "starting the exporter of many Pods";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io(doing))?;
        listener.set_nonblocking(true).map_err(Error::io(doing))?;
        let address = listener.local_addr().map_err(Error::io(doing))?;
        let now = Instant::now();
        let state = Arc::new(Mutex::new(State {
            pods,
            options: ExporterOptions::default(),
            begun: now,
            followed: now,
            sorts: (0..SORTS).map(|_| Ledger::new(now)).collect(),
        }));
        let (stop, stopped) = oneshot::channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::io(doing))?;
        std::thread::Builder::new()
            .name("lab-crowd".into())
            .spawn(move || runtime.block_on(serve(listener, state, stopped)))
            .map_err(Error::io(doing))?;
        Ok(Self { address, _stop: stop })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl State {
    /// What happened since the last look, step by step.
    fn follow(&mut self, now: Instant) {
        while self.followed + STEP <= now {
            self.followed += STEP;
            for (sort, ledger) in self.sorts.iter_mut().enumerate() {
                ledger.advance(self.followed);
                ledger.set(DEFAULT_VIEW, traffic(sort, self.followed - self.begun));
            }
        }
    }

    fn render(&self) -> String {
        let sorts: Vec<String> =
            self.sorts.iter().map(|ledger| text::render_django(ledger, &self.options)).collect();
        let one = sorts.first().map_or(0, String::len);
        let mut out = String::with_capacity(self.pods.len() * (one + 1200));
        for (index, (namespace, pod)) in self.pods.iter().enumerate() {
            for line in sorts.iter().cycle().nth(index % SORTS).into_iter().flat_map(|text| text.lines()) {
                labelled(&mut out, line, namespace, pod);
            }
        }
        out
    }
}

/// Calm, and never quite the same: 20% more or less, and a few slow ones.
fn traffic(sort: usize, since: Duration) -> Traffic {
    let turn =
        since.as_secs_f64() / WAVE.as_secs_f64() + f64::from(u8::try_from(sort).unwrap_or_default()) / 8.0;
    let wave = (turn * std::f64::consts::TAU).sin();
    Traffic::steady(8.0 * (1.0 + 0.2 * wave), Duration::from_millis(40))
        .slow(0.25, Duration::from_millis(90))
        .slow(0.02 + 0.01 * wave, Duration::from_millis(300))
        .in_flight(2)
}

/// A line of an exposition with two labels more; comments are left out.
fn labelled(out: &mut String, line: &str, namespace: &str, pod: &str) {
    if line.starts_with('#') {
        return;
    }
    // Writing to a string cannot fail.
    let _ = match (line.split_once('{'), line.split_once(' ')) {
        (Some((name, rest)), _) => writeln!(out, "{name}{{namespace=\"{namespace}\",pod=\"{pod}\",{rest}"),
        (None, Some((name, value))) => {
            writeln!(out, "{name}{{namespace=\"{namespace}\",pod=\"{pod}\"}} {value}")
        }
        (None, None) => Ok(()),
    };
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
    let text = {
        // Each change under the lock is whole: a panic elsewhere leaves nothing half done.
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow(Instant::now());
        state.render()
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_has_series_of_its_own_and_its_traffic_goes_on() {
        let begun = Instant::now();
        let pods: Vec<PodName> =
            (0..20).map(|index| ("shop".to_owned(), format!("web-{index}-6d4cf56db6-x7k2p"))).collect();
        let sorts = (0..SORTS).map(|_| Ledger::new(begun)).collect();
        let options = ExporterOptions::default();
        let mut state = State { pods, options, begun, followed: begun, sorts };
        state.follow(begun + Duration::from_secs(100));
        let text = state.render();
        let name = "django_http_requests_latency_seconds_by_view_method_count";
        let counts: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(counts.len(), 20, "{text}");
        let of = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).unwrap();
        assert!(counts.iter().all(|line| (600.0..1000.0).contains(&of(line))), "{counts:?}");
        assert_ne!(of(counts[0]), of(counts[1]));
        assert!(
            counts[0].contains("{namespace=\"shop\",pod=\"web-0-6d4cf56db6-x7k2p\",method="),
            "{counts:?}"
        );
    }
}
