//! Each invariant is violated once and caught, by a story that is otherwise told without a complaint.

mod draining;
mod giving_back;

use super::*;
use crate::actions::{CancelQuery, Scale};
use crate::guards::testing::Setup;
use crate::model::{
    Action, Change, DueBy, EffectSeen, Executing, Freeze, ObjectiveAfter, Outcome, Phase, Refusal,
    TargetKind, UncommittedWrites, UndoState, WorkloadKey, later,
};

/// A stream of facts that is being told: seconds since its start, and what happened.
struct Story {
    setup: Setup,
    stored: Remediation,
    facts: Vec<(u64, What)>,
}

impl Story {
    fn new(setup: Setup) -> Self {
        let mut policy = setup.snapshot.policy.clone();
        if let Some(rung) = policy.rungs.first_mut() {
            rung.name.clone_from(&setup.candidate.rung);
        }
        let mut stored = setup.remediation();
        stored.created_at = later(setup.now, Duration::from_secs(20));
        let mut story = Self { setup, stored, facts: Vec::new() };
        story.tell(0, What::Policy(Box::new(policy)));
        story.tell(0, What::Budgets(Vec::new()));
        story.tell(0, What::Lease { holder: Some("a".into()), epoch: 1 });
        story
    }

    fn tell(&mut self, at: u64, what: What) {
        let place = self.facts.partition_point(|(then, _)| *then <= at);
        self.facts.insert(place, (at, what));
    }

    fn reads(&mut self, from: u64, to: u64, objectives: Seen, databases: Seen) {
        for at in from..=to {
            let policy = self.stored.spec.policy.clone();
            let reading = Reading { policy, reader: "a".into(), objectives, databases: Some(databases) };
            self.tell(at, What::Reading(reading));
        }
    }

    /// Stores the remediation after a change.
    fn stores(&mut self, at: u64, change: impl FnOnce(&mut Remediation, Timestamp)) {
        change(&mut self.stored, later(self.setup.now, Duration::from_secs(at)));
        self.tell(at, What::Remediation(Box::new(self.stored.clone())));
    }

    fn passes_gate(&mut self, at: u64) {
        let undo = self.stored.spec.undo.is_some().then(|| self.setup.owed(UndoState::Pending));
        self.stores(at, |stored, now| {
            stored.status.phase = Phase::Executing;
            let deadline = stored.spec.deadline;
            stored.status.executing =
                Some(Executing { holder: "a".into(), epoch: 1, started_at: now, deadline });
            stored.status.undo = undo;
        });
    }

    /// The violations, by id.
    fn caught(&self) -> Vec<String> {
        let mut checker = Checker::new(Tolerance::default());
        let mut end = self.setup.now;
        for (at, what) in &self.facts {
            end = later(self.setup.now, Duration::from_secs(*at));
            checker.see(&Fact { at: end, what: what.clone() });
        }
        checker.finish(end);
        checker.violations().iter().map(|violation| violation.id.clone()).collect()
    }

    /// Changes what is told, wherever the change applies.
    fn with(mut self, mut change: impl FnMut(&mut u64, &mut What)) -> Self {
        for (at, what) in &mut self.facts {
            change(at, what);
        }
        self.facts.sort_by_key(|(at, _)| *at);
        self
    }
}

fn signal(stored: &Remediation) -> Signal {
    let effect = stored.spec.action.act().effect();
    let target = effect.session().unwrap();
    Signal {
        kind: SignalKind::Cancel,
        system_identifier: target.server.system_identifier.clone(),
        database: target.server.database.clone(),
        started_at: Some(target.server.started_at),
        standby: Some(false),
        pid: target.session.pid,
        backend_start: Some(target.session.backend_start),
        query_start: Some(target.session.query_start),
        victim: Some(Victim {
            role: target.role.clone(),
            untouchable: false,
            protected: false,
            wrote: false,
        }),
        remediation: None,
    }
}

