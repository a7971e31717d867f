//! The status of a policy over evaluations: what is written, and that nothing is written while nothing happens.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod support;

use std::time::Duration;

use controller::report::{self, Background, Judged, PolicyReport, PolicyState};
use engine::model::{
    ByName, Incident, NoDataReason, Observations, Observed, OperatorHealth, Pause, PausedBy, Policy,
    Snapshot, Target, Traffic, later,
};
use engine::{State, tick};
use jiff::Timestamp;
use support::builders::{self, SECOND};

const HOUR: Duration = Duration::from_secs(3600);

/// A policy with its stored status, and a leader with what it remembers.
struct Watched {
    policy: Policy,
    pauses: Vec<Pause>,
    state: State,
    incident: Option<Incident>,
    now: Timestamp,
    stored: PolicyReport,
    writes: usize,
}

impl Watched {
    fn new() -> Self {
        Self {
            policy: Policy { dependencies: ByName::new(), ..builders::policy() },
            pauses: Vec::new(),
            state: State::default(),
            incident: None,
            now: builders::start(),
            stored: PolicyReport::default(),
            writes: 0,
        }
    }

    /// One evaluation, that long after the one before.
    fn evaluate(&mut self, after: Duration, traffic: Observed<Traffic>) {
        self.now = later(self.now, after);
        let target = Target { uid: "t".into(), workload: None, opt_out: None };
        let health = OperatorHealth {
            leading_since: builders::start(),
            api_contact_at: self.now,
            api_contact_within: 30 * SECOND,
            enabled_actions: Vec::new().into(),
            protected_roles: Vec::new().into(),
        };
        let observations = Observations {
            measurements: ByName::from_iter([("p95".to_owned(), traffic.map(Into::into))]),
            pauses: self.pauses.clone(),
            ..Observations::new(Observed::Known { at: self.now, value: target })
        };
        let snapshot = Snapshot {
            incident: self.incident.clone(),
            ..Snapshot::new(self.now, self.policy.clone(), observations, health)
        };
        let ticked = tick(&snapshot, &self.state);
        let background = Background { before: &self.stored, problems: &[], resolution: Some(15 * SECOND) };
        let report = report::policy(background, &snapshot, &ticked, (0, None), None);
        self.writes += usize::from(report != self.stored);
        self.incident = ticked.situation.incident.clone();
        (self.state, self.stored) = (ticked.state, report);
    }

    /// An evaluation in which the slow requests take that long.
    fn see(&mut self, after: Duration, slow_millis: u64) {
        let at = later(self.now, after);
        let slow = Duration::from_millis(slow_millis);
        self.evaluate(after, Observed::Known { at, value: builders::traffic(at, 1000.0, slow, 4.0, 0.0) });
    }

    fn see_nothing(&mut self, after: Duration) {
        self.evaluate(after, Observed::missing(NoDataReason::Timeout, "no answer within 1s"));
    }

    fn measured(&self) -> &str {
        self.stored.objectives[0].measured.as_deref().expect("a value")
    }
}

#[test]
fn nothing_is_written_while_nothing_happens() {
    let mut watched = Watched::new();
    watched.see(SECOND, 90);
    assert_eq!(watched.writes, 1);
    let judged = watched.stored.objectives[0].clone();
    assert_eq!((judged.verdict, judged.bucket_bound.as_deref()), (Judged::Healthy, Some("500ms")));
    assert_eq!((judged.threshold.as_str(), judged.requests), ("500ms", Some(1000)));
    // The value is about 100 ms or 250 ms, from one evaluation to the next.
    for second in 0..3000 {
        watched.see(SECOND, if second % 2 == 0 { 200 } else { 90 });
    }
    assert_eq!((watched.writes, &watched.stored.objectives[0]), (1, &judged));
}

#[test]
fn a_value_that_has_moved_is_written_hourly_by_whichever_leader() {
    let mut watched = Watched::new();
    watched.see(SECOND, 90);
    let first = watched.measured().to_owned();
    for _ in 0..4 {
        watched.see(HOUR, 90);
    }
    assert_eq!(watched.writes, 1, "it has not moved");
    watched.see(SECOND, 200);
    assert_eq!(watched.writes, 2);
    assert_ne!(watched.measured(), first);
    // A new leader remembers nothing and compares with what is stored.
    watched.state = State::default();
    watched.see(HOUR / 2, 90);
    assert_eq!(watched.writes, 2, "less than an hour");
    watched.see(HOUR / 2, 90);
    assert_eq!((watched.writes, watched.measured()), (3, first.as_str()));
    assert_eq!(watched.stored.objectives[0].since, later(builders::start(), SECOND));
}

#[test]
fn a_leader_that_has_read_nothing_yet_keeps_the_stored_verdict() {
    let mut watched = Watched::new();
    watched.see(SECOND, 90);
    let before = (watched.stored.objectives.clone(), watched.stored.measured.clone());
    watched.state = State::default();
    watched.see_nothing(SECOND);
    assert_eq!((watched.stored.objectives.clone(), watched.stored.measured.clone()), before);
    assert_eq!(watched.stored.state, Some(PolicyState::Healthy));
    // Missing for three evaluations, it is reported.
    watched.see_nothing(SECOND);
    watched.see_nothing(SECOND);
    let judged = &watched.stored.objectives[0];
    assert_eq!((judged.verdict, judged.measured.as_ref()), (Judged::NoData, None));
    assert_eq!(watched.stored.state, Some(PolicyState::NoData));
    assert_eq!(watched.stored.measured.as_deref(), Some("p95 no data"));
}

#[test]
fn the_state_and_the_measured_value_follow_the_verdict() {
    let mut watched = Watched::new();
    watched.see_nothing(SECOND);
    assert_eq!(watched.stored.state, Some(PolicyState::Pending));
    watched.see(SECOND, 90);
    assert_eq!(watched.stored.state, Some(PolicyState::Healthy));
    watched.see(15 * SECOND, 2000);
    assert_eq!(watched.stored.state, Some(PolicyState::Breached));
    assert_eq!(watched.stored.measured.as_deref(), Some("p95 1.8s > 500ms"));
    for _ in 0..4 {
        watched.see(SECOND, 2000);
    }
    assert!(watched.incident.is_some());
    watched.see(SECOND, 90);
    assert_eq!(watched.stored.state, Some(PolicyState::Recovering));
    for _ in 0..3 {
        watched.see_nothing(SECOND);
    }
    assert_eq!(watched.stored.state, Some(PolicyState::NoData), "nobody knows whether it recovers");
    watched.pauses = vec![Pause { by: PausedBy::Namespace, until: "forever".into(), reason: None }];
    watched.see(SECOND, 2000);
    assert_eq!(watched.stored.state, Some(PolicyState::Paused));
}

#[test]
fn what_the_spec_leaves_out_is_shown() {
    let mut watched = Watched::new();
    watched.see(SECOND, 90);
    let effective = watched.stored.effective.as_ref().expect("values in force");
    assert_eq!((effective.no_data_after.as_str(), effective.within.as_str()), ("3s", "30s"));
    assert_eq!(effective.resolution.as_deref(), Some("15s"));
    let threshold = |cause: &str| effective.thresholds.iter().find(|one| one.cause == cause).expect("one");
    assert_eq!(threshold("RunawayQuery").older_than.as_deref(), Some("3s"), "the policy's");
    assert_eq!(threshold("IdleInTransaction").older_than.as_deref(), Some("1m"), "the default");
    assert!(threshold("ColdCache").below.as_deref().is_some_and(|below| below.ends_with('%')));
}
