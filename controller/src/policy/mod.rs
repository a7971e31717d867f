//! The policy controller: observe, decide, admit, report. It acts on nothing but the operator's own objects.

mod incident;
mod memory;
mod propose;
mod schedule;
mod stalled;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::model::{PausedBy, Policy, Snapshot};
use engine::{Tick, settle, tick};

pub(crate) use self::memory::PolicyMemories;
use self::memory::PolicyMemory;
use crate::fleet::Evaluated;
use crate::objects::{Measurement, Recorded, StoredPolicy};
use crate::ports::{Announce, Cluster, Environment, Leading, Observe, ReadError, Timer, WriteError};
use crate::report::{self, Background};
use crate::{Controllers, Next, PolicyKey};

/// How soon an evaluation that ended early is tried again.
pub const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Why an evaluation ended early. The next one follows soon, and starts from what is true then.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// Something of the operator's own could not be written.
    #[error("{what}: {source}")]
    Write {
        /// What was written.
        what: &'static str,
        /// Why it failed.
        source: WriteError,
    },
    /// The API server could not be asked.
    #[error("{0}")]
    Read(String),
}

impl EvaluationError {
    fn write(what: &'static str, source: WriteError) -> Self {
        Self::Write { what, source }
    }
}

impl From<ReadError> for EvaluationError {
    fn from(ReadError(why): ReadError) -> Self {
        Self::Read(why)
    }
}

impl<E: Environment> Controllers<E> {
    /// One evaluation of one policy.
    ///
    /// # Errors
    /// The API server could not be read or written; nothing is lost by trying again.
    pub async fn evaluate(&self, object: &StoredPolicy) -> Result<Next, EvaluationError> {
        let slot = self.memories.of(object);
        let mut memory = slot.lock().await;
        if object.deleting {
            // Somebody's finalizer may keep it for long. It guards nothing any more; its remediations go on by themselves.
            self.evaluations.forget(&memory.key);
            return Ok(Next::OnChange);
        }
        memory.caught_up(object);
        let started = self.ports.time.monotonic();
        if let Some(wait) = memory.not_due(object, started) {
            return Ok(Next::After(wait));
        }
        if let Some(late) = memory.late(started) {
            self.ports.announce.measure(Measurement::Late(late));
        }

        // 1. validate (no I/O)
        let policy = match &object.spec {
            Ok(policy) => policy,
            Err(rejected) => return self.stall(&mut memory, object, rejected).await,
        };
        let interval = policy.evaluation.interval;
        if let Some(wait) = memory.first_evaluation(&self.memories, interval, started) {
            return Ok(Next::After(wait));
        }
        // 2. observe (I/O, each source with its own time limit)
        let snapshot = self.snapshot(&mut memory, object, policy).await?;
        // 3. decide (no I/O)
        let mut ticked = tick(&snapshot, &memory.state);
        // The gate judges this evaluation, and may be asked as soon as something is created.
        let evaluated = Arc::new(Evaluated { snapshot, situation: ticked.situation.clone() });
        let snapshot = &evaluated.snapshot;
        self.evaluations.set(&memory.key, evaluated.clone());
        // 4. make the incident durable, ask for admission, create what was admitted
        let durable = self.follow_incident(&mut memory, object, snapshot, &ticked).await;
        if durable.is_err() {
            // What is wrong is reported all the same; nothing is done in the name of an incident that nobody can read.
            ticked.proposals.clear();
        }
        let answers = self.admit(&ticked, snapshot);
        settle(snapshot, &mut ticked, &answers);
        self.ports.announce.evaluated(Recorded { snapshot, answers: &answers, records: &ticked.records });
        self.create_admitted(&ticked, &answers).await;
        // 5. report: Events, metrics, incident, status; what could not be written is written by the next evaluation
        let reported = self.report(&mut memory, object, &evaluated, &ticked).await;
        let closed = snapshot.incident.is_some() && ticked.situation.incident.is_none();
        if closed && reported.is_ok() {
            self.trim_history(&snapshot.policy).await;
        }
        let next = self.finish(&mut memory, snapshot, ticked, started);
        if !self.memories.remembers(&memory.key, &slot) {
            self.forget_published(&memory.key);
        }
        durable.and(reported).map(|()| next)
    }

    /// Everything that is known of a policy at this instant.
    async fn snapshot(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        policy: &Policy,
    ) -> Result<Snapshot, EvaluationError> {
        memory.evaluating(object);
        self.adopt(memory, object).await?;
        self.confirm(memory).await?;
        let mut observations = self.observe(policy, &memory.state).await;
        let mut pauses = self.ports.observe.pauses(&policy.id.namespace, &policy.target);
        // That of the policy itself as this evaluation was given it; the others as a watch shows them.
        pauses.retain(|pause| pause.by != PausedBy::Policy);
        pauses.extend(object.pause.clone());
        observations.pauses = pauses;
        let now = self.now();
        let unconfirmed = memory.unconfirmed;
        memory.closed.take_if(|closed| !closed.facts().goes_on(now) && !unconfirmed);
        let incident = memory.incident.as_ref().map(|open| open.facts.clone());
        let closed = memory.closed.as_ref().filter(|_| incident.is_none()).map(memory::LastIncident::facts);
        let closed = closed.filter(|closed| closed.goes_on(now));
        let last = incident.as_ref().or(closed.as_ref().map(|closed| &closed.incident));
        Ok(Snapshot {
            remediations: self.ledger.of_policy(&memory.key, last.map(|incident| incident.name.as_str())),
            history: self.ledger.history(&memory.key),
            incident,
            closed,
            next_ordinal: memory.reserved.unwrap_or(memory.ordinal.saturating_add(1)),
            ..Snapshot::new(now, policy.clone(), observations, self.health(now))
        })
    }

