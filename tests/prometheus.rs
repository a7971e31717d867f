//! The Prometheus source against a real Prometheus that scrapes a real histogram.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::model::{NoData, NoDataReason, ObjectiveMemory, Observed, Policy, Scope, Traffic, ViewTraffic};
use jiff::Timestamp;
use lab::exporter::{Answer, ExporterOptions};
use lab::prometheus::Target;
use lab::{Exporter, Prometheus, PrometheusOptions, Session};
use latency_operator::api::{LatencyPolicy, convert};
use latency_operator::clock::Clock;
use latency_operator::config::Config;
use latency_operator::observe::prometheus::Prometheus as Source;
use latency_operator::telemetry::Metrics;
use serde_json::{Value, json};

struct Rig {
    prometheus: Prometheus,
    exporter: Arc<Exporter>,
    source: Source,
}

impl Rig {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let exporter =
            Exporter::start(ExporterOptions { server: "orders".into(), ..ExporterOptions::default() });
        let exporter = Arc::new(exporter.expect("an exporter"));
        exporter.set(
            lab::Traffic::steady(100.0, Duration::from_millis(50))
                .slow(0.2, Duration::from_millis(700))
                .in_flight(7),
        );
        let labels =
            [("namespace", "shop"), ("pod", "orders-api-6d4cf56db6-x7k2p"), ("exported_namespace", "shop")];
        let targets = vec![Target::new("app", &exporter.address(), &labels)];
        let options = PrometheusOptions { targets, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(&session, options).await.expect("Prometheus");
        let source = source(prometheus.url());
        Self { prometheus, exporter, source }
    }

    /// Reads until `wanted` says so.
    async fn until(&self, policy: &Policy, wanted: impl Fn(&Observed<Traffic>) -> bool) -> Observed<Traffic> {
        let mut last = None;
        let found = lab::until(Duration::from_secs(30), async || {
            let read = self.source.traffic(policy, true).await.remove("p95").expect("the objective");
            last = Some(read.clone());
            wanted(&read).then_some(read)
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("it never came; the last reading is {last:#?}"))
    }
}

fn source(url: &str) -> Source {
    let config = format!(
        "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nbackends:\n- name: default\n  url: {url}\n  scrapeInterval: 1s\n  \
         timeout: 1s\n  edgeNamespaceLabel: exported_namespace\n"
    );
    let config = Config::parse(&config).expect("valid");
    Source::new(&config.backends, Clock::at(Timestamp::now()), Metrics::new(false)).expect("a source")
}

fn policy(namespace: &str, target: &str, source: &Value) -> Policy {
    let object = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api", "namespace": namespace, "uid": "u"},
        "spec": {
            "targetRef": {"name": target},
            "evaluation": {"interval": "1s", "window": "5s"},
            "objectives": [{"name": "p95", "type": "Latency", "latency": {"threshold": "500ms"}, "source": source}],
        },
    });
    let object: LatencyPolicy = serde_json::from_value(object).expect("a policy");
    convert::policy(&object).expect("valid")
}

fn django() -> Value {
    json!({"type": "Prometheus", "prometheus": {"preset": "Django"}})
}

fn caddy(server: &str) -> Value {
    json!({"type": "Prometheus", "prometheus": {"preset": "Caddy", "matchLabels": {"server": server}}})
}

