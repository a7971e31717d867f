//! Whatever the dashboard and the alerts ask for is there: a real Prometheus scrapes the operator's own registry, and answers
//! every query with the labels that the legend shows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lab::prometheus::Target;
use lab::{Prometheus, PrometheusOptions, Session};
use latency_operator::telemetry::metrics::PolicyLabels;
use latency_operator::telemetry::{Health, Metrics, server};
use serde_json::Value;

use crate::support::{SOON, run};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/latency-operator/files").join(file);
    std::fs::read_to_string(path).expect("the file")
}

/// A registry in which everything has happened.
fn busy() -> Metrics {
    let metrics = Metrics::new(true);
    let labels = PolicyLabels { namespace: "shop".into(), policy: "orders-api".into() };
    metrics.evaluated("healthy", Duration::ZERO);
    metrics.read("postgres", Duration::ZERO);
    metrics.no_data("Empty");
    metrics.refused("Mode");
    metrics.incident("P1");
    metrics.remediated("CancelQuery", "Completed", "Healed");
    metrics.event("CauseFound");
    metrics.wrote("LatencyPolicy", "ok");
    metrics.leading(true);
    metrics.policy(&labels, true, Some(true), Some(0.1));
    metrics
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let begins = text.match_indices("latency_operator_").map(|(at, _)| at);
    begins.map(|at| text[at..].chars().take_while(|letter| is_of_name(*letter)).collect()).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_registered() {
    let exposed = busy().expose();
    let registered: BTreeSet<String> = exposed
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect();
    for file in ["alerts.yaml", "dashboard.json"] {
        let asked = names(&read(file));
        assert!(asked.len() >= 5, "{file}: {asked:?}");
        let unknown: Vec<&String> = asked.difference(&registered).collect();
        assert!(unknown.is_empty(), "{file} asks for what nobody registers: {unknown:?}");
    }
    // The other way round: what is told is shown.
    let shown = names(&read("dashboard.json"));
    let told: BTreeSet<String> = (exposed.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    for name in told {
        assert!(shown.iter().any(|shown| shown.starts_with(&name)), "no panel shows {name}");
    }
}

#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    run(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let address = format!("127.0.0.1:{}", session.free_port().expect("a port"));
        let listen: SocketAddr = address.parse().expect("an address");
        let serving = tokio::spawn(server::serve(listen, busy(), Health::default()));
        let options = PrometheusOptions {
            targets: vec![Target::new("latency-operator", &address, &[])],
            ..Default::default()
        };
        let prometheus = Prometheus::start(&session, options).await.expect("Prometheus");
        prometheus.seen(&address).await.expect("it is scraped");

        let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        assert!(panels.len() > 10);
        for panel in panels {
            for target in panel["targets"].as_array().expect("targets") {
                let asked = target["expr"].as_str().expect("an expression");
                let query = ["$job", "$namespace", "$policy"]
                    .iter()
                    .fold(asked.replace("$__rate_interval", "30s"), |query, name| query.replace(name, ".*"));
                assert!(!query.contains('$'), "{query}");
                // A rate needs two scrapes.
                let answered = async || prometheus.query(&query).await.expect("an answer").into_iter().next();
                let sample = lab::until(SOON, answered).await;
                let sample = sample.unwrap_or_else(|| panic!("nothing answers {query}"));
                let legend = target["legendFormat"].as_str().expect("a legend");
                for label in legend.split("{{").skip(1).filter_map(|part| part.split("}}").next()) {
                    assert!(sample.labels.contains_key(label), "{query} has no {label}: {sample:?}");
                }
            }
        }
        serving.abort();
    });
}
