//! One operator process: what `src/` does around the three functions, request by request, over the simulated world.
//!
//! Each file mirrors a part of the operator: `lead` is `src/leader.rs` and `src/cli/run.rs`; `policy`, `remediation`,
//! `effect`, `warm`, `look`, `retention` and `keeper` are their namesakes in `src/controller`, `src/act` and `src/observe`. A
//! change there belongs here too.

mod effect;
pub mod keeper;
mod lead;
mod look;
mod policy;
mod remediation;
mod retention;
mod warm;
pub mod watch;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use engine::Situation;
use engine::advance::EffectReport;
use engine::model::{
    Draining, EntryKey, Limits, Observed, Pause, PostgresFacts, RedisFacts, Snapshot, State, Survey,
};
use jiff::Timestamp;

use self::keeper::{Keeper, PolicyKey};
use crate::exec::{MS, Micros, Node, SECOND, Sim};
use crate::planted;
use crate::world::api::{Answer, ApiError, PolicyObject, Stored};
use crate::world::faults::{Blow, Op};
use crate::world::{World, count, instant};

/// A Lease's times, as they are configured by default.
pub const LEASE: Micros = 15 * SECOND;
/// A leader that could not renew for so long ends.
pub const RENEW_DEADLINE: Micros = 10 * SECOND;
/// Between two tries.
pub const RETRY: Micros = 2 * SECOND;
/// A request without an answer for so long is lost.
pub const ANSWER_WITHIN: Micros = 5 * SECOND;

/// A policy's newest look.
pub type View = Rc<(Snapshot, Situation)>;

/// What this process knows about a remediation that it carries out.
#[derive(Debug, Clone, Default)]
pub struct Local {
    passed_gate_at: Option<Timestamp>,
    effect: Option<EffectReport>,
    executing_seen_at: Option<Timestamp>,
}

struct Watched {
    state: State,
    view: View,
    at: Micros,
}

/// One process of the operator, from its start to its end.
pub struct Operator {
    sim: Rc<Sim>,
    node: Node,
    identity: String,
    /// Its clock is ahead by so much: it was set by the API server's when the process began to lead.
    skew: i64,
    alive: Cell<bool>,
    epoch: Cell<u64>,
    renewed: Cell<Micros>,
    /// The mark on the Lease, as it was last read.
    draining: Cell<Option<Draining>>,
    leading_since: Cell<Timestamp>,
    keeper: RefCell<Keeper>,
    limits: RefCell<Limits>,
    views: RefCell<BTreeMap<PolicyKey, View>>,
    surveyed: RefCell<Option<(Micros, Rc<Survey>)>>,
    locals: RefCell<BTreeMap<(EntryKey, Timestamp), Local>>,
    watches: RefCell<BTreeMap<(EntryKey, Timestamp), Watched>>,
    databases: RefCell<BTreeMap<String, (Micros, Observed<PostgresFacts>)>>,
    caches: RefCell<BTreeMap<String, (Micros, Observed<RedisFacts>)>>,
    policies: RefCell<BTreeMap<PolicyKey, PolicyObject>>,
    remediations: RefCell<BTreeMap<EntryKey, Stored>>,
    tasks: RefCell<BTreeMap<String, u64>>,
    /// It was told to end: what is under way is finished, and nothing new begun.
    stopping: Cell<bool>,
    /// Pauses as a watch last showed them.
    pauses: RefCell<BTreeMap<PolicyKey, Vec<Pause>>>,
    shown_until: Cell<Micros>,
    broken_until: Cell<Micros>,
    /// What a list has shown is newer than what was under way then.
    listed: Cell<u64>,
}

/// Starts a process on a node.
pub fn start(sim: &Rc<Sim>, node: Node) {
    let (skew, number) = {
        let mut world = sim.world.borrow_mut();
        let number = world.api.bump();
        // The API server says the time in whole seconds; with an answer that took a while that is a little behind.
        let agreed = -i64::try_from(world.dice.between(0, SECOND)).unwrap_or(0);
        let own = world.faults.skew.get(node).copied().unwrap_or(0);
        (if planted::is("own_wall_clock") { own } else { agreed }, number)
    };
    let operator = Rc::new(Operator {
        sim: sim.clone(),
        node,
        identity: format!("operator-{node}_{number}"),
        skew,
        alive: Cell::new(true),
        epoch: Cell::new(0),
        renewed: Cell::new(0),
        draining: Cell::new(None),
        leading_since: Cell::new(Timestamp::UNIX_EPOCH),
        keeper: RefCell::default(),
        limits: RefCell::new(Limits {
            unreadable: Some("they have not been read yet".into()),
            ..Limits::default()
        }),
        views: RefCell::default(),
        surveyed: RefCell::default(),
        locals: RefCell::default(),
        watches: RefCell::default(),
        databases: RefCell::default(),
        caches: RefCell::default(),
        policies: RefCell::default(),
        remediations: RefCell::default(),
        tasks: RefCell::default(),
        stopping: Cell::new(false),
        pauses: RefCell::default(),
        shown_until: Cell::new(0),
        broken_until: Cell::new(0),
        listed: Cell::new(0),
    });
    sim.spawn(node, lead::run(operator));
}

