//! Everything outside the operators: the API server, the databases, the workloads and their traffic, the people.

pub mod api;
pub mod cache;
pub mod database;
pub mod faults;
mod objects;
pub mod setup;
pub mod target;

use std::collections::{BTreeMap, BTreeSet};

use engine::effects::{Effect, Signal, SignalSession};
use engine::invariants::{Checker, Fact, Tolerance, Violation, What};
use engine::model::{EntryKey, Phase, UndoState};
use jiff::Timestamp;

use self::api::Api;
use self::cache::Cache;
use self::database::Database;
use self::faults::Faults;
use self::target::Target;
use crate::dice::Dice;
use crate::exec::Micros;

/// When the simulation begins.
pub const START: Timestamp = Timestamp::constant(1_767_236_400, 0);

/// An instant of the true time.
#[must_use]
pub fn instant(at: Micros) -> Timestamp {
    let since = i64::try_from(at).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(START.as_microsecond().saturating_add(since)).unwrap_or(Timestamp::MAX)
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Faults that took place, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What people did, and what broke, by kind.
    pub events: BTreeMap<String, u64>,
    /// Acts that reached the world, by kind.
    pub acts: BTreeMap<String, u64>,
    /// Steps of undos that reached the world.
    pub undo_steps: u64,
    /// How undos ended.
    pub undos: BTreeMap<String, u64>,
    /// How remediations ended.
    pub ends: BTreeMap<String, u64>,
    /// Refusals, by guard.
    pub refusals: BTreeMap<String, u64>,
    /// Requests, by what became of them.
    pub requests: BTreeMap<String, u64>,
    /// Looks at policies.
    pub ticks: u64,
    /// Steps of remediations.
    pub steps: u64,
    /// Terms of leaders.
    pub terms: u64,
}

/// Counts one more.
pub fn count(map: &mut BTreeMap<String, u64>, what: &str) {
    match map.get_mut(what) {
        Some(count) => *count += 1,
        None => {
            map.insert(what.to_owned(), 1);
        }
    }
}

/// Adds up.
pub fn add(map: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>) {
    for (what, count) in other {
        *map.entry(what.clone()).or_default() += count;
    }
}

impl Counts {
    /// Adds what another episode has counted.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.faults, &other.faults);
        add(&mut self.events, &other.events);
        add(&mut self.acts, &other.acts);
        add(&mut self.undos, &other.undos);
        add(&mut self.ends, &other.ends);
        add(&mut self.refusals, &other.refusals);
        add(&mut self.requests, &other.requests);
        self.undo_steps += other.undo_steps;
        self.ticks += other.ticks;
        self.steps += other.steps;
        self.terms += other.terms;
    }
}

/// See the module.
pub struct World {
    /// The true time.
    pub now: Micros,
    /// Chance, for what is not planned: how long things take.
    pub dice: Dice,
    /// The API server.
    pub api: Api,
    /// The databases.
    pub databases: Vec<Database>,
    /// The caches.
    pub caches: Vec<Cache>,
    /// The remediations for which a request has arrived.
    pub warmed: BTreeSet<EntryKey>,
    /// The workloads.
    pub targets: Vec<Target>,
    /// What is wrong with the ways between them.
    pub faults: Faults,
    /// What has been counted.
    pub counts: Counts,
    /// What has happened, for people.
    pub trace: Vec<String>,
    checker: Checker,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: 0,
            dice: Dice::new(seed),
            api: Api::default(),
            databases: Vec::new(),
            caches: Vec::new(),
            warmed: BTreeSet::new(),
            targets: Vec::new(),
            faults: Faults::default(),
            counts: Counts::default(),
            trace: Vec::new(),
            checker: Checker::new(Tolerance::default()),
        }
    }

    /// The true time.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        instant(self.now)
    }

    /// Tells the checker.
    pub fn tell(&mut self, what: What) {
        match &what {
            What::Reading(_) => {}
            What::Remediation(stored) => {
                let undo = stored.status.undo.as_ref();
                let undo =
                    undo.map_or(String::new(), |undo| format!(", undo {} {:?}", undo.state, undo.change));
                let status = &stored.status;
                self.note(&format!("stored {}: {}{undo}: {}", stored.name, status.phase, status.message));
            }
            What::Policy(policy) => {
                self.note(&format!("policy {}: {}", policy.id, policy.mode));
            }
            What::PolicyGone(_)
            | What::Paused { .. }
            | What::Budgets(_)
            | What::RemediationGone(_)
            | What::Incident { .. }
            | What::Erased(_)
            | What::Lease { .. }
            | What::Draining(_)
            | What::Signal(_)
            | What::Request(_)
            | What::Replicas(_)
            | What::Scalers { .. }
            | What::WorkloadGone(_)
            | What::Wrote(_)
            | What::Quiet => self.note(&format!("{what:?}")),
        }
        let known = self.checker.violations().len();
        self.checker.see(&Fact { at: self.instant(), what });
        let new: Vec<String> =
            self.checker.violations().iter().skip(known).map(Violation::to_string).collect();
        for violation in new {
            self.note(&format!("VIOLATION {violation}"));
        }
    }

    /// Writes down what happened.
    pub fn note(&mut self, what: &str) {
        #[allow(clippy::cast_precision_loss, reason = "shown to people")]
        let at = self.now as f64 / 1e6;
        self.trace.push(format!("{at:>13.6} {what}"));
    }

    /// A fault took place.
    pub fn fault(&mut self, kind: &str) {
        count(&mut self.counts.faults, kind);
    }

    /// The violations so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        self.checker.violations()
    }

    /// Whether nothing more has to be known.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.checker.violations().is_empty()
    }

    /// No more facts follow.
    pub fn finish(&mut self) {
        let known = self.checker.violations().len();
        self.checker.finish(self.instant());
        let new: Vec<String> =
            self.checker.violations().iter().skip(known).map(Violation::to_string).collect();
        for violation in new {
            self.note(&format!("VIOLATION {violation}"));
        }
    }

    /// An act reached the world: it is counted, if it is still stored for what.
    pub fn acted(&mut self, key: &EntryKey) {
        let Some(stored) = self.api.remediations.get(key) else { return };
        let action = &stored.object.spec.action;
        let how = match action.act().effect() {
            Effect::SignalSession(SignalSession { signal: Signal::Cancel, .. }) => " (cancel)",
            Effect::SignalSession(SignalSession { signal: Signal::Terminate, .. }) => " (terminate)",
            Effect::SignalSession(_) | Effect::SetReplicas(_) | Effect::SendRequests(_) => "",
        };
        count(&mut self.counts.acts, &format!("{}{how}", action.kind()));
    }

    /// A status was written: how it ended is counted.
    pub fn count_ends(
        &mut self,
        before: &engine::model::RemediationStatus,
        after: &engine::model::RemediationStatus,
    ) {
        if after.phase != before.phase && after.phase.is_terminal() {
            let outcome = after.outcome.map(|outcome| format!(" {outcome}")).unwrap_or_default();
            count(&mut self.counts.ends, &format!("{}{outcome}", after.phase));
            if let Some(refused) = after.refused.as_ref().filter(|_| after.phase == Phase::Refused) {
                count(&mut self.counts.refusals, &format!("{} (gate)", refused.guard));
            }
        }
        let state = |status: &engine::model::RemediationStatus| status.undo.as_ref().map(|undo| undo.state);
        if state(before) == Some(UndoState::Pending)
            && let Some(ended) = state(after).filter(|state| *state != UndoState::Pending)
        {
            count(&mut self.counts.undos, &ended.to_string());
        }
    }
}
