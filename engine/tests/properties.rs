//! What holds whatever happens: random worlds, and the same checks after every tick.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::actions::{CancelQuery, CancelQuerySettings};
use engine::effects::{Requests, SessionTarget};
use engine::guards::{Context, GuardVerdict, Stage, evaluate, refusals};
use engine::model::{
    Action, Admission, CacheUse, Candidate, Confidence, Dependency, Facts, Fleet, Ledger, Limits, Mode,
    Observed, Phase, Policy, RedisDependency, ResourceKey, Rung, RungAction, Scheme, Severity, Snapshot,
    UncommittedWrites,
};
use engine::tick;
use proptest::prelude::*;
use support::parse::Traffic;
use support::{builders, world::World};

fn policy(cooldown: u64, attempts: u32, writes: UncommittedWrites) -> Policy {
    let mut policy = builders::policy();
    policy.guards.cooldown = Duration::from_secs(cooldown);
    policy.guards.max_attempts_per_incident = attempts;
    let causes = vec!["RunawayQuery".into(), "BlockingQuery".into()];
    for name in ["first", "second"] {
        let action = RungAction::CancelQuery(CancelQuerySettings { writes, terminate_after: None });
        policy.rungs.push(Rung {
            name: name.into(),
            causes: causes.clone(),
            action,
            mode: None,
            min_severity: Severity::P2,
        });
    }
    let redis = RedisDependency { secret: "orders-redis".into(), usage: CacheUse::Cache };
    policy.dependencies.insert("cache".into(), Dependency::Redis(redis));
    policy.rungs.push(Rung {
        name: "warm".into(),
        causes: vec!["ColdCache".into()],
        action: RungAction::WarmCache(Requests {
            service: "orders-api".into(),
            port: "http".into(),
            scheme: Scheme::Http,
            paths: vec!["/api/1".into(), "/api/2".into()],
            requests_per_path: 3,
            rate_per_second: 1,
            in_flight: 2,
            within: Duration::from_secs(10),
        }),
        mode: None,
        min_severity: Severity::P2,
    });
    policy
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let flows = |requests: f64, millis: u64, in_flight: f64| Traffic::Flows {
        requests,
        slow: Duration::from_millis(millis),
        in_flight,
        errors: 0.0,
    };
    prop_oneof![
        3 => Just(flows(500.0, 90, 4.0)),
        6 => Just(flows(500.0, 900, 20.0)),
        1 => Just(flows(0.0, 90, 80.0)),
        1 => Just(flows(10.0, 900, 0.0)),
        1 => Just(Traffic::NoData("Timeout".into())),
    ]
}

fn event() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "report starts as reporting",
        "report starts as reporting writing",
        "report starts as stranger",
        "report starts as reporting 10m ago",
        "batch starts as orders writing",
        "batch blocks 3 orders",
        "batch goes idle",
        "report ends",
        "batch ends",
        "cancel works",
        "cancel works",
        "cancel is ignored",
        "cancel finds nothing",
        "cancel is lost",
        "cancel crashes before",
        "cancel crashes after",
        "database blind Timeout",
        "database partial",
        "database back",
        "cache is flushed",
        "cache is flushed",
        "cache is restarted",
        "cache fades",
        "cache evicts 20",
        "cache is full",
        "cache blind Timeout",
        "cache back",
        "requests fail",
        "pause target until forever",
        "resume",
        "mode Observe",
        "mode Auto",
        "restart",
    ]);
    fixed.prop_map(str::to_owned)
}

/// A minute of ticks, mostly a second apart; long stretches of trouble, so that acts happen.
fn ticks() -> impl Strategy<Value = Vec<(u64, Traffic, Vec<String>)>> {
    let events = prop_oneof![4 => Just(Vec::new()), 2 => prop::collection::vec(event(), 1..3)];
    let gap = prop_oneof![8 => Just(1_u64), 1 => 2_u64..20];
    let line = (gap, traffic(), events, 1_usize..6);
    // Half of the lines are trouble as it comes in life: a culprit, and slowness that lasts.
    let culprits = prop::sample::select(vec![
        vec!["report starts as reporting".to_owned()],
        vec!["report starts as reporting writing".to_owned(), "report blocks 3 orders".to_owned()],
        vec!["cache is flushed".to_owned()],
    ]);
    let slow =
        Traffic::Flows { requests: 500.0, slow: Duration::from_millis(900), in_flight: 20.0, errors: 0.0 };
    let trouble = (Just(1_u64), Just(slow), culprits, 4_usize..12);
    let line = prop_oneof![line, trouble];
    prop::collection::vec(line, 5..15).prop_map(|lines| {
        let calm =
            Traffic::Flows { requests: 500.0, slow: Duration::from_millis(90), in_flight: 4.0, errors: 0.0 };
        let mut ticks = vec![(0, calm.clone(), vec![]), (1, calm.clone(), vec![]), (1, calm, vec![])];
        for (gap, traffic, events, repeat) in lines {
            ticks.push((gap, traffic.clone(), events));
            ticks.extend((1..repeat).map(|_| (1, traffic.clone(), vec![])));
        }
        ticks
    })
}

