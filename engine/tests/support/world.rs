//! A small world around the three functions: it keeps objects as the API server would, runs sessions as a database would,
//! carries effects out, and writes down what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use engine::State;
use engine::advance::{EffectReport, Look, Turn, Warming};
use engine::invariants::{Request, Seen as Offered, What};
use engine::model::{
    Action, ActionKind, Admission, Budget, ByName, ClosedIncident, Coverage, DependencyKind, Facts, Fleet,
    Freeze, Incident, Ledger, Limits, LockWait, Measurement, Mode, NoData, NoDataReason, Observations,
    Observed, OperatorHealth, Pause, PausedBy, Phase, Policy, PostgresFacts, ProbeAnswer, Probed,
    Remediation, RemediationStatus, Session, SessionIdentity, SessionState, SessionTarget, Snapshot, Source,
    Survey, Target, Timing, duration::human, earlier, elapsed, later,
};
use engine::record::DecisionRecord;
use engine::{Admitted, Seen, Situation, Step, admit, advance, settle, tick};
use jiff::Timestamp;

use super::builders;
use super::cache::Cache;
use super::cluster::Cluster;
use super::parse::{Probe, TickLine, Traffic};
use super::told::Told;

/// How the database answers a cancel.
#[derive(Clone, Copy, PartialEq)]
enum Cancel {
    Works,
    IsIgnored,
    FindsNothing,
    IsLost,
    CrashesBefore,
    CrashesAfter,
}

