//! The policy controller: look, decide, admit, tell. It acts on nothing but the operator's own objects.

mod incident;
mod invalid;
mod observe;
mod propose;
mod render;
mod runtime;
mod tell;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{Policy, Snapshot, Source};
use engine::{Tick, settle, tick};
use kube::runtime::controller::Action;

use self::runtime::Runtime;
pub use self::runtime::Runtimes;
use super::context::Context;
use super::isolate::Broken;
use super::keeper::PolicyKey;
use super::retention;
use crate::api::conditions::Stalled;
use crate::api::convert::Problem;
use crate::api::{LatencyPolicy, Stored, convert};
use crate::telemetry::metrics::PolicyLabels;
use crate::write::WriteError;

/// Why an evaluation ended early. The next one follows soon, and starts from what is true then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// Something is wrong with the operator itself.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// One evaluation of one policy.
///
/// # Errors
/// The API server could not be read or written; nothing is lost by trying again.
pub async fn reconcile(object: Arc<Stored<LatencyPolicy>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(undecodable) => return invalid::tell(&ctx, undecodable).await,
    };
    let shared_runtime = ctx.runtimes.of(object);
    let mut runtime = shared_runtime.lock().await;
    if object.metadata.deletion_timestamp.is_some() {
        // Somebody's finalizer may keep it for long; it guards nothing any more, and its remediations look after themselves.
        ctx.shared.views.set(runtime.key(), None);
        return Ok(Action::await_change());
    }
    runtime.caught_up(object);
    if let Some(wait) = runtime.not_due(object) {
        return Ok(Action::requeue(wait));
    }
    if let Some(late) = runtime.late() {
        ctx.shared.metrics.late(late);
    }
    let started = Instant::now();

    // 1. understand (no I/O)
    let policy = match understand(&ctx, object) {
        Ok(policy) => policy,
        Err((why, problems)) => {
            return invalid::stall(&ctx, &mut runtime, object, (why, &problems)).await;
        }
    };
    if let Some(wait) = runtime.first_look(&ctx.runtimes, policy.evaluation.interval) {
        return Ok(Action::requeue(wait));
    }
    // 2. look (I/O, each source with its own time limit)
    let snapshot = observe::snapshot(&ctx, &mut runtime, object, policy).await?;
    // 3. decide (no I/O)
    let mut ticked = tick(&snapshot, runtime.state());
    // The gate judges this look, and may be asked as soon as something is created.
    let view = Arc::new((snapshot, ticked.situation.clone()));
    let snapshot = &view.0;
    ctx.shared.views.set(runtime.key(), Some(view.clone()));
    // 4. make the incident durable, ask for admission, create what was admitted
    let durable = incident::follow(&ctx, &mut runtime, object, snapshot, &ticked).await;
    if durable.is_err() {
        // What is wrong is told all the same; nothing is done in the name of an incident that nobody can read.
        ticked.proposals.clear();
    }
    // Hardly ever is anything proposed; only then the others matter.
    let survey = if ticked.proposals.is_empty() { Arc::default() } else { ctx.shared.views.survey() };
    let answers = ctx.shared.keeper.admit(
        &ticked.proposals,
        ctx.shared.leadership.held(),
        ctx.shared.leadership.draining(),
        &ctx.shared.budgets.limits(),
        &survey,
        snapshot.now,
    );
    settle(snapshot, &mut ticked, &answers);
    propose::create(&ctx, &ticked, &answers).await;
    // 5. tell: status, incident, Events, metrics; what could not be written is written at the next look
    let told = tell::all(&ctx, &mut runtime, object, snapshot, &ticked).await;
    let closed = snapshot.incident.is_some() && ticked.situation.incident.is_none();
    if closed && told.is_ok() {
        retention::incident_closed(&ctx, &snapshot.policy).await;
    }
    let again = finish(&ctx, &mut runtime, snapshot, ticked, started);
    if !ctx.runtimes.remembers(runtime.key(), &shared_runtime) {
        forget(&ctx, runtime.key());
    }
    durable.and(told).map(|()| again)
}

/// The policy, or why nothing can be done for it.
fn understand(ctx: &Context, object: &LatencyPolicy) -> Result<Policy, (Stalled, Vec<Problem>)> {
    let policy = convert::policy(object).map_err(|problems| (Stalled::InvalidSpec, problems))?;
    let off = convert::switched_off(&policy, &ctx.shared.actions);
    if off.is_empty() { Ok(policy) } else { Err((Stalled::ActionDisabled, off)) }
}

/// What others see of a policy goes with it.
pub(super) fn forget(ctx: &Context, key: &PolicyKey) {
    ctx.shared.views.set(key, None);
    ctx.shared.metrics.forget(&PolicyLabels { namespace: key.0.clone(), policy: key.1.clone() });
}

/// Wakes the policy's remediations, and says when to look again.
fn finish(
    ctx: &Context,
    runtime: &mut Runtime,
    snapshot: &Snapshot,
    ticked: Tick,
    started: Instant,
) -> Action {
    let result = match ticked.situation.overall {
        engine::Overall::Breached(_) => "breached",
        engine::Overall::Healthy => "healthy",
        engine::Overall::NoData => "no_data",
    };
    let pause = pause(ctx, &snapshot.policy, ticked.state.alert);
    for open in snapshot.remediations.iter().filter(|remediation| remediation.is_open()) {
        // The receiver is gone only when the controllers are being stopped.
        let _ = ctx.wake.send((open.namespace.clone(), open.name.clone()));
    }
    runtime.remember(ticked.state);
    ctx.shared.metrics.evaluated(result, started.elapsed());
    Action::requeue(runtime.schedule(&ctx.runtimes, pause))
}

/// The time to the next look: the policy's interval, and as fast as the source can tell something new while something is
/// broken.
fn pause(ctx: &Context, policy: &Policy, alert: bool) -> Duration {
    if !alert {
        return policy.evaluation.interval;
    }
    let resolution = policy.objectives.iter().filter_map(|objective| match &objective.source {
        Source::Prometheus { backend, .. } => {
            ctx.shared.prometheus.backend(backend).map(|backend| backend.scrape_interval)
        }
        // Each request tells something new.
        Source::Probe(_) => None,
    });
    resolution
        .max()
        .unwrap_or(Duration::from_secs(1))
        .clamp(Duration::from_secs(1), policy.evaluation.interval)
}

/// What follows a failed evaluation.
pub fn error_policy(_: Arc<Stored<LatencyPolicy>>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "an evaluation ended early");
    Action::requeue(Duration::from_secs(1))
}
