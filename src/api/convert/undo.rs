//! What is owed: from the API to the engine and back. What an undo watches is a policy's own text, written out.

use std::time::Duration;

use engine::model::{
    Dependency, Evaluation, LatencySeverity, Objective, ObjectiveKind, RatioSeverity, Scheme, Source, Undo,
    UndoSpec, Watch,
};

use super::{Reader, objectives, policy};
use crate::api::policy as written;
use crate::api::remediation as api;
use crate::api::text::{
    self, HttpPath, Instant, Label, ObjectName, Ratio, RoleName, ServiceName, ServicePort, Word,
};

/// Where a remediation keeps its copy of a policy's text.
const WATCH: &str = "spec.undo.watch";

pub(super) fn spec(reader: &mut Reader, undo: &api::UndoSpec) -> UndoSpec {
    UndoSpec {
        max_hold: reader.duration("spec.undo.maxHold", &undo.max_hold, Duration::ZERO),
        step: reader.count("spec.undo.step", undo.step, 1),
        watch: Watch {
            evaluation: policy::evaluation(reader, &format!("{WATCH}.evaluation"), &undo.watch.evaluation),
            objectives: objectives::objectives(
                reader,
                &format!("{WATCH}.objectives"),
                &undo.watch.objectives,
            ),
            dependencies: policy::dependencies(
                reader,
                &format!("{WATCH}.dependencies"),
                &undo.watch.dependencies,
            ),
        },
    }
}

pub(super) fn status(reader: &mut Reader, undo: &api::Undo) -> Option<Undo> {
    let due_by = match &undo.due_by {
        Some(word) => Some(reader.word("status.undo.dueBy", word, "Calm, MaxHold, Worse and Drain")?),
        None => None,
    };
    Some(Undo {
        state: reader.word("status.undo.state", &undo.state, "None, Owed, Done, Contested and Abandoned")?,
        baseline: reader.count("status.undo.baseline", undo.baseline, 0),
        wrote: reader.count("status.undo.wrote", undo.wrote, 0),
        writing: undo.writing.map(|count| reader.count("status.undo.writing", count, 0)),
        due_at: undo.due_at.0,
        due_by,
        stepped_at: undo.stepped_at.map(|at| at.0),
        overdue: undo.overdue,
    })
}

pub(super) fn spec_of(undo: &UndoSpec) -> api::UndoSpec {
    api::UndoSpec {
        max_hold: text::Duration::of(undo.max_hold),
        step: i32::try_from(undo.step).unwrap_or(i32::MAX),
        watch: api::Watch {
            evaluation: evaluation_of(&undo.watch.evaluation),
            objectives: undo.watch.objectives.iter().map(objective_of).collect(),
            dependencies: undo
                .watch
                .dependencies
                .iter()
                .map(|(name, dependency)| dependency_of(name, dependency))
                .collect(),
        },
    }
}

pub(super) fn status_of(undo: &Undo) -> api::Undo {
    let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    api::Undo {
        state: Word(undo.state.to_string()),
        baseline: count(undo.baseline),
        wrote: count(undo.wrote),
        writing: undo.writing.map(count),
        due_at: Instant(undo.due_at),
        due_by: undo.due_by.map(|by| Word(format!("{by:?}"))),
        stepped_at: undo.stepped_at.map(Instant),
        overdue: undo.overdue,
    }
}

fn evaluation_of(evaluation: &Evaluation) -> written::Evaluation {
    written::Evaluation {
        interval: text::Duration::of(evaluation.interval),
        window: text::Duration::of(evaluation.window),
        breach_for: text::Duration::of(evaluation.breach_for),
        recover_for: text::Duration::of(evaluation.recover_for),
        min_requests: i32::try_from(evaluation.min_requests).unwrap_or(i32::MAX),
        missing_data_after: i32::try_from(evaluation.missing_data_after).unwrap_or(i32::MAX),
    }
}