pub(crate) struct World {
    now: Timestamp,
    policy: Policy,
    state: State,
    ledger: Ledger,
    /// Nobody else is there.
    survey: Survey,
    leading_since: Timestamp,
    epoch: u64,
    sessions: BTreeMap<String, Session>,
    waits: Vec<LockWait>,
    next_pid: i32,
    cancel: Cancel,
    blind: Option<NoDataReason>,
    probe: Probe,
    partial: bool,
    pub(crate) pauses: Vec<Pause>,
    opt_out: Option<String>,
    cluster: Cluster,
    cache: Cache,
    /// Runs of warming that are under way, by remediation.
    warming: BTreeMap<String, Warming>,
    policy_gone: bool,
    frozen: Option<Freeze>,
    /// Budgets beside the freeze, and why they are not all known.
    pub(crate) budgets: Vec<Budget>,
    pub(crate) unreadable: Option<String>,
    pub(crate) incident: Option<Incident>,
    pub(crate) closed: Option<ClosedIncident>,
    ordinal: u64,
    pub(crate) remediations: BTreeMap<String, Remediation>,
    passed_gate: BTreeMap<String, Timestamp>,
    effects: BTreeMap<String, EffectReport>,
    executing_seen: BTreeMap<String, Timestamp>,
    view: Option<(Snapshot, Situation)>,
    /// The remediations whose effect was sent, in order.
    pub(crate) effects_sent: Vec<String>,
    before: Option<State>,
    pub(crate) told: Told,
    /// The remediations that somebody else has stored.
    foreign: BTreeSet<String>,
    log: String,
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let now = builders::start();
        Self {
            now,
            policy,
            state: State::default(),
            ledger: Ledger::default(),
            survey: Survey::default(),
            leading_since: earlier(now, Duration::from_secs(600)),
            epoch: 1,
            sessions: BTreeMap::new(),
            waits: Vec::new(),
            next_pid: 100,
            cancel: Cancel::Works,
            blind: None,
            probe: Probe::default(),
            partial: false,
            pauses: Vec::new(),
            opt_out: None,
            cluster: Cluster::new(),
            cache: Cache::new(),
            warming: BTreeMap::new(),
            policy_gone: false,
            frozen: None,
            budgets: Vec::new(),
            unreadable: None,
            incident: None,
            closed: None,
            ordinal: 1,
            remediations: BTreeMap::new(),
            passed_gate: BTreeMap::new(),
            effects: BTreeMap::new(),
            executing_seen: BTreeMap::new(),
            view: None,
            effects_sent: Vec::new(),
            before: None,
            told: Told::new(),
            foreign: BTreeSet::new(),
            log: String::new(),
        }
    }

    /// Plays all ticks and returns what was said.
    pub(crate) fn play(mut self, ticks: &[TickLine]) -> Result<String, String> {
        for line in ticks {
            self.tick(line)?;
        }
        Ok(self.log)
    }

    pub(crate) fn tick(&mut self, line: &TickLine) -> Result<(), String> {
        self.now = later(builders::start(), line.at);
        for event in &line.events {
            self.event(event)?;
        }
        self.tell_world();
        self.cluster.settle(self.now);
        self.cache.settle(self.now);
        self.probe = line.probe.clone();
        self.evaluate(&line.traffic)?;
        self.carry_out();
        Ok(())
    }

    /// Like [`Self::tick`], passing over what cannot happen as things are.
    pub(crate) fn tick_anyhow(&mut self, at: Duration, traffic: &Traffic, events: &[String]) {
        self.now = later(builders::start(), at);
        for event in events {
            if self.understands(event) {
                self.event(event).expect("the event is understood");
            }
        }
        self.tell_world();
        self.cluster.settle(self.now);
        self.cache.settle(self.now);
        self.evaluate(traffic).expect("the traffic is understood");
        self.carry_out();
    }

    /// Takes in an object that somebody has stored.
    pub(crate) fn store(&mut self, remediation: Remediation) {
        self.ledger.observe(&remediation);
        self.foreign.insert(remediation.name.clone());
        self.remediations.insert(remediation.name.clone(), remediation);
    }

    /// Tells the checker what people and the world have changed.
    fn tell_world(&mut self) {
        let policy = (!self.policy_gone).then_some(&self.policy);
        let budgets = self.limits().budgets;
        let (now, told) = (self.now, &mut self.told);
        told.people(now, policy, &self.pauses, budgets);
        told.workload(now, &self.cluster, &self.policy);
        told.tell(now, What::Lease { holder: Some("operator".into()), epoch: self.epoch });
    }

    fn evaluate(&mut self, traffic: &Traffic) -> Result<(), String> {
        let snapshot = self.snapshot(traffic)?;
        let databases = match (self.blind.is_some() || self.partial, self.waits.is_empty()) {
            (true, _) => Offered::Dark,
            (false, true) => Offered::Healthy,
            (false, false) => Offered::Breached,
        };
        self.told.reading(self.now, &self.policy, traffic, &self.probe, databases);
        let mut ticked = tick(&snapshot, &self.state);
        self.before = Some(self.state.clone());
        match (&self.incident, &ticked.situation.incident) {
            (None, Some(opened)) => {
                self.ordinal = self.ordinal.max(opened.ordinal + 1);
                self.incident = Some(opened.clone());
            }
            (Some(_), Some(known)) => self.incident = Some(known.clone()),
            (Some(was), None) => {
                self.closed = Some(ClosedIncident { incident: was.clone(), at: self.now });
                self.incident = None;
            }
            (None, None) => {}
        }
        let fleet = Fleet { leading: true, ledger_complete: true, draining: None };
        let (ledger, answers) =
            admit(&ticked.proposals, &self.ledger, fleet, &self.limits(), &Survey::default(), self.now);
        self.ledger = ledger;
        settle(&snapshot, &mut ticked, &answers);
        for (proposal, answer) in ticked.proposals.iter().zip(&answers) {
            if matches!(answer, Admitted::Yes { .. }) {
                let remediation = Remediation {
                    namespace: proposal.candidate.policy.namespace.clone(),
                    name: proposal.candidate.object_name(),
                    created_at: self.now,
                    deleting: false,
                    held: proposal.candidate.undo.is_some() && !proposal.candidate.is_dry_run(),
                    spec: (&proposal.candidate).into(),
                    status: RemediationStatus::default(),
                };
                // What is there already is adopted.
                if self.foreign.contains(&remediation.name) {
                    continue;
                }
                let before = self.remediations.insert(remediation.name.clone(), remediation);
                assert!(before.is_none(), "an object was created twice");
            }
        }
        self.told.stored(self.now, self.remediations.values());
        for record in ticked.records.iter().filter(|_| !self.policy_gone).cloned().collect::<Vec<_>>() {
            self.write_down(&record);
        }
        self.state = ticked.state;
        self.view = Some((snapshot, ticked.situation));
        Ok(())
    }

    fn snapshot(&self, traffic: &Traffic) -> Result<Snapshot, String> {
        let traffic = match traffic {
            Traffic::Flows { requests, slow, in_flight, errors } => {
                let mut value = builders::traffic(self.now, *requests, *slow, *in_flight, *errors);
                if let Some(views) = self.cluster.views(self.now, *requests, *slow) {
                    value.views = views;
                }
                Observed::Known { at: self.now, value }
            }
            Traffic::NoData(reason) => Observed::missing(reason_of(reason)?, "the source said so"),
        };
        let target = Target {
            uid: self.cluster.uid(),
            workload: Some(self.cluster.workload(self.now)),
            opt_out: self.opt_out.clone(),
        };
        let target = Observed::Known { at: self.now, value: target };
        let mut snapshot =
            Snapshot::new(self.now, self.policy.clone(), Observations::new(target), self.operator());
        snapshot.observations.measurements = (self.policy.objectives.iter())
            .filter(|objective| matches!(objective.source, Source::Prometheus { .. }))
            .map(|objective| (objective.name.clone(), traffic.clone().map(Measurement::from)))
            .chain(self.probes()?)
            .collect();
        let dependencies = self.policy.dependencies.iter().map(|(name, declared)| {
            let read = match declared.kind() {
                DependencyKind::Postgres => self.database().map(Facts::from),
                DependencyKind::Redis => self.cache.read(self.now).map(Facts::from),
            };
            (name.clone(), read)
        });
        snapshot.observations.dependencies = dependencies.collect();
        snapshot.observations.pauses = self.pauses.clone();
        snapshot.incident = self.incident.clone();
        snapshot.closed = self.closed.clone().filter(|_| self.incident.is_none());
        snapshot.next_ordinal = self.ordinal;
        snapshot.history = self.ledger.history(&self.policy.id.namespace, &self.policy.id.name);
        snapshot.remediations = self.remediations.values().cloned().collect();
        Ok(snapshot)
    }

    fn operator(&self) -> OperatorHealth {
        OperatorHealth {
            leading_since: self.leading_since,
            api_contact_at: self.now,
            api_contact_within: Duration::from_secs(10),
            enabled_actions: vec![
                ActionKind::CancelQueries,
                ActionKind::TerminateIdle,
                ActionKind::Scale,
                ActionKind::WarmCache,
            ]
            .into(),
            protected_roles: vec!["postgres".into()].into(),
        }
    }

    fn probes(&self) -> Result<ByName<Observed<Measurement>>, String> {
        let millis = Duration::from_millis;
        let seen = |total: Duration, first_byte, answer| {
            let timing = Timing { connect: millis(1), tls: None, first_byte, total };
            Observed::Known { at: self.now, value: Probed { resolve: Duration::ZERO, timing, answer } }
        };
        let probes = self.policy.probes().map(|(name, source)| {
            let seen = match &self.probe {
                Probe::Answer(status, total) => {
                    let answer = ProbeAnswer::Status { status: *status, cut: false };
                    seen(*total, Some(total.saturating_sub(millis(1))), answer)
                }
                Probe::Hangs => seen(source.timeout, None, ProbeAnswer::TimedOut),
                Probe::NoData(reason) => Observed::missing(reason_of(reason)?, "the probe said so"),
            };
            Ok((name.to_owned(), seen.map(Measurement::from)))
        });
        probes.collect()
    }

    fn database(&self) -> Observed<PostgresFacts> {
        if let Some(reason) = self.blind {
            return Observed::missing(reason, "the database said so");
        }
        let mut facts = builders::quiet_database(self.now);
        facts.slots.used = self.cluster.connections;
        let running = |s: &&Session| s.state == SessionState::Active && !s.waits_for_lock;
        facts.sessions = self.sessions.values().cloned().collect();
        facts.active_seconds = self
            .sessions
            .values()
            .filter(running)
            .map(|session| elapsed(self.now, session.identity.query_start).as_secs_f64())
            .sum::<f64>()
            + 0.5;
        facts.lock_waits.clone_from(&self.waits);
        if self.partial {
            facts.coverage =
                Coverage::Partial { grant: "GRANT pg_read_all_stats TO latency_operator".into() };
        }
        Observed::Known { at: self.now, value: facts }
    }

    /// Lets every remediation go as far as it goes at this instant.
    fn carry_out(&mut self) {
        self.step_all();
        if self.warm_on() {
            self.step_all();
        }
    }

    fn step_all(&mut self) {
        for name in self.remediations.keys().cloned().collect::<Vec<_>>() {
            let mut look = None;
            for _ in 0..10 {
                let Some(remediation) = self.remediations.get(&name).cloned() else { break };
                match self.step(&remediation, look.as_ref()) {
                    Step::Write { status, record } => {
                        self.write_status(&remediation, *status);
                        let incident = Some(remediation.spec.incident.clone());
                        let policy = self.policy.id.clone();
                        self.write_down(&DecisionRecord {
                            at: self.now,
                            policy: policy.into(),
                            incident,
                            kind: record,
                            changed: true,
                        });
                        look = None;
                    }
                    Step::Effect { action: Action::WarmCache(warm), fence } => {
                        self.effects_sent.push(name.clone());
                        self.effects.insert(name.clone(), EffectReport::Lost("it was interrupted".into()));
                        self.warming.insert(name.clone(), Warming::new(&warm, self.now, fence));
                    }
                    Step::Effect { action, .. } => {
                        if !self.effect(&name, &action) {
                            break;
                        }
                    }
                    Step::Look(action) => look = Some(self.look(&action)),
                    Step::Restore { scale, .. } => {
                        self.cluster.restore(&scale, self.now);
                        self.told.workload(self.now, &self.cluster, &self.policy);
                        look = None;
                    }
                    Step::Release => self.release(&name),
                    Step::Wait { .. } | Step::Done => break,
                }
            }
        }
    }

    fn step(&mut self, remediation: &Remediation, look: Option<&Look>) -> Step {
        if remediation.status.phase == Phase::Executing {
            self.executing_seen.entry(remediation.name.clone()).or_insert(self.now);
        }
        let limits = self.limits();
        advance(remediation, &self.seen(remediation, look, &limits))
    }

    fn seen<'a>(&'a self, remediation: &Remediation, look: Option<&'a Look>, limits: &'a Limits) -> Seen<'a> {
        Seen {
            now: self.now,
            holder: "operator",
            epoch: self.epoch,
            leading: true,
            // As the driver has it: what was decided for another policy is not this one's business.
            view: self
                .view
                .as_ref()
                .filter(|(snapshot, _)| snapshot.policy.id == remediation.spec.policy)
                .map(|(snapshot, situation)| (snapshot, situation)),
            policy_gone: self.policy_gone,
            admission: Some(Admission {
                ledger: &self.ledger,
                fleet: Fleet { leading: true, ledger_complete: true, draining: None },
                limits,
                survey: &self.survey,
            }),
            passed_gate_at: self.passed_gate.get(&remediation.name).copied(),
            effect: self.effects.get(&remediation.name),
            executing_seen_at: self.executing_seen.get(&remediation.name).copied(),
            look,
        }
    }

    fn write_status(&mut self, remediation: &Remediation, status: RemediationStatus) {
        if status.phase == Phase::Executing {
            self.passed_gate.insert(remediation.name.clone(), self.now);
        }
        let mut written = remediation.clone();
        written.status = status;
        self.ledger.observe(&written);
        self.remediations.insert(written.name.clone(), written);
        self.told.stored(self.now, self.remediations.values());
    }

    /// Does it; false where the operator crashes over it.
    fn effect(&mut self, remediation: &str, action: &Action) -> bool {
        let durable = &self.remediations[remediation].status;
        let ours = durable.executing.as_ref().is_some_and(|executing| executing.epoch == self.epoch);
        assert!(durable.phase == Phase::Executing && ours, "an effect without a durable intent of ours");
        self.effects_sent.push(remediation.to_owned());
        let Some(SessionTarget { session, .. }) = action.session() else {
            return self.scale(remediation, action);
        };
        let terminates = !matches!(action, Action::CancelQuery(_));
        let wanted = match action {
            Action::CancelQuery(_) | Action::TerminateQuery(_) | Action::Scale(_) | Action::WarmCache(_) => {
                SessionState::Active
            }
            Action::TerminateIdle(_) => SessionState::IdleInTransaction,
        };
        let runs = self.sessions.values().any(|s| s.identity == *session && s.state == wanted);
        let works = matches!(self.cancel, Cancel::Works | Cancel::IsLost | Cancel::CrashesAfter);
        let done = runs && (works || (terminates && matches!(self.cancel, Cancel::IsIgnored)));
        let hit = self.sessions.values().find(|s| s.identity == *session).cloned();
        if let (Some(hit), Some(target)) = (hit, action.session())
            && (done || (runs && self.cancel == Cancel::IsIgnored))
        {
            let key = (self.policy.id.namespace.clone(), remediation.to_owned());
            self.told.signal(self.now, key, action, target, &hit);
        }
        if done {
            let name =
                self.sessions.iter().find(|(_, s)| s.identity == *session).map(|(name, _)| name.clone());
            self.end(&name.unwrap_or_default());
        }
        let report = match self.cancel {
            Cancel::CrashesBefore | Cancel::CrashesAfter => {
                self.restart();
                self.cancel = Cancel::Works;
                return false;
            }
            Cancel::IsLost => EffectReport::Lost("the connection broke".into()),
            Cancel::Works | Cancel::IsIgnored if runs => EffectReport::Sent,
            Cancel::Works | Cancel::IsIgnored | Cancel::FindsNothing => {
                EffectReport::NotMatched("the statement had ended".into())
            }
        };
        self.effects.insert(remediation.to_owned(), report);
        true
    }

    /// Runs of warming go on: the application answers at once. Whether one has ended.
    fn warm_on(&mut self) -> bool {
        let mut some = false;
        for (name, mut warming) in std::mem::take(&mut self.warming) {
            let Some(remediation) = self.remediations.get(&name).cloned() else { continue };
            let ended = loop {
                let limits = self.limits();
                let turn = warming.turn(&remediation, &self.seen(&remediation, None, &limits), 0.0);
                match turn {
                    Turn::Send { path } => {
                        let key = (remediation.namespace.clone(), name.clone());
                        self.told
                            .tell(self.now, What::Request(Request { path, sent: None, remediation: key }));
                        warming.answered(self.cache.warm());
                    }
                    Turn::Wait { .. } => break None,
                    Turn::Over(warmed) => break Some(warmed),
                }
            };
            match ended {
                Some(warmed) => {
                    self.effects.insert(name, EffectReport::Warmed(warmed));
                    some = true;
                }
                None => drop(self.warming.insert(name, warming)),
            }
        }
        some
    }

    fn look(&self, action: &Action) -> Look {
        let Some(SessionTarget { session, .. }) = action.session() else { return self.cluster.look() };
        match self.blind {
            Some(reason) => Look::Unreadable(NoData::new(reason, "the database said so")),
            None if self.sessions.values().any(|s| s.identity == *session) => Look::Running,
            None => Look::Gone,
        }
    }

    /// Sets the replicas; false where the operator crashes over it.
    fn scale(&mut self, remediation: &str, action: &Action) -> bool {
        let Action::Scale(scale) = action else {
            unreachable!("it is done to no session and scales nothing")
        };
        let works =
            matches!(self.cancel, Cancel::Works | Cancel::IsIgnored | Cancel::IsLost | Cancel::CrashesAfter);
        let done = works && self.cluster.scale(scale, self.now);
        self.told.workload(self.now, &self.cluster, &self.policy);
        let report = match self.cancel {
            Cancel::CrashesBefore | Cancel::CrashesAfter => {
                self.restart();
                self.cancel = Cancel::Works;
                return false;
            }
            Cancel::IsLost => EffectReport::Lost("the connection broke".into()),
            Cancel::Works | Cancel::IsIgnored if done => EffectReport::Sent,
            Cancel::Works | Cancel::IsIgnored | Cancel::FindsNothing => {
                EffectReport::NotMatched("somebody had set other replicas".into())
            }
        };
        self.effects.insert(remediation.to_owned(), report);
        true
    }

    /// The finalizer goes; and with it, the object that was being deleted.
    fn release(&mut self, name: &str) {
        if let Some(remediation) = self.remediations.get_mut(name) {
            assert!(remediation.held && !remediation.owes(), "released while something is owed");
            remediation.held = false;
        }
    }

    /// The policy is deleted: what is looked at from now on is what the undo watches.
    fn forget_policy(&mut self) {
        self.policy_gone = true;
        self.policy.rungs.clear();
        self.policy.mode = Mode::Observe;
        self.incident = None;
        self.state = State::default();
    }

    fn limits(&self) -> Limits {
        let frozen = self.frozen.map(|freeze| Budget {
            name: "quiet".into(),
            namespaces: vec![],
            per_hour: None,
            per_hour_and_namespace: None,
            concurrent: None,
            denied: vec![],
            freeze,
            windows: vec![],
        });
        let budgets = frozen.into_iter().chain(self.budgets.clone()).collect();
        Limits { budgets, unreadable: self.unreadable.clone(), ..Limits::default() }
    }

    /// A new leader: nothing but the objects is left.
    fn restart(&mut self) {
        self.state = State::default();
        self.cache.forget();
        self.ledger = Ledger::from_list(self.remediations.values());
        self.leading_since = self.now;
        self.epoch += 1;
        self.passed_gate.clear();
        self.effects.clear();
        self.executing_seen.clear();
        self.warming.clear();
        self.view = None;
    }

    fn event(&mut self, event: &str) -> Result<(), String> {
        let words: Vec<&str> = event.split_whitespace().collect();
        if self.cluster.event(&words, self.now)? || self.cache.event(&words, self.now)? {
            return Ok(());
        }
        match words.as_slice() {
            [name, "starts", "as", role, rest @ ..] => self.start(name, role, rest),
            [name, "goes", "idle"] => {
                let now = self.now;
                let session = self.session(name)?;
                (session.state, session.state_change) = (SessionState::IdleInTransaction, now);
            }
            [name, "asks", "again"] => {
                let now = self.now;
                self.session(name)?.identity.query_start = now;
            }
            [name, "blocks", count, role] => {
                let count: i32 = count.parse().map_err(|_| format!("{count} is not a number"))?;
                let blocker = self.session(name)?.identity.pid;
                for index in 0..count {
                    let waiter = format!("{name}-victim-{index}");
                    self.start(&waiter, role, &[]);
                    let now = self.now;
                    let session = self.session(&waiter)?;
                    (session.waits_for_lock, session.wait_start) = (true, Some(now));
                    let waiter = session.identity.pid;
                    self.waits.push(LockWait { waiter, blocker });
                }
            }
            [name, "ends"] => self.end(name),
            ["cancel", how @ ..] => {
                self.cancel = match how {
                    ["works"] => Cancel::Works,
                    ["is", "ignored"] => Cancel::IsIgnored,
                    ["finds", "nothing"] => Cancel::FindsNothing,
                    ["is", "lost"] => Cancel::IsLost,
                    ["crashes", "before"] => Cancel::CrashesBefore,
                    ["crashes", "after"] => Cancel::CrashesAfter,
                    _ => return Err(format!("{event} is not understood")),
                }
            }
            ["database", "blind", reason] => self.blind = Some(reason_of(reason)?),
            ["database", "partial"] => self.partial = true,
            ["database", "back"] => (self.blind, self.partial) = (None, false),
            ["pause", who, "until", until] => {
                let by = match *who {
                    "policy" => PausedBy::Policy,
                    "target" => PausedBy::Target,
                    _ => PausedBy::Namespace,
                };
                self.pauses.push(Pause { by, until: (*until).to_owned(), reason: None });
            }
            ["resume"] => self.pauses.clear(),
            ["suspend", yes] => self.policy.suspended = *yes == "yes",
            ["opt", "out", value] => self.opt_out = Some((*value).to_owned()),
            ["mode", "Observe"] => self.policy.mode = Mode::Observe,
            ["mode", "Auto"] => self.policy.mode = Mode::Auto,
            ["restart"] => self.restart(),
            ["policy", "is", "deleted"] => self.forget_policy(),
            ["freeze", "New"] => self.frozen = Some(Freeze::New),
            ["freeze", "All"] => self.frozen = Some(Freeze::All),
            ["thaw"] => self.frozen = None,
            _ => return Err(format!("the event \"{event}\" is not understood")),
        }
        Ok(())
    }

    fn start(&mut self, name: &str, role: &str, rest: &[&str]) {
        self.next_pid += 1;
        let ago = rest.iter().position(|word| *word == "ago").and_then(|index| rest.get(index - 1));
        let started = ago.and_then(|span| engine::model::duration::parse(span).ok()).unwrap_or_default();
        let at = earlier(self.now, started);
        let session = Session {
            identity: SessionIdentity {
                pid: self.next_pid,
                backend_start: earlier(at, Duration::from_secs(60)),
                query_start: at,
            },
            role: role.to_owned(),
            database: "orders".into(),
            application: name.to_owned(),
            state: SessionState::Active,
            xact_start: Some(at),
            state_change: at,
            waits_for_lock: false,
            wait_start: None,
            wrote: rest.contains(&"writing"),
            xmin_age: None,
            privileged: rest.contains(&"privileged"),
            maintenance: rest.contains(&"maintenance"),
            protected: rest.contains(&"protected"),
            fingerprint: name.to_owned(),
        };
        self.sessions.insert(name.to_owned(), session);
    }

    fn session(&mut self, name: &str) -> Result<&mut Session, String> {
        self.sessions.get_mut(name).ok_or_else(|| format!("there is no session {name}"))
    }

    fn end(&mut self, name: &str) {
        let Some(session) = self.sessions.remove(name) else { return };
        let pid = session.identity.pid;
        let freed: BTreeSet<i32> = self.waits.iter().filter(|w| w.blocker == pid).map(|w| w.waiter).collect();
        self.waits.retain(|wait| wait.blocker != pid && wait.waiter != pid);
        self.sessions.retain(|_, session| !freed.contains(&session.identity.pid));
    }

    fn write_down(&mut self, record: &DecisionRecord) {
        if record.changed {
            let at = human(elapsed(self.now, builders::start()));
            let _ = writeln!(self.log, "{at:>7}  {:<22} {}", record.slot().to_string(), record.sentence());
        }
    }

    /// Whether the event can happen as things are (a session that is not there can neither block nor end).
    fn understands(&self, event: &str) -> bool {
        let words: Vec<&str> = event.split_whitespace().collect();
        match words.as_slice() {
            [name, "goes" | "asks" | "blocks" | "ends", ..] => self.sessions.contains_key(*name),
            _ => true,
        }
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> &str {
        &self.log
    }

    /// What the last tick was given, and what was made of it.
    pub(crate) fn last_tick(&self) -> Option<(&Snapshot, &State, &Situation)> {
        let (snapshot, situation) = self.view.as_ref()?;
        Some((snapshot, self.before.as_ref()?, situation))
    }
}

pub(crate) fn reason_of(text: &str) -> Result<NoDataReason, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}
