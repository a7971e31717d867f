//! The world as it is in the beginning: policies over shared databases and workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::report::PolicyReport;
use engine::actions::{CancelQuerySettings, ScaleSettings, TerminateIdleSettings};
use engine::effects::Requests;
use engine::invariants::{Replicas, What};
use engine::model::{
    ByName, CacheUse, Databases, Dependency, Evaluation, GuardSettings, Mode, Objective, ObjectiveKind,
    Policy, PolicyRef, PostgresDependency, Preset, ProbeSource, PrometheusSource, RedisDependency, Rung,
    RungAction, ScaleStep, Scheme, Severity, Source, TargetKind, TargetRef, Thresholds, UncommittedWrites,
    Verification, earlier,
};

use super::api::PolicyObject;
use super::cache::Cache;
use super::database::Database;
use super::target::{Target, WORKERS};
use super::{START, World};

const SECOND: Duration = Duration::from_secs(1);

/// A policy of the world: namespace, name, target, database, age in days.
pub const POLICIES: [(&str, &str, usize, u64); 6] = [
    ("shop", "orders", 0, 60),
    ("shop", "orders-slo", 0, 30),
    ("shop", "stock", 1, 50),
    ("shop", "carts", 2, 40),
    ("depot", "bills", 3, 20),
    ("depot", "parcels", 4, 10),
];
/// The policies that probe.
const PROBED: [usize; 2] = [1, 5];
/// A workload of the world: namespace, name, database, connections that a pod really opens.
pub const TARGETS: [(&str, &str, usize, u32); 5] = [
    ("shop", "orders-api", 0, 5),
    ("shop", "stock-api", 0, 5),
    ("shop", "carts-api", 1, 13),
    ("depot", "bills-api", 2, 5),
    ("depot", "parcels-api", 2, 5),
];
/// Databases: server, name, address; their clocks differ.
const DATABASES: [(&str, &str, &str, i64); 3] = [
    ("7001", "orders", "10.0.0.1:5432", 400_000),
    ("7001", "carts", "10.0.0.1:5432", 400_000),
    ("7002", "bills", "10.0.0.2:5432", -3_000_000),
];

/// Redis servers: name and address.
const CACHES: [(&str, &str); 3] =
    [("orders-redis", "10.0.1.1:6379"), ("stock-redis", "10.0.1.2:6379"), ("bills-redis", "10.0.1.3:6379")];
/// How many there are.
pub const CACHE_COUNT: usize = CACHES.len();
/// The cache of each workload. None is that of so many that its loss is a storm.
pub const CACHE_OF: [usize; TARGETS.len()] = [0, 1, 1, 2, 2];

/// Which cache a Secret leads to.
#[must_use]
pub fn cache_of(secret: &str) -> Option<usize> {
    CACHES.iter().position(|(name, _)| *name == secret)
}

/// The name of the n-th workload.
#[must_use]
pub fn target_name(place: usize) -> TargetRef {
    let name = TARGETS.get(place).map_or("", |target| target.1);
    TargetRef { kind: TargetKind::Deployment, name: name.to_owned() }
}

/// The place of a workload among [`TARGETS`].
#[must_use]
pub fn place_of_target(namespace: &str, target: &TargetRef) -> Option<usize> {
    TARGETS.iter().position(|known| (known.0, known.1) == (namespace, &*target.name))
}

/// Which database a Secret leads to.
#[must_use]
pub fn database_of(secret: &str) -> Option<usize> {
    DATABASES.iter().position(|(_, name, ..)| *name == secret)
}

/// The n-th policy as its author wrote it, in its `life`-th life.
#[must_use]
pub fn policy(place: usize, life: u64) -> Policy {
    let (namespace, name, target, days) = POLICIES.get(place).copied().unwrap_or_default();
    let database = TARGETS.get(target).and_then(|t| DATABASES.get(t.2)).map_or("", |database| database.1);
    let cache = CACHE_OF.get(target).and_then(|cache| CACHES.get(*cache)).map_or("", |cache| cache.0);
    let evaluation = Evaluation {
        interval: 15 * SECOND,
        window: 60 * SECOND,
        breach_for: 30 * SECOND,
        recover_for: 120 * SECOND,
        missing_data_after: 3,
    };
    Policy {
        id: PolicyRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: format!("{place}{life:07}-aaaa"),
        },
        created_at: earlier(START, Duration::from_secs(days.saturating_sub(life) * 86_400)),
        generation: 1,
        mode: Mode::Auto,
        target: target_name(target),
        evaluation,
        objectives: objectives(place),
        dependencies: ByName::from_iter([
            (
                "db".into(),
                Dependency::Postgres(PostgresDependency {
                    secret: database.into(),
                    client_roles: vec!["orders".into()],
                    client_applications: vec![],
                    cancellable_roles: Some(vec!["orders".into(), "reporting".into()]),
                    cores: None,
                    connections_per_pod: Some(5),
                }),
            ),
            (
                "cache".into(),
                Dependency::Redis(RedisDependency { secret: cache.into(), usage: CacheUse::Cache }),
            ),
        ]),
        databases: Databases::Declared,
        ignored: vec![],
        unused: vec![],
        concurrency_per_pod: Some(WORKERS),
        thresholds: BTreeMap::from([(
            "RunawayQuery".into(),
            Thresholds { older_than: Some(10 * SECOND), ..Thresholds::NONE },
        )]),
        rungs: rungs(place),
        guards: GuardSettings {
            max_actions_per_hour: 4,
            max_attempts_per_incident: 4,
            cooldown: Duration::from_secs(300),
            min_available: 0.6,
        },
        verification: Verification { after: 15 * SECOND, within: 300 * SECOND },
        // The fewest that a policy can ask for, and a few.
        history_limit: if place.is_multiple_of(2) { 1 } else { 5 },
    }
}

