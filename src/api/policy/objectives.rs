//! What users are promised, and where it is read.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Duration, HttpPath, Label, Ratio, ServiceName, ServicePort, Word};

/// One thing that users are promised.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'Latency' ? has(self.latency) && !has(self.errorRatio) : true").message("type Latency needs latency, and nothing of another type"))]
#[x_kube(validation = Rule::new("self.type == 'ErrorRatio' ? has(self.errorRatio) && !has(self.latency) : true").message("type ErrorRatio needs errorRatio, and nothing of another type"))]
#[x_kube(validation = Rule::new("self.type == 'ErrorRatio' && has(self.source) ? self.source.type != 'Probe' : true").message("a Probe measures latency; an ErrorRatio needs another source"))]
#[x_kube(validation = Rule::new("has(self.latency) && has(self.source) && has(self.source.probe) ? duration(self.source.probe.timeout) > duration(self.latency.target) : true").message("source.probe.timeout must be longer than latency.target"))]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Its name.
    pub name: Label,
    /// Latency or ErrorRatio.
    pub r#type: Word,
    /// For type Latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyObjective>,
    /// For type ErrorRatio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<ErrorRatioObjective>,
    /// Where it is read; the first objective's source where it is left out, and for the first one the Django histogram in
    /// the backend `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The quantile of request latency stays within the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LatencyObjective {
    /// The quantile.
    #[serde(default = "p95")]
    pub quantile: Ratio,
    /// The target. It is judged at the next bucket bound of the source's histogram.
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than nothing"))]
    pub target: Duration,
    /// From when on a breach is worse than P2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub severities: Vec<LatencySeverity>,
}

fn p95() -> Ratio {
    Ratio("0.95".to_owned())
}

/// From which latency on a breach is worse.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LatencySeverity {
    /// P0, P1 or P2.
    pub level: Word,
    /// The quantile lies above this.
    pub above: Duration,
}

/// The share of failed requests stays within the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ErrorRatioObjective {
    /// The target.
    pub target: Ratio,
    /// From when on a breach is worse than P2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub severities: Vec<RatioSeverity>,
}

/// From which share of failed requests on a breach is worse.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RatioSeverity {
    /// P0, P1 or P2.
    pub level: Word,
    /// The share lies above this.
    pub above: Ratio,
}

/// Where an objective is read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'Prometheus' ? has(self.prometheus) && !has(self.probe) : true").message("type Prometheus needs prometheus, and nothing of another type"))]
#[x_kube(validation = Rule::new("self.type == 'Probe' ? has(self.probe) && !has(self.prometheus) : true").message("type Probe needs probe, and nothing of another type"))]
pub struct Source {
    /// Prometheus or Probe.
    pub r#type: Word,
    /// For type Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// For type Probe; for latency objectives only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSource>,
}

/// A request of the operator's own to a ready Pod of a Service, timed. Its latest answer is judged: quantile, window and
/// minRequests do not apply.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSource {
    /// The Service, in the policy's namespace. It must select Pods.
    pub service: ServiceName,
    /// The Service's port, by name or number.
    pub port: ServicePort,
    /// What is asked for (GET), with its query. It should need no login, take any Host header and do what users wait for.
    pub path: HttpPath,
    /// So long an answer may take, connecting included: 100ms to 30s, and longer than the target.
    #[serde(default = "three_seconds")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('30s')").message("must be 100ms to 30s"))]
    pub timeout: Duration,
    /// HTTP or HTTPS. The certificate of an HTTPS server is not verified: nothing secret is sent.
    #[serde(default = "http")]
    pub scheme: Word,
}

fn three_seconds() -> Duration {
    Duration::text("3s")
}

fn http() -> Word {
    Word::text("HTTP")
}

/// A Prometheus-compatible backend of the operator's configuration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSource {
    /// The backend's name in the operator's configuration; never a URL.
    #[serde(default = "default_backend")]
    pub backend: Label,
    /// Whose metrics: Django (django-prometheus in the target's pods) or Caddy (the edge in front of it).
    pub preset: Word,
    /// Further labels that the series must carry. They narrow what the preset matches (the policy's namespace and, for an
    /// application, the target's pods) and cannot replace it. Required for an edge.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Where the views of the application are counted when this source knows none, as an edge: they tell one slow view
    /// from a slow target. In the same backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
}

/// Where the views of the application are counted.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Views {
    /// Whose metrics: Django (django-prometheus in the target's pods).
    pub preset: Word,
    /// Further labels that the series must carry. They narrow what the preset matches (the policy's namespace and the
    /// target's pods) and cannot replace it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
}

fn default_backend() -> Label {
    Label("default".to_owned())
}

fn match_labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {"type": "string", "maxLength": 253},
    })
}
