//! A run of warming, turn by turn.

use super::*;
use crate::effects::Effect;
use crate::guards::testing::Setup;
use crate::model::{
    Action, Admission, Budget, CacheBaseline, Confidence, Draining, Fleet, Freeze, Ledger, Limits,
    NoDataReason, Observed, Pause, PausedBy, Severity, Survey,
};

const SECOND: Duration = Duration::from_secs(1);

/// A cold cache whose run may begin: two paths, three times each, five a second, two in flight, within 20 s.
struct Run {
    setup: Setup,
    now: Timestamp,
    leading: bool,
    blind: bool,
    deleting: bool,
    gone: bool,
    limits: Limits,
    draining: Option<Draining>,
    warming: Warming,
}

impl Run {
    fn begins() -> Self {
        let mut setup = Setup::warming();
        setup.situation.caches.insert("cache".into(), cold(setup.now));
        let Effect::SendRequests(send) = setup.candidate.action.act().effect() else {
            panic!("it warms nothing")
        };
        let now = setup.now;
        let warming = Warming::new(&send, now, later(now, 25 * SECOND));
        let limits = Limits::default();
        Self {
            setup,
            now,
            leading: true,
            blind: false,
            deleting: false,
            gone: false,
            limits,
            draining: None,
            warming,
        }
    }

    fn turn(&mut self) -> Turn {
        // Whoever looks all the time has a fresh look all the time.
        self.setup.look_again(self.now);
        let mut remediation = self.setup.remediation();
        remediation.deleting = self.deleting;
        let (mut ledger, survey) = (Ledger::default(), Survey::default());
        if !self.gone {
            ledger.observe(&remediation);
        }
        let seen = Seen {
            policy_gone: false,
            now: self.now,
            holder: "me",
            epoch: 7,
            leading: self.leading,
            view: (!self.blind).then_some((&self.setup.snapshot, &self.setup.situation)),
            admission: Some(Admission {
                ledger: &ledger,
                fleet: Fleet { leading: self.leading, ledger_complete: true, draining: self.draining },
                limits: &self.limits,
                survey: &survey,
            }),
            passed_gate_at: None,
            effect: None,
            executing_seen_at: None,
            inspection: None,
        };
        self.warming.turn(&remediation, &seen, 0.0)
    }