/// Plays the ticks; after each one, checks what must hold.
fn play(policy: Policy, ticks: &[(u64, Traffic, Vec<String>)]) -> usize {
    let mut world = World::new(policy.clone());
    let mut at = Duration::ZERO;
    let mut forbidden = Forbidden::default();
    let mut last_acts: Vec<(ResourceKey, Duration, String)> = Vec::new();
    for (gap, traffic, events) in ticks {
        at += Duration::from_secs(*gap);
        forbidden.hear(events);
        let before = world.stage().effects_sent.len();
        world.tick_anyhow(at, traffic, events);
        let stage = world.stage();
        for name in &stage.effects_sent[before..] {
            assert!(!matches!(traffic, Traffic::NoData(_)), "acted on NoData: {name}");
            assert!(!forbidden.any(), "acted although {forbidden:?}: {name}");
            let remediation = &stage.remediations[name].value;
            let incident = &remediation.spec.incident;
            // What was refused at its gate did nothing.
            let attempts = stage.remediations.values().map(|stored| &stored.value).filter(|r| {
                r.spec.incident == *incident && !r.spec.is_dry_run() && r.status.phase != Phase::Refused
            });
            assert!(
                attempts.count() <= policy.guards.max_attempts_per_incident as usize,
                "too many attempts"
            );
            let resource = &remediation.spec.resource;
            let last = last_acts.iter().rfind(|(of, ..)| of.same_as(resource));
            if let Some((_, last, of)) = last {
                let of = &stage.remediations[of].value.spec;
                let next_rung = of.incident == *incident && of.rung != remediation.spec.rung;
                assert!(next_rung || at - *last >= policy.guards.cooldown, "no rest between two acts");
            }
            // What found nothing to do has done nothing.
            if remediation.may_have_acted_at().is_some() {
                last_acts.push((resource.clone(), at, name.clone()));
            }
        }
    }
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    let stage = world.stage();
    for name in &stage.effects_sent {
        *by_name.entry(name).or_default() += 1;
    }
    assert!(by_name.values().all(|count| *count == 1), "one intent, two effects: {by_name:?}");
    for remediation in stage.remediations.values().map(|stored| &stored.value).filter(|r| r.spec.is_dry_run())
    {
        assert!(!stage.effects_sent.contains(&remediation.name), "a dry run acted");
    }
    stage.effects_sent.len()
}

#[derive(Debug, Default)]
struct Forbidden {
    paused: bool,
    observing: bool,
}

impl Forbidden {
    fn hear(&mut self, events: &[String]) {
        for event in events {
            match event.as_str() {
                "pause target until forever" => self.paused = true,
                "resume" => self.paused = false,
                "mode Observe" => self.observing = true,
                "mode Auto" => self.observing = false,
                _ => {}
            }
        }
    }

