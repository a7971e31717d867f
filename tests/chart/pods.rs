//! The Pods fit the Pod Security standard `restricted`, by the API server's own word.

use serde_json::{Value, json};

use crate::support::{Cluster, find, installed, matrix, rendered, run};

/// The Pods of the release with these values: the operator's, and the drain's.
async fn pods(values: &Value) -> Vec<Value> {
    let all = rendered(values).await;
    let templates = all.iter().filter(|object| object["spec"]["template"]["spec"]["containers"].is_array());
    templates.map(|object| object["spec"]["template"].clone()).collect()
}

/// What the API server says of such a Pod in a namespace that is restricted.
async fn said(cluster: &Cluster, namespace: &str, template: &Value) -> Result<String, String> {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}});
    pod["spec"] = template["spec"].clone();
    // Of the Deployment: a Pod of its own has no hash.
    drop(pod["spec"].as_object_mut().expect("a spec").remove("topologySpreadConstraints"));
    let args = ["create", "-n", namespace, "--dry-run=server", "-f", "-"];
    cluster.kubectl_as(cluster.plane.kubeconfig(), &args, &pod.to_string()).await
}

#[test]
fn all_pods_are_restricted() {
    run(async {
        let cluster = installed().await;
        cluster.plane.namespace("restricted").await.expect("a namespace");
        let label = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", "restricted", label], "").await;
        for account in ["latency-operator", "mine"] {
            cluster.kubectl(&["create", "serviceaccount", account, "-n", "restricted"], "").await;
        }
        for (name, mut values) in matrix() {
            // Of another namespace than that which may have it.
            if let Some(values) = values.as_object_mut() {
                drop(values.remove("priorityClassName"));
            }
            let pods = pods(&values).await;
            assert!(!pods.is_empty(), "{name}");
            for pod in pods {
                let answer = said(cluster, "restricted", &pod).await;
                assert!(answer.is_ok(), "{name}: {answer:?}");
            }
        }
        // The API server does look: each of these is refused.
        let good = pods(&json!({})).await.remove(0);
        for (place, value) in [
            ("/spec/securityContext/runAsNonRoot", json!(false)),
            ("/spec/securityContext/seccompProfile/type", json!("Unconfined")),
            ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
            ("/spec/containers/0/securityContext/capabilities", json!({})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not set")) = value;
            let answer = said(cluster, "restricted", &bad).await.expect_err("it was accepted");
            assert!(answer.contains("violates PodSecurity"), "{place}: {answer}");
        }
    });
}

#[test]
fn what_the_standard_does_not_ask_for_is_there_too() {
    run(async {
        let all = rendered(&json!({})).await;
        for pod in pods(&json!({})).await {
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            // What `run` and `drain` finish takes 20 s, giving the Lease back its renewDeadline.
            assert!(
                pod["spec"]["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds >= 35)
            );
            // The image has no file of users: a name could not be resolved.
            assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 65_532);
            assert_eq!(pod["spec"]["securityContext"]["runAsGroup"], 65_532);
            let resources = &container["resources"];
            assert_eq!(resources["requests"]["memory"], resources["limits"]["memory"]);
            assert_eq!(resources["limits"].get("cpu"), None, "a throttled leader misses its Lease");
            assert!(container.get("command").is_none(), "the image's own entry point");
        }
        let operator = &find(&all, "Deployment", "latency-operator")["spec"];
        assert_eq!(operator["replicas"], 2);
        let pod = &operator["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["image"], format!("latency-operator:{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(container["args"][0], "run");
        assert_eq!(container["args"][1], "--config=/etc/latency-operator/config.yaml");
        assert_eq!(container["ports"][0]["containerPort"], 8080);
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "metrics"}));
        }
        let keys: Vec<&Value> = pod["topologySpreadConstraints"]
            .as_array()
            .expect("constraints")
            .iter()
            .map(|constraint| &constraint["topologyKey"])
            .collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
        let job = find(&all, "Job", "latency-operator-drain");
        let hook = json!({
            "helm.sh/hook": "pre-delete", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        });
        assert_eq!(job["metadata"]["annotations"], hook);
        let drain = &job["spec"];
        let args = &drain["template"]["spec"]["containers"][0]["args"];
        assert_eq!(args, &json!(["drain", "--config=/etc/latency-operator/config.yaml", "--within=2m"]));
        assert_eq!(drain["activeDeadlineSeconds"], 180);
    });
}

#[test]
fn who_is_selected_are_the_replicas_and_not_the_drain() {
    run(async {
        let values = json!({"networkPolicy": {"enabled": true}, "serviceMonitor": {"enabled": true}});
        let all = rendered(&values).await;
        let labels =
            |kind: &str, name: &str| find(&all, kind, name)["spec"]["template"]["metadata"]["labels"].clone();
        let (operator, drain) =
            (labels("Deployment", "latency-operator"), labels("Job", "latency-operator-drain"));
        let selects = |selector: &Value, labels: &Value| {
            let wanted = selector.as_object().expect("a selector");
            assert!(!wanted.is_empty());
            wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
        };
        for (kind, place) in [
            ("Deployment", "/spec/selector/matchLabels"),
            ("Service", "/spec/selector"),
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ] {
            let selector = find(&all, kind, "latency-operator").pointer(place).expect("a selector");
            assert!(selects(selector, &operator), "{kind} does not select the replicas");
            assert!(!selects(selector, &drain), "{kind} selects the drain");
        }
        let policy = &find(&all, "NetworkPolicy", "latency-operator")["spec"];
        let selector = &policy["podSelector"]["matchLabels"];
        assert!(selects(selector, &operator) && selects(selector, &drain));
        assert_eq!(policy["policyTypes"], json!(["Ingress"]), "egress is nobody's guess");
        let monitor = &find(&all, "ServiceMonitor", "latency-operator")["spec"];
        let service = &find(&all, "Service", "latency-operator");
        assert!(selects(&monitor["selector"]["matchLabels"], &service["metadata"]["labels"]));
        assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
        assert_eq!(monitor["endpoints"][0]["honorLabels"], true);
        assert_eq!(monitor["namespaceSelector"]["matchNames"], json!(["latency-operator"]));
    });
}
