//! Objectives, and where they are read.

use std::time::Duration;

use engine::model::{
    LatencySeverity, Objective, ObjectiveKind, RatioSeverity, Severity, Source, duration, ratio,
};

use super::Reader;
use crate::api::policy::{self as api, OBJECTIVE_TYPES, SEVERITIES};
use crate::api::sources;
use crate::api::text::{self, Bound, Label, Percentile, Ratio, Word};

/// The least latency that anything is compared with.
const LEAST: Duration = Duration::from_millis(1);

/// The engine's objectives. `default` is where those are read that name no source of their own.
pub(super) fn objectives(
    reader: &mut Reader,
    path: &str,
    objectives: &[api::Objective],
    default: Option<&Source>,
) -> Vec<Objective> {
    if objectives.is_empty() {
        reader.problem(path, "name at least one, or leave the field out for the default objectives");
    }
    let mut known: Vec<Objective> = Vec::new();
    for (index, objective) in objectives.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if known.iter().any(|other| other.name == objective.name.0) {
            reader.problem(format!("{path}.name"), format!("there are two objectives {}", objective.name.0));
        }
        let source = match &objective.source {
            Some(source) => source.read(reader, &format!("{path}.source")),
            None => default.cloned(),
        };
        let severity = reader.one_of(&format!("{path}.severity"), &objective.severity, SEVERITIES);
        let kind = kind(reader, &path, objective, severity);
        if let (Some(kind), Some(source), Some(severity)) = (kind, source, severity) {
            fits(reader, &path, &kind, &source);
            known.push(Objective { name: objective.name.0.clone(), kind, severity, source });
        }
    }
    known
}

fn kind(
    reader: &mut Reader,
    path: &str,
    objective: &api::Objective,
    severity: Option<Severity>,
) -> Option<ObjectiveKind> {
    let set = [("latency", objective.latency.is_some()), ("errorRatio", objective.error_ratio.is_some())];
    reader.fits(path, &OBJECTIVE_TYPES, &objective.r#type, &set)?;
    if let Some(latency) = &objective.latency {
        let place = format!("{path}.latency.threshold");
        let target = reader.duration(&place, &latency.threshold, LEAST);
        let levels = raise(reader, path, objective, severity, |reader, place, above| {
            let above = reader.duration(place, &text::Duration(above.0.clone()), LEAST);
            if above <= target {
                reader.problem(place, format!("it must be above the threshold {}", duration::format(target)));
            }
            above
        });
        let severities = levels.into_iter().map(|(level, above)| LatencySeverity { level, above }).collect();
        let quantile = quantile(reader, &format!("{path}.latency.percentile"), &latency.percentile);
        return Some(ObjectiveKind::Latency { quantile, target, severities });
    }
    let error_ratio = objective.error_ratio.as_ref()?;
    let target = reader.ratio(&format!("{path}.errorRatio.threshold"), &error_ratio.threshold);
    let levels = raise(reader, path, objective, severity, |reader, place, above| {
        let above = reader.ratio(place, &Ratio(above.0.clone()));
        if above < target {
            reader.problem(place, format!("it must not be below the threshold {}", ratio::percent(target)));
        }
        above
    });
    let severities = levels.into_iter().map(|(level, above)| RatioSeverity { level, above }).collect();
    Some(ObjectiveKind::ErrorRatio { target, severities })
}

/// The levels of an objective, each worse than its severity.
fn raise<T>(
    reader: &mut Reader,
    path: &str,
    objective: &api::Objective,
    severity: Option<Severity>,
    mut bound: impl FnMut(&mut Reader, &str, &Bound) -> T,
) -> Vec<(Severity, T)> {
    let mut levels = Vec::new();
    for (index, raise) in objective.raise.iter().enumerate() {
        let path = format!("{path}.raise[{index}]");
        let above = bound(reader, &format!("{path}.above"), &raise.above);
        let place = format!("{path}.level");
        let Some(level) = reader.one_of(&place, &raise.level, SEVERITIES) else { continue };
        if severity.is_some_and(|severity| level <= severity) {
            reader.problem(place, "it must be worse than severity; P0 is worse than P1, P1 worse than P2");
        }
        levels.push((level, above));
    }
    levels
}

fn quantile(reader: &mut Reader, path: &str, percentile: &Percentile) -> f64 {
    let quantile = ratio::parse(&format!("{percentile}%")).ok().filter(|share| (0.0..1.0).contains(share));
    match quantile.filter(|share| *share > 0.0) {
        Some(quantile) => quantile,
        None => {
            let message = format!(
                "{percentile} is not a percentile; write a number between 0 and 100, such as 95 or \"99.9\""
            );
            reader.problem(path, message);
            0.5
        }
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
                "{timeout} is not longer than the threshold {target}; no answer could be seen to exceed it"
            );
            reader.problem(format!("{path}.source.probe.timeout"), message);
        }
        ObjectiveKind::Latency { .. } => {}
    }
}