    fn any(&self) -> bool {
        self.paused || self.observing
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_twice_in_the_dark_or_against_a_persons_word(
        ticks in ticks(),
        cooldown in prop::sample::select(vec![1_u64, 10, 60]),
        attempts in 1_u32..4,
        writes in prop::sample::select(vec![UncommittedWrites::Protect, UncommittedWrites::RollBack]),
    ) {
        play(policy(cooldown, attempts, writes), &ticks);
    }

    #[test]
    fn the_same_input_gives_the_same_output(ticks in ticks()) {
        let (mut one, mut two) = (World::new(policy(10, 3, UncommittedWrites::RollBack)), World::new(policy(10, 3, UncommittedWrites::RollBack)));
        let mut at = Duration::ZERO;
        for (gap, traffic, events) in &ticks {
            at += Duration::from_secs(*gap);
            one.tick_anyhow(at, traffic, events);
            two.tick_anyhow(at, traffic, events);
            prop_assert_eq!(one.said(), two.said());
            if let Some((last, state)) = one.last_tick() {
                prop_assert_eq!(tick(&last.snapshot, state), tick(&last.snapshot, state));
            }
        }
    }

    #[test]
    fn a_stricter_guard_never_lets_more_through(ticks in ticks(), strictness in strictness()) {
        let mut world = World::new(policy(1, 3, UncommittedWrites::RollBack));
        let mut at = Duration::ZERO;
        for (gap, traffic, events) in &ticks {
            at += Duration::from_secs(*gap);
            world.tick_anyhow(at, traffic, events);
            let Some((last, state)) = world.last_tick() else { continue };
            let snapshot = &last.snapshot;
            let stricter = strictness.apply(snapshot);
            let proposed = |snapshot| {
                let proposals = tick(snapshot, state).proposals;
                proposals.iter().filter(|one| strictness.concerns(&one.candidate.action)).count()
            };
            prop_assert!(proposed(&stricter) <= proposed(snapshot));
        }
    }

    #[test]
    fn a_stricter_ceiling_never_admits_what_was_refused(
        entries in prop::collection::vec((0_u64..7200, 0_usize..3, any::<bool>(), 1_u64..900), 0..8),
        cooldown in 1_u64..900,
        stricter in 0_u64..900,
        ceilings in (0_u32..4, 0_u32..4, 0_u32..6, 0_u32..8),
    ) {
        let candidate = candidate(cooldown, ceilings.0);
        let ledger = ledger(&entries, &candidate);
        let limits = Limits { concurrent: ceilings.1, namespace_per_hour: ceilings.2, per_hour: ceilings.3, ..Limits::default() };
        let mut strict = candidate.clone();
        strict.cooldown += Duration::from_secs(stricter);
        strict.max_actions_per_hour = strict.max_actions_per_hour.saturating_sub(1);
        let lower = Limits {
            concurrent: limits.concurrent.saturating_sub(1),
            per_hour: limits.per_hour.saturating_sub(1),
            namespace_per_hour: limits.namespace_per_hour.saturating_sub(1),
            ..Limits::default()
        };
        let refused = |verdicts: &[GuardVerdict]| refusals(verdicts).iter().map(|v| v.guard.to_string()).collect::<Vec<_>>();
        let lenient = refused(&asked(&candidate, &ledger, &limits));
        let strict = refused(&asked(&strict, &ledger, &lower));
        for guard in lenient {
            prop_assert!(strict.contains(&guard), "{} refused the lenient and let the strict through", guard);
        }
    }
}

/// A way in which a snapshot's guards can be made stricter.
#[derive(Debug, Clone)]
enum Strictness {
    Breach(u64),
    Attempts(u32),
    Observe,
    UncommittedWrites,
    OptOut,
    Protect,
    Likely,
}

fn strictness() -> impl Strategy<Value = Strictness> {
    prop_oneof![
        (1_u64..60).prop_map(Strictness::Breach),
        (0_u32..3).prop_map(Strictness::Attempts),
        Just(Strictness::Observe),
        Just(Strictness::UncommittedWrites),
        Just(Strictness::OptOut),
        Just(Strictness::Protect),
        Just(Strictness::Likely),
    ]
}

impl Strictness {
    /// Where a session is not to blame any more, or may not be hit, something else may be done in its place: about those it
    /// says nothing. For `Likely` that is a gap of `DatabaseHealthy`, not a virtue: a database is well to it as long as none
    /// of its causes is found, and beside much else no statement dominates.
    fn concerns(&self, action: &Action) -> bool {
        match self {
            Self::UncommittedWrites | Self::Protect | Self::Likely => {
                action.act().effect().session().is_some()
            }
            Self::Breach(_) | Self::Attempts(_) | Self::Observe | Self::OptOut => true,
        }
    }