/// A statement is cancelled, and it helps.
fn cancelled() -> Story {
    let mut story = Story::new(Setup::acting());
    story.reads(10, 24, Seen::Breached, Seen::Healthy);
    story.stores(20, |_, _| ());
    story.passes_gate(21);
    story.tell(22, What::Signal(signal(&story.stored)));
    story.stores(23, |stored, now| {
        stored.status.phase = Phase::Verifying;
        stored.status.acted_at = Some(now);
    });
    story.stores(24, |stored, _| stored.status.effect = Some(EffectSeen::Confirmed));
    story.reads(25, 40, Seen::Healthy, Seen::Healthy);
    story.stores(40, |stored, _| {
        stored.status.phase = Phase::Completed;
        stored.status.objective = Some(ObjectiveAfter::Recovered);
        stored.status.outcome = Some(Outcome::Healed);
    });
    story
}

fn workload(story: &Story) -> WorkloadKey {
    let Action::Scale(Scale(scale)) = &story.stored.spec.action else { panic!("no scale") };
    let namespace = story.stored.namespace.clone();
    WorkloadKey { namespace, target: scale.target.clone(), uid: scale.uid.clone() }
}

fn replicas(story: &Story, from: u32, to: u32, manager: &str) -> What {
    What::Replicas(Replicas {
        workload: workload(story),
        from: Some(from),
        to,
        manager: manager.into(),
        sent: None,
        remediation: None,
    })
}

/// A target is scaled from 4 to 6 replicas, and back in two steps.
fn scaled() -> Story {
    let mut story = Story::new(Setup::scaling());
    story.tell(0, replicas(&story, 0, 4, "kubectl"));
    story.reads(10, 24, Seen::Breached, Seen::Healthy);
    story.stores(20, |_, _| ());
    story.passes_gate(21);
    story.tell(22, replicas(&story, 4, 6, MANAGER));
    story.stores(23, |stored, now| {
        stored.status.phase = Phase::Verifying;
        stored.status.acted_at = Some(now);
    });
    story.reads(25, 70, Seen::Healthy, Seen::Healthy);
    story.stores(40, |stored, _| stored.status.phase = Phase::Completed);
    for (at, from) in [(45, 6), (60, 5)] {
        story.stores(at, |stored, _| {
            let undo = stored.status.undo.as_mut().unwrap();
            let Change::Replicas(replicas) = &mut undo.change;
            (replicas.writing, undo.due_by) = (Some(from - 1), Some(DueBy::Calm));
        });
        story.tell(at + 1, replicas(&story, from, from - 1, MANAGER));
        story.stores(at + 2, |stored, _| {
            let undo = stored.status.undo.as_mut().unwrap();
            let Change::Replicas(replicas) = &mut undo.change;
            (replicas.writing, replicas.wrote) = (None, from - 1);
            if from == 5 {
                undo.state = UndoState::Done;
            }
        });
    }
    story
}

/// The second of two like stories, told after the first.
fn again(story: Story, after: u64, change: impl Fn(&mut Remediation)) -> Story {
    let mut both = story;
    let second: Vec<_> = both
        .facts
        .iter()
        .filter(|(at, _)| *at >= 10)
        .map(|(at, what)| {
            let mut what = what.clone();
            if let What::Remediation(stored) = &mut what {
                stored.name.push_str("-again");
                stored.created_at = later(stored.created_at, Duration::from_secs(after));
                change(stored);
            }
            (at + after, what)
        })
        .collect();
    both.facts.extend(second);
    both.facts.sort_by_key(|(at, _)| *at);
    both
}

fn each_signal(story: Story, change: impl Fn(&mut Signal)) -> Story {
    story.with(|_, what| {
        if let What::Signal(signal) = what {
            change(signal);
        }
    })
}

fn each_stored(story: Story, change: impl Fn(&mut Remediation)) -> Story {
    story.with(|_, what| {
        if let What::Remediation(stored) = what {
            change(stored);
        }
    })
}

fn only(id: &str, story: &Story) {
    let caught = story.caught();
    assert!(!caught.is_empty() && caught.iter().all(|one| one == id), "{id} expected, {caught:?} caught");
}

fn among(id: &str, story: &Story) {
    let caught = story.caught();
    assert!(caught.iter().any(|one| one == id), "{id} expected, {caught:?} caught");
}

#[test]
fn what_is_well_is_not_complained_about() {
    assert_eq!(cancelled().caught(), Vec::<String>::new());
    assert_eq!(scaled().caught(), Vec::<String>::new());
}

