//! The remediation controller: carries out the steps that `engine::advance` returns, one at a time.

mod confirm;
mod effect;
mod local;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use engine::advance::{Look, Step};
use engine::model::{
    Action as Effect, Admission, Fleet, Limits, Phase, RecordKind, Remediation, RemediationStatus, elapsed,
};
use engine::{Seen, advance};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

pub use self::local::Locals;
use super::context::{Context, View};
use super::isolate::Broken;
use super::write::{self, WriteError};
use crate::api::{LatencyRemediation, convert};
use crate::connections::secrets::brief;

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

/// No remediation takes more steps at one instant.
const STEPS: usize = 12;

/// Lets one remediation go as far as it goes now.
///
/// # Errors
/// The API server could not be read or written.
pub async fn reconcile(
    object: Arc<DeserializeGuard<LatencyRemediation>>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    let Ok(stored) = &object.0 else {
        tracing::warn!(
            name = object.name_any(),
            "a LatencyRemediation cannot be decoded; it is left as it is"
        );
        return Ok(Action::await_change());
    };
    let mut stored = stored.clone();
    let mut look: Option<Look> = None;
    for _ in 0..STEPS {
        // 1. understand (no I/O)
        let Ok(remediation) = convert::remediation(&stored) else {
            tracing::warn!(
                name = stored.name_any(),
                "a LatencyRemediation cannot be understood; it is left as it is"
            );
            return Ok(Action::await_change());
        };
        // 2. decide (no I/O)
        let view = view_of(&ctx, &remediation);
        let limits = ctx.shared.budgets.limits();
        let mut step = next(&ctx, &remediation, view.as_ref(), look.take().as_ref(), &limits);
        // 3. before the gate, see whether what was judged is still so (reads only), and decide again: under the ceilings of this
        //    moment, and as if nothing were known where it is not
        if passes_gate(&remediation, &step)
            && let Some(judged) = &view
        {
            let limits = ctx.shared.budgets.refresh(&ctx.shared.client).await;
            let current = confirm::is_current(&ctx, &judged.0).await;
            step = next(&ctx, &remediation, view.as_ref().filter(|_| current), None, &limits);
        }
        // 4. do that one thing
        match step {
            Step::Write { status, record } => {
                stored = write_status(&ctx, stored, &remediation, &status, &record).await?;
            }
            Step::Effect { action, fence } => effect::send(&ctx, &remediation, &action, fence).await,
            Step::Look(action) => look = Some(look_at(&ctx, &remediation, &action).await),
            Step::Wait { until, why } => {
                tracing::debug!(name = remediation.name, why, "waits");
                let pause = elapsed(until, ctx.shared.clock.now()).max(Duration::from_millis(20));
                return Ok(Action::requeue(pause));
            }
            Step::Done => {
                ctx.locals.forget(&remediation);
                return Ok(Action::await_change());
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
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
    view: Option<&View>,
    look: Option<&Look>,
    limits: &Limits,
) -> Step {
    let shared = &ctx.shared;
    let now = shared.clock.now();
    let local = ctx.locals.of(remediation, now);
    let leading = shared.leadership.held();
    let (ledger, ledger_complete) = shared.keeper.ledger();
    let seen = Seen {
        now,
        holder: shared.leadership.identity(),
        epoch: shared.leadership.epoch(),
        leading,
        view: view.map(|view| (&view.0, &view.1)),
        admission: Some(Admission { ledger: &ledger, fleet: Fleet { leading, ledger_complete }, limits }),
        passed_gate_at: local.passed_gate_at,
        effect: local.effect.as_ref(),
        executing_seen_at: local.executing_seen_at,
        look,
    };
    advance(remediation, &seen)
}

/// The ledger learns at once what the watch will show: only what was just written or read, for the watch may have shown
/// since that an older version is gone.
fn observe(ctx: &Context, stored: &LatencyRemediation) {
    if let Ok(remediation) = convert::remediation(stored) {
        ctx.shared.keeper.observe(remediation);
    }
}

async fn look_at(ctx: &Context, remediation: &Remediation, action: &Effect) -> Look {
    ctx.shared.databases.look(&remediation.namespace, action).await
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
    match write::status(&api, &name, &stored, "LatencyRemediation", &ctx.shared.metrics).await {
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

/// What follows a failed step.
pub fn error_policy(_: Arc<DeserializeGuard<LatencyRemediation>>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "a remediation could not go on");
    Action::requeue(Duration::from_millis(500))
}
