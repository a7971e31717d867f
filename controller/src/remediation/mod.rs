//! The remediation controller: carries out the steps that [`engine::advance()`] returns, one at a time.

mod confirm;
mod effect;
mod in_flight;
mod replicas;
mod run;
mod undo_watch;

use std::sync::Arc;
use std::time::Duration;

use engine::advance::{EffectReport, Step};
use engine::effects::{Effect, Inspection};
use engine::model::{
    Admission, Fleet, Limits, NoData, NoDataReason, Phase, Remediation, RemediationStatus, elapsed,
};
use engine::record::RecordKind;
use engine::{Seen, advance};

pub(crate) use self::in_flight::InFlight;
pub(crate) use self::undo_watch::UndoWatches;
use crate::fleet::Evaluated;
use crate::ledger_store::Freshness;
use crate::objects::Stored;
use crate::ports::{Cluster, Environment, Leading, Observe, ReadError, Timer, WriteError, Written};
use crate::timeout::within;
use crate::{Controllers, Next, planted};

/// How soon a step that failed is tried again.
pub const AFTER_ERROR: Duration = Duration::from_millis(500);
/// How soon a rollback that could not be carried out is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Maximum number of steps that a remediation takes at one instant.
const STEPS: usize = 12;
/// How soon a remediation goes on that has taken that many.
const AFTER_STEPS: Duration = Duration::from_millis(100);
/// How long a write whose answer was lost is looked for.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long a remediation that waits does so at least.
const LEAST: Duration = Duration::from_millis(20);

/// Why a step failed. The next try starts from what is stored then.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The status could not be written.
    #[error("{name}: the status could not be written: {source}")]
    Write {
        /// Which remediation.
        name: String,
        /// Why.
        source: WriteError,
    },
    /// The API server could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What is known of a remediation's policy.
struct Known {
    /// The policy's newest evaluation. Where the policy is not evaluated and a rollback is pending: that of what it watches.
    evaluated: Option<Arc<Evaluated>>,
    /// The policy certainly does not exist any more.
    policy_gone: bool,
}

impl<E: Environment> Controllers<E> {
    /// Lets one remediation go as far as it goes now.
    ///
    /// # Errors
    /// The API server could not be read or written.
    pub async fn advance(self: &Arc<Self>, mut stored: Stored<Remediation>) -> Result<Next, StepError> {
        let mut inspection: Option<Inspection> = None;
        for _ in 0..STEPS {
            let remediation = stored.value.clone();
            // 1. decide (no I/O, but for a pending rollback without a policy that is evaluated)
            let known = self.known(&remediation).await;
            let limits = self.ports.cluster.limits();
            let mut step = self.next_step(&remediation, &known, inspection.as_ref(), &limits);
            // 2. before anything is changed, check whether what was judged is still so (reads only), and decide again: under
            //    the ceilings of this moment, and as if nothing were known where it is not
            let gate = passes_gate(&remediation, &step);
            if gate || matches!(step, Step::Restore { .. }) {
                let current = match &known.evaluated {
                    Some(judged) if gate => {
                        self.is_current(&judged.snapshot, &remediation.spec.action.act().effect()).await
                    }
                    _ => true,
                };
                // Last, so that nothing slow lies between a freeze and its being respected.
                let (limits, listed) = match self.ports.cluster.refresh_limits(&remediation.namespace).await {
                    Ok(limits) => (limits, true),
                    Err(limits) => (limits, false),
                };
                let known = if current && listed { known } else { Known { evaluated: None, ..known } };
                step = self.next_step(&remediation, &known, inspection.as_ref(), &limits);
            }
            inspection = None;
            // 3. do that one thing
            if let Some(next) = self.carry_out(&mut stored, &remediation, step, &mut inspection).await? {
                return Ok(next);
            }
        }
        Ok(Next::After(AFTER_STEPS))
    }

