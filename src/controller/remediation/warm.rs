//! A run of warming goes on beside everything else: what is decided about it is decided by `engine::advance::Warming`, a turn at
//! a time, on the newest look at the policy.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::advance::{EffectReport, Turn, Warming};
use engine::model::{Remediation, WarmCache, Warmed, elapsed};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::Api;
use tokio::task::JoinSet;

use super::{Known, confirm, view_of, with_seen};
use crate::act::warm_cache::Asker;
use crate::api::{LatencyRemediation, MetadataOf};
use crate::controller::context::Context;

/// So often the policy, the target, pauses, budgets and the remediation itself are asked for live: what is judged in between
/// comes from watches, and one that has died shows an old world.
const CONFIRM: Duration = Duration::from_secs(5);

/// The runs that are under way. They end with the controllers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<JoinSet<()>>>);

impl Runs {
    fn begin(&self, run: impl Future<Output = ()> + Send + 'static) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while runs.try_join_next().is_some() {}
        runs.spawn(run);
    }

    /// Ends all of them, wherever they are.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Begins a run. What it came to is noted when it is over, and the remediation is looked at again; until then it counts as
/// lost, as it does for a successor.
pub(super) fn begin(ctx: &Arc<Context>, remediation: &Remediation, warm: &WarmCache, fence: Timestamp) {
    let run = run(ctx.clone(), remediation.clone(), warm.clone(), fence);
    ctx.runs.begin(run);
}

async fn run(ctx: Arc<Context>, mut remediation: Remediation, warm: WarmCache, fence: Timestamp) {
    let warmed = warm_up(&ctx, &mut remediation, &warm, fence).await;
    tracing::info!(name = remediation.name, %warmed, "the run of warming is over");
    let key = (remediation.namespace.clone(), remediation.name.clone());
    if !ctx.shared.keeper.ledger().0.knows(&key) {
        // Nobody asks what has become of what is gone.
        return ctx.locals.forget(&remediation);
    }
    ctx.locals.sent(&remediation, EffectReport::Warmed(warmed));
    // The receiver is gone only when the controllers are being stopped.
    let _ = ctx.wake.send(key);
}

async fn warm_up(
    ctx: &Arc<Context>,
    remediation: &mut Remediation,
    warm: &WarmCache,
    fence: Timestamp,
) -> Warmed {
    let shared = &ctx.shared;
    let asker = Asker {
        client: shared.client.clone(),
        services: shared.services.clone(),
        clock: shared.clock,
        namespace: remediation.namespace.clone(),
        target: remediation.spec.target.clone(),
        settings: warm.settings.clone(),
    };
    let mut warming = Warming::new(warm, shared.clock.now(), fence);
    let mut answers = FuturesUnordered::new();
    let mut number = 0;
    let (mut confirmed, mut current) = (Instant::now(), true);
    loop {
        if confirmed.elapsed() >= CONFIRM {
            current = is_confirmed(ctx, remediation).await;
            confirmed = Instant::now();
        }
        let view = view_of(ctx, remediation).filter(|_| current);
        let known = Known { view, policy_gone: false };
        let limits = shared.budgets.limits();
        let turn = with_seen(ctx, remediation, &known, None, &limits, |seen| {
            warming.turn(remediation, seen, chance())
        });
        match turn {
            Turn::Send { path } => {
                tracing::debug!(name = remediation.name, path, "asks");
                let (asker, leadership) = (&asker, &shared.leadership);
                answers.push(async move { asker.ask(&path, number, fence, || leadership.held()).await });
                number += 1;
            }
            Turn::Wait { until, why } => {
                tracing::trace!(name = remediation.name, why, "waits");
                let pause = elapsed(until, shared.clock.now()).max(Duration::from_millis(20));
                tokio::select! {
                    Some(answer) = answers.next() => warming.answered(answer),
                    () = tokio::time::sleep(pause) => {}
                }
            }
            Turn::Over(warmed) => return warmed,
        }
    }
}

/// Whether what is being judged is so at this moment, and all ceilings are known. Notes that the remediation is being deleted.
async fn is_confirmed(ctx: &Arc<Context>, remediation: &mut Remediation) -> bool {
    let api: Api<MetadataOf<LatencyRemediation>> =
        Api::namespaced(ctx.shared.client.clone(), &remediation.namespace);
    match api.get_opt(&remediation.name).await {
        Ok(found) => {
            remediation.deleting = found.is_none_or(|found| found.metadata.deletion_timestamp.is_some());
        }
        Err(_) => return false,
    }
    let Some(view) = view_of(ctx, remediation) else { return false };
    let current = confirm::is_current(ctx, &view.0, &remediation.spec.action).await;
    current && ctx.shared.budgets.refresh(&ctx.shared.client).await.is_ok()
}

/// From 0 to 1, another one each time.
fn chance() -> f64 {
    let any = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(any >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}