    fn sends(&mut self) -> Option<String> {
        match self.turn() {
            Turn::Send { path } => Some(path),
            Turn::Wait { .. } | Turn::Over(_) => None,
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = later(self.now, span);
    }

    /// Why it waits, without an end.
    fn holds(&mut self) -> String {
        match self.turn() {
            Turn::Wait { why, .. } => why,
            other @ (Turn::Send { .. } | Turn::Over(_)) => panic!("it should wait, and does {other:?}"),
        }
    }

    fn stops(&mut self) -> String {
        match self.turn() {
            Turn::Over(Warmed { stopped: Some(why), .. }) => why,
            other @ (Turn::Send { .. } | Turn::Wait { .. } | Turn::Over(_)) => {
                panic!("it should be over, and does {other:?}")
            }
        }
    }
}

fn cold(now: Timestamp) -> CacheTrend {
    CacheTrend {
        from: now,
        to: now,
        hits: 10,
        misses: 90,
        evicted: 0,
        rejected: 0,
        baseline: Some(CacheBaseline { ratio: 0.95, keys: 1000 }),
        loss: None,
        pressed_since: None,
        slow_pings: 0,
    }
}

#[test]
fn paths_go_round_at_the_rate_with_few_in_flight_and_no_more_often_than_planned() {
    let mut run = Run::begins();
    assert_eq!(run.sends().as_deref(), Some("/api/v1/portfolios"));
    assert_eq!(run.holds(), "the rate");
    run.wait(Duration::from_millis(199));
    assert_eq!(run.sends(), None, "five a second");
    run.wait(Duration::from_millis(1));
    assert_eq!(run.sends().as_deref(), Some("/api/v1/orders"));
    run.wait(SECOND);
    assert_eq!(run.sends(), None, "two are in flight");
    let mut paths = Vec::new();
    for _ in 0..20 {
        run.warming.answered(Ok(()));
        run.wait(SECOND / 5);
        paths.extend(run.sends());
    }
    assert_eq!(paths.len(), 4);
    let Turn::Over(warmed) = run.turn() else { panic!("it goes on") };
    assert_eq!((warmed.planned, warmed.sent, warmed.stopped), (6, 6, None));
}

#[test]
fn chance_makes_it_slower_and_never_faster() {
    let mut run = Run::begins();
    run.warming.send(run.now, 1.0);
    assert_eq!(elapsed_ms(run.now, run.warming.next_at), 250);
    run.warming.send(run.now, -7.0);
    assert_eq!(elapsed_ms(run.now, run.warming.next_at), 200);
}

fn elapsed_ms(from: Timestamp, to: Timestamp) -> u128 {
    crate::model::elapsed(to, from).as_millis()
}

#[test]
fn it_ends_with_its_time_and_before_the_fence() {
    let mut run = Run::begins();
    assert!(run.sends().is_some());
    run.wait(20 * SECOND);
    assert_eq!(run.holds(), "answers", "what is under way is waited for");
    run.warming.answered(Ok(()));
    assert_eq!(run.stops(), "its time (20s) is over");
    let mut run = Run::begins();
    run.warming.until = run.now;
    assert!(run.stops().contains("is over"), "no time is left");
}

#[test]
fn it_stops_when_it_is_no_longer_needed() {
    let mut run = Run::begins();
    run.setup.situation.overall = Overall::Healthy;
    assert_eq!(run.stops(), "the objectives are kept again");
    let mut run = Run::begins();
    if let Some(trend) = run.setup.situation.caches.get_mut("cache") {
        (trend.hits, trend.misses) = (90, 10);
    }
    assert_eq!(run.stops(), "cache is warm again");
}

#[test]
fn it_stops_when_a_database_gets_slower_or_keys_are_evicted() {
    let mut run = Run::begins();
    run.setup.postgres().active_seconds = 1.0;
    assert!(run.sends().is_some());
    run.warming.answered(Ok(()));
    run.wait(SECOND);
    run.setup.postgres().active_seconds = 12.0;
    assert!(run.sends().is_some(), "that is what it is asked for");
    run.warming.answered(Ok(()));
    run.wait(SECOND);
    run.setup.postgres().active_seconds = 12.1;
    let why = run.stops();
    assert!(why.contains("the database db got slower"), "{why}");

    let mut run = Run::begins();
    assert!(run.sends().is_some());
    run.wait(SECOND);
    run.setup.cache().counters.evicted += 1;
    run.warming.answered(Ok(()));
    assert_eq!(run.stops(), "cache has begun to evict keys (1)");

    // A server that was started anew in the middle counts from nothing.
    let mut run = Run::begins();
    run.setup.cache().counters.evicted = 50;
    assert!(run.sends().is_some());
    run.wait(SECOND);
    (run.setup.cache().server.run_id, run.setup.cache().counters.evicted) = ("another".into(), 3);
    run.warming.answered(Ok(()));
    assert_eq!(run.stops(), "cache has begun to evict keys (3)");
}

#[test]
fn trouble_in_a_database_stops_it_and_one_that_cannot_be_read_holds_it() {
    let mut run = Run::begins();
    let mut finding = run.setup.situation.findings[0].clone();
    (finding.cause, finding.confidence) = ("RunawayQuery".into(), Confidence::Likely);
    finding.subject = Some(crate::model::Subject::Dependency { dependency: "db".into() });
    run.setup.situation.findings.push(finding);
    assert!(run.stops().starts_with("DatabaseHealthy: RunawayQuery"));

    let mut run = Run::begins();
    let missing = Observed::missing(NoDataReason::Timeout, "no answer within 1s");
    run.setup.snapshot.observations.dependencies.insert("db".into(), missing);
    run.wait(SECOND);
    let why = run.holds();
    assert!(why.contains("db"), "{why}");
}

#[test]
fn what_is_not_known_holds_it_and_people_stop_it() {
    let mut run = Run::begins();
    run.leading = false;
    assert!(run.holds().contains("Lease"));
    run.leading = true;
    run.blind = true;
    assert!(run.holds().contains("snapshot"));
    run.blind = false;
    run.setup.situation.overall = Overall::NoData;
    assert!(run.holds().starts_with("StillBreached"));
    run.setup.situation.overall = Overall::Breached(Severity::P1);
    run.setup.situation.caches.clear();
    run.setup.situation.findings.clear();
    assert!(run.holds().starts_with("Confidence"));
    run.setup.situation.caches.insert("cache".into(), cold(run.now));
    assert!(run.stops().starts_with("Confidence"), "it is cold, and for another reason");

    let mut run = Run::begins();
    run.setup.snapshot.observations.pauses.push(Pause {
        by: PausedBy::Target,
        until: "forever".into(),
        reason: None,
    });
    assert!(run.stops().starts_with("Paused"));
    let mut run = Run::begins();
    run.setup.snapshot.policy.rungs.clear();
    assert!(run.stops().contains("no remediation warm"));
    let mut run = Run::begins();
    run.deleting = true;
    assert!(run.stops().contains("deleted"));
    let mut run = Run::begins();
    run.gone = true;
    assert!(run.stops().contains("gone"));
    let mut run = Run::begins();
    let mut budget = Budget::unlimited("quiet");
    budget.freeze = Freeze::Actions;
    run.limits.budgets.push(budget);
    assert!(run.stops().starts_with("Budget"));
}

#[test]
fn a_target_that_fails_three_times_in_a_row_is_left_alone() {
    let mut run = Run::begins();
    for answer in [Err("503".to_owned()), Err("503".to_owned()), Ok(()), Err("502".to_owned())] {
        assert!(run.sends().is_some());
        run.warming.answered(answer);
        run.wait(SECOND / 5);
    }
    for _ in 0..2 {
        assert!(run.sends().is_some());
        run.warming.answered(Err("504".to_owned()));
        run.wait(SECOND / 5);
    }
    let warmed = run.warming.so_far();
    assert_eq!((warmed.sent, warmed.answered), (6, 1));
    let mut run = Run::begins();
    for _ in 0..3 {
        assert!(run.sends().is_some());
        run.warming.answered(Err("504".to_owned()));
        run.wait(SECOND / 5);
    }
    assert_eq!(run.stops(), "3 requests in a row failed: 504");
}

#[test]
fn a_run_that_takes_longer_than_its_verification_is_judged_all_the_same() {
    let run = Run::begins();
    let mut remediation = run.setup.remediation();
    let Action::WarmCache(warm) = &mut remediation.spec.action else { panic!("it warms nothing") };
    warm.settings.within = 600 * SECOND;
    remediation.spec.verify.within = 30 * SECOND;
    remediation.status.phase = Phase::Verifying;
    remediation.status.acted_at = Some(crate::model::earlier(run.now, 500 * SECOND));
    let seen = Seen {
        policy_gone: false,
        now: run.now,
        holder: "me",
        epoch: 7,
        leading: true,
        view: Some((&run.setup.snapshot, &run.setup.situation)),
        admission: None,
        passed_gate_at: None,
        effect: None,
        executing_seen_at: None,
        inspection: None,
    };
    let mut waits = || {
        let step = crate::advance::advance(&remediation, &seen);
        remediation.status.effect = Some(EffectSeen::Confirmed);
        remediation.status.effect_at = Some(run.now);
        matches!(step, Step::Wait { .. })
    };
    assert!(waits(), "for lookups that find their keys");
    assert!(waits(), "for a full window after that");
}

#[test]
fn who_is_being_uninstalled_asks_for_nothing_more() {
    let mut run = Run::begins();
    assert!(run.sends().is_some());
    run.warming.answered(Ok(()));
    run.wait(SECOND);
    run.draining = Some(Draining { until: later(run.now, 60 * SECOND) });
    assert!(run.stops().contains("being uninstalled"));
}
