//! The life of a remediation, step by step.

use super::*;
use crate::guards::testing::Setup;
use crate::model::{Fleet, Ledger, Limits, Mode, NoData, NoDataReason, Pause, PausedBy, earlier};

const SECOND: Duration = Duration::from_secs(1);

/// What is seen; each test changes what it is about.
struct Eyes {
    setup: Setup,
    now: Timestamp,
    leading: bool,
    blind: bool,
    passed_gate_at: Option<Timestamp>,
    effect: Option<EffectReport>,
    executing_seen_at: Option<Timestamp>,
    look: Option<Inspection>,
    draining: Option<Draining>,
}

impl Eyes {
    /// Somebody pauses the policy.
    fn pause(&mut self) {
        let pause = Pause { by: PausedBy::Policy, until: "forever".into(), reason: None };
        self.setup.snapshot.observations.pauses.push(pause);
    }

    fn open() -> Self {
        let setup = Setup::acting();
        let now = setup.now;
        Self {
            setup,
            now,
            leading: true,
            blind: false,
            passed_gate_at: None,
            effect: None,
            executing_seen_at: None,
            look: None,
            draining: None,
        }
    }

    fn step(&self, remediation: &Remediation) -> Step {
        let (ledger, limits) = (Ledger::default(), Limits::default());
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
                limits: &limits,
                survey: &crate::model::Survey::default(),
            }),
            passed_gate_at: self.passed_gate_at,
            effect: self.effect.as_ref(),
            executing_seen_at: self.executing_seen_at,
            inspection: self.look.as_ref(),
        };
        advance(remediation, &seen)
    }

    /// The step must be a write to this phase; the status.
    fn written(&self, remediation: &Remediation, phase: Phase) -> RemediationStatus {
        let step = self.step(remediation);
        if let Step::Write { status, .. } = &step
            && status.phase == phase
        {
            return (**status).clone();
        }
        panic!("it should write {phase}, and does {step:?}")
    }

    fn admitted(&self) -> Remediation {
        Remediation { created_at: self.now, ..self.setup.remediation() }
    }

    /// Past the gate, held by `holder` in term `epoch`.
    fn executing(&self, holder: &str, epoch: u64) -> Remediation {
        let mut remediation = self.setup.remediation();
        remediation.status.phase = Phase::Executing;
        remediation.status.executing =
            Some(Executing { holder: holder.into(), epoch, started_at: self.now, deadline: 5 * SECOND });
        remediation
    }

    fn verifying(&self, effect: Option<EffectSeen>, ago: Duration) -> Remediation {
        let mut remediation = self.executing("me", 7);
        remediation.status.phase = Phase::Verifying;
        remediation.status.acted_at = Some(earlier(self.now, ago));
        remediation.status.effect = effect;
        remediation.status.effect_at = effect.map(|_| earlier(self.now, ago));
        remediation
    }
}

fn is_wait(step: &Step) -> bool {
    matches!(step, Step::Wait { .. })
}

#[test]
fn the_gate_writes_who_which_term_and_how_long_and_only_then_the_effect_follows() {
    let mut eyes = Eyes::open();
    let status = eyes.written(&eyes.admitted(), Phase::Executing);
    let executing = status.executing.clone().unwrap();
    assert_eq!((executing.holder.as_str(), executing.epoch, executing.deadline), ("me", 7, 5 * SECOND));
    let mut remediation = eyes.admitted();
    remediation.status = status;
    eyes.passed_gate_at = Some(eyes.now);
    let Step::Effect { fence, .. } = eyes.step(&remediation) else { panic!("no effect") };
    assert_eq!(fence, later(eyes.now, 5 * SECOND));
}

#[test]
fn a_refusal_at_the_gate_names_its_guard_and_does_nothing() {
    let mut eyes = Eyes::open();
    eyes.pause();
    let status = eyes.written(&eyes.admitted(), Phase::Refused);
    assert_eq!(status.refused.unwrap().guard, "Paused");
    assert_eq!(status.executing, None);
}

#[test]
fn without_a_look_at_the_policy_it_waits_and_is_refused_in_the_end() {
    let mut eyes = Eyes::open();
    eyes.blind = true;
    let remediation = eyes.admitted();
    assert!(is_wait(&eyes.step(&remediation)));
    eyes.now = later(eyes.now, PATIENCE);
    assert_eq!(eyes.written(&remediation, Phase::Refused).refused.unwrap().guard, "Freshness");
}

#[test]
fn a_leader_that_has_just_taken_over_waits_until_it_may_judge_and_an_old_one_refuses() {
    let mut eyes = Eyes::open();
    eyes.setup.situation.breach.as_mut().unwrap().counted = SECOND;
    assert_eq!(eyes.written(&eyes.admitted(), Phase::Refused).refused.unwrap().guard, "StillBreached");
    eyes.setup.snapshot.operator.leading_since = earlier(eyes.now, SECOND);
    assert!(is_wait(&eyes.step(&eyes.admitted())));
    // A word of a person is not a matter of time.
    eyes.pause();
    eyes.written(&eyes.admitted(), Phase::Refused);
}

