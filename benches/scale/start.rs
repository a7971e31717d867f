//! From the start of the process to the first look at every policy.

use std::fmt;
use std::time::{Duration, Instant};

use lab::Operator;
use serde::Serialize;

use super::fleet::Fleet;
use super::looks::{Exposition, Sessions};

/// Longer than anything that would still be called a start.
const LIMIT: Duration = Duration::from_secs(600);
/// The metrics are read so often meanwhile; those of ten thousand policies are megabytes.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_OF_MANY: Duration = Duration::from_millis(500);
const MANY: usize = 2_000;
/// Longer than what stopping takes: it finishes what is under way, and gives the Lease back.
const STOP: Duration = Duration::from_secs(30);

/// Seconds from the start of the process. `/metrics` tells: it is read every 50 ms, and every 500 ms above 2,000 policies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Start {
    /// Until it holds the Lease.
    pub(crate) leading: f64,
    /// Until every policy has been evaluated: it is Ready, or told why not.
    pub(crate) evaluated: f64,
    /// Until every policy was evaluated, and found within its objectives.
    pub(crate) within: f64,
    /// CPU-seconds that the operator took for that.
    pub(crate) cpu: f64,
    /// The most sessions in the database.
    pub(crate) sessions: i64,
    /// Where the audit log stood.
    #[serde(skip)]
    pub(crate) mark: u64,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leading, evaluated, within, cpu, .. } = self;
        write!(
            f,
            "leading after {leading:.2} s, all evaluated after {evaluated:.2} s, all within after {within:.2} s, {cpu:.2} CPU-s"
        )
    }
}

pub(crate) async fn start(fleet: &Fleet) -> (Operator, Start) {
    let sessions = Sessions::watch(fleet).await;
    let mark = fleet.control_plane.audit_mark();
    let begun = Instant::now();
    let operator = Operator::launch(&fleet.session, fleet.options()).await.expect("an operator");
    let (mut leading, mut evaluated, mut within) = (None, None, None);
    while within.is_none() {
        let ended = operator.process().exit_status();
        let so_far = || tail(&operator.log_text()).to_owned();
        assert!(ended.is_none() && begun.elapsed() < LIMIT, "not all are within; {ended:?}: {}", so_far());
        tokio::time::sleep(if fleet.size > MANY { PAUSE_OF_MANY } else { PAUSE }).await;
        let metrics = Exposition::of_operator(fleet, &operator).await;
        let now = begun.elapsed().as_secs_f64();
        let note = |at: &mut Option<f64>, reached: bool| {
            if reached {
                at.get_or_insert(now);
            }
        };
        note(&mut leading, metrics.sum("latency_operator_leader") > 0.0);
        note(&mut evaluated, metrics.count("latency_operator_policy_ready", None) == fleet.size);
        let kept = metrics.count("latency_operator_policy_within_objective", Some(1.0));
        note(&mut within, kept == fleet.size);
    }
    let [leading, evaluated, within] = [leading, evaluated, within].map(Option::unwrap_or_default);
    let cpu = super::looks::cpu(operator.process());
    (operator, Start { leading, evaluated, within, cpu, sessions: sessions.most(), mark })
}

pub(crate) async fn stop(operator: Operator) {
    operator.stop(STOP).await.expect("it ends");
}

fn tail(log: &str) -> &str {
    log.get(log.len().saturating_sub(4_000)..).unwrap_or(log)
}
