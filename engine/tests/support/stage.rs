//! What happens on the stage of a scenario: the objects as the API server keeps them, the sessions as a database runs them, the
//! workload, the cache and the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::pin::Pin;
use std::time::Duration;

use controller::objects::{Stored, StoredIncident, StoredPolicy};
use controller::report::PolicyReport;
use engine::advance::EffectReport;
use engine::effects::{Inspection, SetReplicas, Signal, SignalSession};
use engine::model::{
    Budget, ByName, Coverage, EntryKey, Freeze, Limits, LockWait, Mode, NoData, NoDataReason, Observed,
    Pause, PausedBy, Phase, Policy, PostgresFacts, ProbeAnswer, Probed, Remediation, Session,
    SessionIdentity, SessionState, TargetRef, Timing, Traffic, duration::human, earlier, elapsed,
};
use engine::record::DecisionRecord;
use engine::replay::Evaluation;
use jiff::Timestamp;

use super::builders;
use super::cache::Cache;
use super::cluster::Cluster;
use super::parse::{self, Probe};
use super::pool::Pool;
use super::told::Told;
use super::workers::{self, Workers};

/// How the database answers a cancel.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cancel {
    Works,
    IsIgnored,
    FindsNothing,
    IsLost,
    CrashesBefore,
    CrashesAfter,
}

/// A run in the background.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Stage {
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    pub(crate) policy_gone: bool,
    /// What the policy's status says.
    pub(crate) report: PolicyReport,
    pub(crate) incidents: BTreeMap<String, StoredIncident>,
    pub(crate) remediations: BTreeMap<String, Stored<Remediation>>,
    /// The remediations that somebody else has stored.
    pub(crate) foreign: BTreeSet<String>,
    /// The newest version of any object.
    pub(crate) version: u64,
    pub(crate) epoch: u64,
    sessions: BTreeMap<String, Session>,
    pub(crate) waits: Vec<LockWait>,
    next_pid: i32,
    pub(crate) cancel: Cancel,
    pub(crate) blind: Option<NoDataReason>,
    pub(crate) partial: bool,
    /// What the source reads, and each probe sees, at this instant.
    pub(crate) traffic: Observed<Traffic>,
    pub(crate) probes: ByName<Observed<Probed>>,
    pub(crate) pauses: Vec<Pause>,
    pub(crate) opt_out: Option<String>,
    pub(crate) cluster: Cluster,
    pub(crate) workers: Workers,
    pub(crate) cache: Cache,
    pub(crate) pool: Pool,
    frozen: Option<Freeze>,
    /// Budgets beside the freeze, and why they are not all known.
    pub(crate) budgets: Vec<Budget>,
    pub(crate) unreadable: Option<String>,
    /// The remediations whose effect was sent, in order.
    pub(crate) effects_sent: Vec<String>,
    /// The runs that have sent something, with their term.
    pub(crate) runs: BTreeSet<(String, u64)>,
    /// The operator has crashed and goes no further.
    pub(crate) crashed: bool,
    /// What the driver wants to be run in the background, and to be looked at again.
    pub(crate) spawned: Vec<Task>,
    pub(crate) requeued: bool,
    /// Remediations that are gone.
    pub(crate) removed: Vec<EntryKey>,
    pub(crate) told: Told,
    pub(crate) log: String,
    /// The evaluations, where they are recorded.
    pub(crate) recording: Option<Vec<Evaluation>>,
}

