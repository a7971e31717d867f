//! A situation in which every guard lets through; each test spoils one thing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Context, GuardName, Stage, evaluate};
use crate::actions::{CancelQuery, CancelQuerySettings, ScaleSettings, ScaleStep, ShedWorkersSettings};
use crate::dependencies::workers::WorkersDependency;
use crate::effects::{Requests, SessionTarget};
use crate::model::{
    Action, ActionKind, Admission, Breach, BreachKind, BreachMemory, ByName, CacheUse, Candidate, Change,
    Confidence, Coverage, Databases, Dependency, Evaluation, Facts, FieldManager, Finding, Fleet,
    GuardSettings, Incident, Ledger, Limits, Measured, Mode, Objective, ObjectiveKind, Observations,
    Observed, OperatorHealth, Policy, PolicyRef, PostgresDependency, PostgresFacts, PostgresLook, Preset,
    PrometheusSource, Reading, RedisClients, RedisCounters, RedisDependency, RedisFacts, RedisHistory,
    RedisLook, RedisMemory, RedisRole, RedisServer, Remediation, RemediationStatus, ReplicasChange,
    ResourceKey, Rung, RungAction, Scheme, Scope, ServerIdentity, Session, SessionIdentity, SessionState,
    Severity, Slots, Snapshot, Source, Subject, Survey, Target, TargetKind, TargetRef, UncommittedWrites,
    Undo, UndoState, Verdict, Verification, VerifySpec, Workload, earlier,
};
use crate::model::{Overall, Situation};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Setup {
    pub(crate) now: Timestamp,
    pub(crate) snapshot: Snapshot,
    pub(crate) situation: Situation,
    pub(crate) candidate: Candidate,
    pub(crate) ledger: Ledger,
    pub(crate) fleet: Fleet,
    pub(crate) limits: Limits,
    pub(crate) survey: Survey,
}

/// What the guard says at that stage, if it refuses.
pub(crate) fn refused(setup: &Setup, guard: GuardName, stage: Stage) -> Option<String> {
    let admission =
        Admission { ledger: &setup.ledger, fleet: setup.fleet, limits: &setup.limits, survey: &setup.survey };
    let context = Context {
        stage,
        now: setup.now,
        candidate: &setup.candidate,
        view: (stage != Stage::Admit).then_some((&setup.snapshot, &setup.situation)),
        admission: (stage != Stage::Propose).then_some(&admission),
    };
    let verdicts = evaluate(&context);
    let verdict =
        verdicts.iter().find(|verdict| verdict.guard == guard).expect("the guard is asked at this stage");
    (!verdict.passed()).then(|| verdict.fact().to_string())
}

impl Setup {
    /// A breached policy in Auto whose runaway query may be cancelled.
    pub(crate) fn acting() -> Self {
        let now: Timestamp = "2026-01-01T03:00:00Z".parse().unwrap();
        let session = running_session(now);
        let finding = Finding {
            cause: "RunawayQuery".into(),
            confidence: Confidence::Certain,
            advice: false,
            subject: Some(Subject::Session { dependency: "db".into(), session: session.identity.clone() }),
            onset: Some(earlier(now, 10 * SECOND)),
            evidence: vec![],
            sentence: "a statement takes most of the active time".into(),
            explained_by: None,
        };
        let snapshot = snapshot(now, session);
        let situation = Situation {
            now,
            readings: vec![reading(now)],
            overall: Overall::Breached(Severity::P2),
            breach: Some(BreachMemory { first_at: earlier(now, 5 * SECOND), counted: 5 * SECOND }),
            incident: snapshot.incident.clone(),
            caches: ByName::new(),
            findings: vec![finding],
            proposed: snapshot.root(&candidate(&snapshot).subject).into_iter().collect(),
            calm: Duration::ZERO,
        };
        let candidate = candidate(&snapshot);
        let fleet = Fleet { leading: true, ledger_complete: true, draining: None };
        Self {
            now,
            snapshot,
            situation,
            candidate,
            ledger: Ledger::default(),
            fleet,
            limits: Limits::default(),
            survey: Survey::default(),
        }
    }

