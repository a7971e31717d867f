//! Objectives and their sources, with what stands for those that a policy leaves out.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::model::{
    LatencySeverity, Objective, ObjectiveKind, Preset, ProbeSource, RatioSeverity, Severity, Source,
    ViewSource, duration,
};

use super::{Reader, service};
use crate::api::policy as api;
use crate::connections::http::UrlPath;

const LEVELS: &str = "P0, P1 and P2";
/// A probe may wait no shorter and no longer.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

pub(super) fn objectives(reader: &mut Reader, path: &str, objectives: &[api::Objective]) -> Vec<Objective> {
    if objectives.is_empty() {
        return defaults();
    }
    let mut known: Vec<Objective> = Vec::new();
    for (index, objective) in objectives.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if known.iter().any(|other| other.name == objective.name.0) {
            reader.problem(format!("{path}.name"), format!("there are two objectives {}", objective.name.0));
        }
        let source = match &objective.source {
            Some(source) => self::source(reader, &format!("{path}.source"), source),
            None => Some(known.first().map_or_else(default_source, |first| first.source.clone())),
        };
        let kind = kind(reader, &path, objective);
        if let (Some(kind), Some(source)) = (kind, source) {
            fits(reader, &path, &kind, &source);
            known.push(Objective { name: objective.name.0.clone(), kind, source });
        }
    }
    known
}

/// The runbooks' thresholds: p95 within 200 ms is the baseline, above 2 s it is P1; p99 above 5 s is P0; more than 5% of
/// requests failed is P1.
fn defaults() -> Vec<Objective> {
    let millis = Duration::from_millis;
    let objective = |name: &str, kind| Objective { name: name.to_owned(), kind, source: default_source() };
    vec![
        objective(
            "p95",
            ObjectiveKind::Latency {
                quantile: 0.95,
                target: millis(200),
                severities: vec![LatencySeverity { level: Severity::P1, above: millis(2_000) }],
            },
        ),
        objective(
            "p99",
            ObjectiveKind::Latency {
                quantile: 0.99,
                target: millis(5_000),
                severities: vec![LatencySeverity { level: Severity::P0, above: millis(5_000) }],
            },
        ),
        objective(
            "errors",
            ObjectiveKind::ErrorRatio {
                target: 0.05,
                severities: vec![RatioSeverity { level: Severity::P1, above: 0.05 }],
            },
        ),
    ]
}

fn default_source() -> Source {
    Source::Prometheus {
        backend: "default".to_owned(),
        preset: Preset::Django,
        match_labels: BTreeMap::new(),
        views: None,
    }
}

fn kind(reader: &mut Reader, path: &str, objective: &api::Objective) -> Option<ObjectiveKind> {
    match objective.r#type.0.as_str() {
        "Latency" => {
            let Some(latency) = &objective.latency else {
                reader.problem(format!("{path}.latency"), "type Latency needs it");
                return None;
            };
            Some(self::latency(reader, &format!("{path}.latency"), latency))
        }
        "ErrorRatio" => {
            let Some(ratio) = &objective.error_ratio else {
                reader.problem(format!("{path}.errorRatio"), "type ErrorRatio needs it");
                return None;
            };
            let path = format!("{path}.errorRatio");
            let target = reader.ratio(&format!("{path}.target"), &ratio.target);
            let severities = ratio.severities.iter().enumerate().filter_map(|(index, level)| {
                let path = format!("{path}.severities[{index}]");
                let above = reader.ratio(&format!("{path}.above"), &level.above);
                let level = reader.word(&format!("{path}.level"), &level.level, LEVELS)?;
                Some(RatioSeverity { level, above })
            });
            Some(ObjectiveKind::ErrorRatio { severities: severities.collect(), target })
        }
        other => {
            let message = format!("this version does not know {other}; it knows Latency and ErrorRatio");
            reader.problem(format!("{path}.type"), message);
            None
        }
    }
}

fn latency(reader: &mut Reader, path: &str, latency: &api::LatencyObjective) -> ObjectiveKind {
    let quantile = reader.ratio(&format!("{path}.quantile"), &latency.quantile);
    if quantile <= 0.0 || quantile >= 1.0 {
        let message =
            format!("{} is no quantile; it lies between 0 and 1, for example 0.95", latency.quantile.0);
        reader.problem(format!("{path}.quantile"), message);
    }
    let least = Duration::from_millis(1);
    let severities = latency.severities.iter().enumerate().filter_map(|(index, level)| {
        let path = format!("{path}.severities[{index}]");
        let above = reader.duration(&format!("{path}.above"), &level.above, least);
        let level = reader.word(&format!("{path}.level"), &level.level, LEVELS)?;
        Some(LatencySeverity { level, above })
    });
    let severities = severities.collect();
    ObjectiveKind::Latency {
        quantile,
        target: reader.duration(&format!("{path}.target"), &latency.target, least),
        severities,
    }
}