#[test]
fn every_invariant_has_an_id_of_its_own() {
    let ids: BTreeSet<&str> = INVARIANTS.iter().map(|invariant| invariant.id).collect();
    assert_eq!(ids.len(), INVARIANTS.len());
}

#[test]
fn s1_a_resource_rests() {
    let other = |stored: &mut Remediation| stored.spec.incident = "another".into();
    only("S1", &again(cancelled(), 120, other));
    assert!(again(cancelled(), 400, other).caught().is_empty());
    let mut erased = again(cancelled(), 120, other);
    erased.tell(100, What::Erased((erased.stored.namespace.clone(), erased.stored.name.clone())));
    assert!(erased.caught().is_empty());
    let next_rung = |stored: &mut Remediation| stored.spec.rung = "next".into();
    let story = again(cancelled(), 120, next_rung).with(|_, what| {
        if let What::Policy(policy) = what {
            let mut next = policy.rungs[0].clone();
            next.name = "next".into();
            policy.rungs.push(next);
        }
    });
    assert!(story.caught().is_empty(), "{:?}", story.caught());
}

#[test]
fn s2_an_intent_is_carried_out_once_and_never_goes_back() {
    let mut twice = cancelled();
    let mut signal = signal(&twice.stored);
    signal.remediation = Some((twice.stored.namespace.clone(), twice.stored.name.clone()));
    twice.tell(22, What::Signal(signal));
    only("S2", &twice);
    let mut back = cancelled();
    back.stores(41, |stored, _| stored.status.phase = Phase::Executing);
    only("S2", &back);
    let mut other_gate = cancelled();
    other_gate.stores(41, |stored, _| stored.status.executing.as_mut().unwrap().epoch = 2);
    only("S2", &other_gate);
}

#[test]
fn s3_the_intent_is_durable_before_the_effect() {
    let early = cancelled().with(|at, what| {
        if matches!(what, What::Signal(_)) {
            *at = 20;
        }
    });
    among("S3", &early);
    let mut nobodys = cancelled();
    nobodys.facts.retain(|(_, what)| !matches!(what, What::Remediation(_)));
    only("S3", &nobodys);
    let mut scale = scaled();
    scale.facts.retain(|(_, what)| !matches!(what, What::Remediation(_)));
    among("S3", &scale);
}

#[test]
fn s4_and_l4_everything_comes_to_an_end() {
    let mut stuck = cancelled();
    stuck.facts.retain(|(at, what)| *at < 24 || !matches!(what, What::Remediation(_)));
    stuck.tell(50, What::Quiet);
    stuck.tell(50 + 5 * 3600, What::Lease { holder: None, epoch: 1 });
    only("S4", &stuck);
    let mut owing = scaled();
    owing.facts.retain(|(at, _)| *at < 45);
    owing.tell(50, What::Quiet);
    owing.tell(50 + 5 * 3600, What::Lease { holder: None, epoch: 1 });
    only("L4", &owing);
}

#[test]
fn s5_a_step_stays_within_the_rung() {
    let too_far = scaled().with(|_, what| {
        if let What::Policy(policy) = what
            && let crate::model::RungAction::Scale(settings) = &mut policy.rungs[0].action
        {
            settings.max = 5;
        }
    });
    only("S5", &too_far);
}

#[test]
fn s6_only_what_was_decided_on_is_replaced() {
    let mut moved = scaled();
    moved.tell(21, replicas(&moved, 4, 5, "kubectl"));
    let moved = moved.with(|_, what| {
        if let What::Replicas(replicas) = what
            && replicas.to == 6
        {
            replicas.from = None;
        }
    });
    only("S6", &moved);
}

#[test]
fn s7_what_others_scale_is_left_alone() {
    let mut autoscaled = scaled();
    let target = workload(&autoscaled).target;
    autoscaled.tell(1, What::Scalers { namespace: "shop".into(), target, scalers: vec!["hpa".into()] });
    // The act may have been under way for a minute.
    let autoscaled = autoscaled.with(|at, _| *at += 100 * u64::from(*at > 1));
    only("S7", &autoscaled);
    let git = scaled().with(|_, what| {
        if let What::Replicas(replicas) = what
            && replicas.manager == "kubectl"
        {
            replicas.manager = "argocd-controller".into();
        }
    });
    only("S7", &git);
}

