//! What the tests share: one control plane with the chart installed in it, and helm.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Api;
use lab::{ControlPlane, ControlPlaneOptions, Helm, Release, Session};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const NAMESPACE: &str = "latency-operator";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"));
static HELM: OnceCell<Helm> = OnceCell::const_new();
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// Runs a test on the runtime that all tests and the control plane live on.
pub(crate) fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// A control plane, and helm.
pub(crate) struct Cluster {
    pub(crate) session: Session,
    pub(crate) plane: ControlPlane,
    pub(crate) helm: Helm,
}

impl Cluster {
    /// One with nothing in it but the namespace of the release.
    pub(crate) async fn empty() -> Self {
        Self::with(ControlPlaneOptions::default()).await
    }

    /// The same with an API server of its own kind.
    pub(crate) async fn with(options: ControlPlaneOptions) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let plane = ControlPlane::start(&session, options).await;
        let plane = plane.expect("a control plane");
        plane.namespace(NAMESPACE).await.expect("the operator's namespace");
        let helm = Helm::find_or_build(&session).await.expect("helm");
        Self { session, plane, helm }
    }

    /// Runs kubectl and returns what it prints; it must succeed.
    pub(crate) async fn kubectl(&self, args: &[&str], input: &str) -> String {
        let finished = self.plane.kubectl_run(args, input).await.expect("kubectl runs");
        assert!(finished.status.success(), "kubectl {args:?}: {}", finished.stderr);
        finished.stdout
    }

    /// Runs kubectl as somebody: what it prints, or what it complains of.
    pub(crate) async fn kubectl_as(&self, who: &Path, args: &[&str], input: &str) -> Result<String, String> {
        let finished = self.plane.kubectl_run_as(who, args, input).await.expect("kubectl runs");
        if finished.status.success() { Ok(finished.stdout) } else { Err(finished.stderr) }
    }

    /// Applies an object as the administrator.
    pub(crate) async fn apply(&self, object: &Value) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string()).await;
    }

    /// Somebody with these rules in a namespace.
    pub(crate) async fn person(&self, namespace: &str, name: &str, rules: Value) -> PathBuf {
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": namespace}, "rules": rules,
        }))
        .await;
        let user = format!("--user={name}");
        let role = format!("--role={name}");
        self.kubectl(&["create", "rolebinding", name, "-n", namespace, &role, &user], "").await;
        self.plane.kubeconfig_for(name, &[]).expect("a kubeconfig")
    }

    /// What the API server's type checker says of an admission policy, once it has looked.
    async fn warnings(&self, name: &str) -> Vec<String> {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.plane.client().await.expect("a client"));
        let looked = async || {
            let policy = policies.get(name).await.expect("the policy");
            let status = policy.status?;
            (status.observed_generation == policy.metadata.generation).then_some(status)
        };
        let status = lab::until(SOON, looked).await.expect("the expressions never were checked");
        let warnings =
            status.type_checking.and_then(|checked| checked.expression_warnings).unwrap_or_default();
        warnings.into_iter().map(|warning| format!("{}: {}", warning.field_ref, warning.warning)).collect()
    }

    /// The cluster's checker has nothing to say of the types in a policy's expressions, although it tells of a wrong one beside it.
    ///
    /// It looks once at each, and neither waits for definitions that it has not heard of yet nor knows its own types at every
    /// moment: copies, which are bound to nothing, are shown to it until it does.
    pub(crate) async fn types_are_right(
        &self,
        right: &Value,
        wrong: &Value,
        told: impl Fn(&[String]) -> bool,
    ) {
        let (mut number, mut last) = (0, (Vec::new(), Vec::new()));
        let looked = async || {
            number += 1;
            let mut of = [Vec::new(), Vec::new()];
            for (name, (policy, said)) in
                ["right", "wrong"].into_iter().zip([right, wrong].into_iter().zip(&mut of))
            {
                let name =
                    format!("{name}-{number}-{}", policy["metadata"]["name"].as_str().expect("a name"));
                let mut copy = policy.clone();
                copy["metadata"] = json!({"name": name});
                self.apply(&copy).await;
                *said = self.warnings(&name).await;
            }
            let [of_right, of_wrong] = of;
            let well = of_right.iter().all(|warning| is_the_checkers_own(warning)) && told(&of_wrong);
            last = (of_right, of_wrong);
            well.then_some(())
        };
        assert!(lab::until(SOON, looked).await.is_some(), "of the right one, and of the wrong one: {last:?}");
    }
}