/// How the operator stores a copy of it.
pub(super) fn stored(objective: &Objective) -> api::Objective {
    let mut object = api::Objective {
        name: Label(objective.name.clone()),
        r#type: Word::text("Latency"),
        latency: None,
        error_ratio: None,
        source: Some(sources::Source::stored(&objective.source)),
        severity: Word(objective.severity.to_string()),
        raise: Vec::new(),
    };
    match &objective.kind {
        ObjectiveKind::Latency { quantile, target, severities } => {
            object.latency = Some(api::LatencyObjective {
                percentile: Percentile::of(*quantile),
                threshold: text::Duration::of(*target),
            });
            let raise = |level: &LatencySeverity| api::Raise {
                level: Word(level.level.to_string()),
                above: Bound(duration::format(level.above)),
            };
            object.raise = severities.iter().map(raise).collect();
        }
        ObjectiveKind::ErrorRatio { target, severities } => {
            object.r#type = Word::text("ErrorRatio");
            object.error_ratio = Some(api::ErrorRatioObjective { threshold: Ratio::of(*target) });
            let raise = |level: &RatioSeverity| api::Raise {
                level: Word(level.level.to_string()),
                above: Bound(Ratio::of(level.above).0),
            };
            object.raise = severities.iter().map(raise).collect();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use engine::model::Scheme;
    use serde_json::{Value, json};

    use super::*;

    fn read(object: Value) -> (Vec<Objective>, Vec<String>) {
        let object: api::Objective = serde_json::from_value(object).unwrap();
        let mut reader = Reader::default();
        let default = sources::Source::default().read(&mut reader, "source");
        let read = objectives(&mut reader, "objectives", &[object], default.as_ref());
        (read, reader.problems.iter().map(ToString::to_string).collect())
    }

    fn probed(change: impl FnOnce(&mut Value)) -> (Vec<Objective>, Vec<String>) {
        let mut object = json!({
            "name": "health", "type": "Latency", "latency": {"threshold": "300ms"},
            "source": {"type": "Probe", "probe": {"serviceName": "orders-api", "port": "http", "path": "/api/health"}},
        });
        change(&mut object);
        read(object)
    }

    #[test]
    fn a_probe_has_defaults_and_a_port_by_name_or_number() {
        for (port, read) in [(json!("http"), "http"), (json!(8000), "8000"), (json!("8000"), "8000")] {
            let (objectives, problems) = probed(|o| o["source"]["probe"]["port"] = port);
            assert_eq!(problems, [""; 0]);
            let Source::Probe(probe) = &objectives[0].source else { panic!("no probe") };
            assert_eq!((probe.port.as_str(), probe.timeout), (read, Duration::from_secs(3)));
            assert_eq!((probe.scheme, probe.failures, probe.of), (Scheme::Http, 2, 3));
        }
    }

    #[test]
    fn a_wrong_probe_is_named_with_its_path() {
        type Change = fn(&mut Value);
        let change: [(Change, &str); 13] = [
            (
                |o| drop(o["source"].as_object_mut().unwrap().remove("probe")),
                "source.probe: type Probe needs it",
            ),
            (
                |o| o["source"]["prometheus"] = json!({"preset": "Django"}),
                "source.prometheus: it does not belong to type Probe; remove it",
            ),
            (
                |o| o["source"]["type"] = "Sonde".into(),
                "source.type: this version does not know Sonde; it knows Prometheus, Probe and Scrape",
            ),
            (
                |o| o["source"]["probe"]["serviceName"] = "a.b/../c".into(),
                "source.probe.serviceName: it is not the name of a Service",
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
                |o| o["source"]["probe"]["failures"] = 4.into(),
                "source.probe.failures: 4 is more than 3, the value of of",
            ),
            (
                |o| o["latency"]["threshold"] = "3s".into(),
                "source.probe.timeout: 3s is not longer than the threshold 3s; no answer could be seen to exceed it",
            ),
            (
                |o| {
                    o["type"] = "ErrorRatio".into();
                    o["errorRatio"] = json!({"threshold": "1%"});
                    o.as_object_mut().unwrap().remove("latency");
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
    fn percentiles_are_numbers_or_texts() {
        let quantile = |percentile: Value| {
            let latency = json!({"percentile": percentile, "threshold": "1s"});
            let (read, problems) = read(json!({"name": "o", "type": "Latency", "latency": latency}));
            assert_eq!(problems, [""; 0]);
            let ObjectiveKind::Latency { quantile, .. } = read[0].kind else { panic!("it is latency") };
            assert_eq!(Percentile::of(quantile).to_string(), percentile.to_string().trim_matches('"'));
            quantile
        };
        assert!((quantile(json!(95)) - 0.95).abs() < 1e-12);
        assert!((quantile(json!("99.9")) - 0.999).abs() < 1e-12);
        for wrong in [json!(0), json!(100), json!("p95"), json!(-5)] {
            let latency = json!({"percentile": wrong, "threshold": "1s"});
            let (_, problems) = read(json!({"name": "o", "type": "Latency", "latency": latency}));
            assert!(problems[0].starts_with("objectives[0].latency.percentile: "), "{problems:?}");
        }
    }

    #[test]
    fn a_level_is_worse_than_the_severity_and_above_the_threshold() {
        let problems = |raise: Value| {
            let latency = json!({"threshold": "1s"});
            read(
                json!({"name": "o", "type": "Latency", "latency": latency, "severity": "P1", "raise": raise}),
            )
            .1
        };
        assert_eq!(problems(json!([{"level": "P0", "above": "2s"}])), [""; 0]);
        for (raise, problem) in [
            (json!([{"level": "P1", "above": "2s"}]), "raise[0].level: it must be worse than severity"),
            (json!([{"level": "P0", "above": "1s"}]), "raise[0].above: it must be above the threshold 1s"),
            (json!([{"level": "P0", "above": "5%"}]), "raise[0].above: "),
            (json!([{"level": "P9", "above": "2s"}]), "raise[0].level: this version does not know P9"),
        ] {
            let problems = problems(raise);
            assert!(problems[0].starts_with(&format!("objectives[0].{problem}")), "{problem}: {problems:?}");
        }
    }

    #[test]
    fn an_objective_is_stored_as_it_was_read() {
        for (port, scheme) in [("http", Scheme::Http), ("8443", Scheme::Https)] {
            let source = Source::Probe(engine::model::ProbeSource {
                service: "orders-api".to_owned(),
                port: port.to_owned(),
                path: "/api/health".to_owned(),
                timeout: Duration::from_secs(3),
                scheme,
                failures: 1,
                of: 5,
            });
            let kind = ObjectiveKind::Latency {
                quantile: 0.999,
                target: Duration::from_millis(300),
                severities: vec![LatencySeverity { level: Severity::P0, above: Duration::from_secs(2) }],
            };
            let objective = Objective { name: "health".to_owned(), kind, severity: Severity::P2, source };
            let mut reader = Reader::default();
            let read = objectives(&mut reader, "objectives", &[stored(&objective)], None);
            assert!(reader.problems.is_empty(), "{:?}", reader.problems);
            assert_eq!(read, [objective]);
        }
    }
}