#[test]
fn s8_s9_s10_nobody_else_is_hit() {
    let pid = |signal: &mut Signal| {
        signal.pid += 1;
        signal.remediation = Some(("shop".into(), Setup::acting().remediation().name));
    };
    only("S8", &each_signal(cancelled(), pid));
    let statement = |signal: &mut Signal| signal.query_start = signal.backend_start;
    only("S8", &each_signal(cancelled(), statement));
    only("S9", &each_signal(cancelled(), |signal| signal.victim.as_mut().unwrap().untouchable = true));
    only("S9", &each_signal(cancelled(), |signal| signal.victim.as_mut().unwrap().wrote = true));
    only("S9", &each_signal(cancelled(), |signal| signal.victim.as_mut().unwrap().role = "x".into()));
    only("S10", &each_signal(cancelled(), |signal| signal.standby = Some(true)));
    only("S10", &each_signal(cancelled(), |signal| signal.started_at = signal.query_start));
    let unknown = |signal: &mut Signal| {
        (signal.victim, signal.query_start, signal.backend_start) = (None, None, None);
        (signal.started_at, signal.standby) = (None, None);
    };
    assert!(
        each_signal(cancelled(), unknown).caught().is_empty(),
        "what is not known is not held against it"
    );
    let allowed = each_stored(cancelled(), |stored| {
        if let Action::CancelQuery(CancelQuery(target)) = &mut stored.spec.action {
            target.writes = UncommittedWrites::RollBack;
        }
    });
    let allowed = each_signal(allowed, |signal| signal.victim.as_mut().unwrap().wrote = true);
    assert!(allowed.caught().is_empty());
}

#[test]
fn s11_ceilings_hold() {
    let with_most = |most: u32| {
        let other = |stored: &mut Remediation| stored.spec.incident = "another".into();
        again(cancelled(), 400, other).with(|_, what| {
            if let What::Policy(policy) = what {
                policy.guards.max_actions_per_hour = most;
            }
        })
    };
    only("S11", &with_most(1));
    assert!(with_most(2).caught().is_empty());
    let budget = |per_hour: u32| {
        let other = |stored: &mut Remediation| stored.spec.incident = "another".into();
        again(cancelled(), 400, other).with(|_, what| {
            if let What::Budgets(budgets) = what {
                budgets.push(Budget { per_hour: Some(per_hour), ..quiet_budget(Freeze::None) });
            }
        })
    };
    only("S11", &budget(1));
    assert!(budget(2).caught().is_empty());
}

fn quiet_budget(freeze: Freeze) -> Budget {
    Budget { freeze, ..Budget::unlimited("quiet") }
}

#[test]
fn s13_and_s14_only_a_breach_that_was_seen_for_long_enough_is_answered() {
    let seen = |seen: Seen| {
        cancelled().with(|_, what| {
            if let What::Reading(reading) = what
                && reading.objectives == Seen::Breached
            {
                reading.objectives = seen;
            }
        })
    };
    only("S13", &seen(Seen::Dark));
    only("S13", &seen(Seen::Healthy));
    let somebody_elses = cancelled().with(|_, what| {
        if let What::Reading(reading) = what {
            reading.reader = "b".into();
        }
    });
    only("S13", &somebody_elses);
    let mut short = cancelled().with(|_, what| {
        if let What::Policy(policy) = what {
            policy.evaluation.breach_for = Duration::from_secs(60);
        }
    });
    only("S14", &short);
    short.reads(0, 1, Seen::Healthy, Seen::Healthy);
    only("S14", &short);
}

