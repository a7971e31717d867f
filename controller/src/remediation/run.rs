//! Long-running effects. A run goes on beside everything else: [`Warming`] decides about it, one turn at a time, on the newest
//! evaluation of the policy.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::advance::{EffectReport, Turn, Warming};
use engine::effects::{SendRequests, Warmed};
use engine::model::{Remediation, elapsed};
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use jiff::Timestamp;

use super::Known;
use crate::Controllers;
use crate::ports::{Act, Cluster, Environment, Leading, Time, Timer};

/// How often policy, target, pauses, budgets and the remediation itself are read live: what is judged in between comes from
/// watches, and one that has died shows an old world.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long a run waits at least between two turns.
const LEAST: Duration = Duration::from_millis(20);

impl<E: Environment> Controllers<E> {
    /// Begins a run. Its result is noted when it is over, and the remediation is queued; until then it counts as lost, as it
    /// does for a successor.
    pub(super) fn begin_run(
        self: &Arc<Self>,
        remediation: &Remediation,
        send: &SendRequests,
        fence: Timestamp,
    ) {
        let run = run(self.clone(), remediation.clone(), send.clone(), fence);
        self.ports.time.spawn(run);
    }

    async fn warm_up(&self, remediation: &mut Remediation, send: &SendRequests, fence: Timestamp) -> Warmed {
        let time = &self.ports.time;
        let mut warming = Warming::new(send, self.now(), fence);
        let mut answers = FuturesUnordered::new();
        let mut number = 0;
        let (mut confirmed, mut current) = (time.monotonic(), true);
        loop {
            if time.monotonic().saturating_sub(confirmed) >= CONFIRM {
                current = self.is_run_confirmed(remediation).await;
                confirmed = time.monotonic();
            }
            let evaluated = self.evaluation_for(remediation).filter(|_| current);
            let known = Known { evaluated, policy_gone: false };
            let limits = self.ports.cluster.limits();
            let turn = self.with_input(remediation, &known, None, &limits, |input| {
                warming.turn(remediation, input, time.chance())
            });
            match turn {
                Turn::Send { path } => {
                    tracing::debug!(name = remediation.name, path, "requests");
                    let remediation = remediation.clone();
                    answers.push(async move {
                        let may = || self.ports.leading.held();
                        self.ports.act.request(&remediation, &send.requests, &path, number, fence, may).await
                    });
                    number += 1;
                }
                Turn::Wait { until, why } => {
                    tracing::trace!(name = remediation.name, why, "waits");
                    let pause = elapsed(until, self.now()).max(LEAST);
                    if answers.is_empty() {
                        time.sleep(pause).await;
                    } else if let Either::Left((Some(answer), _)) =
                        select(answers.next(), pin!(time.sleep(pause))).await
                    {
                        warming.answered(answer);
                    }
                }
                Turn::Over(warmed) => return warmed,
            }
        }
    }

    /// Whether what is being judged is so at this moment, and all ceilings are known. Notes that the remediation is being
    /// deleted.
    async fn is_run_confirmed(&self, remediation: &mut Remediation) -> bool {
        let cluster = &self.ports.cluster;
        let key = (remediation.namespace.clone(), remediation.name.clone());
        match cluster.is_deleting(&key).await {
            Ok(deleting) => remediation.deleting = deleting.unwrap_or(true),
            Err(_) => return false,
        }
        let Some(evaluated) = self.evaluation_for(remediation) else { return false };
        let current = self.is_current(&evaluated.snapshot, &remediation.spec.action.act().effect()).await;
        current && cluster.refresh_limits(&remediation.namespace).await.is_ok()
    }
}

async fn run<E: Environment>(
    controllers: Arc<Controllers<E>>,
    mut remediation: Remediation,
    send: SendRequests,
    fence: Timestamp,
) {
    let warmed = controllers.warm_up(&mut remediation, &send, fence).await;
    tracing::info!(name = remediation.name, %warmed, "the run is over");
    let key = (remediation.namespace.clone(), remediation.name.clone());
    if !controllers.ledger.ledger().0.knows(&key) {
        // Nobody asks what has become of a remediation that is gone.
        return controllers.in_flight.forget(&remediation);
    }
    controllers.in_flight.sent(&remediation, EffectReport::Warmed(warmed));
    controllers.ports.cluster.requeue(key);
}