    fn admit(&self, ticked: &Tick, snapshot: &Snapshot) -> Vec<engine::Admitted> {
        // Proposals are rare; build the overview over all policies only when there is one.
        let overview = if ticked.proposals.is_empty() {
            Arc::default()
        } else {
            self.evaluations.overview(self.ports.time.monotonic())
        };
        self.ledger.admit(
            &ticked.proposals,
            self.ports.leading.held(),
            self.ports.leading.draining(),
            &self.ports.cluster.limits(),
            &overview,
            snapshot.now,
        )
    }

    async fn report(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        evaluated: &Evaluated,
        ticked: &Tick,
    ) -> Result<(), EvaluationError> {
        let snapshot = &evaluated.snapshot;
        let announcements = self.announce_decisions(evaluated, &memory.state, ticked);
        let problems = self.ports.observe.problems(&snapshot.policy);
        let resolution = self.ports.observe.resolution(&snapshot.policy);
        let background = Background { before: memory.newest(object).0, problems: &problems, resolution };
        self.measure_policy(snapshot, ticked, report::ready(background, snapshot, ticked).status);
        self.report_incident(memory, snapshot, ticked, &announcements).await?;
        self.report_policy(memory, object, snapshot, ticked, (&problems, resolution)).await
    }

    /// Writes the policy's status where it says something new.
    async fn report_policy(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        snapshot: &Snapshot,
        ticked: &Tick,
        (problems, resolution): (&[String], Option<Duration>),
    ) -> Result<(), EvaluationError> {
        let (before, version) = memory.newest(object);
        let newest = self.ledger.newest(&memory.key);
        let numbers = (memory.ordinal, memory.reserved);
        let background = Background { before, problems, resolution };
        let report = report::policy(background, snapshot, ticked, numbers, newest.as_ref());
        if report == *before {
            return Ok(());
        }
        let version = version.clone();
        let Some(_permit) = self.ports.cluster.status_permit().await else {
            // The next evaluation writes it. Evaluating goes on meanwhile, for this policy and for those behind it.
            return Ok(());
        };
        match self.ports.cluster.write_policy_status(&object.id, &version, &report).await {
            Ok(written) => {
                memory.wrote(Some(written));
                Ok(())
            }
            // It is being deleted: nobody is left to read it.
            Err(WriteError::Gone(_)) => Ok(()),
            Err(error) => {
                self.reread(memory, &object.id).await;
                Err(EvaluationError::write("the policy's status", error))
            }
        }
    }

    /// Queues the policy's remediations, and says when to evaluate again.
    fn finish(
        &self,
        memory: &mut PolicyMemory,
        snapshot: &Snapshot,
        ticked: Tick,
        started: Duration,
    ) -> Next {
        let overall = ticked.situation.overall;
        let pause = self.pause(&snapshot.policy, ticked.state.memory.alert);
        for open in snapshot.remediations.iter().filter(|remediation| remediation.is_open()) {
            self.ports.cluster.requeue((open.namespace.clone(), open.name.clone()));
        }
        memory.state = ticked.state;
        let now = self.ports.time.monotonic();
        let took = now.saturating_sub(started);
        self.ports.announce.measure(Measurement::Evaluated { overall, took });
        Next::After(memory.schedule(&self.memories, pause, now))
    }

    /// The time to the next evaluation: the policy's interval, or as fast as the source can say something new while something
    /// is broken.
    fn pause(&self, policy: &Policy, elevated: bool) -> Duration {
        if !elevated {
            return policy.evaluation.interval;
        }
        let resolution = self.ports.observe.resolution(policy);
        let least = Duration::from_secs(1);
        resolution.unwrap_or(least).clamp(least, policy.evaluation.interval)
    }

    /// A policy was deleted.
    pub fn forget_policy(&self, key: &PolicyKey) {
        self.memories.forget(key);
        self.forget_published(key);
    }

    /// Forgets the policies of a namespace, or of all, that a whole list does not show; which those were.
    pub fn forget_unlisted_policies(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<PolicyKey>,
    ) -> Vec<PolicyKey> {
        let unlisted = self.memories.unlisted(namespace, listed);
        for key in &unlisted {
            self.forget_policy(key);
        }
        unlisted
    }

    fn forget_published(&self, key: &PolicyKey) {
        self.evaluations.forget(key);
        self.ports.announce.measure(Measurement::Forgotten(key));
    }
}