#[test]
fn s15_people_stay_in_charge() {
    let later_by = |story: Story| story.with(|at, _| *at += 100 * u64::from(*at > 1));
    let mut paused = cancelled();
    let place = Place::Policy("shop".into(), "orders-api".into());
    paused.tell(1, What::Paused { place: place.clone(), until: Some("forever".into()) });
    only("S15", &later_by(paused));
    let mut resumed = cancelled();
    resumed.tell(0, What::Paused { place: place.clone(), until: Some("forever".into()) });
    resumed.tell(1, What::Paused { place, until: None });
    assert!(later_by(resumed).caught().is_empty());
    let mut frozen = cancelled();
    frozen.tell(1, What::Budgets(vec![quiet_budget(Freeze::Actions)]));
    only("S15", &later_by(frozen));
    let mut denied = cancelled();
    let budget = Budget { denied: vec![ActionKind::CancelQuery], ..quiet_budget(Freeze::None) };
    denied.tell(1, What::Budgets(vec![budget]));
    only("S15", &later_by(denied));
    let change = |change: fn(&mut Policy)| {
        cancelled().with(|_, what| {
            if let What::Policy(policy) = what {
                change(policy);
            }
        })
    };
    only("S15", &change(|policy| policy.mode = crate::model::Mode::Observe));
    only("S15", &change(|policy| policy.rungs[0].mode = Some(crate::model::Mode::Observe)));
}

#[test]
fn s16_and_s18_a_term_that_is_over_does_nothing() {
    let mut zombie = cancelled();
    zombie.tell(5, What::Lease { holder: Some("b".into()), epoch: 2 });
    only("S16", &zombie);
    let other = |stored: &mut Remediation| stored.spec.incident = "another".into();
    let newer_first = again(cancelled(), 400, other).with(|at, what| {
        if let What::Remediation(stored) = what
            && *at < 400
            && let Some(executing) = &mut stored.status.executing
        {
            executing.epoch = 2;
        }
    });
    only("S18", &newer_first);
    // A Lease that was deleted and created again counts from 0: whoever led before leads no more all the same.
    let mut anew = again(cancelled(), 400, other).with(|at, what| {
        if let What::Remediation(stored) = what
            && *at > 400
            && let Some(executing) = &mut stored.status.executing
        {
            (executing.holder, executing.epoch) = ("b".into(), 0);
        } else if let What::Reading(reading) = what
            && *at > 400
        {
            reading.reader = "b".into();
        }
    });
    anew.tell(300, What::Lease { holder: None, epoch: 0 });
    anew.tell(301, What::Lease { holder: Some("b".into()), epoch: 0 });
    assert!(anew.caught().is_empty(), "{:?}", anew.caught());
    let mut before = cancelled();
    before.tell(4, What::Lease { holder: None, epoch: 0 });
    before.tell(5, What::Lease { holder: Some("b".into()), epoch: 0 });
    only("S16", &before);
}

#[test]
fn s17_nothing_is_done_in_the_dark() {
    let mut dark = cancelled();
    for number in 0..4 {
        let mut policy = dark.setup.snapshot.policy.clone();
        policy.id.name = format!("other-{number}");
        policy.target.name = format!("other-{number}");
        for at in [15, 18, 20, 21] {
            let (policy, reader) = (policy.id.clone(), "a".to_owned());
            let reading = Reading { policy, reader, objectives: Seen::Dark, databases: None };
            dark.tell(at, What::Reading(reading));
        }
        dark.tell(0, What::Policy(Box::new(policy)));
    }
    only("S17", &dark);
}

#[test]
fn s19_a_deadline_is_a_deadline() {
    let late = cancelled().with(|at, what| {
        if matches!(what, What::Signal(_)) {
            *at = 35;
        } else if matches!(what, What::Remediation(_)) && *at > 21 {
            *at += 20;
        }
    });
    only("S19", &late);
}

#[test]
fn s21_somebody_elses_value_stands() {
    let mut theirs = scaled();
    theirs.tell(44, replicas(&theirs, 6, 6, "kubectl"));
    only("S21", &theirs);
}