/// Kills the process of a node; another one is started after a while.
pub fn kill(sim: &Rc<Sim>, node: Node) {
    sim.kill(node);
    watch::forget(sim, node);
    if let Some(frozen) = sim.frozen_until.get(node) {
        frozen.set(0);
    }
    let again = sim.world.borrow_mut().dice.between(SECOND, 20 * SECOND);
    sim.at(sim.now() + again, move |sim| start(sim, node));
}

/// Tells the process of a node to end: one that leads finishes what is under way and gives the Lease back.
pub fn stop(sim: &Rc<Sim>, node: Node) {
    let leader = sim.watchers.borrow().iter().find(|operator| operator.node == node).cloned();
    match leader {
        Some(leader) if !leader.stopping.replace(true) => {
            sim.spawn(node, lead::stop(leader));
        }
        Some(_) => {}
        None => kill(sim, node),
    }
}

/// Freezes the process of a node.
pub fn freeze(sim: &Sim, node: Node, seconds: u64) {
    if let Some(frozen) = sim.frozen_until.get(node) {
        frozen.set(frozen.get().max(sim.now() + seconds * SECOND));
    }
}

impl Operator {
    /// The clock of this process: it was set once, and goes on with the monotonic one.
    fn now(&self) -> Timestamp {
        let at = instant(self.sim.now());
        Timestamp::from_microsecond(at.as_microsecond().saturating_add(self.skew)).unwrap_or(at)
    }

    /// Whether the Lease is provably held at this instant.
    fn leading(&self) -> bool {
        self.since_contact() < RENEW_DEADLINE
    }

    fn since_contact(&self) -> Micros {
        self.sim.now().saturating_sub(self.renewed.get())
    }

    /// The process ends.
    async fn die(&self, why: &str) {
        self.sim.world.borrow_mut().note(&format!("{} ends: {why}", self.identity));
        self.alive.set(false);
        let node = self.node;
        self.sim.at(self.sim.now(), move |sim| kill(sim, node));
        self.sim.slot::<()>().await;
    }