    /// A breached policy in Auto whose cache was flushed and may be warmed.
    pub(crate) fn warming() -> Self {
        let mut setup = Self::acting();
        let now = setup.now;
        let policy = &mut setup.snapshot.policy;
        let declared = RedisDependency { secret: "orders-redis".into(), usage: CacheUse::Cache };
        policy.dependencies.insert("cache".into(), Dependency::Redis(declared));
        policy.rungs = vec![Rung {
            name: "warm".into(),
            causes: vec!["ColdCache".into()],
            action: RungAction::WarmCache(Requests {
                service: "orders-api".into(),
                port: "http".into(),
                scheme: Scheme::Http,
                paths: vec!["/api/v1/portfolios".into(), "/api/v1/orders".into()],
                requests_per_path: 3,
                rate_per_second: 5,
                in_flight: 2,
                within: 20 * SECOND,
            }),
            mode: None,
            min_severity: Severity::P2,
        }];
        let facts = RedisFacts::from(redis_facts());
        let read = Observed::Known { at: now, value: facts.into() };
        setup.snapshot.observations.dependencies.insert("cache".into(), read);
        setup.snapshot.operator.enabled_actions.push(ActionKind::WarmCache);
        setup.postgres().sessions.clear();
        let mut found = finding("ColdCache", Confidence::Likely);
        found.subject = Some(Subject::Dependency { dependency: "cache".into() });
        setup.situation.findings = vec![found.clone()];
        let rung = setup.snapshot.policy.rungs[0].clone();
        let action = rung.action.settings().propose(&setup.snapshot, &rung, &found).unwrap();
        setup.candidate = Candidate {
            rung: rung.name,
            cause: found.cause,
            confidence: found.confidence,
            subject: action.act().subject(),
            resource: action.act().resource(&setup.snapshot.policy.id.namespace),
            action,
            undo: None,
            ..setup.candidate
        };
        setup
    }

    /// What was read of the cache.
    pub(crate) fn cache(&mut self) -> &mut RedisFacts {
        match self.snapshot.observations.dependencies.get_mut("cache") {
            Some(Observed::Known { value: Facts::Redis(facts), .. }) => facts,
            _ => panic!("no cache was read"),
        }
    }

    /// What was read of the database.
    pub(crate) fn postgres(&mut self) -> &mut PostgresFacts {
        match self.snapshot.observations.dependencies.get_mut("db") {
            Some(Observed::Known { value: Facts::Postgres(facts), .. }) => facts,
            _ => panic!("no database was read"),
        }
    }

    /// The same is seen again at another instant.
    pub(crate) fn look_again(&mut self, now: Timestamp) {
        fn again<T>(observed: &mut Observed<T>, now: Timestamp) {
            if let Observed::Known { at, .. } = observed {
                *at = now;
            }
        }
        (self.now, self.snapshot.now, self.situation.now) = (now, now, now);
        self.snapshot.operator.api_contact_at = now;
        self.situation.readings.iter_mut().for_each(|reading| reading.at = now);
        again(&mut self.snapshot.observations.target, now);
        self.snapshot.observations.dependencies.iter_mut().for_each(|(_, read)| again(read, now));
    }

