//! The operator's own metrics (OpenMetrics). Labels are enumerations; namespace and policy stand on the policy gauges only,
//! which go with the policy and can be switched off. `docs/metrics.md` is compared with what is registered here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub policy: String,
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($field:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: String),+ }
    };
}
label!(ResultLabel { result });
label!(SourceLabel { source });
label!(ReasonLabel { reason });
label!(GuardLabel { guard });
label!(SeverityLabel { severity });
label!(OutcomeLabels { action, phase, outcome });
label!(WriteLabels { kind, result });

/// Everything that is counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    evaluations: Family<ResultLabel, Counter>,
    evaluation: Histogram,
    lateness: Histogram,
    source: Family<SourceLabel, Histogram>,
    no_data: Family<ReasonLabel, Counter>,
    refusals: Family<GuardLabel, Counter>,
    incidents: Family<SeverityLabel, Counter>,
    remediations: Family<OutcomeLabels, Counter>,
    events: Family<ReasonLabel, Counter>,
    events_dropped: Counter,
    writes: Family<WriteLabels, Counter>,
    leader: Gauge,
    ready: Option<Family<PolicyLabels, Gauge>>,
    within: Option<Family<PolicyLabels, Gauge>>,
    objective: Option<Family<PolicyLabels, Gauge<f64, AtomicU64>>>,
}

const SPANS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

fn spans() -> Histogram {
    Histogram::new(SPANS)
}

impl Metrics {
    /// Registers everything; the gauges with a policy's name only where they are wanted.
    #[must_use]
    pub fn new(policy_metrics: bool) -> Self {
        let mut metrics = Self {
            registry: Arc::new(Registry::default()),
            evaluations: Family::default(),
            evaluation: spans(),
            lateness: spans(),
            source: Family::new_with_constructor(spans),
            no_data: Family::default(),
            refusals: Family::default(),
            incidents: Family::default(),
            remediations: Family::default(),
            events: Family::default(),
            events_dropped: Counter::default(),
            writes: Family::default(),
            leader: Gauge::default(),
            ready: policy_metrics.then(Family::default),
            within: policy_metrics.then(Family::default),
            objective: policy_metrics.then(Family::default),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("latency_operator");
        let r = &mut registry;
        r.register("evaluations", "Evaluations of policies, by what was found", self.evaluations.clone());
        r.register_with_unit(
            "evaluation",
            "Length of one evaluation, from its first read to its last write",
            Unit::Seconds,
            self.evaluation.clone(),
        );
        r.register_with_unit(
            "lateness",
            "How much later than it was due an evaluation began",
            Unit::Seconds,
            self.lateness.clone(),
        );
        r.register_with_unit(
            "source",
            "Length of one read from a source of facts",
            Unit::Seconds,
            self.source.clone(),
        );
        r.register("no_data", "Readings without data, by reason", self.no_data.clone());
        r.register("refusals", "Proposals that a guard refused, once for each change", self.refusals.clone());
        r.register("incidents", "Incidents opened, by severity at that moment", self.incidents.clone());
        r.register(
            "remediations",
            "Remediations that are over, by how they ended",
            self.remediations.clone(),
        );
        r.register("events", "Kubernetes Events written, by reason", self.events.clone());
        r.register(
            "events_dropped",
            "Kubernetes Events that could not be written",
            self.events_dropped.clone(),
        );
        r.register("api_writes", "Writes to the Kubernetes API, by kind and result", self.writes.clone());
        r.register("leader", "1 while this replica leads", self.leader.clone());
        if let (Some(ready), Some(within), Some(objective)) = (&self.ready, &self.within, &self.objective) {
            r.register("policy_ready", "1 while the policy is Ready", ready.clone());
            r.register("policy_within_objective", "1 kept, 0 broken, -1 not known", within.clone());
            r.register(
                "policy_measured",
                "Measured value of the policy's first objective: its quantile in seconds, or its share of errors",
                objective.clone(),
            );
        }
        registry
    }

    /// The exposition in OpenMetrics text.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// An evaluation ended.
    pub fn evaluated(&self, result: &str, took: Duration) {
        self.evaluations.get_or_create(&ResultLabel { result: result.to_owned() }).inc();
        self.evaluation.observe(took.as_secs_f64());
    }

    /// An evaluation began so much later than it was due.
    pub fn late(&self, by: Duration) {
        self.lateness.observe(by.as_secs_f64());
    }

    /// A read from a source ended.
    pub fn read(&self, source: &str, took: Duration) {
        self.source.get_or_create(&SourceLabel { source: source.to_owned() }).observe(took.as_secs_f64());
    }

    /// A reading had no data.
    pub fn no_data(&self, reason: &str) {
        self.no_data.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// A guard refused.
    pub fn refused(&self, guard: &str) {
        self.refusals.get_or_create(&GuardLabel { guard: guard.to_owned() }).inc();
    }

    /// An incident was opened.
    pub fn incident(&self, severity: &str) {
        self.incidents.get_or_create(&SeverityLabel { severity: severity.to_owned() }).inc();
    }

    /// A remediation is over.
    pub fn remediated(&self, action: &str, phase: &str, outcome: &str) {
        let labels =
            OutcomeLabels { action: action.to_owned(), phase: phase.to_owned(), outcome: outcome.to_owned() };
        self.remediations.get_or_create(&labels).inc();
    }

    /// An Event was written.
    pub fn event(&self, reason: &str) {
        self.events.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// An Event could not be written.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A write to the Kubernetes API ended; `result` is one of ok, conflict, error.
    pub fn wrote(&self, kind: &str, result: &str) {
        self.writes.get_or_create(&WriteLabels { kind: kind.to_owned(), result: result.to_owned() }).inc();
    }

    /// Whether this replica leads.
    pub fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }

    /// How a policy stands.
    pub fn policy(&self, labels: &PolicyLabels, ready: bool, within: Option<bool>, value: Option<f64>) {
        let (Some(readies), Some(withins), Some(values)) = (&self.ready, &self.within, &self.objective)
        else {
            return;
        };
        readies.get_or_create(labels).set(i64::from(ready));
        withins.get_or_create(labels).set(within.map_or(-1, i64::from));
        match value {
            Some(value) => {
                values.get_or_create(labels).set(value);
            }
            None => {
                values.remove(labels);
            }
        }
    }

    /// A policy has gone, and its gauges with it.
    pub fn forget(&self, labels: &PolicyLabels) {
        for family in [&self.ready, &self.within].into_iter().flatten() {
            family.remove(labels);
        }
        if let Some(values) = &self.objective {
            values.remove(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_gauges_come_and_go_with_it_and_can_be_switched_off() {
        let labels = PolicyLabels { namespace: "shop".into(), policy: "orders-api".into() };
        let metrics = Metrics::new(true);
        metrics.policy(&labels, true, Some(false), Some(0.3));
        assert!(metrics.expose().contains(
            "latency_operator_policy_within_objective{namespace=\"shop\",policy=\"orders-api\"} 0"
        ));
        metrics.forget(&labels);
        assert!(!metrics.expose().contains("orders-api"));
        let metrics = Metrics::new(false);
        metrics.policy(&labels, true, Some(false), Some(0.3));
        assert!(!metrics.expose().contains("orders-api"));
    }
}
