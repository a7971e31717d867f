//! What slow means.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::sources::Source;
use crate::api::text::{Bound, Duration, Label, Percentile, Ratio, Word};
use crate::api::unions::Union;

/// The types of objectives.
pub const OBJECTIVE_TYPES: Union =
    Union::new(&[("Latency", Some("latency")), ("ErrorRatio", Some("errorRatio"))]);
/// Words of `severity`, of `raise[].level` and of `minSeverity`.
pub const SEVERITIES: &[&str] = &["P0", "P1", "P2"];

/// An objective. Set the member that belongs to the type: latency for Latency, errorRatio for ErrorRatio.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = OBJECTIVE_TYPES.rule())]
#[x_kube(validation = Rule::new("self.type == 'ErrorRatio' && has(self.source) ? self.source.type != 'Probe' : true").message("a Probe measures latency; an ErrorRatio needs another source"))]
#[x_kube(validation = Rule::new("has(self.latency) && has(self.source) && has(self.source.probe) ? duration(self.source.probe.timeout) > duration(self.latency.threshold) : true").message("source.probe.timeout must be longer than latency.threshold"))]
#[x_kube(validation = Rule::new("!has(self.raise) || self.raise.all(r, r.level < self.severity)").message("a level of raise must be worse than severity: P0 is worse than P1, P1 worse than P2"))]
#[x_kube(validation = Rule::new("!has(self.raise) || !(self.type in ['Latency', 'ErrorRatio']) || self.raise.all(r, r.above.matches('[hms]$') == (self.type == 'Latency'))").message("raise.above is a duration for type Latency, such as 2s, and a share for type ErrorRatio, such as 5%"))]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Name of the objective; Events and status use it. Example: p95
    pub name: Label,
    /// What is judged: Latency or ErrorRatio.
    pub r#type: Word,
    /// Settings for type Latency. Example: {percentile: 95, threshold: 500ms}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyObjective>,
    /// Settings for type ErrorRatio. Example: {threshold: "1%"}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<ErrorRatioObjective>,
    /// Where it is read. Default: spec.source. Example: {type: Probe, probe: {serviceName: orders-api, port: http, path:
    /// /api/health}}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Severity of a breach: P0, P1 or P2; P0 is the worst. Default: P1.
    #[serde(default = "Objective::severity")]
    pub severity: Word,
    /// From which value on a breach is worse. Example: [{level: P1, above: 2s}, {level: P0, above: 5s}]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["level".into()]))]
    pub raise: Vec<Raise>,
}

/// The percentile of request latency stays within the threshold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LatencyObjective {
    /// Percentile of the requests, as a number or, with decimals, as a text. Default: 95. Example: "99.9"
    #[serde(default = "LatencyObjective::percentile")]
    pub percentile: Percentile,
    /// Latency that the percentile must not exceed. It is judged at the next bucket bound of the histogram. Example: 500ms
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("must be longer than 0s, such as 500ms"))]
    pub threshold: Duration,
}

/// The share of failed requests stays within the threshold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRatioObjective {
    /// Share of requests that may fail. Example: "1%"
    pub threshold: Ratio,
}

/// From which value on a breach is worse.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Raise {
    /// Severity from there on: P0 or P1.
    pub level: Word,
    /// Value above which it applies: a latency for type Latency, a share for type ErrorRatio. Example: 2s
    pub above: Bound,
}

impl Objective {
    fn severity() -> Word {
        Word::text("P1")
    }

    fn of(name: &str, severity: &str, raise: Vec<Raise>) -> Self {
        Self {
            name: Label(name.to_owned()),
            r#type: Word::text("Latency"),
            latency: None,
            error_ratio: None,
            source: None,
            severity: Word::text(severity),
            raise,
        }
    }
}

impl LatencyObjective {
    fn percentile() -> Percentile {
        Percentile::Number(95)
    }

    fn of(percentile: i32, threshold: &str) -> Self {
        Self { percentile: Percentile::Number(percentile), threshold: Duration::text(threshold) }
    }
}

/// The thresholds of the usual runbooks, at bounds that the usual histograms have.
pub(super) fn defaults() -> Vec<Objective> {
    let p1 = Raise { level: Word::text("P1"), above: Bound("2500ms".to_owned()) };
    vec![
        Objective {
            latency: Some(LatencyObjective::of(95, "250ms")),
            ..Objective::of("p95", "P2", vec![p1])
        },
        Objective { latency: Some(LatencyObjective::of(99, "5s")), ..Objective::of("p99", "P0", Vec::new()) },
        Objective {
            r#type: Word::text("ErrorRatio"),
            error_ratio: Some(ErrorRatioObjective { threshold: Ratio("5%".to_owned()) }),
            ..Objective::of("errors", "P1", Vec::new())
        },
    ]
}
