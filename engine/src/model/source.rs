//! Where objectives are read. Each kind of source answers the engine's questions in here; it is judged by what it measures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scheme;

/// The metrics of a known exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Preset {
    /// django-prometheus in the application's own pods.
    Django,
    /// Caddy as the edge in front of the application.
    Caddy,
}

/// Where an objective's readings come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A Prometheus-compatible backend of the operator's configuration.
    Prometheus(PrometheusSource),
    /// A request of the operator's own; for latency only.
    Probe(ProbeSource),
    /// The metrics of the target's own pods, read by the operator itself.
    Scrape(ScrapeSource),
}

impl Source {
    /// What is asked for, where single requests are timed. All other sources count requests over a window.
    #[must_use]
    pub fn timed(&self) -> Option<&ProbeSource> {
        match self {
            Self::Probe(probe) => Some(probe),
            Self::Prometheus(_) | Self::Scrape(_) => None,
        }
    }

    /// The backend that policies share: when it fails, all of them are blind at once.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        match self {
            Self::Prometheus(prometheus) => Some(&prometheus.backend),
            Self::Probe(_) | Self::Scrape(_) => None,
        }
    }
}

/// Whose metrics are asked for, and in which backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PrometheusSource {
    /// The backend's name in the operator's configuration.
    pub backend: String,
    /// Whose metrics.
    pub preset: Preset,
    /// Further equality matchers; they narrow the preset's own and cannot replace them.
    pub match_labels: BTreeMap<String, String>,
    /// Where the views are counted, when the preset counts none.
    pub views: Option<ViewSource>,
}

/// What is asked for, and of whom. The answer is judged by itself: quantile and window do not apply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeSource {
    /// The Service, in the policy's namespace.
    pub service: String,
    /// Its port, by name or number.
    pub port: String,
    /// What is asked for.
    pub path: String,
    /// Maximum duration of an answer, connecting included; longer than the target.
    pub timeout: Duration,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// How many of the last `of` answers must be slow or failed for a breach.
    pub failures: u32,
    /// How many of the last answers are judged.
    pub of: u32,
}

/// Whose metrics are read, and where the target's pods show them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScrapeSource {
    /// A port that a container declares, by name or number.
    pub port: String,
    /// Path and query of the metrics.
    pub path: String,
    /// Whose metrics; of an exporter in the application.
    pub preset: Preset,
}

/// Where the views of the application behind a source are counted; in the source's own backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewSource {
    /// Whose metrics.
    pub preset: Preset,
    /// Further equality matchers; they narrow the preset's own and cannot replace them.
    pub match_labels: BTreeMap<String, String>,
}