#[test]
fn u1_what_was_added_is_owed_until_it_is_gone() {
    let unowed = each_stored(scaled(), |stored| {
        if stored.status.phase == Phase::Executing {
            stored.status.undo = None;
        }
    });
    only("U1", &unowed);
    let mut forgotten = scaled();
    forgotten.facts.retain(|(at, what)| *at < 45 || matches!(what, What::Reading(_)));
    forgotten.stores(46, |stored, _| stored.status.undo.as_mut().unwrap().state = UndoState::Done);
    let Change::Replicas(replicas) = &mut forgotten.stored.status.undo.as_mut().unwrap().change;
    replicas.wrote = 6;
    only("U1", &forgotten);
    let mut removed = scaled();
    removed.facts.retain(|(at, _)| *at < 45);
    let key = (removed.stored.namespace.clone(), removed.stored.name.clone());
    removed.tell(46, What::RemediationGone(key));
    only("U1", &removed);
    let mut abandoned = scaled();
    abandoned.facts.retain(|(at, _)| *at < 45);
    abandoned.tell(45, What::PolicyGone(abandoned.stored.spec.policy.clone()));
    abandoned.stored.status.undo = Some(abandoned.setup.owed(UndoState::Pending));
    abandoned.stores(46, |stored, _| stored.status.undo.as_mut().unwrap().state = UndoState::Abandoned);
    assert!(abandoned.caught().is_empty(), "{:?}", abandoned.caught());
}

#[test]
fn u2_capacity_goes_in_health_only() {
    let seen = |objectives: Seen, databases: Seen| {
        scaled().with(|at, what| {
            if let What::Reading(reading) = what
                && *at > 24
            {
                (reading.objectives, reading.databases) = (objectives, Some(databases));
            }
        })
    };
    only("U2", &seen(Seen::Breached, Seen::Healthy));
    only("U2", &seen(Seen::Dark, Seen::Healthy));
    only("U2", &seen(Seen::Healthy, Seen::Breached));
    assert!(seen(Seen::Healthy, Seen::Healthy).caught().is_empty());
    // The last step is under way for long: what counts is when it can have been sent.
    let arrives = |at: u64| {
        let mut late = scaled();
        late.facts.retain(|(at, what)| *at < 61 || !matches!(what, What::Replicas(_) | What::Remediation(_)));
        late.reads(71, at, Seen::Breached, Seen::Healthy);
        late.tell(at, replicas(&late, 5, 4, MANAGER));
        late
    };
    assert!(arrives(115).caught().is_empty(), "{:?}", arrives(115).caught());
    only("U2", &arrives(190));
    let known = arrives(115).with(|at, what| {
        if let What::Replicas(replicas) = what
            && *at == 115
        {
            replicas.sent = Some(later(Setup::scaling().now, Duration::from_secs(110)));
        }
    });
    only("U2", &known);
}

#[test]
fn u3_steps_are_small_apart_and_as_they_were_stored() {
    let close = scaled().with(|at, _| *at -= 11 * u64::from(*at >= 60));
    let wide = each_stored(close, |stored| {
        stored.spec.undo.as_mut().unwrap().watch.evaluation.window = Duration::from_secs(60);
    });
    only("U3", &wide);
    let unstored = scaled().with(|_, what| {
        if let What::Replicas(replicas) = what
            && replicas.to == 5
        {
            replicas.to = 3;
            replicas.remediation = Some(("shop".into(), Setup::scaling().remediation().name));
        }
    });
    among("U3", &unstored);
    let mut frozen = scaled().with(|at, _| *at += 100 * u64::from(*at > 40));
    frozen.tell(41, What::Budgets(vec![quiet_budget(Freeze::ActionsAndRollbacks)]));
    only("U3", &frozen);
}

#[test]
fn h2_and_h3_a_status_says_what_happened() {
    let mut claimed = cancelled();
    claimed.facts.retain(|(_, what)| !matches!(what, What::Signal(_)));
    only("H2", &claimed);
    let denied = each_stored(cancelled(), |stored| {
        if stored.status.phase == Phase::Completed {
            stored.status.phase = Phase::Failed;
            (stored.status.acted_at, stored.status.effect, stored.status.outcome) = (None, None, None);
        }
    });
    only("H2", &denied);
    let refused = |guard: &'static str| {
        let mut story = Story::new(Setup::acting());
        story.stores(20, |_, _| ());
        story.stores(21, |stored, _| {
            stored.status.phase = Phase::Refused;
            stored.status.refused = Some(Refusal { guard: guard.into(), message: "why".into() });
        });
        story
    };
    only("H3", &refused(""));
    assert!(refused("Cooldown").caught().is_empty());
}

