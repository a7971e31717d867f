//! The real API server takes everything that is rendered; a release is installed, upgraded, removed and installed again, and
//! what people wrote survives that.

use lab::Release;
use serde_json::{Value, json};

use crate::support::{Cluster, NAMESPACE, installed, matrix, rendered, run};

/// Kinds of the Prometheus operator, which is not there.
fn is_foreign(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
}

#[test]
fn the_api_server_takes_every_object_of_every_set_of_values() {
    run(async {
        let cluster = installed().await;
        for (name, values) in matrix() {
            let all = rendered(&values).await;
            let known: Vec<Value> = all.into_iter().filter(|object| !is_foreign(object)).collect();
            assert!(known.len() > 1, "{name}");
            let list = json!({"apiVersion": "v1", "kind": "List", "items": known}).to_string();
            let args = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                "-",
            ];
            let said = cluster.kubectl_as(cluster.plane.kubeconfig(), &args, &list).await;
            assert!(said.is_ok(), "{name}: {said:?}");
        }
    });
}

#[test]
fn what_the_prometheus_operator_takes_has_its_shape() {
    run(async {
        let (_, values) = matrix().into_iter().find(|(name, _)| *name == "monitored").expect("the values");
        let all = rendered(&values).await;
        let foreign: Vec<&Value> = all.iter().filter(|object| is_foreign(object)).collect();
        assert_eq!(foreign.len(), 2);
        for object in &foreign {
            assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
            assert_eq!(object["metadata"]["namespace"], NAMESPACE);
            assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
        }
        let rule = foreign.iter().find(|object| object["kind"] == "PrometheusRule").expect("rules");
        let groups = rule["spec"]["groups"].as_array().expect("groups");
        let alerts: usize = groups.iter().map(|group| group["rules"].as_array().expect("rules").len()).sum();
        assert!(alerts >= 10, "{alerts}");
        let monitor = foreign.iter().find(|object| object["kind"] == "ServiceMonitor").expect("a monitor");
        assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "15s");
        let map =
            all.iter().find(|object| object["metadata"]["name"] == "latency-operator-dashboard").expect("it");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "APIs");
        let text = map["data"]["latency-operator.json"].as_str().expect("a dashboard");
        let dashboard: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(dashboard["uid"], "latency-operator");
    });
}

async fn get(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    cluster.kubectl_as(cluster.plane.kubeconfig(), &[&["get"], args].concat(), "").await
}

#[test]
fn a_release_comes_changes_goes_and_comes_back() {
    run(async {
        let cluster = Cluster::empty().await;
        let release = Release::new(json!({}));
        let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
        let told = done.success("installing").expect("it is installed").stdout;
        assert!(told.contains("Then guard an API"), "{told}");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        cluster.plane.namespace("shop").await.expect("a namespace");
        cluster
            .apply(&json!({
                "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
                "metadata": {"name": "orders-api", "namespace": "shop"}, "spec": {"targetRef": {"name": "orders-api"}},
            }))
            .await;

        let changed = Release::new(json!({"config": {"actions": ["CancelQuery"]}}));
        let done = cluster.helm.upgrade(&cluster.plane, &changed).await.expect("helm runs");
        done.success("upgrading").expect("it is upgraded");
        let role = get(&cluster, &["clusterrole", "latency-operator", "-o", "json"]).await.expect("the role");
        assert!(!role.contains("deployments/scale"), "the rights are those of the actions: {role}");

        // No Node runs the drain here.
        let done =
            cluster.helm.uninstall(&cluster.plane, &release, &["--no-hooks"]).await.expect("helm runs");
        done.success("uninstalling").expect("it is gone");
        let left =
            get(&cluster, &["clusterrole,clusterrolebinding,validatingadmissionpolicy", "-o", "name"]).await;
        assert!(!left.expect("a list").contains("latency-operator"), "something of the cluster is left");
        get(&cluster, &["lp", "-n", "shop", "orders-api"]).await.expect("the policy has stayed");

        let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
        done.success("installing again").expect("it takes over the definitions that stayed");
        get(&cluster, &["lp", "-n", "shop", "orders-api"]).await.expect("the policy has stayed");
    });
}
