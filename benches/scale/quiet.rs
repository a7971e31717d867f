//! Minutes in which nothing happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::Operator;
use lab::control_plane::AuditEvent;
use serde::Serialize;

use super::fleet::{Fleet, INTERVAL, OPERATOR};
use super::looks::{Exposition, Sessions, cpu, peak, pss};
use super::start::Start;

/// It is quiet when nothing was written for so long.
const SILENCE: Duration = Duration::from_secs(30);
/// Or after so long: what is written later is counted.
const AT_LAST: Duration = Duration::from_secs(180);

/// What was seen. Requests by verb and resource.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quiet {
    pub(crate) seconds: f64,
    /// Writes from the start until it was quiet, but for the Lease.
    pub(crate) first_writes: BTreeMap<String, usize>,
    /// Writes meanwhile, but for the Lease.
    pub(crate) writes: BTreeMap<String, usize>,
    /// The others, the Lease included.
    pub(crate) requests: BTreeMap<String, usize>,
    pub(crate) evaluations: f64,
    /// As many as there should have been.
    pub(crate) due: f64,
    pub(crate) evaluation_p99: f64,
    pub(crate) lateness_p99: f64,
    pub(crate) lateness_worst: f64,
    pub(crate) cpu: f64,
    pub(crate) cpu_of_prometheus: f64,
    pub(crate) queries: f64,
    pub(crate) query_mean: f64,
    pub(crate) sessions: i64,
    pub(crate) pss: f64,
    pub(crate) peak: f64,
    pub(crate) no_data: f64,
}

impl Quiet {
    pub(crate) fn queries_per_interval(&self) -> f64 {
        self.queries / self.seconds * INTERVAL.as_secs_f64()
    }

    pub(crate) fn cpu_per_evaluation(&self) -> f64 {
        self.cpu / self.evaluations
    }
}

pub(crate) async fn measure(fleet: &Fleet, operator: &Operator, first: &Start, quiet: Duration) -> Quiet {
    until_quiet(fleet, operator).await;
    let process = operator.process();
    let sessions = Sessions::watch(fleet).await;
    let mark = fleet.control_plane.audit_mark();
    let before = (Exposition::of_operator(fleet, operator).await, Exposition::of_prometheus(fleet).await);
    let (cpu_before, others_before) = (cpu(process), cpu(fleet.prometheus.process()));
    let begun = Instant::now();
    tokio::time::sleep(quiet).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, cpu_of_prometheus) =
        (cpu(process) - cpu_before, cpu(fleet.prometheus.process()) - others_before);
    // Before the metrics are read: those of ten thousand policies take memory, too.
    let pss = pss(process);
    let after = (Exposition::of_operator(fleet, operator).await, Exposition::of_prometheus(fleet).await);
    let until = fleet.control_plane.audit_mark();
    let since = |name: &str| after.0.sum(name) - before.0.sum(name);
    let quantile = |histogram: &str, share| {
        after.0.quantile_since(&before.0, &format!("latency_operator_{histogram}"), share)
    };
    let queries = |metrics: &Exposition| {
        metrics.sum_with("prometheus_http_requests_total", "handler=\"/api/v1/query\"")
    };
    let asked = |name: &str| {
        let of = |metrics: &Exposition| metrics.sum_with(name, "source=\"prometheus\"");
        of(&after.0) - of(&before.0)
    };
    let all = requests(fleet, mark, Some(until));
    let is_noted = |event: &&AuditEvent| event.is_write() && !event.is_for("leases", "");
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let due = fleet.size as f64 * seconds / INTERVAL.as_secs_f64();
    Quiet {
        seconds,
        first_writes: kinds(requests(fleet, first.mark, Some(mark)).iter().filter(is_noted)),
        writes: kinds(all.iter().filter(is_noted)),
        requests: kinds(all.iter().filter(|event| !is_noted(event))),
        evaluations: since("latency_operator_evaluations_total"),
        due,
        evaluation_p99: quantile("evaluation_seconds", 0.99),
        lateness_p99: quantile("lateness_seconds", 0.99),
        lateness_worst: quantile("lateness_seconds", 1.0),
        cpu,
        cpu_of_prometheus,
        queries: queries(&after.1) - queries(&before.1),
        query_mean: asked("latency_operator_source_seconds_sum")
            / asked("latency_operator_source_seconds_count"),
        sessions: sessions.most(),
        pss,
        peak: peak(process),
        no_data: since("latency_operator_no_data_total"),
    }
}

/// Waits until nothing has been written for a while.
async fn until_quiet(fleet: &Fleet, operator: &Operator) {
    let begun = Instant::now();
    let (mut written, mut since) = (f64::NAN, Instant::now());
    while since.elapsed() < SILENCE && begun.elapsed() < AT_LAST {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let metrics = Exposition::of_operator(fleet, operator).await;
        let now =
            metrics.sum("latency_operator_api_writes_total") + metrics.sum("latency_operator_events_total");
        if written.total_cmp(&now).is_ne() {
            (written, since) = (now, Instant::now());
        }
    }
    eprintln!("{}: quiet after {:.0?}", fleet.size, begun.elapsed());
}

/// What the operator asked the API server for between two marks. A watch counts where it begins.
fn requests(fleet: &Fleet, from: u64, until: Option<u64>) -> Vec<AuditEvent> {
    let of = |mark| {
        let events = fleet.control_plane.audit_from(mark, &[OPERATOR]).expect("the audit log");
        let ours = events.into_iter().filter(|event| event.user.username == OPERATOR);
        ours.filter(|event| (event.verb == "watch") == (event.stage == "ResponseStarted")).collect::<Vec<_>>()
    };
    let mut events = of(from);
    let later = until.map_or(0, |mark| of(mark).len());
    events.truncate(events.len() - later);
    events
}

fn kinds<'a>(events: impl Iterator<Item = &'a AuditEvent>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in events {
        let object = event.object_ref.clone().unwrap_or_default();
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        let refused = if event.code() < 300 { String::new() } else { format!(" ({})", event.code()) };
        let kind = format!("{} {}{slash}{}{refused}", event.verb, object.resource, object.subresource);
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}
