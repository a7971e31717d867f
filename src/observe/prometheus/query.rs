//! One instant query for one reading: bucket counts, requests in flight, errors, and the age of the newest sample, told
//! apart by the label `q`. One query means one instant: the parts cannot contradict each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::presets::{Metrics, quoted};

/// The label that tells the parts of an answer apart.
pub(super) const PART: &str = "q";

/// The query for one window of traffic.
pub(super) fn reading(
    metrics: &Metrics,
    injected: &str,
    match_labels: &BTreeMap<String, String>,
    window: Duration,
) -> String {
    let mut matchers = injected.to_owned();
    for (label, value) in match_labels {
        matchers.push_str(&format!(",{label}={}", quoted(value)));
    }
    let window = format!("[{}ms]", window.as_millis().max(1000));
    let histogram = metrics.histogram;
    let own = format!("{{{},{matchers}}}", metrics.own);
    let parts = [
        ("bucket", format!("sum by (le) (increase({histogram}_bucket{own}{window}))")),
        ("in_flight", with(metrics.in_flight, &matchers, &window)),
        ("errors", with(metrics.errors, &matchers, &window)),
        ("age", format!("time() - max(timestamp({histogram}_count{own}))")),
    ];
    let parts =
        parts.map(|(part, query)| format!("label_replace({query}, \"{PART}\", \"{part}\", \"\", \"\")"));
    parts.join(" or ")
}

/// Fills the selectors (`{}`, or `{own="...",}` with a trailing comma) and windows (`[]`) of a preset's expression.
fn with(expression: &str, matchers: &str, window: &str) -> String {
    // One place after the other, so that nothing is filled into what an author wrote.
    let mut filled = String::with_capacity(expression.len() + 2 * matchers.len());
    let mut rest = expression;
    while let Some(next) = rest.chars().next() {
        let (taken, put) = match rest.as_bytes() {
            [b'{', b'}', ..] => (2, format!("{{{matchers}}}")),
            [b',', b'}', ..] => (2, format!(",{matchers}}}")),
            [b'[', b']', ..] => (2, window.to_owned()),
            _ => (next.len_utf8(), next.to_string()),
        };
        filled.push_str(&put);
        rest = rest.get(taken..).unwrap_or_default();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::super::presets::{injected, metrics};
    use super::*;
    use crate::config::Config;
    use engine::model::{Preset, TargetKind, TargetRef};

    fn query(preset: Preset, edge: bool, labels: &[(&str, &str)]) -> Result<String, String> {
        let label = if edge { "\n  edgeNamespaceLabel: exported_namespace" } else { "" };
        let text = format!(
            "apiVersion: {}\nbackends:\n- name: default\n  url: http://127.0.0.1:9090{label}",
            crate::config::API_VERSION
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        let metrics = metrics(preset);
        let injected = injected(metrics, &config.backends[0], "shop", &target)?;
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(reading(metrics, &injected, &labels, Duration::from_secs(120)))
    }

    #[test]
    fn every_selector_carries_the_injected_matchers_whatever_the_policy_adds() {
        for (preset, matcher) in [
            (Preset::Django, r#"namespace="shop",pod=~"orders-api-[a-z0-9]+-[a-z0-9]{5}""#),
            (Preset::Caddy, r#"exported_namespace="shop""#),
        ] {
            let query =
                query(preset, true, &[("namespace", "other"), ("x", "a\"} or up"), ("y", "[]{},}")]).unwrap();
            let inserted = query.matches("{5}").count() + query.matches("[]{},}").count();
            let selectors = query.matches('{').count() - inserted;
            assert_eq!(query.matches(matcher).count(), selectors, "{query}");
            assert_eq!(query.matches(r#"x="a\"} or up""#).count(), query.matches(matcher).count(), "{query}");
            assert_eq!(query.matches(r#"y="[]{},}""#).count(), query.matches(matcher).count(), "{query}");
        }
    }

    #[test]
    fn an_edge_needs_a_label_for_its_namespace() {
        assert!(query(Preset::Caddy, false, &[]).unwrap_err().contains("edgeNamespaceLabel"));
    }
}