/// Whether the source can tell what the objective demands.
fn fits(reader: &mut Reader, path: &str, kind: &ObjectiveKind, source: &Source) {
    let Source::Probe(probe) = source else { return };
    match kind {
        ObjectiveKind::ErrorRatio { .. } => {
            let message = "a Probe measures latency; an ErrorRatio needs another source";
            reader.problem(format!("{path}.source"), message);
        }
        ObjectiveKind::Latency { target, .. } if probe.timeout <= *target => {
            let (timeout, target) = (duration::format(probe.timeout), duration::format(*target));
            let message = format!(
                "{timeout} is not longer than the target {target}, which would never be seen to be kept"
            );
            reader.problem(format!("{path}.source.probe.timeout"), message);
        }
        ObjectiveKind::Latency { .. } => {}
    }
}

fn source(reader: &mut Reader, path: &str, source: &api::Source) -> Option<Source> {
    if source.prometheus.is_some() && source.probe.is_some() {
        reader.problem(path, "a source is one thing: prometheus or probe");
    }
    match source.r#type.0.as_str() {
        "Prometheus" => {
            let Some(prometheus) = &source.prometheus else {
                reader.problem(format!("{path}.prometheus"), "type Prometheus needs it");
                return None;
            };
            self::prometheus(reader, &format!("{path}.prometheus"), prometheus)
        }
        "Probe" => {
            let Some(probe) = &source.probe else {
                reader.problem(format!("{path}.probe"), "type Probe needs it");
                return None;
            };
            self::probe(reader, &format!("{path}.probe"), probe).map(Source::Probe)
        }
        other => {
            let message = format!("this version does not know {other}; it knows Prometheus and Probe");
            reader.problem(format!("{path}.type"), message);
            None
        }
    }
}

fn probe(reader: &mut Reader, path: &str, probe: &api::ProbeSource) -> Option<ProbeSource> {
    service::check(reader, path, &probe.service, &probe.port);
    if let Err(problem) = UrlPath::parse(&probe.path.0) {
        reader.problem(format!("{path}.path"), problem);
    }
    let timeout = reader.duration(&format!("{path}.timeout"), &probe.timeout, SHORTEST);
    if timeout > LONGEST {
        let (timeout, longest) = (duration::format(timeout), duration::format(LONGEST));
        reader.problem(format!("{path}.timeout"), format!("{timeout} is too long; the most is {longest}"));
    }
    Some(ProbeSource {
        service: probe.service.0.clone(),
        port: probe.port.to_string(),
        path: probe.path.0.clone(),
        timeout,
        scheme: reader.word(&format!("{path}.scheme"), &probe.scheme, "HTTP and HTTPS")?,
    })
}

fn prometheus(reader: &mut Reader, path: &str, prometheus: &api::PrometheusSource) -> Option<Source> {
    let preset: Preset = reader.word(&format!("{path}.preset"), &prometheus.preset, "Django and Caddy")?;
    let match_labels = match_labels(reader, path, &prometheus.match_labels);
    if preset == Preset::Caddy && prometheus.match_labels.is_empty() {
        let message =
            "an edge serves many; name the labels that tell this target's series, for example server: orders";
        reader.problem(format!("{path}.matchLabels"), message);
    }
    let path = format!("{path}.views");
    let views = match (&prometheus.views, preset) {
        (None, _) => None,
        (Some(_), Preset::Django) => {
            reader.problem(path, "Django counts its views itself; leave it out");
            None
        }
        (Some(views), Preset::Caddy) => self::views(reader, &path, views),
    };
    Some(Source::Prometheus { backend: prometheus.backend.0.clone(), preset, match_labels, views })
}

fn views(reader: &mut Reader, path: &str, views: &api::Views) -> Option<ViewSource> {
    let preset: Preset = reader.word(&format!("{path}.preset"), &views.preset, "Django")?;
    match preset {
        Preset::Django => {}
        Preset::Caddy => {
            reader.problem(format!("{path}.preset"), "Caddy counts no views; use Django");
            return None;
        }
    }
    Some(ViewSource { preset, match_labels: match_labels(reader, path, &views.match_labels) })
}

fn match_labels(
    reader: &mut Reader,
    path: &str,
    labels: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for label in labels.keys().filter(|label| !is_label_name(label)) {
        let shown: String = label.chars().take(40).collect();
        reader.problem(
            format!("{path}.matchLabels"),
            format!("\"{shown}\" is not the name of a Prometheus label"),
        );
    }
    labels.clone()
}

/// The data model of Prometheus: `[a-zA-Z_][a-zA-Z0-9_]*`, and a bound.
fn is_label_name(label: &str) -> bool {
    label.len() <= 128
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !label.starts_with(|first: char| first.is_ascii_digit())
        && !label.is_empty()
}

#[cfg(test)]
mod tests {
    use engine::model::Scheme;
    use serde_json::{Value, json};

    use super::*;

    fn read(prometheus: &Value) -> (Option<Source>, Vec<String>) {
        let object: api::Source =
            serde_json::from_value(json!({"type": "Prometheus", "prometheus": prometheus})).unwrap();
        let mut reader = Reader::default();
        let read = source(&mut reader, "source", &object);
        (read, reader.problems.iter().map(ToString::to_string).collect())
    }