    /// Carries out one step; what follows, where this remediation has nothing to do for now.
    async fn carry_out(
        self: &Arc<Self>,
        stored: &mut Stored<Remediation>,
        remediation: &Remediation,
        step: Step,
        inspection: &mut Option<Inspection>,
    ) -> Result<Option<Next>, StepError> {
        match step {
            Step::Write { status, record } => {
                if planted::is("effect_before_intent") && gate_to(remediation, &status) {
                    let fence = engine::model::later(self.now(), remediation.spec.deadline);
                    self.send(remediation, &remediation.spec.action.act().effect(), fence).await;
                }
                *stored = self.write_status(stored, remediation, &status, &record).await?;
            }
            Step::Effect { effect, fence } => self.send(remediation, &effect, fence).await,
            Step::Inspect(effect) => *inspection = Some(self.inspect(remediation, &effect).await),
            Step::Restore { effect, fence } => {
                let report = self.restore(remediation, &effect, fence).await;
                if report != EffectReport::Sent {
                    tracing::warn!(name = remediation.name, ?report, "could not be rolled back yet");
                    return Ok(Some(Next::After(AGAIN)));
                }
            }
            Step::Release => match self.release(stored).await? {
                Some(released) => *stored = released,
                None => return Ok(Some(Next::OnChange)),
            },
            Step::Wait { until, why } => {
                tracing::debug!(name = remediation.name, why, "waits");
                return Ok(Some(Next::After(elapsed(until, self.now()).max(LEAST))));
            }
            Step::Done => {
                self.in_flight.forget(remediation);
                self.undo_watches.forget(remediation);
                return Ok(Some(Next::OnChange));
            }
        }
        Ok(None)
    }

    async fn known(&self, remediation: &Remediation) -> Known {
        let evaluated = self.evaluation_for(remediation);
        // Also while its effect is being verified: the recorded objectives are enough to judge it.
        let seen = remediation.status.phase == Phase::Verifying || remediation.status.phase.is_terminal();
        let pending = remediation.owes() && seen;
        if evaluated.is_some() || !pending || planted::is("policy_deletion_forgets_undo") {
            return Known { evaluated, policy_gone: false };
        }
        let (evaluated, policy_gone) =
            futures::join!(self.undo_watch(remediation), self.is_policy_gone(remediation));
        Known { evaluated, policy_gone }
    }

    /// Removes the finalizer; nothing where the object is gone.
    async fn release(&self, stored: &Stored<Remediation>) -> Result<Option<Stored<Remediation>>, StepError> {
        let name = stored.value.name.clone();
        match self.ports.cluster.release_remediation(stored).await {
            Ok(released) => Ok(Some(released)),
            Err(WriteError::Gone(_)) => Ok(None),
            Err(WriteError::Conflict(_)) => {
                let key = (stored.value.namespace.clone(), name);
                Ok(self.ports.cluster.remediation(&key).await?)
            }
            Err(source) => Err(StepError::Write { name, source }),
        }
    }

    /// The newest evaluation of the policy that it belongs to. The policy of that name may be a later one: what was decided for
    /// its predecessor is not its business.
    pub(crate) fn evaluation_for(&self, remediation: &Remediation) -> Option<Arc<Evaluated>> {
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        let evaluated = self.evaluations.of(&policy)?;
        (evaluated.snapshot.policy.id.uid == remediation.spec.policy.uid).then_some(evaluated)
    }

    fn next_step(
        &self,
        remediation: &Remediation,
        known: &Known,
        inspection: Option<&Inspection>,
        limits: &Limits,
    ) -> Step {
        self.with_input(remediation, known, inspection, limits, |input| advance(remediation, input))
    }

