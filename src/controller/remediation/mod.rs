//! The remediation controller: carries out the steps that `engine::advance` returns, one at a time.

mod confirm;
mod effect;
mod local;
mod tell;
mod warm;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use engine::advance::{EffectReport, Look, Step};
use engine::model::{
    Action as Effect, Admission, Fleet, Limits, NoData, NoDataReason, Phase, RecordKind, Remediation,
    RemediationStatus, elapsed,
};
use engine::{Seen, advance};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

pub use self::local::Locals;
pub use self::warm::Runs;
pub use self::watch::Watches;
use super::context::{Context, View};
use super::isolate::Broken;
use crate::api::{FINALIZER, LatencyRemediation, Stored, convert};
use crate::connections::secrets::brief;
use crate::controller::keeper::News;
use crate::write::{self, WriteError};

/// Why a step failed. The next try starts from what is stored then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The status could not be written.
    #[error("{name}: the status could not be written: {source}")]
    Write {
        /// Which remediation.
        name: String,
        /// Why.
        source: WriteError,
    },
    /// The API server could not be asked.
    #[error("{0}")]
    Read(String),
    /// Something is wrong with the operator itself.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// What could not be taken back is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// No remediation takes more steps at one instant.
const STEPS: usize = 12;
/// How long a write whose answer was lost is looked for.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Lets one remediation go as far as it goes now.
///
/// # Errors
/// The API server could not be read or written.
pub async fn reconcile(object: Arc<Stored<LatencyRemediation>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let stored = match &object.0 {
        Ok(stored) => stored,
        Err(undecodable) => {
            tracing::warn!(
                name = object.name_any(),
                why = undecodable.error,
                "a LatencyRemediation cannot be decoded; it is left as it is"
            );
            return Ok(Action::await_change());
        }
    };
    let mut stored = stored.clone();
    let mut look: Option<Look> = None;
    for _ in 0..STEPS {
        // 1. understand (no I/O)
        let remediation = match convert::remediation(&stored) {
            Ok(remediation) => remediation,
            Err(problems) => {
                let why = problems.first().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(
                    name = stored.name_any(),
                    why,
                    "a LatencyRemediation cannot be understood; it is left as it is"
                );
                return Ok(Action::await_change());
            }
        };
        // 2. decide (no I/O, but for what is owed without a policy that watches)
        let known = Known::of(&ctx, &remediation).await;
        let limits = ctx.shared.budgets.limits();
        let mut step = next(&ctx, &remediation, &known, look.as_ref(), &limits);
        // 3. before anything is changed, see whether what was judged is still so (reads only), and decide again: under the
        //    ceilings of this moment, and as if nothing were known where it is not
        if passes_gate(&remediation, &step) || matches!(step, Step::Restore { .. }) {
            let current = match &known.view {
                Some(judged) if passes_gate(&remediation, &step) => {
                    confirm::is_current(&ctx, &judged.0, &remediation.spec.action).await
                }
                _ => true,
            };
            // Last, so that nothing slow lies between a freeze and its being heard.
            let (limits, listed) = match ctx.shared.budgets.refresh(&ctx.shared.client).await {
                Ok(limits) => (limits, true),
                Err(limits) => (limits, false),
            };
            let known = if current && listed { known } else { Known { view: None, ..known } };
            step = next(&ctx, &remediation, &known, look.as_ref(), &limits);
        }
        look = None;
        // 4. do that one thing
        match carry_out(&ctx, &mut stored, &remediation, step, &mut look).await? {
            Some(then) => return Ok(then),
            None => continue,
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// Carries out one step; what follows, where this remediation has nothing to do for now.
async fn carry_out(
    ctx: &Arc<Context>,
    stored: &mut LatencyRemediation,
    remediation: &Remediation,
    step: Step,
    look: &mut Option<Look>,
) -> Result<Option<Action>, Error> {
    match step {
        Step::Write { status, record } => {
            *stored = write_status(ctx, stored.clone(), remediation, &status, &record).await?;
        }
        Step::Effect { action, fence } => effect::send(ctx, remediation, &action, fence).await,
        Step::Look(action) => *look = Some(look_at(ctx, remediation, &action).await),
        Step::Restore { scale, fence } => {
            let report = effect::restore(ctx, remediation, &scale, fence).await;
            if report != EffectReport::Sent {
                tracing::warn!(name = remediation.name, ?report, "could not be taken back yet");
                return Ok(Some(Action::requeue(AGAIN)));
            }
        }
        Step::Release => match release(ctx, stored, remediation).await? {
            Some(released) => *stored = released,
            None => return Ok(Some(Action::await_change())),
        },
        Step::Wait { until, why } => {
            tracing::debug!(name = remediation.name, why, "waits");
            let pause = elapsed(until, ctx.shared.clock.now()).max(Duration::from_millis(20));
            return Ok(Some(Action::requeue(pause)));
        }
        Step::Done => {
            ctx.locals.forget(remediation);
            ctx.watches.forget(remediation);
            return Ok(Some(Action::await_change()));
        }
    }
    Ok(None)
}

/// What is known of a remediation's policy.
struct Known {
    /// The newest look at it; without a policy that is looked at, and with something owed, at what the undo watches.
    view: Option<View>,
    /// There certainly is no such policy any more.
    policy_gone: bool,
}

impl Known {
    async fn of(ctx: &Context, remediation: &Remediation) -> Self {
        let view = view_of(ctx, remediation);
        let owes = remediation.owes() && remediation.status.phase.is_terminal();
        if view.is_some() || !owes {
            return Self { view, policy_gone: false };
        }
        let (view, policy_gone) =
            tokio::join!(ctx.watches.view(ctx, remediation), watch::is_gone(ctx, remediation));
        Self { view, policy_gone }
    }
}

/// Takes the finalizer away; nothing where the object is gone.
async fn release(
    ctx: &Context,
    stored: &LatencyRemediation,
    remediation: &Remediation,
) -> Result<Option<LatencyRemediation>, Error> {
    let api: Api<LatencyRemediation> = Api::namespaced(ctx.shared.mutating.clone(), &remediation.namespace);
    let (name, metadata) = (&remediation.name, &stored.metadata);
    match write::release(&api, name, metadata, FINALIZER, "LatencyRemediation", &ctx.shared.metrics).await {
        Ok(released) => Ok(Some(released)),
        Err(WriteError::Gone(_)) => Ok(None),
        Err(WriteError::Conflict(_)) => {
            let stored = api.get_opt(name).await.map_err(|error| Error::Read(brief(&error)))?;
            Ok(stored)
        }
        Err(source) => Err(Error::Write { name: name.clone(), source }),
    }
}

/// The newest look at the policy that it belongs to.
fn view_of(ctx: &Context, remediation: &Remediation) -> Option<View> {
    let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
    // The policy of that name may be a later one: what was decided for its predecessor is not its business.
    ctx.shared.views.of(&policy).filter(|view| view.0.policy.id.uid == remediation.spec.policy.uid)
}

fn passes_gate(remediation: &Remediation, step: &Step) -> bool {
    let admitted = remediation.status.phase == Phase::Admitted;
    admitted && matches!(step, Step::Write { status, .. } if status.phase == Phase::Executing)
}

fn next(
    ctx: &Context,
    remediation: &Remediation,
    known: &Known,
    look: Option<&Look>,
    limits: &Limits,
) -> Step {
    with_seen(ctx, remediation, known, look, limits, |seen| advance(remediation, seen))
}

/// Asks the engine, with everything that is known.
fn with_seen<T>(
    ctx: &Context,
    remediation: &Remediation,
    known: &Known,
    look: Option<&Look>,
    limits: &Limits,
    ask: impl FnOnce(&Seen<'_>) -> T,
) -> T {
    let shared = &ctx.shared;
    let now = shared.clock.now();
    let local = ctx.locals.of(remediation, now);
    let leading = shared.leadership.held();
    let (ledger, ledger_complete) = shared.keeper.ledger();
    let asks = remediation.status.phase == Phase::Admitted;
    let survey = if asks { shared.views.survey() } else { Arc::default() };
    let seen = Seen {
        now,
        holder: shared.leadership.identity(),
        epoch: shared.leadership.epoch(),
        leading,
        view: known.view.as_ref().map(|view| (&view.0, &view.1)),
        policy_gone: known.policy_gone,
        admission: Some(Admission {
            ledger: &ledger,
            fleet: Fleet { leading, ledger_complete, draining: shared.leadership.draining() },
            limits,
            survey: &survey,
        }),
        passed_gate_at: local.passed_gate_at,
        effect: local.effect.as_ref(),
        executing_seen_at: local.executing_seen_at,
        look,
    };
    ask(&seen)
}

/// The ledger learns at once what the watch will show: only what was just written or read, for the watch may have shown
/// since that an older version is gone.
fn observe(ctx: &Context, stored: &LatencyRemediation) {
    if let Ok(remediation) = convert::remediation(stored) {
        ctx.shared.keeper.observe(remediation, stored.metadata.resource_version.as_deref(), News::Changed);
    }
}

async fn look_at(ctx: &Context, remediation: &Remediation, action: &Effect) -> Look {
    match (action, action.session()) {
        (Effect::Scale(scale), _) => ctx.workloads.look(&remediation.namespace, &scale.target).await,
        (_, Some(target)) => ctx.shared.databases.look(&remediation.namespace, action, target).await,
        (_, None) => Look::Unreadable(NoData::new(
            NoDataReason::NotFound,
            "it is done to nothing that could be looked at",
        )),
    }
}

/// Writes a status by compare-and-swap, and says so. The passing of the gate is noted from before the write is sent.
async fn write_status(
    ctx: &Context,
    mut stored: LatencyRemediation,
    remediation: &Remediation,
    status: &RemediationStatus,
    record: &RecordKind,
) -> Result<LatencyRemediation, Error> {
    let name = remediation.name.clone();
    let api: Api<LatencyRemediation> = Api::namespaced(ctx.shared.mutating.clone(), &remediation.namespace);
    let gate = status.phase == Phase::Executing && remediation.status.phase == Phase::Admitted;
    let sent_at = ctx.shared.clock.now();
    stored.status = Some(convert::status_of(status));
    let answer = write::status(&api, &name, &stored, "LatencyRemediation", &ctx.shared.metrics).await;
    match seen_after_all(&api, &stored, answer).await {
        Ok(written) => {
            if gate {
                ctx.locals.passed_gate(remediation, sent_at);
            }
            tell::step(ctx, remediation, status, record);
            observe(ctx, &written);
            Ok(written)
        }
        // Somebody else has gone on with it: start from what is stored.
        Err(WriteError::Conflict(_)) => {
            let stored = api.get(&name).await.map_err(|error| Error::Read(brief(&error)))?;
            observe(ctx, &stored);
            Ok(stored)
        }
        // Look, never repeat: if it was written, whoever reads it next resolves it.
        Err(source) => Err(Error::Write { name, source }),
    }
}

/// Where the answer was lost, looks once whether the status that was sent is there: then it was written, and this process
/// knows what it has not done yet. What is not there may still arrive.
async fn seen_after_all(
    api: &Api<LatencyRemediation>,
    sent: &LatencyRemediation,
    answer: Result<LatencyRemediation, WriteError>,
) -> Result<LatencyRemediation, WriteError> {
    let Err(WriteError::Lost(why)) = answer else { return answer };
    let read = tokio::time::timeout(LOOK_WITHIN, api.get(&sent.name_any())).await;
    match read {
        Ok(Ok(found)) if found.metadata.uid == sent.metadata.uid && found.status == sent.status => Ok(found),
        Ok(_) | Err(_) => Err(WriteError::Lost(why)),
    }
}

/// What follows a failed step.
pub fn error_policy(_: Arc<Stored<LatencyRemediation>>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "a remediation could not go on");
    Action::requeue(Duration::from_millis(500))
}