    /// A breached policy in Auto whose saturated target may be scaled from 4 to 6.
    pub(crate) fn scaling() -> Self {
        let mut setup = Self::acting();
        let policy = &mut setup.snapshot.policy;
        policy.rungs = vec![Rung {
            name: "grow".into(),
            causes: vec!["WorkersSaturated".into()],
            action: RungAction::Scale(ScaleSettings {
                step: ScaleStep::Share(0.5),
                max: 12,
                max_hold: Duration::from_secs(3600),
            }),
            mode: None,
            min_severity: Severity::P2,
        }];
        let target = policy.target.clone();
        setup.postgres().sessions.clear();
        let mut found = finding("WorkersSaturated", Confidence::Likely);
        found.subject = Some(Subject::Workload(target.clone()));
        setup.situation.findings = vec![found.clone()];
        setup.situation.readings[0].scope = Some(Scope::SystemWide);
        let rung = setup.snapshot.policy.rungs[0].clone();
        let action = rung.action.settings().propose(&setup.snapshot, &rung, &found).unwrap();
        let undo = rung.action.settings().undo(&setup.snapshot.policy, &action);
        setup.candidate = Candidate {
            rung: rung.name,
            cause: found.cause,
            confidence: found.confidence,
            subject: action.act().subject(),
            resource: action.act().resource(&setup.snapshot.policy.id.namespace),
            action,
            undo,
            ..setup.candidate
        };
        setup
    }

    /// A breached policy in Auto whose eight background workers hold the database, and may be shed down to two.
    pub(crate) fn shedding() -> Self {
        let mut setup = Self::acting();
        let now = setup.now;
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-celery".into() };
        let policy = &mut setup.snapshot.policy;
        let declared = WorkersDependency {
            target,
            client_roles: vec!["celery".into()],
            acks_late: true,
            max_task: Some(20 * SECOND),
        };
        policy.dependencies.insert("celery".into(), Dependency::Workers(declared));
        policy.rungs = vec![Rung {
            name: "shed".into(),
            causes: vec!["BackgroundLoad".into()],
            action: RungAction::ShedWorkers(ShedWorkersSettings {
                dependency: "celery".into(),
                min: 2,
                max_hold: Duration::from_secs(1800),
            }),
            mode: None,
            min_severity: Severity::P2,
        }];
        let eight = Workload {
            desired: 8,
            total: 8,
            updated: 8,
            ready: 8,
            grace: Some(30 * SECOND),
            ..workload(now)
        };
        let value = Target { uid: "w".into(), workload: Some(eight), opt_out: None };
        let read = Observed::Known { at: now, value: value.into() };
        setup.snapshot.observations.dependencies.insert("celery".into(), read);
        setup.snapshot.operator.enabled_actions.push(ActionKind::ShedWorkers);
        setup.postgres().sessions.clear();
        let mut found = finding("BackgroundLoad", Confidence::Certain);
        found.subject = Some(Subject::Dependency { dependency: "celery".into() });
        setup.situation.findings = vec![found.clone()];
        let rung = setup.snapshot.policy.rungs[0].clone();
        let action = rung.action.settings().propose(&setup.snapshot, &rung, &found).unwrap();
        let undo = rung.action.settings().undo(&setup.snapshot.policy, &action);
        setup.candidate = Candidate {
            rung: rung.name,
            cause: found.cause,
            confidence: found.confidence,
            subject: found.subject.unwrap(),
            resource: action.act().resource(&setup.snapshot.policy.id.namespace),
            action,
            undo,
            ..setup.candidate
        };
        setup
    }

    /// The background workers as they were read.
    pub(crate) fn workers(&mut self) -> &mut Target {
        match self.snapshot.observations.dependencies.get_mut("celery") {
            Some(Observed::Known { value: Facts::Workers(target), .. }) => target,
            _ => panic!("no workers were read"),
        }
    }

    /// What the candidate would owe.
    pub(crate) fn owed(&self, state: UndoState) -> Undo {
        Undo {
            state,
            change: Change::Replicas(ReplicasChange { baseline: 4, wrote: 6, writing: None }),
            due_at: crate::model::later(self.now, Duration::from_secs(3600)),
            due_by: None,
            stepped_at: None,
            overdue: false,
        }
    }

    /// The target's replicas.
    pub(crate) fn workload(&mut self) -> &mut Workload {
        let Observed::Known { value, .. } = &mut self.snapshot.observations.target else {
            panic!("no target")
        };
        value.workload.as_mut().unwrap()
    }

