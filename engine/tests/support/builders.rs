//! Values from which scenarios and properties start.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::model::{
    Bucket, ByName, Coverage, Databases, Dependency, Evaluation, GuardSettings, Mode, NoDataReason,
    Objective, ObjectiveKind, Observed, Policy, PolicyRef, PostgresDependency, PostgresFacts, PostgresLook,
    Preset, PrometheusSource, ServerIdentity, Severity, Slots, Source, TargetKind, TargetRef, Thresholds,
    Traffic, TrafficWindow, Verification, earlier,
};
use jiff::Timestamp;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The instant at which every scenario starts: 03:00, as it always is.
pub(crate) fn start() -> Timestamp {
    "2026-01-01T03:00:00Z".parse().expect("a timestamp")
}

/// One objective, one database, no rung; short times.
pub(crate) fn policy() -> Policy {
    Policy {
        id: PolicyRef { namespace: "shop".into(), name: "orders-api".into(), uid: "12345678-aaaa".into() },
        created_at: start(),
        generation: 1,
        mode: Mode::Auto,
        target: TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() },
        evaluation: Evaluation {
            interval: SECOND,
            window: 5 * SECOND,
            breach_for: 3 * SECOND,
            recover_for: 3 * SECOND,
            missing_data_after: 3,
        },
        objectives: vec![Objective {
            name: "p95".into(),
            kind: ObjectiveKind::Latency {
                quantile: 0.95,
                target: Duration::from_millis(500),
                severities: vec![],
            },
            severity: Severity::P2,
            source: Source::Prometheus(PrometheusSource {
                backend: "default".into(),
                preset: Preset::Caddy,
                match_labels: BTreeMap::new(),
                views: None,
            }),
        }],
        dependencies: ByName::from_iter([(
            "db".into(),
            Dependency::Postgres(PostgresDependency {
                secret: "orders-db".into(),
                client_roles: vec!["orders".into()],
                client_applications: vec![],
                cancellable_roles: Some(vec!["orders".into(), "reporting".into()]),
                cores: None,
                connections_per_pod: Some(5),
            }),
        )]),
        thresholds: BTreeMap::from([(
            "RunawayQuery".into(),
            Thresholds { older_than: Some(3 * SECOND), ..Thresholds::default() },
        )]),
        rungs: vec![],
        guards: GuardSettings {
            max_actions_per_hour: 6,
            max_attempts_per_incident: 3,
            cooldown: Duration::from_secs(300),
            min_available: 0.6,
        },
        databases: Databases::Declared,
        ignored: vec![],
        unused: vec![],
        concurrency_per_pod: None,
        verification: Verification { after: SECOND, within: 30 * SECOND },
        history_limit: 20,
    }
}

/// So many requests take 50 ms, the rest `slow`.
pub(crate) fn buckets(requests: f64, fast: f64, slow: Duration) -> Vec<Bucket> {
    let bounds = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];
    let count = |le: f64| if le >= slow.as_secs_f64() { requests } else { fast };
    bounds.iter().map(|le| Bucket { le: *le, count: count(*le) }).collect()
}

/// Nine tenths of the requests take 50 ms, the rest `slow`.
pub(crate) fn traffic(at: Timestamp, requests: f64, slow: Duration, in_flight: f64, errors: f64) -> Traffic {
    Traffic::from(TrafficWindow {
        window: 5 * SECOND,
        buckets: buckets(requests, (requests * 0.9).floor(), slow),
        in_flight: Observed::Known { at, value: in_flight },
        errors: Observed::Known { at, value: errors },
        views: Observed::missing(NoDataReason::NotYetRead, ""),
    })
}

/// A database in which nothing happens.
pub(crate) fn quiet_database(now: Timestamp) -> PostgresFacts {
    PostgresLook {
        server: ServerIdentity {
            system_identifier: "7000".into(),
            database: "orders".into(),
            peer: "10.0.0.1:5432".into(),
            started_at: earlier(start(), Duration::from_secs(86_400)),
        },
        version: 150_000,
        clock: now,
        standby: false,
        connected_as: "latency_operator".into(),
        grantee: "latency_operator".into(),
        coverage: Coverage::Full,
        may_signal: true,
        slots: Slots { usable: 100, used: 10 },
        active_seconds: 0.0,
        active: 0,
        active_by_role: BTreeMap::new(),
        sessions: vec![],
        lock_waits: vec![],
        truncated: false,
    }
    .into()
}