#[test]
fn who_is_being_uninstalled_refuses_at_once_and_goes_on_with_what_has_passed() {
    let mut eyes = Eyes::open();
    eyes.draining = Some(Draining { until: later(eyes.now, 60 * SECOND) });
    let refused_by = |eyes: &Eyes| {
        let refused = eyes.written(&eyes.admitted(), Phase::Refused).refused.unwrap();
        assert!(refused.message.contains("being uninstalled"), "{}", refused.message);
        refused.guard
    };
    assert_eq!(refused_by(&eyes), "Leadership");
    eyes.setup.snapshot.operator.leading_since = earlier(eyes.now, SECOND);
    assert_eq!(refused_by(&eyes), "Leadership", "also who has just taken over");
    eyes.blind = true;
    assert_eq!(refused_by(&eyes), "Leadership", "also without a look at the policy");
    eyes.passed_gate_at = Some(eyes.now);
    let Step::Effect { .. } = eyes.step(&eyes.executing("me", 7)) else { panic!("it was interrupted") };
}

#[test]
fn what_is_being_deleted_is_not_begun_and_a_dry_run_is_written_down() {
    let eyes = Eyes::open();
    let mut remediation = eyes.admitted();
    remediation.deleting = true;
    assert_eq!(eyes.step(&remediation), Step::Done);
    let mut remediation = eyes.admitted();
    remediation.spec.mode = Mode::Observe;
    eyes.written(&remediation, Phase::DryRun);
}

#[test]
fn what_waits_for_approval_expires_and_is_never_begun() {
    let eyes = Eyes::open();
    let mut remediation = eyes.admitted();
    remediation.spec.mode = Mode::Approve;
    assert_eq!(refused_by_mode(&eyes, &remediation), "Mode", "whatever a later version had admitted");
    remediation.status.phase = Phase::AwaitingApproval;
    let status = eyes.written(&remediation, Phase::Expired);
    assert!(status.completed_at.is_some() && status.acted_at.is_none());
    for over in [Phase::Expired, Phase::Denied] {
        remediation.status = RemediationStatus { phase: over, ..status.clone() };
        assert_eq!(eyes.step(&remediation), Step::Done, "{over}");
    }
}

fn refused_by_mode(eyes: &Eyes, remediation: &Remediation) -> String {
    eyes.written(remediation, Phase::Refused).refused.expect("a guard").guard.to_string()
}

#[test]
fn nothing_is_sent_without_the_lease_or_after_the_fence() {
    let mut eyes = Eyes::open();
    eyes.passed_gate_at = Some(eyes.now);
    let remediation = eyes.executing("me", 7);
    eyes.leading = false;
    assert!(is_wait(&eyes.step(&remediation)));
    eyes.leading = true;
    eyes.now = later(eyes.now, 5 * SECOND);
    let status = eyes.written(&remediation, Phase::Failed);
    assert!(status.message.contains("nothing was sent"), "{}", status.message);
}

#[test]
fn an_intent_of_another_holder_term_or_life_is_looked_at_and_never_carried_out() {
    for (holder, epoch, passed) in [("other", 7, true), ("me", 6, true), ("me", 7, false)] {
        let mut eyes = Eyes::open();
        eyes.passed_gate_at = passed.then_some(eyes.now);
        eyes.executing_seen_at = Some(eyes.now);
        let remediation = eyes.executing(holder, epoch);
        assert!(is_wait(&eyes.step(&remediation)), "before the fence nothing can be known");
        eyes.now = later(eyes.now, 6 * SECOND);
        assert!(matches!(eyes.step(&remediation), Step::Inspect(_)), "{holder} {epoch} {passed}");
        eyes.look = Some(Inspection::Running);
        assert_eq!(eyes.written(&remediation, Phase::Failed).effect, Some(EffectSeen::NotSeen));
        eyes.look = Some(Inspection::Gone);
        assert_eq!(eyes.written(&remediation, Phase::OutcomeUnknown).effect, Some(EffectSeen::Unknown));
        eyes.look = Some(Inspection::Unreadable(NoData::new(NoDataReason::Timeout, "no answer")));
        assert!(is_wait(&eyes.step(&remediation)));
        eyes.now = later(eyes.now, RESOLVE_WITHIN);
        eyes.written(&remediation, Phase::OutcomeUnknown);
    }
}