    /// The candidate as an object that was admitted a moment ago.
    pub(crate) fn remediation(&self) -> Remediation {
        Remediation {
            namespace: self.candidate.policy.namespace.clone(),
            name: self.candidate.object_name(),
            // Long enough ago to say nothing about when it acted.
            created_at: earlier(self.now, 48 * 3600 * SECOND),
            deleting: false,
            held: self.candidate.undo.is_some(),
            spec: (&self.candidate).into(),
            status: RemediationStatus::default(),
        }
    }
}

fn reading(now: Timestamp) -> Reading {
    Reading {
        objective: "p95".into(),
        at: now,
        verdict: Verdict::Breached(Breach { kind: BreachKind::Slow, severity: Severity::P2 }),
        measured: Some(Measured {
            requests: 500.0,
            value: Some(0.9),
            bound: None,
            sentence: "slow".into(),
            notes: vec![],
        }),
        scope: Some(Scope::SystemWide),
    }
}

/// Something that was found in the database.
pub(crate) fn finding(cause: &'static str, confidence: Confidence) -> Finding {
    Finding {
        cause: cause.into(),
        confidence,
        advice: false,
        subject: Some(Subject::Dependency { dependency: "db".into() }),
        onset: None,
        evidence: vec![],
        sentence: "it was found".into(),
        explained_by: None,
    }
}

/// Four replicas, all of them ready, which nobody else scales.
fn workload(now: Timestamp) -> Workload {
    Workload {
        generation: 1,
        observed_generation: 1,
        desired: 4,
        total: 4,
        updated: 4,
        ready: 4,
        grace: None,
        paused: false,
        managers: vec![FieldManager("kubectl-client-side-apply".into())],
        autoscalers: Observed::Known { at: now, value: vec![] },
    }
}

fn running_session(now: Timestamp) -> Session {
    Session {
        identity: SessionIdentity {
            pid: 77,
            backend_start: earlier(now, 60 * SECOND),
            query_start: earlier(now, 10 * SECOND),
        },
        role: "reporting".into(),
        database: "orders".into(),
        application: "report".into(),
        state: SessionState::Active,
        xact_start: Some(earlier(now, 10 * SECOND)),
        state_change: earlier(now, 10 * SECOND),
        waits_for_lock: false,
        wait_start: None,
        wrote: false,
        xmin_age: None,
        privileged: false,
        maintenance: false,
        protected: false,
        fingerprint: "42".into(),
    }
}

/// A primary that was started a day ago.
pub(crate) fn redis_facts() -> RedisLook {
    RedisLook {
        server: RedisServer {
            host: "redis.shop".into(),
            port: 6379,
            database: 0,
            peer: "10.0.0.9:6379".into(),
            run_id: "one".into(),
        },
        version: "7.0.15".into(),
        clock: "2026-01-01T03:00:00Z".parse().unwrap(),
        uptime: 86400 * SECOND,
        role: RedisRole::Primary,
        ping: Duration::from_millis(1),
        counters: RedisCounters::default(),
        keys: 1000,
        memory: RedisMemory { used: 10_000_000, max: Some(100_000_000), policy: "allkeys-lru".into() },
        clients: RedisClients { connected: 10, max: Some(10_000) },
        commands: vec![],
        slow: vec![],
        unreadable: vec![],
        history: RedisHistory::default(),
    }
}

fn server(now: Timestamp) -> ServerIdentity {
    ServerIdentity {
        system_identifier: "7000".into(),
        database: "orders".into(),
        peer: "10.0.0.1:5432".into(),
        started_at: earlier(now, 3600 * SECOND),
    }
}

