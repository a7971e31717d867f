//! A scenario played: the shipped driver over the ports of a small stage, one tick at a time.

use std::pin::{Pin, pin};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use controller::fleet::Evaluated;
use controller::ledger_store::{Freshness, LedgerStore};
use controller::objects::{Episode, StoredIncident};
use controller::report::{IncidentPhase, IncidentReport, Reopening};
use controller::{Controllers, Settings};
use engine::invariants::{Seen, What};
use engine::model::{ActionKind, Incident, Policy, Remediation, earlier, later};
use engine::replay::Evaluation;
use engine::{State, tick};

use super::builders;
use super::parse::{Probe, TickLine, Traffic};
use super::ports::{Port, Scenario};
use super::stage::{Stage, Task};

pub(crate) use super::stage::reason_of;

pub(crate) struct World {
    port: Port,
    controllers: Arc<Controllers<Scenario>>,
    /// Runs that are under way.
    tasks: Vec<Task>,
    /// The generation that the driver was shown last: with another one a policy is due at once.
    shown: i64,
    /// What the engine would remember; the driver keeps a memory of its own.
    state: State,
    before: Option<State>,
    last: Option<Arc<Evaluated>>,
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let port = Port::new(Stage::new(policy));
        let controllers = term(&port, Duration::from_secs(600));
        Self {
            port,
            controllers,
            tasks: Vec::new(),
            shown: 0,
            state: State::default(),
            before: None,
            last: None,
        }
    }

    /// The stage: what people and other programs change.
    pub(crate) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.port.stage()
    }

    /// Plays all ticks and returns what was said.
    pub(crate) fn play(mut self, ticks: &[TickLine]) -> Result<String, String> {
        for line in ticks {
            self.tick(line)?;
        }
        let log = self.stage().log.clone();
        Ok(log)
    }

    /// Plays all ticks and returns what was known and decided at each evaluation.
    pub(crate) fn record(mut self, ticks: &[TickLine]) -> Result<Vec<Evaluation>, String> {
        self.stage().recording = Some(Vec::new());
        for line in ticks {
            self.tick(line)?;
        }
        let recording = self.stage().recording.take();
        Ok(recording.unwrap_or_default())
    }

    pub(crate) fn tick(&mut self, line: &TickLine) -> Result<(), String> {
        self.begin(line.at);
        for event in &line.events {
            self.event(event)?;
        }
        self.go_on(&line.traffic, &line.probe)
    }

    /// Like [`Self::tick`], passing over what cannot happen as things are.
    pub(crate) fn tick_anyhow(&mut self, at: Duration, traffic: &Traffic, events: &[String]) {
        self.begin(at);
        for event in events {
            let understood = self.stage().understands(event);
            if understood {
                self.event(event).expect("the event is understood");
            }
        }
        self.go_on(traffic, &Probe::default()).expect("the traffic is understood");
    }

    fn begin(&mut self, at: Duration) {
        self.stage().now = later(builders::start(), at);
    }

    fn event(&mut self, event: &str) -> Result<(), String> {
        let was_there = !self.stage().policy_gone;
        self.stage().event(event)?;
        if self.stage().crashed {
            self.restart();
        }
        if was_there && self.stage().policy_gone {
            let key = self.key();
            self.controllers.forget_policy(&key);
            self.state = State::default();
        }
        Ok(())
    }

    fn key(&self) -> (String, String) {
        let stage = self.stage();
        (stage.policy.id.namespace.clone(), stage.policy.id.name.clone())
    }

    /// Takes in an object that somebody has stored.
    pub(crate) fn store(&mut self, remediation: Remediation) {
        let stored = {
            let mut stage = self.stage();
            stage.foreign.insert(remediation.name.clone());
            stage.store(remediation)
        };
        self.controllers.ledger.observe(&stored, Freshness::List);
    }

    /// The newest incident is this one, as an earlier leader has left it.
    pub(crate) fn find_incident(&mut self, episode: Episode) {
        let (incident, closed_at) = match episode {
            Episode::Open(incident) => (incident, None),
            Episode::Closed(closed) => (closed.incident, Some(closed.at)),
            Episode::Over => return,
        };
        let Incident { name, ordinal, first_breached_at, opened_at, severity, reopened } = incident;
        let reopened =
            (reopened > 0).then_some(Reopening { times: reopened, first_breached_at, at: opened_at });
        let phase = Some(if closed_at.is_some() { IncidentPhase::Closed } else { IncidentPhase::Open });
        let report =
            IncidentReport { phase, severity: Some(severity), closed_at, reopened, ..Default::default() };
        let mut stage = self.stage();
        let version = stage.bump().into();
        let namespace = stage.policy.id.namespace.clone();
        stage.report.active_incident = Some(name.clone());
        stage.report.ordinal = ordinal;
        let stored =
            StoredIncident { namespace, name, version, ordinal, first_breached_at, opened_at, report };
        stage.incidents.insert(stored.name.clone(), stored);
    }

    /// A new leader: nothing but the objects is left.
    fn restart(&mut self) {
        let mut stage = self.stage();
        (stage.crashed, stage.epoch) = (false, stage.epoch + 1);
        stage.spawned.clear();
        stage.cache.forget();
        drop(stage);
        self.tasks.clear();
        self.controllers = term(&self.port, Duration::ZERO);
        self.state = State::default();
    }

    fn go_on(&mut self, traffic: &Traffic, probe: &Probe) -> Result<(), String> {
        self.tell_world();
        {
            let mut stage = self.stage();
            let now = stage.now;
            stage.cluster.settle(now);
            stage.workers.cluster.settle(now);
            stage.cache.settle(now);
            stage.reads(traffic, probe)?;
            let databases = match (stage.blind.is_some() || stage.partial, stage.waits.is_empty()) {
                (true, _) => Seen::Dark,
                (false, true) => Seen::Healthy,
                (false, false) => Seen::Breached,
            };
            let policy = stage.policy.clone();
            stage.told.reading(now, &policy, traffic, probe, databases);
        }
        self.evaluate();
        self.carry_out();
        Ok(())
    }

    /// Tells the checker what people and the world have changed.
    fn tell_world(&mut self) {
        let mut stage = self.stage();
        let Stage { now, policy, policy_gone, pauses, epoch, .. } = &*stage;
        let (now, policy, pauses, epoch, gone) = (*now, policy.clone(), pauses.clone(), *epoch, *policy_gone);
        let budgets = stage.limits().budgets;
        stage.told.people(now, (!gone).then_some(&policy), &pauses, budgets);
        stage.tell_workloads();
        stage.told.tell(now, What::Lease { holder: Some("operator".into()), epoch });
    }

    fn evaluate(&mut self) {
        if self.stage().policy_gone {
            return;
        }
        self.shown += 1;
        let mut object = self.stage().stored_policy();
        object.generation = self.shown;
        let controllers = self.controllers.clone();
        match run(&self.port, controllers.evaluate(&object)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("the evaluation ended early: {error}"),
            None => unreachable!("an evaluation acts on nothing"),
        }
        self.last = self.controllers.evaluations.of(&self.key());
        if let Some(last) = &self.last {
            let state = tick(&last.snapshot, &self.state).state;
            self.before = Some(std::mem::replace(&mut self.state, state));
        }
    }

    /// Lets every remediation go as far as it goes at this instant.
    fn carry_out(&mut self) {
        self.step_all();
        self.stage().requeued = false;
        self.run_on();
        let requeued = self.stage().requeued;
        if requeued {
            self.step_all();
        }
    }

    fn step_all(&mut self) {
        let names: Vec<String> = self.stage().remediations.keys().cloned().collect();
        for name in names {
            let Some(stored) = self.stage().remediations.get(&name).cloned() else { continue };
            let controllers = self.controllers.clone();
            match run(&self.port, controllers.advance(stored)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("{name} could not go on: {error}"),
                None => self.restart(),
            }
            for key in std::mem::take(&mut self.stage().removed) {
                self.controllers.ledger.forget(&key);
            }
        }
    }

    /// Runs go on as far as they go at this instant.
    fn run_on(&mut self) {
        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.append(&mut self.stage().spawned);
        tasks.retain_mut(|task| poll(task.as_mut()).is_pending());
        self.tasks = tasks;
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> String {
        self.stage().log.clone()
    }

    /// What the last tick was given, with a state that it may have had.
    pub(crate) fn last_tick(&self) -> Option<(Arc<Evaluated>, &State)> {
        Some((self.last.clone()?, self.before.as_ref()?))
    }
}

/// The controllers of a leader that has led for that long.
fn term(port: &Port, led: Duration) -> Arc<Controllers<Scenario>> {
    let (remediations, now) = {
        let stage = port.stage();
        (stage.remediations.values().map(|stored| stored.value.clone()).collect(), stage.now)
    };
    let ledger = LedgerStore::default();
    ledger.build(remediations);
    let settings = Settings {
        enabled_actions: vec![
            ActionKind::CancelQuery,
            ActionKind::TerminateIdle,
            ActionKind::Scale,
            ActionKind::ShedWorkers,
            ActionKind::WarmCache,
        ]
        .into(),
        protected_roles: vec!["postgres".into()].into(),
        api_contact_within: Duration::from_secs(10),
        leading_since: earlier(now, led),
    };
    Controllers::new(port.all(), settings, ledger)
}

/// Everything is answered at once: what is not ready waits for an operator that has crashed.
fn run<T>(port: &Port, work: impl Future<Output = T>) -> Option<T> {
    match poll(pin!(work)) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => {
            assert!(port.stage().crashed, "the driver waits for what does not come");
            None
        }
    }
}

fn poll<F: Future + ?Sized>(work: Pin<&mut F>) -> Poll<F::Output> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}
