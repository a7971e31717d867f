//! One instant query for one reading: bucket counts, requests in flight, errors, and the age of the newest sample, told
//! apart by the label `q`. One query means one instant: the parts cannot contradict each other. The views are a query of
//! their own, which is only asked while something is broken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::presets::{ByTarget, Metrics, quoted};

/// The label that tells the parts of an answer apart.
pub(super) const PART: &str = "q";

/// The query for one window of traffic.
pub(super) fn reading(
    metrics: &Metrics,
    injected: &str,
    match_labels: &BTreeMap<String, String>,
    window: Duration,
) -> String {
    let matchers = all_of(injected, match_labels);
    let range = range(window);
    parts(&[
        ("bucket", buckets(metrics, "le", &matchers, &range)),
        ("in_flight", with(metrics.in_flight, &matchers, &range)),
        ("errors", with(metrics.errors, &matchers, &range)),
        ("age", age(metrics, &matchers)),
    ])
}

/// The label that tells several targets in one answer apart, beside their namespace.
pub(super) const TARGET: &str = "latency_operator_target";

/// The query for one window of traffic of several targets: for each of them what [`reading`] asks for.
pub(super) fn together(
    metrics: &Metrics,
    injected: &str,
    by: &ByTarget<'_>,
    match_labels: &BTreeMap<String, String>,
    window: Duration,
) -> String {
    let matchers = all_of(injected, match_labels);
    let range = range(window);
    let Metrics { histogram, own, .. } = metrics;
    let increase = format!("increase({histogram}_bucket{{{own},{matchers}}}{range})");
    let newest = format!("timestamp({histogram}_count{{{own},{matchers}}})");
    let filled = |expression| with(&by_target(expression, by), &matchers, &range);
    parts(&[
        ("bucket", aggregated("sum", &increase, by, ", le")),
        ("in_flight", filled(metrics.in_flight)),
        ("errors", filled(metrics.errors)),
        ("age", format!("time() - {}", aggregated("max", &newest, by, ""))),
    ])
}

/// First by pod, without any label of the series' own: whatever those are, the name of the target collides with none.
fn aggregated(how: &str, of: &str, by: &ByTarget<'_>, more: &str) -> String {
    let ByTarget { namespace_label, pod_label, pattern } = by;
    let by_pod = format!("{how} by ({namespace_label}, {pod_label}{more}) ({of})");
    let named = format!("label_replace({by_pod}, \"{TARGET}\", \"$1\", \"{pod_label}\", \"{pattern}\")");
    format!("{how} by ({namespace_label}, {TARGET}{more}) ({named})")
}

/// A preset's expression with each of its sums taken by target.
fn by_target(expression: &str, by: &ByTarget<'_>) -> String {
    let Some((before, rest)) = expression.split_once("sum(") else { return expression.to_owned() };
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    let (of, after) = rest.split_at(end.unwrap_or(rest.len()));
    let after = after.strip_prefix(')').unwrap_or_default();
    format!("{before}{}{}", aggregated("sum", of, by, ""), by_target(after, by))
}

/// The query for one window of traffic by view, which `label` of the histogram tells.
pub(super) fn views(
    metrics: &Metrics,
    label: &str,
    injected: &str,
    match_labels: &BTreeMap<String, String>,
    window: Duration,
) -> String {
    let matchers = all_of(injected, match_labels);
    parts(&[
        ("bucket", buckets(metrics, &format!("{label}, le"), &matchers, &range(window))),
        ("age", age(metrics, &matchers)),
    ])
}

fn all_of(injected: &str, match_labels: &BTreeMap<String, String>) -> String {
    let mut matchers = injected.to_owned();
    for (label, value) in match_labels {
        matchers.push_str(&format!(",{label}={}", quoted(value)));
    }
    matchers
}

fn range(window: Duration) -> String {
    format!("[{}ms]", window.as_millis().max(1000))
}

fn buckets(metrics: &Metrics, by: &str, matchers: &str, range: &str) -> String {
    let Metrics { histogram, own, .. } = metrics;
    format!("sum by ({by}) (increase({histogram}_bucket{{{own},{matchers}}}{range}))")
}

fn age(metrics: &Metrics, matchers: &str) -> String {
    let Metrics { histogram, own, .. } = metrics;
    format!("time() - max(timestamp({histogram}_count{{{own},{matchers}}}))")
}

fn parts(parts: &[(&str, String)]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|(part, query)| format!("label_replace({query}, \"{PART}\", \"{part}\", \"\", \"\")"))
        .collect();
    parts.join(" or ")
}