fn snapshot(now: Timestamp, session: Session) -> Snapshot {
    let facts = PostgresLook {
        server: server(now),
        version: 150_000,
        clock: now,
        standby: false,
        connected_as: "latency_operator".into(),
        grantee: "latency_operator".into(),
        coverage: Coverage::Full,
        may_signal: true,
        slots: Slots { usable: 100, used: 10 },
        active_seconds: 10.5,
        active: 1,
        active_by_role: [("reporting".to_owned(), 1)].into(),
        sessions: vec![session],
        lock_waits: vec![],
        truncated: false,
    };
    let target = Target { uid: "t".into(), workload: Some(workload(now)), opt_out: None };
    let target = Observed::Known { at: now, value: target };
    let operator = OperatorHealth {
        leading_since: earlier(now, 600 * SECOND),
        api_contact_at: now,
        api_contact_within: 10 * SECOND,
        enabled_actions: vec![ActionKind::CancelQuery, ActionKind::TerminateIdle, ActionKind::Scale].into(),
        protected_roles: vec!["postgres".into()].into(),
    };
    let mut snapshot = Snapshot::new(now, policy(), Observations::new(target), operator);
    let facts = PostgresFacts::from(facts);
    let read = Observed::Known { at: now, value: facts.into() };
    snapshot.observations.dependencies.insert("db".into(), read);
    snapshot.incident = Some(Incident {
        name: "orders-api-12345678-2".into(),
        ordinal: 2,
        first_breached_at: earlier(now, 5 * SECOND),
        opened_at: earlier(now, 2 * SECOND),
        severity: Severity::P2,
        reopened: 0,
    });
    snapshot.next_ordinal = 3;
    snapshot
}

/// A policy with short times, one objective, one database and one rung.
pub(crate) fn policy() -> Policy {
    Policy {
        id: PolicyRef { namespace: "shop".into(), name: "orders-api".into(), uid: "12345678-aaaa".into() },
        created_at: "2025-12-01T00:00:00Z".parse().unwrap(),
        generation: 1,
        mode: Mode::Auto,
        target: TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() },
        evaluation: Evaluation {
            interval: SECOND,
            window: 10 * SECOND,
            breach_for: 3 * SECOND,
            recover_for: 5 * SECOND,
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
                preset: Preset::Django,
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
        thresholds: BTreeMap::new(),
        rungs: vec![Rung {
            name: "cancel".into(),
            causes: vec!["RunawayQuery".into(), "BlockingQuery".into()],
            action: RungAction::CancelQuery(CancelQuerySettings {
                writes: UncommittedWrites::Protect,
                terminate_after: None,
            }),
            mode: None,
            min_severity: Severity::P2,
        }],
        concurrency_per_pod: Some(4),
        databases: Databases::Declared,
        ignored: vec![],
        unused: vec![],
        guards: GuardSettings {
            max_actions_per_hour: 2,
            max_attempts_per_incident: 3,
            cooldown: Duration::from_secs(300),
            min_available: 0.6,
        },
        verification: Verification { after: SECOND, within: 30 * SECOND },
        history_limit: 20,
    }
}

fn candidate(snapshot: &Snapshot) -> Candidate {
    let session = running_session(snapshot.now);
    let policy = &snapshot.policy;
    let server = server(snapshot.now);
    Candidate {
        policy: policy.id.clone(),
        target: policy.target.clone(),
        incident: "orders-api-12345678-2".into(),
        rung: "cancel".into(),
        attempt: 1,
        mode: Mode::Auto,
        cause: "RunawayQuery".into(),
        confidence: Confidence::Certain,
        subject: Subject::Session { dependency: "db".into(), session: session.identity.clone() },
        reason: "a statement takes most of the active time".into(),
        resource: ResourceKey::database(&policy.id.namespace, &server),
        action: Action::CancelQuery(CancelQuery(SessionTarget {
            dependency: "db".into(),
            secret: "orders-db".into(),
            server,
            session: session.identity,
            role: session.role,
            fingerprint: session.fingerprint,
            writes: UncommittedWrites::Protect,
        })),
        cooldown: policy.guards.cooldown,
        max_actions_per_hour: policy.guards.max_actions_per_hour,
        verify: VerifySpec { after: SECOND, within: 30 * SECOND, window: 10 * SECOND, effect_within: None },
        undo: None,
    }
}