impl Stage {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            now: builders::start(),
            policy,
            policy_gone: false,
            report: PolicyReport::default(),
            incidents: BTreeMap::new(),
            remediations: BTreeMap::new(),
            foreign: BTreeSet::new(),
            version: 1,
            epoch: 1,
            sessions: BTreeMap::new(),
            waits: Vec::new(),
            next_pid: 100,
            cancel: Cancel::Works,
            blind: None,
            partial: false,
            traffic: Observed::missing(NoDataReason::NotYetRead, ""),
            probes: ByName::new(),
            pauses: Vec::new(),
            opt_out: None,
            cluster: Cluster::new(),
            workers: Workers::new(),
            cache: Cache::new(),
            pool: Pool::default(),
            frozen: None,
            budgets: Vec::new(),
            unreadable: None,
            effects_sent: Vec::new(),
            runs: BTreeSet::new(),
            crashed: false,
            spawned: Vec::new(),
            requeued: false,
            removed: Vec::new(),
            told: Told::new(),
            log: String::new(),
            recording: None,
        }
    }

    /// The next version.
    pub(crate) fn bump(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The policy as a watch shows it.
    pub(crate) fn stored_policy(&self) -> StoredPolicy {
        StoredPolicy {
            id: self.policy.id.clone(),
            generation: self.policy.generation,
            version: self.version.into(),
            deleting: false,
            pause: self.pauses.iter().rfind(|pause| pause.by == PausedBy::Policy).cloned(),
            spec: Ok(self.policy.clone()),
            report: self.report.clone(),
        }
    }

    /// The pauses on target and namespace.
    pub(crate) fn other_pauses(&self) -> Vec<Pause> {
        self.pauses.iter().filter(|pause| pause.by != PausedBy::Policy).cloned().collect()
    }

    /// Stores a remediation, and tells the checker.
    pub(crate) fn store(&mut self, value: Remediation) -> Stored<Remediation> {
        let version = self.bump().into();
        let (name, uid) = (value.name.clone(), format!("{} {}", value.name, value.created_at));
        let stored = Stored { value, uid, version, other_finalizers: Vec::new() };
        self.remediations.insert(name, stored.clone());
        self.told.stored(self.now, self.remediations.values().map(|stored| &stored.value));
        stored
    }

    /// Takes in what can be read at this instant.
    pub(crate) fn reads(&mut self, traffic: &parse::Traffic, probe: &Probe) -> Result<(), String> {
        self.traffic = match traffic {
            parse::Traffic::Flows { requests, slow, in_flight, errors } => {
                let mut value = builders::traffic(self.now, *requests, *slow, *in_flight, *errors);
                if let Some(views) = self.cluster.views(self.now, *requests, *slow) {
                    value.views = views;
                }
                Observed::Known { at: self.now, value }
            }
            parse::Traffic::NoData(reason) => Observed::missing(reason_of(reason)?, "the source said so"),
        };
        self.probes = self.probed(probe)?;
        Ok(())
    }

    fn probed(&self, probe: &Probe) -> Result<ByName<Observed<Probed>>, String> {
        let millis = Duration::from_millis;
        let seen = |total: Duration, first_byte, answer| {
            let timing = Timing { connect: millis(1), tls: None, first_byte, total };
            Observed::Known { at: self.now, value: Probed { resolve: Duration::ZERO, timing, answer } }
        };
        let probes = self.policy.probes().map(|(name, source)| {
            let seen = match probe {
                Probe::Answer(status, total) => {
                    let answer = ProbeAnswer::Status { status: *status, cut: false };
                    seen(*total, Some(total.saturating_sub(millis(1))), answer)
                }
                Probe::Hangs => seen(source.timeout, None, ProbeAnswer::TimedOut),
                Probe::NoData(reason) => Observed::missing(reason_of(reason)?, "the probe said so"),
            };
            Ok((name.to_owned(), seen))
        });
        probes.collect()
    }

    /// What the database answers.
    pub(crate) fn database(&self) -> Observed<PostgresFacts> {
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
        for session in self.sessions.values().filter(running) {
            facts.active += 1;
            *facts.active_by_role.entry(session.role.clone()).or_default() += 1;
        }
        self.workers.work(&mut facts);
        facts.lock_waits.clone_from(&self.waits);
        if self.partial {
            facts.coverage =
                Coverage::Partial { grant: "GRANT pg_read_all_stats TO latency_operator".into() };
        }
        Observed::Known { at: self.now, value: facts }
    }

    /// Signals a session; nothing where the operator crashes over it.
    pub(crate) fn signal(&mut self, remediation: &str, signal: &SignalSession) -> Option<EffectReport> {
        self.is_durable(remediation);
        let SignalSession { target, signal } = signal;
        let session = &target.session;
        let terminates = signal.ends_session();
        let wanted = match signal {
            Signal::Cancel | Signal::Terminate => SessionState::Active,
            Signal::TerminateIdle(_) => SessionState::IdleInTransaction,
        };
        let runs = self.sessions.values().any(|s| s.identity == *session && s.state == wanted);
        let works = matches!(self.cancel, Cancel::Works | Cancel::IsLost | Cancel::CrashesAfter);
        let done = runs && (works || (terminates && matches!(self.cancel, Cancel::IsIgnored)));
        let hit = self.sessions.values().find(|s| s.identity == *session).cloned();
        if let Some(hit) = hit
            && (done || (runs && self.cancel == Cancel::IsIgnored))
        {
            let key = (self.policy.id.namespace.clone(), remediation.to_owned());
            self.told.signal(self.now, key, *signal, target, &hit);
        }
        if done {
            let name =
                self.sessions.iter().find(|(_, s)| s.identity == *session).map(|(name, _)| name.clone());
            self.end(&name.unwrap_or_default());
        }
        Some(match self.cancel {
            Cancel::CrashesBefore | Cancel::CrashesAfter => {
                self.crash();
                return None;
            }
            Cancel::IsLost => EffectReport::Lost("the connection broke".into()),
            Cancel::Works | Cancel::IsIgnored if runs => EffectReport::Sent,
            Cancel::Works | Cancel::IsIgnored | Cancel::FindsNothing => {
                EffectReport::NotMatched("the statement had ended".into())
            }
        })
    }

    /// An effect is about to be sent: its intent is durable, and ours.
    fn is_durable(&mut self, remediation: &str) {
        let durable = &self.remediations[remediation].value.status;
        let ours = durable.executing.as_ref().is_some_and(|executing| executing.epoch == self.epoch);
        assert!(durable.phase == Phase::Executing && ours, "an effect without a durable intent of ours");
        self.effects_sent.push(remediation.to_owned());
    }

    /// The operator crashes; whatever comes next is another one's.
    fn crash(&mut self) {
        (self.crashed, self.cancel) = (true, Cancel::Works);
    }

    /// What has become of the session that is signalled.
    pub(crate) fn session_of(&self, signal: &SignalSession) -> Inspection {
        let session = &signal.target.session;
        match self.blind {
            Some(reason) => Inspection::Unreadable(NoData::new(reason, "the database said so")),
            None if self.sessions.values().any(|s| s.identity == *session) => Inspection::Running,
            None => Inspection::Gone,
        }
    }

    /// Sets the replicas, for an action or its rollback: whether it was done and answered. Nothing where the operator crashes
    /// over it.
    pub(crate) fn scale(&mut self, remediation: &str, scale: &SetReplicas) -> Option<Result<(), Cancel>> {
        if self.remediations[remediation].value.status.phase != Phase::Executing {
            let now = self.now;
            self.cluster_of_mut(&scale.target).restore(scale, now);
            self.tell_workloads();
            return Some(Ok(()));
        }
        self.is_durable(remediation);
        let works =
            matches!(self.cancel, Cancel::Works | Cancel::IsIgnored | Cancel::IsLost | Cancel::CrashesAfter);
        let now = self.now;
        let done = works && self.cluster_of_mut(&scale.target).scale(scale, now);
        self.tell_workloads();
        match self.cancel {
            Cancel::CrashesBefore | Cancel::CrashesAfter => {
                self.crash();
                None
            }
            Cancel::Works | Cancel::IsIgnored if done => Some(Ok(())),
            Cancel::Works | Cancel::IsIgnored | Cancel::FindsNothing => Some(Err(Cancel::FindsNothing)),
            Cancel::IsLost => Some(Err(Cancel::IsLost)),
        }
    }

    /// The workload of that name.
    pub(crate) fn cluster_of(&self, target: &TargetRef) -> &Cluster {
        if *target == workers::target() { &self.workers.cluster } else { &self.cluster }
    }

    fn cluster_of_mut(&mut self, target: &TargetRef) -> &mut Cluster {
        if *target == workers::target() { &mut self.workers.cluster } else { &mut self.cluster }
    }

    /// What a workload's owner says about it.
    pub(crate) fn opt_out_of(&self, target: &TargetRef) -> Option<String> {
        if *target == workers::target() { self.workers.opt_out.clone() } else { self.opt_out.clone() }
    }

    /// Tells the checker what has become of the workloads.
    pub(crate) fn tell_workloads(&mut self) {
        let Self { told, cluster, workers, policy, now, .. } = self;
        told.workload(*now, cluster, &policy.id.namespace, &policy.target);
        if policy.dependencies.values().any(|declared| declared.workers().is_some()) {
            told.workload(*now, &workers.cluster, &policy.id.namespace, &workers::target());
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let frozen = self.frozen.map(|freeze| Budget { freeze, ..Budget::unlimited("quiet") });
        let budgets = frozen.into_iter().chain(self.budgets.clone()).collect();
        Limits { budgets, unreadable: self.unreadable.clone(), ..Limits::default() }
    }

    /// Takes in what happens.
    pub(crate) fn event(&mut self, event: &str) -> Result<(), String> {
        let words: Vec<&str> = event.split_whitespace().collect();
        let now = self.now;
        if self.cluster.event(&words, now)?
            || self.cache.event(&words, now)?
            || self.pool.event(&words, now)?
            || self.workers.event(&words, now)?
        {
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
            ["opt", "out", value] => self.opt_out = Some((*value).to_owned()),
            ["mode", "Observe"] => self.policy.mode = Mode::Observe,
            ["mode", "Auto"] => self.policy.mode = Mode::Auto,
            ["restart"] => self.crashed = true,
            ["policy", "is", "deleted"] => self.policy_gone = true,
            ["freeze", "Actions"] => self.frozen = Some(Freeze::Actions),
            ["freeze", "ActionsAndRollbacks"] => self.frozen = Some(Freeze::ActionsAndRollbacks),
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

    /// Writes down what was decided.
    pub(crate) fn write_down(&mut self, record: &DecisionRecord) {
        let at = human(elapsed(self.now, builders::start()));
        let _ = writeln!(self.log, "{at:>7}  {:<22} {}", record.slot().to_string(), record.sentence());
    }

    /// Whether the event can happen as things are (a session that is not there can neither block nor end).
    pub(crate) fn understands(&self, event: &str) -> bool {
        let words: Vec<&str> = event.split_whitespace().collect();
        match words.as_slice() {
            [name, "goes" | "asks" | "blocks" | "ends", ..] => self.sessions.contains_key(*name),
            _ => true,
        }
    }
}

pub(crate) fn reason_of(text: &str) -> Result<NoDataReason, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}
