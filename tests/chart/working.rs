//! The operator works with what the chart grants it, and with a token of the chart's account; in named namespaces with a Role
//! in each and next to nothing of the cluster.

use std::path::Path;

use lab::control_plane::AuditEvent;
use lab::{ControlPlaneOptions, Operator, OperatorOptions, Release};
use serde_json::{Value, json};

use crate::support::{Cluster, NAMESPACE, SOON, installed, run};

const NAMESPACES: [&str; 4] = ["anywhere", "named-one", "named-two", "named-not"];

/// A policy whose every sense asks for something: a probe, a database, a cache.
fn policy(namespace: &str) -> Value {
    let probe = json!({"serviceName": "orders-api", "port": "http", "path": "/", "timeout": "3s"});
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api", "namespace": namespace},
        "spec": {
            "mode": "Auto", "targetRef": {"name": "orders-api"},
            "evaluation": {"interval": "1s", "window": "5s", "noDataAfter": "1s"},
            "objectives": [{
                "name": "health", "type": "Latency", "latency": {"threshold": "300ms"},
                "source": {"type": "Probe", "probe": probe},
            }],
            "dependencies": [
                {"name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {"connectionsPerPod": 1}},
                {"name": "cache", "type": "Redis", "secretRef": {"name": "orders-redis"}, "redis": {}},
            ],
            "remediations": [{
                "name": "grow", "causes": ["WorkersSaturated"],
                "action": {"type": "Scale", "scale": {"maxReplicas": 4}},
            }],
        },
    })
}

