//! The configuration that the chart writes is one that the operator reads, and says what the values say.

use std::time::Duration;

use engine::model::ActionKind;
use latency_operator::config::{Config, SecretRule};
use serde_json::{Value, json};

use crate::support::{find, matrix, rendered, run};

fn file(objects: &[Value]) -> String {
    let text = &find(objects, "ConfigMap", "latency-operator")["data"]["config.yaml"];
    text.as_str().expect("a file").to_owned()
}

#[test]
fn the_operator_reads_what_the_chart_writes() {
    run(async {
        for (name, values) in matrix() {
            let all = rendered(&values).await;
            let Some(map) = all.iter().find(|object| object["data"]["config.yaml"].is_string()) else {
                panic!("{name}: no configuration");
            };
            let text = map["data"]["config.yaml"].as_str().expect("a file");
            let config = Config::parse(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
            assert_eq!(
                config.lease.namespace, None,
                "{name}: the right to the Lease is in the Pod's namespace"
            );
        }
    });
}

#[test]
fn each_value_arrives() {
    run(async {
        let values = json!({"config": {
            "backends": [
                {
                    "name": "default", "url": "https://prometheus:9090/p", "scrapeInterval": "30s", "timeout": "2s",
                    "namespaceLabel": "ns", "podLabel": "po", "edgeNamespaceLabel": "edge",
                    "bearerTokenSecret": {"name": "one", "key": "a"}, "caSecret": {"name": "two", "key": "b"},
                    "headers": {"X-Scope-OrgID": "shop"},
                },
                {
                    "name": "other", "url": "http://thanos:9090", "bearerTokenFile": "/token",
                    "caConfigMap": {"name": "three", "key": "c"},
                },
            ],
            "watchNamespaces": ["web", "shop"], "actions": ["Scale"], "protectedRoles": ["postgres", "it's"],
            "policyMetrics": false,
            "lease": {"name": "mine", "duration": "30s", "renewDeadline": "20s", "retryPeriod": "500ms"},
        }});
        let all = rendered(&values).await;
        let text = file(&all);
        assert_eq!(text.lines().filter(|line| *line == "secrets: AuthorChecked").count(), 1, "{text}");
        let config = Config::parse(&text).expect("a configuration");
        let [first, second] = config.backends.as_slice() else { panic!("two backends: {text}") };
        assert_eq!((first.name.as_str(), first.url.as_str()), ("default", "https://prometheus:9090/p"));
        assert_eq!((first.scrape_interval, first.timeout), (Duration::from_secs(30), Duration::from_secs(2)));
        assert_eq!((first.namespace_label.as_str(), first.pod_label.as_str()), ("ns", "po"));
        assert_eq!(first.edge_namespace_label.as_deref(), Some("edge"));
        assert_eq!(first.headers["X-Scope-OrgID"], "shop");
        let folder = "/etc/latency-operator/backends";
        let path = |path: &Option<std::path::PathBuf>| path.clone().expect("a file").display().to_string();
        assert_eq!(path(&first.bearer_token_file), format!("{folder}/default/token"));
        assert_eq!(path(&first.ca_file), format!("{folder}/default/ca.crt"));
        assert_eq!(path(&second.bearer_token_file), "/token");
        assert_eq!(path(&second.ca_file), format!("{folder}/other/ca.crt"));
        assert_eq!(config.watch_namespaces, ["web", "shop"]);
        assert_eq!(config.actions, [ActionKind::Scale]);
        assert_eq!(config.protected_roles, ["postgres", "it's"]);
        assert!(!config.policy_metrics);
        assert_eq!((config.lease.name.as_str(), config.lease.duration), ("mine", Duration::from_secs(30)));
        assert_eq!(config.lease.renew_deadline, Duration::from_secs(20));
        assert_eq!(config.lease.retry_period, Duration::from_millis(500));
        mounted(&all);
    });
}

/// What the file names is mounted there.
fn mounted(all: &[Value]) {
    for (kind, name) in [("Deployment", "latency-operator"), ("Job", "latency-operator-drain")] {
        let pod = &find(all, kind, name)["spec"]["template"]["spec"];
        let mount = &pod["containers"][0]["volumeMounts"][0];
        assert_eq!(mount["mountPath"], "/etc/latency-operator");
        assert_eq!(mount["readOnly"], true);
        let sources = &pod["volumes"][0]["projected"]["sources"];
        let item = |key: &str, path: &str| json!([{ "key": key, "path": path }]);
        let wanted = json!([
            {"configMap": {"name": "latency-operator", "items": item("config.yaml", "config.yaml")}},
            {"secret": {"name": "one", "items": item("a", "backends/default/token")}},
            {"secret": {"name": "two", "items": item("b", "backends/default/ca.crt")}},
            {"configMap": {"name": "three", "items": item("c", "backends/other/ca.crt")}},
        ]);
        assert_eq!(sources, &wanted, "{kind}");
    }
}

#[test]
fn what_is_left_out_is_the_operators_own_default() {
    run(async {
        let config = Config::parse(&file(&rendered(&json!({})).await)).expect("a configuration");
        // The chart brings the admission policy that this takes.
        let default = Config { secrets: SecretRule::AuthorChecked, ..Config::default() };
        assert_eq!(format!("{config:?}"), format!("{default:?}"));
    });
}

#[test]
fn another_configuration_means_other_pods_and_the_same_one_does_not() {
    run(async {
        let checksum = async |values: Value| {
            let all = rendered(&values).await;
            let deployment = find(&all, "Deployment", "latency-operator");
            deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
        };
        let before = checksum(json!({})).await;
        assert!(before.is_string());
        assert_eq!(before, checksum(json!({"replicas": 3})).await);
        assert_ne!(before, checksum(json!({"config": {"policyMetrics": false}})).await);
    });
}