    /// Sends a request to the API server.
    async fn ask<T: 'static>(
        &self,
        op: Op,
        serve: impl FnOnce(&mut World) -> Answer<T> + 'static,
    ) -> Answer<T> {
        let answer = self.send(op, true, serve, |error| Err(error)).await;
        let mut world = self.sim.world.borrow_mut();
        let became = match &answer {
            Ok(_) => "answered",
            Err(ApiError::Conflict) => "conflict",
            Err(ApiError::NotFound) => "not found",
            Err(ApiError::Refused) => "refused",
            Err(ApiError::Lost) => "lost",
        };
        count(&mut world.counts.requests, became);
        answer
    }

    /// Sends something to a server, which does it when it arrives, if it does.
    async fn send<T: 'static>(
        &self,
        op: Op,
        api: bool,
        serve: impl FnOnce(&mut World) -> T + 'static,
        failed: impl Fn(ApiError) -> T + 'static,
    ) -> T {
        let (sim, node) = (&self.sim, self.node);
        let blow = self.blow(op, api);
        if let Some(blow) = blow {
            let mut world = sim.world.borrow_mut();
            world.fault(blow.name());
            if op != Op::Lease && op != Op::Read {
                world.note(&format!("{}: {op:?}: {}", self.identity, blow.name()));
            }
        }
        let (there, back) = {
            let mut world = sim.world.borrow_mut();
            (world.dice.between(MS, 8 * MS), world.dice.between(MS, 8 * MS))
        };
        match blow {
            Some(Blow::CrashBefore) => {
                self.alive.set(false);
                sim.at(sim.now(), move |sim| kill(sim, node));
                sim.slot::<()>().await;
            }
            Some(Blow::FrozenBefore(seconds)) => {
                freeze(sim, node, seconds);
                sim.sleep(1).await;
            }
            Some(Blow::RequestLost) => {
                sim.sleep(ANSWER_WITHIN).await;
                return failed(ApiError::Lost);
            }
            Some(Blow::Conflict) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Conflict);
            }
            Some(Blow::Throttled) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Refused);
            }
            Some(Blow::Failed) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Lost);
            }
            Some(
                Blow::CrashAfter
                | Blow::AnswerLost
                | Blow::AnswerLate(_)
                | Blow::Late(_)
                | Blow::BrokenOff(_)
                | Blow::Overtaken
                | Blow::FrozenAfter(_),
            )
            | None => {}
        }
        let slot = sim.slot();
        let (filled, alive) = (slot.clone(), blow == Some(Blow::CrashAfter));
        let arrives = match blow {
            Some(Blow::Late(seconds) | Blow::BrokenOff(seconds)) => sim.now() + seconds * SECOND,
            _ => sim.now() + there,
        };
        let given_up = match blow {
            Some(Blow::AnswerLost | Blow::Late(_)) => Some(ANSWER_WITHIN),
            Some(Blow::BrokenOff(_)) => Some(there + back),
            _ => None,
        };
        if let Some(patience) = given_up {
            let lost = slot.clone();
            sim.at(sim.now() + patience, move |_| lost.fill(failed(ApiError::Lost)));
        }
        sim.at(arrives, move |sim| {
            if blow == Some(Blow::Overtaken) {
                sim.world.borrow_mut().overtake();
            }
            let answer = serve(&mut sim.world.borrow_mut());
            match blow {
                Some(Blow::AnswerLost | Blow::Late(_) | Blow::BrokenOff(_)) => {}
                Some(Blow::CrashAfter) => kill(sim, node),
                Some(Blow::AnswerLate(seconds)) => {
                    sim.at(sim.now() + seconds * SECOND, move |_| filled.fill(answer));
                }
                Some(Blow::FrozenAfter(seconds)) => {
                    freeze(sim, node, seconds);
                    sim.at(sim.now() + back, move |_| filled.fill(answer));
                }
                Some(
                    Blow::CrashBefore
                    | Blow::FrozenBefore(_)
                    | Blow::RequestLost
                    | Blow::Conflict
                    | Blow::Throttled
                    | Blow::Failed
                    | Blow::Overtaken,
                )
                | None => sim.at(sim.now() + back, move |_| filled.fill(answer)),
            }
        });
        if alive {
            sim.slot::<()>().await;
        }
        slot.await
    }

    /// What befalls a request.
    fn blow(&self, op: Op, api: bool) -> Option<Blow> {
        let mut world = self.sim.world.borrow_mut();
        let now = world.now;
        if let Some(blow) = world.faults.ambushed(now, self.node, op) {
            return Some(blow);
        }
        if api && world.faults.api_down.get(self.node).is_some_and(|until| now < *until) {
            return Some(Blow::RequestLost);
        }
        let flaky = world.faults.api_flaky.get(self.node).is_some_and(|until| now < *until);
        if !api || !flaky || !world.dice.percent(20) {
            return None;
        }
        Some(match world.dice.below(7) {
            0 => Blow::AnswerLost,
            1 => Blow::RequestLost,
            2 => Blow::Conflict,
            3 => Blow::Throttled,
            4 => Blow::Failed,
            5 => Blow::AnswerLate(world.dice.between(1, 4)),
            _ => Blow::Late(world.dice.between(1, 15)),
        })
    }

    /// All policies together, as they were half a second ago at most.
    fn survey(&self) -> Rc<Survey> {
        let now = self.sim.now();
        let mut surveyed = self.surveyed.borrow_mut();
        if let Some((at, survey)) = surveyed.as_ref()
            && now.saturating_sub(*at) < 500 * MS
        {
            return survey.clone();
        }
        let views = self.views.borrow();
        let survey = Rc::new(engine::survey(views.values().map(|view| (&view.0, &view.1))));
        *surveyed = Some((now, survey.clone()));
        survey
    }

    /// The administrator's ceilings, as the API server holds them at this moment; whether they could be listed.
    async fn refresh_budgets(&self, op: Op) -> (Limits, bool) {
        match self.ask(op, |world| Ok(world.api.budgets.clone())).await {
            Ok(budgets) => {
                let limits = Limits { budgets, ..Limits::default() };
                *self.limits.borrow_mut() = limits.clone();
                (limits, true)
            }
            Err(_) => {
                let unreadable = Some("they cannot be listed".to_owned());
                (Limits { unreadable, ..self.limits.borrow().clone() }, false)
            }
        }
    }
}
