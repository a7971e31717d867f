//! Scrapes: what is read of real Pods' addresses, beside what a real Prometheus reads of the same exporters.

use std::sync::Arc;
use std::time::Duration;

use engine::model::{NoDataReason, Observed, Policy, Traffic};
use lab::exporter::{Answer, ExporterOptions};
use lab::prometheus::Target;
use lab::{Exporter, Prometheus, PrometheusOptions, Session};
use latency_operator::api::{LatencyPolicy, convert};
use latency_operator::clock::Clock;
use latency_operator::config::Config;
use latency_operator::connections::Services;
use latency_operator::connections::services::DevOverride;
use latency_operator::observe::prometheus::Prometheus as Backend;
use latency_operator::observe::scrape::Scraper;
use latency_operator::telemetry::Metrics;
use serde_json::{Value, json};

use crate::support::{Rig, SOON, run};

fn policy(namespace: &str, source: &Value) -> Policy {
    let object: LatencyPolicy = serde_json::from_value(json!({
        "metadata": {"name": "orders", "namespace": namespace, "uid": "u"},
        "spec": {
            "targetRef": {"name": "orders"}, "evaluation": {"interval": "1s", "window": "5s"}, "source": source,
            "objectives": [
                {"name": "p95", "type": "Latency", "latency": {"threshold": "500ms"}},
                {"name": "errors", "type": "ErrorRatio", "errorRatio": {"threshold": "1%"}},
            ],
        },
    }))
    .expect("a policy");
    convert::policy(&object).expect("a valid policy")
}

fn scraped(namespace: &str, port: &str) -> Policy {
    policy(namespace, &json!({"type": "Scrape", "scrape": {"port": port, "preset": "Django"}}))
}

/// Two Pods with an exporter behind each, and a scraper with the rights of the chart.
struct Scene {
    rig: Rig,
    exporters: [Arc<Exporter>; 2],
    scraper: Scraper,
    policy: Policy,
}

impl Scene {
    async fn new(namespace: &str) -> Self {
        let rig = Rig::new(namespace, &[]).await;
        let ready = async || {
            let pods = rig.pods().list(&kube::api::ListParams::default()).await.expect("Pods").items;
            let is_ready = |pod: &k8s_openapi::api::core::v1::Pod| {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions
                    .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
            };
            (pods.iter().filter(|pod| is_ready(pod)).count() == 2).then_some(())
        };
        lab::until(SOON, ready).await.expect("two ready Pods");
        let exporter = || Arc::new(Exporter::start(ExporterOptions::default()).expect("an exporter"));
        let exporters = [exporter(), exporter()];
        for exporter in &exporters {
            exporter.set(
                lab::Traffic::steady(100.0, Duration::from_millis(50))
                    .slow(0.2, Duration::from_millis(700))
                    .errors(0.25)
                    .in_flight(3),
            );
        }
        let to = |exporter: &Arc<Exporter>| DevOverride {
            namespace: namespace.to_owned(),
            service: "orders".to_owned(),
            port: "http".to_owned(),
            to: exporter.address().parse().expect("an address"),
        };
        let services = Services::new(rig.operator.clone(), [], exporters.iter().map(to).collect());
        let scraper = Scraper::new(services, Clock::at(jiff::Timestamp::now()), Metrics::new(false));
        Self { rig, exporters, scraper, policy: scraped(namespace, "http") }
    }

    async fn read(&self) -> Observed<Traffic> {
        self.scraper.traffic(&self.policy, true).await.remove("p95").expect("the objective")
    }