    fn edge(views: &Value) -> (Option<Source>, Vec<String>) {
        read(&json!({"preset": "Caddy", "matchLabels": {"server": "orders"}, "views": views}))
    }

    fn probed(change: impl FnOnce(&mut Value)) -> (Vec<Objective>, Vec<String>) {
        let mut object = json!({
            "name": "health", "type": "Latency", "latency": {"target": "300ms"},
            "source": {"type": "Probe", "probe": {"service": "orders-api", "port": "http", "path": "/api/health"}},
        });
        change(&mut object);
        let object: api::Objective = serde_json::from_value(object).unwrap();
        let mut reader = Reader::default();
        let read = objectives(&mut reader, "objectives", &[object]);
        (read, reader.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_probe_has_defaults_and_a_port_by_name_or_number() {
        for (port, read) in [(json!("http"), "http"), (json!(8000), "8000"), (json!("8000"), "8000")] {
            let (objectives, problems) = probed(|o| o["source"]["probe"]["port"] = port);
            assert_eq!(problems, [""; 0]);
            let Source::Probe(probe) = &objectives[0].source else { panic!("no probe") };
            assert_eq!((probe.port.as_str(), probe.timeout), (read, Duration::from_secs(3)));
            assert_eq!(probe.scheme, Scheme::Http);
        }
    }

    #[test]
    fn a_probe_that_cannot_be_is_named_with_its_path() {
        type Change = fn(&mut Value);
        let change: [(Change, &str); 12] = [
            (
                |o| drop(o["source"].as_object_mut().unwrap().remove("probe")),
                "source.probe: type Probe needs it",
            ),
            (
                |o| o["source"]["prometheus"] = json!({"preset": "Django"}),
                "source: a source is one thing: prometheus or probe",
            ),
            (
                |o| o["source"]["type"] = "Sonde".into(),
                "source.type: this version does not know Sonde; it knows Prometheus and Probe",
            ),
            (
                |o| o["source"]["probe"]["service"] = "a.b/../c".into(),
                "source.probe.service: it is not the name of a Service",
            ),
            (
                |o| o["source"]["probe"]["port"] = 0.into(),
                "source.probe.port: 0 is not the name or number of a port",
            ),
            (
                |o| o["source"]["probe"]["port"] = "HTTP".into(),
                "source.probe.port: HTTP is not the name or number of a port",
            ),
            (
                |o| o["source"]["probe"]["path"] = "//evil/".into(),
                "source.probe.path: a path begins with one /, not with two",
            ),
            (
                |o| o["source"]["probe"]["timeout"] = "99ms".into(),
                "source.probe.timeout: 99ms is too short; the least is 100ms",
            ),
            (
                |o| o["source"]["probe"]["timeout"] = "31s".into(),
                "source.probe.timeout: 31s is too long; the most is 30s",
            ),
            (
                |o| o["source"]["probe"]["scheme"] = "FTP".into(),
                "source.probe.scheme: this version does not know FTP; it knows HTTP and HTTPS",
            ),
            (
                |o| o["latency"]["target"] = "3s".into(),
                "source.probe.timeout: 3s is not longer than the target 3s, which would never be seen to be kept",
            ),
            (
                |o| {
                    o["type"] = "ErrorRatio".into();
                    o["errorRatio"] = json!({"target": "1%"});
                },
                "source: a Probe measures latency; an ErrorRatio needs another source",
            ),
        ];
        for (change, problem) in change {
            let (_, problems) = probed(change);
            assert!(problems.contains(&format!("objectives[0].{problem}")), "{problem}: {problems:?}");
        }
    }

    #[test]
    fn an_edge_may_name_where_its_views_are_counted() {
        let (source, problems) = edge(&json!({"preset": "Django", "matchLabels": {"job": "orders"}}));
        assert_eq!(problems, [""; 0]);
        let Some(Source::Prometheus { preset, views, .. }) = source else { panic!("no source") };
        let match_labels = BTreeMap::from([("job".to_owned(), "orders".to_owned())]);
        assert_eq!(
            (preset, views),
            (Preset::Caddy, Some(ViewSource { preset: Preset::Django, match_labels }))
        );
    }

    #[test]
    fn views_that_cannot_be_are_named_with_their_path() {
        for (views, problem) in [
            (json!({"preset": "Caddy"}), "source.prometheus.views.preset: Caddy counts no views; use Django"),
            (
                json!({"preset": "Rails"}),
                "source.prometheus.views.preset: this version does not know Rails; it knows Django",
            ),
            (
                json!({"preset": "Django", "matchLabels": {"a-b": "c"}}),
                "source.prometheus.views.matchLabels: \"a-b\" is not the name of a Prometheus label",
            ),
        ] {
            assert_eq!(edge(&views).1, [problem]);
        }
        let (_, problems) = read(&json!({"preset": "Django", "views": {"preset": "Django"}}));
        assert_eq!(problems, ["source.prometheus.views: Django counts its views itself; leave it out"]);
    }
}
