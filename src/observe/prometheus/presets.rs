//! The metrics of known exporters: one line of [`PRESETS`] each.

use std::collections::BTreeSet;

use engine::model::{Preset, TargetKind, TargetRef};

use crate::config::Backend;

/// Where an exporter sits, which decides by which labels its series belong to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the target's own pods: matched by namespace and pod name.
    Application,
    /// In front of it: matched by the namespace under a label of the backend's configuration, and by the policy's labels.
    Edge,
}

/// An exporter. `{}` stands for the selector.
#[derive(Debug)]
pub struct Metrics {
    /// Whose.
    pub preset: Preset,
    /// Where it sits.
    pub place: Place,
    /// The latency histogram, without `_bucket`.
    pub histogram: &'static str,
    /// Matchers of the histogram's own: no probes, no scrapes.
    pub own: &'static str,
    /// Requests that are being served.
    pub in_flight: &'static str,
    /// Requests that failed in the window `[]`. What has never happened has no series: that is none, not unknown.
    pub errors: &'static str,
    /// The histogram's label that tells the views of the application apart, where there is one.
    pub view_label: Option<&'static str>,
}

/// django-prometheus.
const DJANGO: Metrics = Metrics {
    preset: Preset::Django,
    place: Place::Application,
    histogram: "django_http_requests_latency_seconds_by_view_method",
    own: r#"view!~"prometheus.*|.*health.*""#,
    in_flight: "sum(django_http_requests_before_middlewares_total{}) - sum(django_http_responses_before_middlewares_total{})",
    errors: r#"sum(increase(django_http_responses_total_by_status_view_method_total{status=~"5..",}[]))"#,
    view_label: Some("view"),
};

/// Caddy.
const CADDY: Metrics = Metrics {
    preset: Preset::Caddy,
    place: Place::Edge,
    histogram: "caddy_http_request_duration_seconds",
    own: r#"handler="reverse_proxy""#,
    in_flight: r#"sum(caddy_http_requests_in_flight{handler="reverse_proxy",})"#,
    // Errors that Caddy makes itself (no upstream) are not in the histogram.
    errors: r#"(sum(increase(caddy_http_request_duration_seconds_count{handler="reverse_proxy",code=~"5..",}[])) or vector(0)) + (sum(increase(caddy_http_request_errors_total{handler="reverse_proxy",}[])) or vector(0))"#,
    view_label: None,
};

/// All presets.
pub const PRESETS: &[Metrics] = &[DJANGO, CADDY];

/// The metrics of a preset.
#[must_use]
pub fn metrics(preset: Preset) -> &'static Metrics {
    match preset {
        Preset::Django => &DJANGO,
        Preset::Caddy => &CADDY,
    }
}

/// The matchers that keep a policy to its own series. A policy can add to them and cannot remove them: all matchers must
/// hold, also two on the same label.
///
/// # Errors
/// The backend does not say how an edge's series tell their namespace.
pub fn injected(
    metrics: &Metrics,
    backend: &Backend,
    namespace: &str,
    target: &TargetRef,
) -> Result<String, String> {
    match metrics.place {
        Place::Application => Ok(of_pods(backend, target.kind, namespace, &target.name)),
        Place::Edge => match &backend.edge_namespace_label {
            Some(label) => Ok(format!("{label}={}", quoted(namespace))),
            None => Err(format!(
                "backend {} has no edgeNamespaceLabel in the operator's configuration, so presets of an edge cannot be used",
                backend.name
            )),
        },
    }
}

/// What Kubernetes adds to the name of a workload to make its pods': the template's hash and five characters, or a number.
/// Neither has dashes of its own, so that a pod's name is that of one Deployment's pod at most.
fn added(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Deployment => "-[a-z0-9]+-[a-z0-9]{5}",
        TargetKind::StatefulSet => "-[0-9]+",
    }
}

/// The matchers for one target's own pods, and no other's.
pub(super) fn of_pods(backend: &Backend, kind: TargetKind, namespace: &str, target: &str) -> String {
    let pods = format!("{}{}", regex_escaped(target), added(kind));
    format!("{}={},{}=~{}", backend.namespace_label, quoted(namespace), backend.pod_label, quoted(&pods))
}

/// The matchers for the pods of several targets, or of everything in those namespaces; [`by_target`] tells them apart.
pub(super) fn of_all_pods(
    backend: &Backend,
    kind: TargetKind,
    namespaces: &BTreeSet<&str>,
    targets: Option<&BTreeSet<&str>>,
) -> String {
    let any_of =
        |names: &BTreeSet<&str>| names.iter().map(|name| regex_escaped(name)).collect::<Vec<_>>().join("|");
    let mut matchers = format!("{}=~{}", backend.namespace_label, quoted(&any_of(namespaces)));
    if let Some(targets) = targets {
        let pods = format!("(?:{}){}", any_of(targets), added(kind));
        matchers.push_str(&format!(",{}=~{}", backend.pod_label, quoted(&pods)));
    }
    matchers
}

/// How the series of several targets are told apart.
pub(super) fn by_target(backend: &Backend, kind: TargetKind) -> ByTarget<'_> {
    let Backend { namespace_label, pod_label, .. } = backend;
    ByTarget { namespace_label, pod_label, pattern: format!("(.+){}", added(kind)) }
}

/// See [`by_target`].
pub(super) struct ByTarget<'a> {
    /// The label with the namespace.
    pub(super) namespace_label: &'a str,
    /// The label with the pod's name.
    pub(super) pod_label: &'a str,
    /// What the name of a pod looks like; its group is the name of the workload.
    pub(super) pattern: String,
}

/// A string of PromQL, with everything escaped that could end it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The name of an object has letters, digits, dashes and dots; of these only the dot means something in a pattern.
fn regex_escaped(name: &str) -> String {
    name.replace('.', "\\.")
}