    /// Reads until `wanted` says so.
    async fn until(&self, wanted: impl Fn(&Observed<Traffic>) -> bool) -> Observed<Traffic> {
        let mut last = None;
        let found = lab::until(SOON, async || {
            let read = self.read().await;
            last = Some(read.clone());
            wanted(&read).then_some(read)
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("it never came; the last reading is {last:#?}"))
    }
}

/// The share of fast requests, and of errors.
fn shares(traffic: &Traffic) -> (f64, f64) {
    let completed = traffic.completed();
    let fast = traffic.bucket_at(0.5).expect("a bucket").count / completed;
    (fast, traffic.errors.known().expect("errors") / completed)
}

fn reason(read: &Observed<Traffic>) -> Option<NoDataReason> {
    match read {
        Observed::Missing(no_data) => Some(no_data.reason),
        Observed::Known { .. } => None,
    }
}

#[test]
fn pods_tell_the_same_as_a_backend_that_scrapes_them() {
    run(async {
        let scene = Scene::new("scraped").await;
        assert_eq!(reason(&scene.read().await), Some(NoDataReason::NotYetRead));
        let targets: Vec<Target> = (0..)
            .zip(&scene.exporters)
            .map(|(number, exporter)| {
                let pod = format!("orders-6d4cf56db6-x7k2{number}");
                Target::new("app", &exporter.address(), &[("namespace", "scraped"), ("pod", pod.as_str())])
            })
            .collect();
        let session = Session::start().await.expect("a session");
        let options = PrometheusOptions { targets, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(&session, options).await.expect("Prometheus");
        let config = format!(
            "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nbackends:\n- name: default\n  url: {}\n  \
             scrapeInterval: 1s\n  timeout: 1s\n",
            prometheus.url()
        );
        let config = Config::parse(&config).expect("valid");
        let clock = Clock::at(jiff::Timestamp::now());
        let backend = Backend::new(&config.backends, clock, Metrics::new(false)).expect("a backend");
        let asked = policy("scraped", &json!({"type": "Prometheus", "prometheus": {"preset": "Django"}}));
        let both = lab::until(SOON, async || {
            let told = backend.traffic(&asked, true).await.remove("p95").expect("the objective");
            let read = scene.read().await;
            let (told, read) = (told.known()?.clone(), read.known()?.clone());
            (told.completed() > 500.0 && read.completed() > 500.0).then_some((told, read))
        });
        let (told, read) = both.await.expect("both are read");
        let (told, seen) = (shares(&told), shares(&read));
        assert!((told.0 - seen.0).abs() < 0.02 && (told.1 - seen.1).abs() < 0.02, "{told:?} {seen:?}");
        assert!((seen.0 - 0.8).abs() < 0.02 && (seen.1 - 0.25).abs() < 0.02, "{seen:?}");
        assert_eq!(read.in_flight.known().map(|count| count.round()), Some(6.0));
        let views = read.views.known().expect("views");
        assert_eq!(views.iter().map(|view| view.view.as_str()).collect::<Vec<_>>(), ["order-list"]);
        // Both objectives share the scrapes, and everybody else does.
        let before = scene.exporters[0].scrapes();
        let all = futures::future::join_all((0..20).map(|_| scene.read())).await;
        assert!(all.iter().all(|read| read.known().is_some()));
        assert!(scene.exporters[0].scrapes() <= before + 2, "{before}");
    });
}

#[test]
fn a_pod_that_restarts_is_counted_on_and_one_that_jumps_is_told() {
    run(async {
        let scene = Scene::new("restarts").await;
        scene.until(|read| read.known().is_some()).await;
        // One more round sees it, whatever was shared before.
        scene.exporters[0].reset();
        let seen = scene.exporters[0].scrapes() + 1;
        let after = scene.until(|read| read.known().is_some() && scene.exporters[0].scrapes() > seen).await;
        let traffic = after.known().expect("traffic");
        assert!((shares(traffic).0 - 0.8).abs() < 0.05, "{traffic:?}");
        assert!(traffic.completed() > 300.0, "what was counted before is not lost: {traffic:?}");

        let jumps = lab::until(SOON, async || {
            scene.exporters[0].reset();
            let read = scene.read().await;
            matches!(&read, Observed::Missing(why) if why.detail.contains("PROMETHEUS_MULTIPROC_DIR"))
                .then(|| reason(&read))
        });
        assert_eq!(jumps.await.expect("it is seen"), Some(NoDataReason::BadAnswer));
    });
}

#[test]
fn one_of_two_pods_is_enough_and_none_is_not() {
    run(async {
        let scene = Scene::new("partial").await;
        scene.until(|read| read.known().is_some()).await;
        scene.exporters[0].answer(Answer::Status(503));
        // After a window nothing of the Pod that refuses is left.
        let half = scene.until(|read| read.known().is_some_and(|traffic| traffic.completed() < 700.0)).await;
        assert!((shares(half.known().expect("traffic")).0 - 0.8).abs() < 0.05);
        assert_eq!(half.known().and_then(|traffic| traffic.in_flight.known()), Some(&3.0));
        for (answer, expected) in [
            (Answer::Status(503), NoDataReason::HttpError),
            (Answer::Text("<html>".to_owned()), NoDataReason::BadAnswer),
            (Answer::Nothing, NoDataReason::Timeout),
        ] {
            scene.exporters.iter().for_each(|exporter| exporter.answer(answer.clone()));
            scene.until(|read| reason(read) == Some(expected)).await;
        }
        for (port, expected) in [("metrics", NoDataReason::NoSuchPort), ("http", NoDataReason::NotFound)] {
            let mut policy = scraped("partial", port);
            if expected == NoDataReason::NotFound {
                policy.target.name = "absent".to_owned();
            }
            let read = scene.scraper.traffic(&policy, false).await.remove("errors").expect("the objective");
            assert_eq!(reason(&read), Some(expected), "{read:?}");
        }
        assert!(scene.rig.reads().0 > 0, "with the rights of the chart");
    });
}