fn objective_of(objective: &Objective) -> written::Objective {
    let mut object = written::Objective {
        name: Label(objective.name.clone()),
        r#type: Word::text("Latency"),
        latency: None,
        error_ratio: None,
        source: Some(source_of(&objective.source)),
    };
    match &objective.kind {
        ObjectiveKind::Latency { quantile, target, severities } => {
            let severity = |severity: &LatencySeverity| written::LatencySeverity {
                level: Word(severity.level.to_string()),
                above: text::Duration::of(severity.above),
            };
            object.latency = Some(written::LatencyObjective {
                quantile: Ratio::of(*quantile),
                target: text::Duration::of(*target),
                severities: severities.iter().map(severity).collect(),
            });
        }
        ObjectiveKind::ErrorRatio { target, severities } => {
            let severity = |severity: &RatioSeverity| written::RatioSeverity {
                level: Word(severity.level.to_string()),
                above: Ratio::of(severity.above),
            };
            object.r#type = Word::text("ErrorRatio");
            object.error_ratio = Some(written::ErrorRatioObjective {
                target: Ratio::of(*target),
                severities: severities.iter().map(severity).collect(),
            });
        }
    }
    object
}

fn source_of(source: &Source) -> written::Source {
    let mut object = written::Source { r#type: Word::text("Prometheus"), prometheus: None, probe: None };
    match source {
        Source::Prometheus { backend, preset, match_labels, views } => {
            object.prometheus = Some(written::PrometheusSource {
                backend: Label(backend.clone()),
                preset: Word(format!("{preset:?}")),
                match_labels: match_labels.clone(),
                views: views.as_ref().map(|views| written::Views {
                    preset: Word(format!("{:?}", views.preset)),
                    match_labels: views.match_labels.clone(),
                }),
            });
        }
        Source::Probe(probe) => {
            object.r#type = Word::text("Probe");
            object.probe = Some(written::ProbeSource {
                service: ServiceName(probe.service.clone()),
                port: ServicePort::of(&probe.port),
                path: HttpPath(probe.path.clone()),
                timeout: text::Duration::of(probe.timeout),
                scheme: Word::text(match probe.scheme {
                    Scheme::Http => "HTTP",
                    Scheme::Https => "HTTPS",
                }),
            });
        }
    }
    object
}

fn dependency_of(name: &str, dependency: &Dependency) -> written::Dependency {
    let roles = |roles: &[String]| roles.iter().map(|role| RoleName(role.clone())).collect();
    let secret_ref = |name: &str| written::SecretRef { name: ObjectName(name.to_owned()) };
    let mut object = written::Dependency {
        name: Label(name.to_owned()),
        r#type: Word::text("PostgreSQL"),
        postgres: None,
        redis: None,
    };
    match dependency {
        Dependency::Postgres(postgres) => {
            object.postgres = Some(written::PostgresDependency {
                secret_ref: secret_ref(&postgres.secret),
                users: roles(&postgres.users),
                roles: roles(&postgres.roles),
            });
        }
        Dependency::Redis(redis) => {
            object.r#type = Word::text("Redis");
            object.redis = Some(written::RedisDependency {
                secret_ref: secret_ref(&redis.secret),
                r#use: Word(format!("{:?}", redis.usage)),
            });
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probed_is_written_out_and_read_again() {
        for (port, scheme) in [("http", Scheme::Http), ("8443", Scheme::Https)] {
            let source = Source::Probe(engine::model::ProbeSource {
                service: "orders-api".to_owned(),
                port: port.to_owned(),
                path: "/api/health".to_owned(),
                timeout: Duration::from_secs(3),
                scheme,
            });
            let kind = ObjectiveKind::Latency {
                quantile: 0.95,
                target: Duration::from_millis(300),
                severities: Vec::new(),
            };
            let objective = Objective { name: "health".to_owned(), kind, source };
            let mut reader = Reader::default();
            let read = objectives::objectives(&mut reader, "objectives", &[objective_of(&objective)]);
            assert!(reader.problems.is_empty(), "{:?}", reader.problems);
            assert_eq!(read, [objective]);
        }
    }
}