/// Of some policies a request of the operator's own is an objective, too.
fn objectives(place: usize) -> Vec<Objective> {
    let measured = Source::Prometheus(PrometheusSource {
        backend: "default".into(),
        preset: Preset::Caddy,
        match_labels: BTreeMap::new(),
        views: None,
    });
    let probed = Source::Probe(ProbeSource {
        service: "api".into(),
        port: "http".into(),
        path: "/health".into(),
        timeout: 3 * SECOND,
        scheme: Scheme::Http,
        failures: 1,
        of: 1,
    });
    let objective = |name: &str, source| Objective {
        name: name.into(),
        kind: ObjectiveKind::Latency {
            quantile: 0.95,
            target: Duration::from_millis(500),
            severities: vec![],
        },
        severity: Severity::P2,
        source,
    };
    let mut objectives = vec![objective("p95", measured)];
    if PROBED.contains(&place) {
        objectives.push(objective("probe", probed));
    }
    objectives
}

fn rungs(place: usize) -> Vec<Rung> {
    let rung = |name: &str, causes: &[&'static str], action: RungAction| Rung {
        name: name.to_owned(),
        causes: causes.iter().map(|cause| (*cause).into()).collect(),
        action,
        mode: None,
        min_severity: Severity::P2,
    };
    let writes =
        if place.is_multiple_of(2) { UncommittedWrites::Protect } else { UncommittedWrites::RollBack };
    let step = if place == 4 { 1.0 } else { 0.5 };
    vec![
        rung(
            "cancel",
            &["RunawayQuery", "BlockingQuery"],
            RungAction::CancelQuery(CancelQuerySettings { writes, terminate_after: Some(20 * SECOND) }),
        ),
        rung(
            "idle",
            &["IdleInTransaction"],
            RungAction::TerminateIdle(TerminateIdleSettings { writes, min_idle: 20 * SECOND }),
        ),
        rung(
            "grow",
            &["WorkersSaturated"],
            RungAction::Scale(ScaleSettings {
                step: ScaleStep::Share(step),
                max: 10,
                max_hold: Duration::from_secs(if place.is_multiple_of(2) { 1800 } else { 900 }),
            }),
        ),
        rung(
            "warm",
            &["ColdCache"],
            RungAction::WarmCache(Requests {
                service: "api".into(),
                port: "http".into(),
                scheme: Scheme::Http,
                paths: vec!["/a".into(), "/b".into()],
                // Long enough for what happens in the middle to be heard of, and for what is left to be seen.
                requests_per_path: if place.is_multiple_of(2) { 3 } else { 22 },
                rate_per_second: if place.is_multiple_of(2) { 2 } else { 1 },
                in_flight: 2,
                within: 60 * SECOND,
            }),
        ),
    ]
}

impl World {
    /// The world at its beginning.
    #[must_use]
    pub fn first(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for (system, name, peer, skew) in DATABASES {
            world.databases.push(Database::new(system, name, peer, skew));
        }
        for (name, peer) in CACHES {
            world.caches.push(Cache::new(name, peer));
        }
        for (place, (namespace, _, database, connections)) in TARGETS.into_iter().enumerate() {
            let cache = CACHE_OF.get(place).copied().unwrap_or_default();
            let target = Target::new(namespace, target_name(place), (database, cache), connections);
            let told = Replicas {
                workload: target.key(),
                from: None,
                to: target.replicas,
                manager: "kubectl-client-side-apply".into(),
                sent: None,
                remediation: None,
            };
            world.tell(What::Replicas(told));
            world.targets.push(target);
        }
        world.tell(What::Budgets(Vec::new()));
        for place in 0..POLICIES.len() {
            let _ = world.create_policy(PolicyObject {
                policy: policy(place, 0),
                version: 0,
                paused: None,
                report: PolicyReport::default(),
            });
        }
        world.refresh();
        world
    }
}