/// Fills the selectors (`{}`, or `{own="...",}` with a trailing comma) and ranges (`[]`) of a preset's expression.
fn with(expression: &str, matchers: &str, range: &str) -> String {
    // One place after the other, so that nothing is filled into what an author wrote.
    let mut filled = String::with_capacity(expression.len() + 2 * matchers.len());
    let mut rest = expression;
    while let Some(next) = rest.chars().next() {
        let place = rest.get(..2).and_then(|place| match place {
            "{}" => Some(["{", matchers, "}"]),
            ",}" => Some([",", matchers, "}"]),
            "[]" => Some(["", range, ""]),
            _ => None,
        });
        match place {
            Some(put) => filled.extend(put),
            None => filled.push(next),
        }
        rest = rest.get(if place.is_some() { 2 } else { next.len_utf8() }..).unwrap_or_default();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::super::presets::{injected, metrics};
    use super::*;
    use crate::config::Config;
    use engine::model::{Preset, TargetKind, TargetRef};

    /// All queries that a preset leads to.
    fn queries(preset: Preset, edge: bool, labels: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let label = if edge { "\n  edgeNamespaceLabel: exported_namespace" } else { "" };
        let text = format!(
            "apiVersion: {}\nkind: OperatorConfig\nbackends:\n- name: default\n  url: http://127.0.0.1:9090{label}",
            crate::config::API_VERSION
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        let metrics = metrics(preset);
        let injected = injected(metrics, &config.backends[0], "shop", &target)?;
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let window = Duration::from_secs(120);
        let mut queries = vec![reading(metrics, &injected, &labels, window)];
        queries.extend(metrics.view_label.map(|label| views(metrics, label, &injected, &labels, window)));
        Ok(queries)
    }

    #[test]
    fn every_selector_carries_the_injected_matchers_whatever_the_policy_adds() {
        for (preset, matcher, count) in [
            (Preset::Django, r#"namespace="shop",pod=~"orders-api-[a-z0-9]+-[a-z0-9]{5}""#, 2),
            (Preset::Caddy, r#"exported_namespace="shop""#, 1),
        ] {
            let labels = [("namespace", "other"), ("x", "a\"} or up"), ("y", "[]{},}")];
            let queries = queries(preset, true, &labels).unwrap();
            assert_eq!(queries.len(), count, "{queries:?}");
            for query in queries {
                let inserted = query.matches("{5}").count() + query.matches("[]{},}").count();
                let selectors = query.matches('{').count() - inserted;
                assert!(selectors >= 2, "{query}");
                for each in [matcher, r#"x="a\"} or up""#, r#"y="[]{},}""#] {
                    assert_eq!(query.matches(each).count(), selectors, "{each}: {query}");
                }
            }
        }
    }

    #[test]
    fn an_edge_needs_a_label_for_its_namespace() {
        assert!(queries(Preset::Caddy, false, &[]).unwrap_err().contains("edgeNamespaceLabel"));
    }

    #[test]
    fn together_asks_for_what_each_alone_would_and_collides_with_no_label() {
        let text = format!(
            "apiVersion: {}\nkind: OperatorConfig\nbackends: [{{name: default, url: 'http://127.0.0.1:9090'}}]",
            crate::config::API_VERSION
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        let (backend, kind) = (&config.backends[0], TargetKind::Deployment);
        let (namespaces, targets) = (["blog", "shop"].into(), ["a.b", "web"].into());
        let labels = BTreeMap::from([("x".to_owned(), "sum(a\"} or up".to_owned())]);
        let window = Duration::from_secs(120);
        let query = |targets| {
            let injected = super::super::presets::of_all_pods(backend, kind, &namespaces, targets);
            let by = super::super::presets::by_target(backend, kind);
            together(metrics(Preset::Django), &injected, &by, &labels, window)
        };
        let (all, named) = (query(None), query(Some(&targets)));
        let pods = r#"pod=~"(?:a\\.b|web)-[a-z0-9]+-[a-z0-9]{5}""#;
        assert_eq!((all.matches(pods).count(), named.matches(pods).count()), (0, 5), "{named}");
        for query in [&all, &named] {
            for each in [r#"namespace=~"blog|shop""#, r#"x="sum(a\"} or up""#] {
                assert_eq!(query.matches(each).count(), 5, "{each}: {query}");
            }
            // Each name is made of nothing but namespace and pod (and bound).
            assert_eq!(query.matches("\"latency_operator_target\"").count(), 5, "{query}");
            assert_eq!(query.matches("label_replace(sum by (namespace, pod").count(), 4, "{query}");
            assert_eq!(query.matches("label_replace(max by (namespace, pod").count(), 1, "{query}");
        }
    }

    #[test]
    fn presets_of_applications_can_be_asked_together() {
        use super::super::presets::{PRESETS, Place};
        for preset in PRESETS.iter().filter(|preset| preset.place == Place::Application) {
            for expression in [preset.in_flight, preset.errors] {
                assert!(expression.starts_with("sum("), "{expression}");
                // A number of its own has no target.
                assert!(!expression.contains("vector("), "{expression}");
            }
        }
    }
}