#[test]
fn l1_writes_stop() {
    let mut restless = cancelled();
    restless.tell(50, What::Quiet);
    restless.tell(50 + 5 * 3600, What::Wrote("status of LatencyPolicy shop/orders-api".into()));
    only("L1", &restless);
}

#[test]
fn l2_incidents_are_closed() {
    let mut open = cancelled();
    let key = ("shop".to_owned(), "orders-api-1".to_owned());
    open.tell(20, What::Incident { key: key.clone(), open: true });
    open.tell(50, What::Quiet);
    open.tell(50 + 5 * 3600, What::Lease { holder: None, epoch: 1 });
    only("L2", &open);
    open.tell(60, What::Incident { key, open: false });
    assert!(open.caught().is_empty());
}

#[test]
fn facts_can_be_written_down_and_read_again() {
    for (_, what) in scaled().facts {
        let fact = Fact { at: Timestamp::UNIX_EPOCH, what };
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
    }
    let target = TargetRef { kind: TargetKind::Deployment, name: "x".into() };
    let fact = Fact {
        at: Timestamp::UNIX_EPOCH,
        what: What::Paused { place: Place::Target("shop".into(), target), until: None },
    };
    assert!(serde_json::to_string(&fact).unwrap().contains("Paused"));
}

/// Two paths are asked for three times each, a second apart, and it helps.
fn warmed() -> Story {
    let mut story = Story::new(Setup::warming());
    story.reads(10, 60, Seen::Breached, Seen::Healthy);
    story.stores(20, |_, _| ());
    story.passes_gate(21);
    for at in 22..28 {
        let path = ["/api/v1/portfolios", "/api/v1/orders"][usize::from(at % 2 == 1)];
        story.tell(at, request(&story, path));
    }
    story.stores(28, |stored, _| {
        stored.status.phase = Phase::Verifying;
        stored.status.acted_at = stored.status.executing.as_ref().map(|executing| executing.started_at);
    });
    story.stores(60, |stored, _| {
        stored.status.phase = Phase::Completed;
        stored.status.effect = Some(EffectSeen::Confirmed);
        stored.status.objective = Some(ObjectiveAfter::NotRecovered);
        stored.status.outcome = Some(Outcome::Ineffective);
    });
    story
}

fn request(story: &Story, path: &str) -> What {
    let remediation = (story.stored.namespace.clone(), story.stored.name.clone());
    What::Request(Request { path: path.to_owned(), sent: None, remediation })
}

#[test]
fn s22_requests_are_those_that_were_decided_and_each_may_be_sent() {
    assert!(warmed().caught().is_empty(), "{:?}", warmed().caught());
    let again = |at: u64, path: &str| {
        let mut story = warmed();
        let what = request(&story, path);
        story.tell(at, what);
        story
    };
    only("S22", &again(27, "/api/v1/portfolios"));
    only("S22", &again(27, "/metrics"));
    let late = warmed().with(|at, what| {
        if matches!(what, What::Request(_)) && *at == 27 {
            *at = 48;
        }
    });
    only("S22", &late);
    let mut other = cancelled();
    let what = request(&other, "/api/v1/orders");
    other.tell(22, what);
    among("S3", &other);
    let mut unknown = warmed();
    unknown.tell(
        5,
        What::Request(Request { path: "/".into(), sent: None, remediation: ("shop".into(), "none".into()) }),
    );
    only("S3", &unknown);
    // The last request comes when nothing has been read as broken for long, or people have said no.
    let last_at = |at: u64, change: &dyn Fn(&mut Story)| {
        let mut story = warmed().with(|then, what| {
            if matches!(what, What::Request(_)) && *then == 27 {
                *then = at;
            }
        });
        change(&mut story);
        story
    };
    let calm = last_at(44, &|story| {
        for (at, what) in &mut story.facts {
            if let What::Reading(reading) = what
                && *at > 27
            {
                reading.objectives = Seen::Dark;
            }
        }
    });
    only("S13", &calm);
    let paused = last_at(44, &|story| {
        let place = Place::Policy("shop".into(), story.stored.spec.policy.name.clone());
        story.tell(28, What::Paused { place, until: Some("forever".into()) });
    });
    only("S15", &paused);
}