async fn prepare(cluster: &Cluster, namespace: &str) {
    cluster.plane.deployment(namespace, "orders-api", 1).await.expect("a Deployment");
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-api", "namespace": namespace},
            "spec": {"selector": {"app": "orders-api"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await;
    cluster.apply(&policy(namespace)).await;
}

/// Waits until people have been told that nothing of what the policy needs can be read: all of it has been asked for by then.
async fn until_told(cluster: &Cluster, operator: &Operator, namespace: &str) {
    let args = ["get", "events", "-n", namespace, "-o", "jsonpath={.items[*].message}"];
    let told = async || {
        let said = cluster.kubectl(&args, "").await;
        let all = ["health is not known", "db cannot be read", "cache cannot be read"];
        all.iter().all(|word| said.contains(word)).then_some(())
    };
    let found = lab::until(SOON, told).await;
    found.unwrap_or_else(|| panic!("it never told all that is missing\n{}", operator.log_text()));
}

fn refused(events: &[AuditEvent]) -> Vec<String> {
    let refused = events.iter().filter(|event| event.code() == 403);
    refused.map(|event| format!("{} {}", event.verb, event.request_uri)).collect()
}

fn config(namespaces: &str, name: &str) -> String {
    format!(
        "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nwatchNamespaces: {namespaces}\nlease: {}\n",
        lab::operator::lease("latency-operator", name)
    )
}

/// Nobody listens where it is sent in the place of the Pods, whose addresses may be somebody's outside of the laboratory.
async fn operator(cluster: &Cluster, config: &str, account: &str) -> Operator {
    let kubeconfig = cluster.plane.kubeconfig_with_token(NAMESPACE, account).await.expect("a kubeconfig");
    let binary = Path::new(env!("CARGO_BIN_EXE_latency-operator"));
    let port = cluster.session.free_port().expect("a port");
    let options = OperatorOptions::new(binary, &kubeconfig, config).arg("--log-format=text");
    let options = NAMESPACES.iter().fold(options, |options, namespace| {
        options.arg(format!("--dev-service-override={namespace}/orders-api:http=127.0.0.1:{port}"))
    });
    Operator::start(&cluster.session, options).await.expect("an operator")
}

#[test]
fn in_named_namespaces_a_role_in_each_is_enough() {
    run(async {
        // A cluster of its own: where a release looks after all namespaces, another one may write nothing.
        let cluster = &Cluster::empty().await;
        for namespace in &NAMESPACES[1..] {
            cluster.plane.namespace(namespace).await.expect("a namespace");
        }
        let values = json!({
            "fullnameOverride": "named", "config": {"watchNamespaces": ["named-one", "named-two"]},
        });
        let release = Release::new(values).named("named", NAMESPACE);
        let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
        done.success("installing").expect("it is installed");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        for namespace in &NAMESPACES[1..] {
            prepare(cluster, namespace).await;
        }
        let operator = operator(cluster, &config("[named-one, named-two]", "named"), "named").await;
        for namespace in ["named-one", "named-two"] {
            until_told(cluster, &operator, namespace).await;
        }
        let account = "system:serviceaccount:latency-operator:named";
        let events = cluster.plane.audit_of(account).expect("the audit log");
        assert_eq!(refused(&events), Vec::<String>::new());
        for (resource, verb) in [
            ("remediationbudgets", "watch"),
            ("namespaces", "watch"),
            ("deployments", "watch"),
            ("services", "get"),
            ("endpointslices", "list"),
            ("pods", "list"),
            ("secrets", "get"),
            ("events", "create"),
            ("leases", "create"),
        ] {
            let asked = events.iter().any(|event| event.is_for(resource, "") && event.verb == verb);
            assert!(asked, "it never asked to {verb} {resource}");
        }
        let elsewhere = events
            .iter()
            .filter(|event| event.object_ref.as_ref().is_some_and(|object| object.namespace == "named-not"));
        assert_eq!(elsewhere.count(), 0);
        may_not(cluster, account).await;
    });
}

/// What is nobody's business there.
async fn may_not(cluster: &Cluster, account: &str) {
    for (verb, what, place) in [
        ("get", "secrets", "named-not"),
        ("list", "latencypolicies.latency-operator.dev", "named-not"),
        ("list", "secrets", "named-one"),
        ("update", "deployments.apps", "named-one"),
        ("update", "latencypolicies.latency-operator.dev", "named-one"),
        ("get", "namespaces/named-not", "default"),
        ("get", "leases.coordination.k8s.io/another", "latency-operator"),
        ("get", "secrets", "latency-operator"),
    ] {
        let who = format!("--as={account}");
        let args = ["auth", "can-i", verb, what, "-n", place, &who];
        let answer = cluster.plane.kubectl_run(&args, "").await.expect("kubectl runs");
        assert_eq!(answer.stdout.trim(), "no", "{account} may {verb} {what} in {place}");
    }
}

#[test]
fn in_the_whole_cluster_the_installed_account_is_enough() {
    run(async {
        let cluster = installed().await;
        cluster.plane.namespace("anywhere").await.expect("a namespace");
        prepare(cluster, "anywhere").await;
        let operator = operator(cluster, &config("[]", "latency-operator"), "latency-operator").await;
        until_told(cluster, &operator, "anywhere").await;
        let account = "system:serviceaccount:latency-operator:latency-operator";
        let events = cluster.plane.audit_of(account).expect("the audit log");
        // Another test asks for what it may not, in a namespace of its own.
        let ours: Vec<AuditEvent> =
            events.into_iter().filter(|event| event.user_agent.starts_with("latency-operator/")).collect();
        assert!(ours.len() > 10);
        assert_eq!(refused(&ours), Vec::<String>::new());
    });
}

#[test]
fn an_incident_goes_with_its_policy_where_the_api_server_asks_who_may_say_so() {
    run(async {
        // As some distributions are set up.
        let plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned();
        let options = ControlPlaneOptions { api_server_args: vec![plugin], ..Default::default() };
        let cluster = Cluster::with(options).await;
        let installed = cluster.helm.install(&cluster.plane, &Release::new(json!({}))).await;
        installed.expect("helm runs").success("installing").expect("it is installed");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        cluster.plane.namespace("shop").await.expect("a namespace");
        cluster.apply(&policy("shop")).await;
        let uid = cluster
            .kubectl(&["get", "lp", "orders-api", "-n", "shop", "-o", "jsonpath={.metadata.uid}"], "")
            .await;
        let incident = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyIncident",
            "metadata": {"name": "orders-api-1", "namespace": "shop", "ownerReferences": [{
                "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "name": "orders-api",
                "uid": uid, "controller": true, "blockOwnerDeletion": true,
            }]},
            "spec": {
                "policyRef": {"name": "orders-api", "uid": uid}, "ordinal": 1,
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
                "firstBreachedAt": "2026-11-26T21:00:00Z", "openedAt": "2026-11-26T21:00:30Z",
            },
        });
        let account = cluster.plane.kubeconfig_with_token(NAMESPACE, NAMESPACE).await.expect("a kubeconfig");
        let args = ["create", "-f", "-", "--dry-run=server"];
        let said = cluster.kubectl_as(&account, &args, &incident.to_string()).await;
        assert!(said.is_ok(), "{said:?}");
    });
}