/// Whether nothing is wrong but that the checker of Kubernetes 1.35 cannot find the type of `authorizer`, which the API server itself
/// knows: other tests have it asked.
fn is_the_checkers_own(warning: &str) -> bool {
    const OWN: &str = "unexpected failed resolution of 'kubernetes.authorization.Authorizer'";
    warning.contains(OWN)
        && warning.lines().filter(|line| line.contains("ERROR:")).all(|line| line.contains(OWN))
}

/// The control plane that has the chart installed with its own values.
pub(crate) async fn installed() -> &'static Cluster {
    CLUSTER
        .get_or_init(async || {
            let cluster = Cluster::empty().await;
            let release = Release::new(json!({}));
            let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
            done.success("installing the chart").expect("it is installed");
            let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"];
            cluster.kubectl(&established, "").await;
            cluster
        })
        .await
}

/// helm, for what needs no cluster.
pub(crate) async fn helm() -> &'static Helm {
    HELM.get_or_init(async || {
        let session = Session::start().await.expect("a session");
        Helm::find_or_build(&session).await.expect("helm")
    })
    .await
}

/// The objects that the release `latency-operator` consists of with these values.
pub(crate) async fn rendered(values: &Value) -> Vec<Value> {
    objects(&text(values).await)
}

/// The same as text.
pub(crate) async fn text(values: &Value) -> String {
    let done = helm().await.template(&Release::new(values.clone()), &[]).await.expect("helm runs");
    done.success("rendering").unwrap_or_else(|error| panic!("{values}: {error}")).stdout
}

/// What helm says when it refuses these values.
pub(crate) async fn refused(values: &Value) -> String {
    let done = helm().await.template(&Release::new(values.clone()), &[]).await.expect("helm runs");
    assert!(!done.status.success(), "{values} was accepted");
    done.stderr
}

/// The documents of a YAML text.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// The object of that kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// Sets of values that differ in what they render, each with a name.
pub(crate) fn matrix() -> Vec<(&'static str, Value)> {
    let backend = json!({
        "name": "default", "url": "https://prometheus.monitoring:9090", "scrapeInterval": "30s", "timeout": "2s",
        "namespaceLabel": "ns", "podLabel": "po", "edgeNamespaceLabel": "exported_namespace",
        "bearerTokenSecret": {"name": "prometheus", "key": "token"}, "caSecret": {"name": "prometheus", "key": "ca.crt"},
        "headers": {"X-Scope-OrgID": "shop"},
    });
    let other = json!({
        "name": "other", "url": "http://thanos:9090", "caConfigMap": {"name": "trust", "key": "bundle.pem"},
        "bearerTokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token",
    });
    vec![
        ("defaults", json!({})),
        ("backends", json!({"config": {"backends": [backend, other]}})),
        ("namespaces", json!({"config": {"watchNamespaces": ["default", "kube-public"]}})),
        ("nothing acts", json!({"config": {"actions": []}})),
        ("labelled", json!({"config": {"secrets": "Labelled"}, "authorRights": {"enabled": false}})),
        (
            "monitored",
            json!({
                "serviceMonitor": {"enabled": true, "interval": "15s", "labels": {"release": "prometheus"}},
                "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"}},
                "dashboard": {"enabled": true, "annotations": {"grafana_folder": "APIs"}},
            }),
        ),
        (
            "guarded",
            json!({
                "networkPolicy": {
                    "enabled": true,
                    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                    "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
                },
            }),
        ),
        (
            "placed",
            json!({
                "replicas": 3, "priorityClassName": "system-cluster-critical", "nodeSelector": {"pool": "system"},
                "tolerations": [{"key": "system", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}],
                }}},
                "topologySpreadConstraints": [{
                    "topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
                }],
                "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "commonLabels": {"team": "web"},
                "imagePullSecrets": [{"name": "pull"}],
                "image": {
                    "registry": "registry.invalid:5000", "digest": format!("sha256:{}", "0".repeat(64)),
                    "pullPolicy": "Always",
                },
            }),
        ),
        (
            "the least",
            json!({
                "crds": {"install": false}, "drain": {"enabled": false}, "podDisruptionBudget": {"enabled": false},
                "service": {"enabled": false}, "rbac": {"create": false, "aggregate": false},
                "serviceAccount": {"create": false, "name": "mine"}, "fullnameOverride": "healer",
            }),
        ),
    ]
}