fn reason(read: &Observed<Traffic>) -> Option<NoDataReason> {
    match read {
        Observed::Missing(no_data) => Some(no_data.reason),
        Observed::Known { .. } => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_presets_read_the_traffic_that_there_is() {
    let rig = Rig::start().await;
    for source in [django(), caddy("orders")] {
        let policy = policy("shop", "orders-api", &source);
        let enough =
            |read: &Observed<Traffic>| read.known().is_some_and(|traffic| traffic.completed() > 200.0);
        let read = rig.until(&policy, enough).await;
        let traffic = read.known().expect("traffic");
        let share = traffic.bucket_at(0.5).expect("a bucket").count / traffic.completed();
        assert!((share - 0.8).abs() < 0.02, "{source}: {share}");
        assert_eq!(traffic.in_flight.known().map(|count| count.round()), Some(7.0), "{source}");
        assert_eq!(traffic.errors.known(), Some(&0.0), "{source}");
    }
    rig.exporter.set(lab::Traffic::steady(100.0, Duration::from_millis(50)).errors(0.25));
    for source in [django(), caddy("orders")] {
        let policy = policy("shop", "orders-api", &source);
        let failing = |read: &Observed<Traffic>| {
            read.known().is_some_and(|t| {
                t.errors.known().is_some_and(|errors| (errors / t.completed() - 0.25).abs() < 0.03)
            })
        };
        rig.until(&policy, failing).await;
    }
}

fn caddy_with_views(server: &str, views: &Value) -> Value {
    let mut source = caddy(server);
    source["prometheus"]["routes"] = views.clone();
    source
}

/// What the views' source says of a window that could be read.
fn views(read: &Observed<Traffic>) -> Result<&[ViewTraffic], &NoData> {
    match &read.known().expect("the reading stands whatever becomes of the views").views {
        Observed::Known { value, .. } => Ok(value),
        Observed::Missing(no_data) => Err(no_data),
    }
}

fn scope(policy: &Policy, read: &Observed<Traffic>) -> Option<Scope> {
    let memory = ObjectiveMemory::default();
    engine::judge::judge(&policy.objectives[0], Some(read.as_result()), None, &memory, Timestamp::UNIX_EPOCH)
        .scope
}

#[tokio::test(flavor = "multi_thread")]
async fn views_tell_one_slow_view_from_a_slow_target() {
    let rig = Rig::start().await;
    rig.exporter.set(lab::Traffic::steady(100.0, Duration::from_millis(50)));
    rig.exporter.set_view("report-list", lab::Traffic::steady(20.0, Duration::from_secs(3)));
    let sources = [django(), caddy_with_views("orders", &json!({"preset": "Django"}))];
    for source in &sources {
        let policy = policy("shop", "orders-api", source);
        let isolated = Some(Scope::Isolated { views: vec!["report-list".to_owned()] });
        let read = rig.until(&policy, |read| scope(&policy, read) == isolated).await;
        let views = views(&read).expect("views");
        let names: Vec<&str> = views.iter().map(|view| view.view.as_str()).collect();
        assert_eq!(names, ["order-list", "report-list"], "{source}");
        assert_eq!(views[1].bucket_at(0.5).map(|bucket| bucket.count), Some(0.0), "{source}");
        let share = views[1].completed() / (views[0].completed() + views[1].completed());
        assert!((share - 1.0 / 6.0).abs() < 0.02, "{source}: {share}");
    }
    rig.exporter.set(lab::Traffic::steady(100.0, Duration::from_secs(2)));
    for source in &sources {
        let policy = policy("shop", "orders-api", source);
        rig.until(&policy, |read| scope(&policy, read) == Some(Scope::SystemWide)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_cannot_be_read_say_why_and_spoil_nothing() {
    let rig = Rig::start().await;
    let known = |read: &Observed<Traffic>| read.known().is_some();
    let django_of = |labels: Value| json!({"preset": "Django", "matchLabels": labels});
    for (target, source, wanted) in [
        ("orders-api", caddy("orders"), "Caddy counts no routes"),
        (
            "orders-api",
            caddy_with_views("orders", &django_of(json!({"job": "other"}))),
            "no series for the views",
        ),
        // The edge is this namespace's; the pods are another target's, whatever the labels say.
        (
            "orders",
            caddy_with_views("orders", &django_of(json!({"pod": "orders-api-6d4cf56db6-x7k2p"}))),
            "no series for the views",
        ),
    ] {
        let read = rig.until(&policy("shop", target, &source), known).await;
        let no_data = views(&read).expect_err("nobody's views");
        assert_eq!(no_data.reason, NoDataReason::Empty, "{source}");
        assert!(no_data.detail.contains(wanted), "{source}: {no_data}");
    }
    let policy = policy("shop", "orders-api", &django());
    let read = rig.source.traffic(&policy, false).await.remove("p95").expect("the objective");
    assert_eq!(views(&read).expect_err("nobody asked").reason, NoDataReason::NotYetRead);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_another_namespaces_or_another_targets_series() {
    let rig = Rig::start().await;
    rig.until(&policy("shop", "orders-api", &django()), |read| read.known().is_some()).await;
    let widened = |matchers: &[(&str, &str)]| {
        let labels: BTreeMap<_, _> = matchers.iter().copied().collect();
        json!({"type": "Prometheus", "prometheus": {"preset": "Django", "matchLabels": labels}})
    };
    for (namespace, target, source) in [
        ("elsewhere", "orders-api", django()),
        ("shop", "orders", django()),
        ("elsewhere", "orders-api", widened(&[("namespace", "shop")])),
        ("shop", "orders", widened(&[("pod", "orders-api-6d4cf56db6-x7k2p")])),
        ("elsewhere", "orders-api", widened(&[("job", "app\"} or up{x=\"")])),
        ("elsewhere", "orders-api", caddy("orders")),
        ("shop", "orders-api", caddy("another")),
    ] {
        let read = rig
            .source
            .traffic(&policy(namespace, target, &source), false)
            .await
            .remove("p95")
            .expect("the objective");
        assert_eq!(reason(&read), Some(NoDataReason::Empty), "{namespace}/{target} {source}: {read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_scraped_any_more_is_stale_and_a_stopped_backend_is_told() {
    let mut rig = Rig::start().await;
    let policy = policy("shop", "orders-api", &django());
    rig.until(&policy, |read| read.known().is_some()).await;
    // Scrapes that fail leave what was there before.
    rig.exporter.answer(Answer::Nothing);
    rig.until(&policy, |read| matches!(reason(read), Some(NoDataReason::Stale | NoDataReason::Empty))).await;
    rig.exporter.answer(Answer::Metrics);
    rig.until(&policy, |read| read.known().is_some()).await;
    rig.prometheus.pause();
    rig.until(&policy, |read| reason(read) == Some(NoDataReason::Timeout)).await;
    rig.prometheus.resume();
    rig.until(&policy, |read| read.known().is_some()).await;
    rig.prometheus.stop().await.expect("stopped");
    rig.until(&policy, |read| reason(read) == Some(NoDataReason::Unreachable)).await;
    rig.prometheus.start_again().await.expect("started");
    rig.until(&policy, |read| read.known().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_prometheus_is_told_apart() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let policy = policy("shop", "orders-api", &django());
    for (status, kind, body, wanted) in [
        (200, "text/html", "<html>", NoDataReason::BadAnswer),
        (502, "text/html", "<html>", NoDataReason::HttpError),
        (302, "text/html", "", NoDataReason::HttpError),
        (
            400,
            "application/json",
            r#"{"status":"error","errorType":"bad_data","error":"x"}"#,
            NoDataReason::QueryRefused,
        ),
        (
            200,
            "application/json",
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            NoDataReason::Empty,
        ),
    ] {
        let answer = move || async move {
            let status = axum::http::StatusCode::from_u16(status).expect("a status");
            (status, [("content-type", kind), ("location", "http://127.0.0.1:1/")], body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let served =
            tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        let read = source(&url).traffic(&policy, true).await.remove("p95").expect("the objective");
        assert_eq!(reason(&read), Some(wanted), "{status} {body}: {read:?}");
        served.abort();
    }
}

/// Several targets' exporters, each with its own rate of requests.
struct Fleet {
    prometheus: Prometheus,
    source: Source,
    exporters: Vec<Exporter>,
}

impl Fleet {
    async fn start(pods: &[(&str, &str, f64)], args: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let mut fleet = (Vec::new(), Vec::new());
        for (namespace, pod, rate) in pods {
            let exporter = Exporter::start(ExporterOptions::default()).expect("an exporter");
            exporter.set(lab::Traffic::steady(*rate, Duration::from_millis(50)).errors(0.5).in_flight(3));
            // A label of the series' own, such as anybody may set.
            let labels = [("namespace", *namespace), ("pod", *pod), ("latency_operator_target", "web")];
            fleet.0.push(Target::new("app", &exporter.address(), &labels));
            fleet.1.push(exporter);
        }
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let options = PrometheusOptions { targets: fleet.0, args, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(&session, options).await.expect("Prometheus");
        let source = source(prometheus.url());
        Self { prometheus, source, exporters: fleet.1 }
    }

    /// What each policy reads, all of them at the same moment, and how many queries that took.
    async fn read(&self, policies: &[Policy]) -> (Vec<Observed<Traffic>>, usize) {
        let before = self.queries().await;
        let reads = policies.iter().map(|policy| self.source.traffic(policy, false));
        let mut read = futures::future::join_all(reads).await;
        let queries = self.queries().await - before;
        (read.iter_mut().map(|read| read.remove("p95").expect("the objective")).collect(), queries)
    }

    async fn queries(&self) -> usize {
        let url = format!("{}/metrics", self.prometheus.url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let text = client.get(url).send().await.expect("an answer").text().await.expect("text");
        let asked = |line: &&str| {
            line.starts_with("prometheus_http_requests_total{") && line.contains("\"/api/v1/query\"")
        };
        let counts =
            text.lines().filter(asked).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        counts.sum()
    }

    /// Reads until each policy that `wanted` names has a full window of traffic, at that rate.
    async fn until(&self, policies: &[Policy], wanted: &[(usize, f64)]) -> (Vec<Observed<Traffic>>, usize) {
        let mut last = None;
        let found = lab::until(Duration::from_secs(30), async || {
            let read = self.read(policies).await;
            // Pods are not scraped at the same instant.
            let full = |(index, rate): &(usize, f64)| {
                let completed = read.0[*index].known().map_or(0.0, |traffic| traffic.completed());
                (completed / 5.0 / rate - 1.0).abs() < 0.1
            };
            let all = wanted.iter().all(full);
            last = Some(read);
            all.then(|| last.take())?
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("it never came; the last reading is {last:#?}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_targets_are_read_with_one_query_and_each_has_its_own_traffic() {
    let pods = [
        ("shop", "web-6d4cf56db6-x7k2p", 20.0),
        // Its name begins with the other one's; it has two pods.
        ("shop", "web-1-6d4cf56db6-x7k2p", 30.0),
        ("shop", "web-1-6d4cf56db6-aaaaa", 30.0),
        ("blog", "web-5c4cf56db6-zzzzz", 120.0),
        // Nobody's, a stranger's, and one of a StatefulSet.
        ("shop", "web", 1000.0),
        ("shop", "web-0", 1000.0),
        ("shop", "other-6d4cf56db6-x7k2p", 1000.0),
    ];
    let fleet = Fleet::start(&pods, &[]).await;
    let mut policies: Vec<Policy> = [("shop", "web"), ("shop", "web-1"), ("blog", "web"), ("shop", "absent")]
        .iter()
        .map(|(namespace, target)| policy(namespace, target, &django()))
        .collect();
    let mut again = policies[0].clone();
    again.id.name = "another policy on the same target".to_owned();
    policies.push(again);
    let rates = [(0, 20.0), (1, 60.0), (2, 120.0), (4, 20.0)];
    let (read, queries) = fleet.until(&policies, &rates).await;
    assert_eq!(queries, 1, "{read:#?}");
    for (index, _) in rates {
        let traffic = read[index].known().expect("traffic");
        let errors = traffic.errors.known().expect("errors");
        assert!((errors / traffic.completed() - 0.5).abs() < 0.1, "{index}: {traffic:?}");
        let pods = if index == 1 { 2.0 } else { 1.0 };
        assert_eq!(traffic.in_flight.known().map(|count| count.round()), Some(3.0 * pods), "{traffic:?}");
    }
    assert_eq!(reason(&read[3]), Some(NoDataReason::Empty), "{read:?}");
    // Labels of a policy's own lead nowhere else, together as alone.
    let matchers = json!({"type": "Prometheus", "prometheus": {"preset": "Django", "matchLabels": {"namespace": "shop"}}});
    let elsewhere: Vec<Policy> =
        ["one", "another"].iter().map(|namespace| policy(namespace, "web", &matchers)).collect();
    let (read, queries) = fleet.read(&elsewhere).await;
    assert_eq!(queries, 1);
    assert!(read.iter().all(|read| reason(read) == Some(NoDataReason::Empty)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_series_blind_nobody() {
    let pods = [
        ("shop", "light-6d4cf56db6-x7k2p", 20.0),
        ("blog", "light-6d4cf56db6-x7k2p", 20.0),
        ("heavy", "web-6d4cf56db6-x7k2p", 20.0),
    ];
    // Enough for the light ones, not for the views of the heavy one.
    let fleet = Fleet::start(&pods, &["--query.max-samples=2000"]).await;
    for view in 0..60 {
        fleet.exporters[2]
            .set_view(&format!("view-{view}"), lab::Traffic::steady(10.0, Duration::from_millis(50)));
    }
    let policies: Vec<Policy> = [("shop", "light"), ("blog", "light"), ("heavy", "web")]
        .iter()
        .map(|(namespace, target)| policy(namespace, target, &django()))
        .collect();
    let refused = lab::until(Duration::from_secs(30), async || {
        let (read, _) = fleet.read(&policies).await;
        let is_refused = reason(&read[2]) == Some(NoDataReason::QueryRefused);
        // Whatever becomes of the third: they are answered for at once, as soon as they are scraped at all.
        (is_refused && read[..2].iter().all(|read| read.known().is_some())).then_some(())
    });
    refused.await.expect("the heavy one is refused, and no other");
    let (read, queries) = fleet.until(&policies, &[(0, 20.0), (1, 20.0)]).await;
    assert!(queries <= 3, "{queries}: they are asked for alone, or not at all within half a scrape");
    assert_eq!(reason(&read[2]), Some(NoDataReason::QueryRefused));
}
