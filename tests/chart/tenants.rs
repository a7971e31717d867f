//! A tenant who administers one namespace, and reaches no other through a policy: each way is tried.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Cluster, SOON, installed, run};

const MINE: &str = "tenant";
const THEIRS: &str = "neighbour";

/// Someone with the cluster's own role `admin` in their namespace, and nothing elsewhere.
struct Tenant {
    cluster: &'static Cluster,
    who: PathBuf,
}

impl Tenant {
    async fn new() -> Self {
        let cluster = installed().await;
        for namespace in [MINE, THEIRS] {
            cluster.plane.namespace(namespace).await.expect("a namespace");
            cluster.plane.deployment(namespace, "orders-api", 1).await.expect("a Deployment");
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "orders-db", "namespace": namespace},
                "stringData": {"uri": "postgres://orders:secret@db/orders"},
            });
            cluster.apply(&secret).await;
        }
        let binding = ["create", "rolebinding", "tenant", "-n", MINE, "--clusterrole=admin", "--user=tenant"];
        cluster.kubectl(&binding, "").await;
        let who = cluster.plane.kubeconfig_for("tenant", &[]).expect("a kubeconfig");
        let tenant = Self { cluster, who };
        // What is aggregated to `admin` comes after a moment, and so does the admission policy.
        let accepted = async || tenant.tries(MINE, &policy(|_| ())).await.ok();
        lab::until(SOON, accepted).await.expect("the tenant's own policy never was accepted");
        tenant
    }

    async fn tries(&self, namespace: &str, object: &Value) -> Result<String, String> {
        let args = ["create", "-n", namespace, "--dry-run=server", "-f", "-"];
        self.cluster.kubectl_as(&self.who, &args, &object.to_string()).await
    }

    /// It must be refused, with these words.
    async fn must_not(&self, namespace: &str, object: &Value, words: &str) {
        let said = self.tries(namespace, object).await.expect_err("it was accepted");
        assert!(said.contains(words), "{words} is not in: {said}\n{object:#}");
    }
}

fn policy(change: impl FnOnce(&mut Value)) -> Value {
    let mut policy = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "metadata": {"name": "orders-api"},
        "spec": {
            "mode": "Auto",
            "targetRef": {"name": "orders-api"},
            "dependencies": [{"name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {}}],
        },
    });
    change(&mut policy["spec"]);
    policy
}

#[test]
fn a_tenant_reaches_no_other_namespace_through_a_policy() {
    run(async {
        let tenant = Tenant::new().await;
        let elsewhere = |path: &str| format!("unknown field \"{path}\"");

        // Another's Secret.
        let secret = |reference: Value| policy(|spec| spec["dependencies"][0]["secretRef"] = reference);
        let named = secret(json!({"name": "orders-db", "namespace": THEIRS}));
        tenant.must_not(MINE, &named, &elsewhere("spec.dependencies[0].secretRef.namespace")).await;
        let path = secret(json!({"name": format!("{THEIRS}/orders-db")}));
        tenant.must_not(MINE, &path, "spec.dependencies[0].secretRef.name").await;

        // Another's Deployment.
        let target = |reference: Value| policy(|spec| spec["targetRef"] = reference);
        let named = target(json!({"name": "orders-api", "namespace": THEIRS}));
        tenant.must_not(MINE, &named, &elsewhere("spec.targetRef.namespace")).await;
        let path = target(json!({"name": format!("{THEIRS}/orders-api")}));
        tenant.must_not(MINE, &path, "spec.targetRef.name").await;

        // Another's Service.
        let probe = |service: &str| {
            policy(|spec| {
                spec["objectives"] = json!([{
                    "name": "health", "type": "Latency", "latency": {"threshold": "300ms"},
                    "source": {"type": "Probe", "probe": {"serviceName": service, "port": "http", "path": "/"}},
                }]);
            })
        };
        tenant.tries(MINE, &probe("orders-api")).await.expect("their own is accepted");
        for service in [format!("orders-api.{THEIRS}"), format!("{THEIRS}/orders-api"), "10.0.0.1".to_owned()]
        {
            tenant.must_not(MINE, &probe(&service), "spec.objectives[0].source.probe.service").await;
        }

        // A policy of another namespace, a ceiling of the cluster, the operator's own ledger.
        tenant.must_not(THEIRS, &policy(|_| ()), "cannot create resource \"latencypolicies\"").await;
        let budget = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
            "metadata": {"name": "mine"}, "spec": {"maxActionsPerHour": 1000},
        });
        tenant.must_not(MINE, &budget, "cannot create resource \"remediationbudgets\"").await;
        let remediation = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation",
            "metadata": {"name": "mine"}, "spec": {},
        });
        tenant.must_not(MINE, &remediation, "latencyremediations").await;
    });
}