    /// Asks the engine, with everything that is known.
    fn with_input<T>(
        &self,
        remediation: &Remediation,
        known: &Known,
        inspection: Option<&Inspection>,
        limits: &Limits,
        ask: impl FnOnce(&Seen<'_>) -> T,
    ) -> T {
        let leading = &self.ports.leading;
        let now = self.now();
        let progress = self.in_flight.of(remediation, now);
        let held = leading.held();
        let (ledger, ledger_complete) = self.ledger.ledger();
        let asks = remediation.status.phase == Phase::Admitted;
        let overview =
            if asks { self.evaluations.overview(self.ports.time.monotonic()) } else { Arc::default() };
        let input = Seen {
            now,
            holder: leading.identity(),
            epoch: leading.epoch(),
            leading: held,
            view: known.evaluated.as_ref().map(|one| (&one.snapshot, &one.situation)),
            policy_gone: known.policy_gone,
            admission: Some(Admission {
                ledger: &ledger,
                fleet: Fleet { leading: held, ledger_complete, draining: leading.draining() },
                limits,
                survey: &overview,
            }),
            passed_gate_at: progress.passed_gate_at,
            effect: progress.effect.as_ref(),
            executing_seen_at: progress.executing_seen_at,
            inspection,
        };
        ask(&input)
    }

    async fn inspect(&self, remediation: &Remediation, effect: &Effect) -> Inspection {
        let namespace = &remediation.namespace;
        match effect {
            Effect::SetReplicas(set) => self.inspect_workload(namespace, &set.target).await,
            Effect::SignalSession(signal) => self.ports.observe.session(namespace, signal).await,
            Effect::SendRequests(_) => {
                Inspection::Unreadable(NoData::new(NoDataReason::NotFound, "nothing shows requests"))
            }
        }
    }

    /// Writes a status by compare-and-swap, and announces it. The passing of the gate is noted from before the write is sent.
    async fn write_status(
        &self,
        stored: &Stored<Remediation>,
        remediation: &Remediation,
        status: &RemediationStatus,
        record: &RecordKind,
    ) -> Result<Stored<Remediation>, StepError> {
        let cluster = &self.ports.cluster;
        let gate = gate_to(remediation, status);
        let sent_at = self.now();
        let answer = cluster.write_remediation(stored, status).await;
        match self.seen_after_all(stored, status, answer).await {
            Ok(written) => {
                if gate {
                    self.in_flight.passed_gate(remediation, sent_at);
                }
                self.announce_step(remediation, status, record);
                // The ledger learns at once what the watch will show.
                self.ledger.observe(&written, Freshness::Event);
                Ok(written)
            }
            // Somebody else has gone on with it: start from what is stored.
            Err(WriteError::Conflict(why)) => {
                let key = (remediation.namespace.clone(), remediation.name.clone());
                let read = cluster.remediation(&key).await?.ok_or(ReadError(why))?;
                self.ledger.observe(&read, Freshness::Event);
                Ok(read)
            }
            // Look, never repeat: if it was written, the next one who reads it resolves it.
            Err(source) => Err(StepError::Write { name: remediation.name.clone(), source }),
        }
    }

    /// Where the answer was lost, looks once whether the status that was sent is stored: then it was written, and this process
    /// knows what it has not done yet. What is not stored may still arrive.
    async fn seen_after_all(
        &self,
        sent: &Stored<Remediation>,
        status: &RemediationStatus,
        answer: Written<Stored<Remediation>>,
    ) -> Written<Stored<Remediation>> {
        let Err(WriteError::Lost(why)) = answer else { return answer };
        let key = (sent.value.namespace.clone(), sent.value.name.clone());
        let read = within(&self.ports.time, LOOK_WITHIN, self.ports.cluster.remediation(&key)).await;
        match read {
            Some(Ok(Some(found))) if found.uid == sent.uid && found.value.status == *status => Ok(found),
            Some(_) | None => Err(WriteError::Lost(why)),
        }
    }
}

fn passes_gate(remediation: &Remediation, step: &Step) -> bool {
    matches!(step, Step::Write { status, .. } if gate_to(remediation, status))
}

fn gate_to(remediation: &Remediation, status: &RemediationStatus) -> bool {
    remediation.status.phase == Phase::Admitted && status.phase == Phase::Executing
}