    fn apply(&self, snapshot: &Snapshot) -> Snapshot {
        let mut stricter = snapshot.clone();
        match self {
            Self::Breach(more) => stricter.policy.evaluation.breach_for += Duration::from_secs(*more),
            Self::Attempts(most) => stricter.policy.guards.max_attempts_per_incident = *most,
            // A dry run is a proposal too, but of nothing: where one would be made, none is counted.
            Self::Observe => stricter.policy.rungs.clear(),
            Self::UncommittedWrites => {
                for rung in &mut stricter.policy.rungs {
                    if let RungAction::CancelQuery(CancelQuerySettings { writes, .. }) = &mut rung.action {
                        *writes = UncommittedWrites::Protect;
                    }
                }
            }
            Self::OptOut => {
                if let Observed::Known { value, .. } = &mut stricter.observations.target {
                    value.opt_out = Some("true".into());
                }
            }
            Self::Protect => stricter.operator.protected_roles.push("reporting".into()),
            Self::Likely => {
                for (_, read) in stricter.observations.dependencies.iter_mut() {
                    if let Observed::Known { value: Facts::Postgres(facts), .. } = read {
                        facts.active_seconds *= 10.0;
                    }
                }
            }
        }
        stricter
    }
}

fn candidate(cooldown: u64, most: u32) -> Candidate {
    let policy = policy(cooldown, 3, UncommittedWrites::RollBack);
    let server = builders::quiet_database(builders::start()).server.clone();
    let session = engine::model::SessionIdentity {
        pid: 1,
        backend_start: builders::start(),
        query_start: builders::start(),
    };
    Candidate {
        policy: policy.id.clone(),
        target: policy.target.clone(),
        incident: "orders-api-12345678-1".into(),
        rung: "first".into(),
        attempt: 1,
        mode: Mode::Auto,
        cause: "RunawayQuery".into(),
        confidence: Confidence::Certain,
        subject: engine::model::Subject::Session { dependency: "db".into(), session: session.clone() },
        reason: String::new(),
        resource: ResourceKey::database(&policy.id.namespace, &server),
        action: Action::CancelQuery(CancelQuery(SessionTarget {
            dependency: "db".into(),
            secret: "orders-db".into(),
            server,
            session,
            role: "reporting".into(),
            fingerprint: String::new(),
            writes: UncommittedWrites::Protect,
        })),
        cooldown: policy.guards.cooldown,
        max_actions_per_hour: most,
        verify: engine::model::VerifySpec {
            after: Duration::from_secs(1),
            within: Duration::from_secs(30),
            window: Duration::from_secs(5),
            effect_within: None,
        },
        undo: None,
    }
}

fn ledger(entries: &[(u64, usize, bool, u64)], candidate: &Candidate) -> Ledger {
    let remediations = entries.iter().enumerate().map(|(index, (ago, policy, open, cooldown))| {
        let mut spec: engine::model::RemediationSpec = candidate.into();
        spec.policy.name = ["orders-api", "another", "third"][*policy].into();
        spec.cooldown = Duration::from_secs(*cooldown);
        spec.incident = format!("incident-{policy}");
        if index % 2 == 1 {
            let mut server = builders::quiet_database(builders::start()).server.clone();
            server.database = format!("other-{index}");
            spec.resource = ResourceKey::database("shop", &server);
        }
        let status = engine::model::RemediationStatus {
            phase: if *open { Phase::Verifying } else { Phase::Completed },
            acted_at: Some(engine::model::earlier(builders::start(), Duration::from_secs(*ago))),
            ..Default::default()
        };
        engine::model::Remediation {
            namespace: "shop".into(),
            name: format!("done-{index}"),
            created_at: builders::start(),
            deleting: false,
            held: false,
            spec,
            status,
        }
    });
    Ledger::from_list(&remediations.collect::<Vec<_>>())
}

fn asked(candidate: &Candidate, ledger: &Ledger, limits: &Limits) -> Vec<GuardVerdict> {
    let admission = Admission {
        ledger,
        fleet: Fleet { leading: true, ledger_complete: true, draining: None },
        limits,
        survey: &engine::model::Survey::default(),
    };
    evaluate(&Context {
        stage: Stage::Admit,
        now: builders::start(),
        candidate,
        view: None,
        admission: Some(&admission),
    })
}

/// The random worlds are worth something only if acts do happen in them.
#[test]
fn random_worlds_do_act() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let acts: usize = (0..200)
        .map(|_| {
            play(
                policy(1, 3, UncommittedWrites::RollBack),
                &ticks().new_tree(&mut runner).expect("ticks").current(),
            )
        })
        .sum();
    assert!(acts >= 200, "only {acts} acts in 200 worlds: the properties prove nothing");
}