#[test]
fn an_effect_whose_answer_was_lost_is_not_repeated() {
    let mut eyes = Eyes::open();
    eyes.passed_gate_at = Some(eyes.now);
    eyes.executing_seen_at = Some(eyes.now);
    eyes.effect = Some(EffectReport::Lost("the connection broke".into()));
    let remediation = eyes.executing("me", 7);
    assert!(is_wait(&eyes.step(&remediation)));
    eyes.now = later(eyes.now, 6 * SECOND);
    assert!(matches!(eyes.step(&remediation), Step::Inspect(_)));
}

#[test]
fn what_the_effect_answers_decides_how_it_goes_on() {
    let mut eyes = Eyes::open();
    eyes.passed_gate_at = Some(eyes.now);
    let remediation = eyes.executing("me", 7);
    eyes.effect = Some(EffectReport::Sent);
    assert_eq!(eyes.written(&remediation, Phase::Verifying).acted_at, Some(eyes.now));
    eyes.effect = Some(EffectReport::NotMatched("it had ended".into()));
    assert_eq!(eyes.written(&remediation, Phase::Refused).refused.unwrap().guard, "Precondition");
    eyes.effect = Some(EffectReport::Refused("permission denied".into()));
    assert!(eyes.written(&remediation, Phase::Failed).message.contains("permission denied"));
}

#[test]
fn the_effect_is_looked_for_and_taken_for_what_it_is() {
    let mut eyes = Eyes::open();
    assert!(matches!(eyes.step(&eyes.verifying(None, SECOND / 2)), Step::Inspect(_)));
    let unreadable = Inspection::Unreadable(NoData::new(NoDataReason::Timeout, "no answer"));
    for (look, effect, after) in [
        (Inspection::Gone, EffectSeen::Confirmed, SECOND),
        (Inspection::Running, EffectSeen::NotSeen, SECOND),
        // 30 s in all, of which 1 s and a window of 10 s have to be left.
        (unreadable, EffectSeen::Unknown, 19 * SECOND),
    ] {
        eyes.look = Some(look.clone());
        if look != Inspection::Gone {
            let early = eyes.verifying(None, after - SECOND / 2);
            assert!(is_wait(&eyes.step(&early)), "{look:?} is not final yet");
        }
        assert_eq!(eyes.written(&eyes.verifying(None, after), Phase::Verifying).effect, Some(effect));
    }
}

#[test]
fn the_verdict_is_that_of_the_first_full_window_after_the_effect() {
    let mut eyes = Eyes::open();
    eyes.setup.situation.overall = Overall::Healthy;
    // 1 s after the effect plus a window of 10 s.
    let early = eyes.verifying(Some(EffectSeen::Confirmed), 11 * SECOND - SECOND / 10);
    assert!(is_wait(&eyes.step(&early)));
    let due = eyes.verifying(Some(EffectSeen::Confirmed), 11 * SECOND);
    let status = eyes.written(&due, Phase::Completed);
    assert_eq!((status.objective, status.outcome), (Some(ObjectiveAfter::Recovered), Some(Outcome::Healed)));
    eyes.setup.situation.readings[0].at = earlier(eyes.now, SECOND);
    assert!(is_wait(&eyes.step(&due)), "a reading of before is not a verdict");
}

#[test]
fn outcomes_are_effect_and_objective_together() {
    for (overall, effect, outcome) in [
        (Overall::Healthy, EffectSeen::NotSeen, Outcome::RecoveredUnattributed),
        (Overall::Healthy, EffectSeen::Unknown, Outcome::RecoveredUnattributed),
        (Overall::Breached(crate::model::Severity::P2), EffectSeen::Confirmed, Outcome::Ineffective),
    ] {
        let mut eyes = Eyes::open();
        eyes.setup.situation.overall = overall;
        let status = eyes.written(&eyes.verifying(Some(effect), 11 * SECOND), Phase::Completed);
        assert_eq!(status.outcome, Some(outcome));
    }
}

#[test]
fn without_data_or_a_policy_the_verdict_is_inconclusive_in_the_end() {
    for blind in [false, true] {
        let mut eyes = Eyes::open();
        eyes.blind = blind;
        eyes.setup.situation.overall = Overall::NoData;
        assert!(is_wait(&eyes.step(&eyes.verifying(Some(EffectSeen::Confirmed), 29 * SECOND))));
        let status =
            eyes.written(&eyes.verifying(Some(EffectSeen::Confirmed), 30 * SECOND), Phase::Completed);
        assert_eq!(status.outcome, Some(Outcome::Inconclusive));
    }
}

#[test]
fn what_is_over_stays_as_it_is() {
    let eyes = Eyes::open();
    for phase in [Phase::Completed, Phase::Refused, Phase::Failed, Phase::DryRun, Phase::OutcomeUnknown] {
        let mut remediation = eyes.executing("me", 7);
        remediation.status.phase = phase;
        assert_eq!(eyes.step(&remediation), Step::Done);
    }
}
