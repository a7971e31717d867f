//! The world: a control plane, a Prometheus, one database for all, and as many Deployments and policies as are asked for.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use lab::control_plane::pod_template;
use lab::{
    ControlPlane, ControlPlaneOptions, Crowd, Helm, OperatorOptions, Postgres, PostgresOptions, Prometheus,
    PrometheusOptions, Release, Session,
};
use latency_operator::api::LatencyPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};

/// As whom the operator talks to the API server, by a token of the chart's account: the audit log tells it apart by this.
pub(crate) const OPERATOR: &str = "system:serviceaccount:latency-operator:latency-operator";
/// As whom it talks to the database.
pub(crate) const USER: &str = "latency_operator";
/// As usual, and the operator's default: a test's second would be fifteen times the samples.
pub(crate) const SCRAPE: Duration = Duration::from_secs(15);
/// How often a policy looks where nothing else is said.
pub(crate) const INTERVAL: Duration = Duration::from_secs(15);

const ACCOUNT: &str = "latency-operator";
const PASSWORD: &str = "lab-password";
/// Policies are spread over so many namespaces.
const NAMESPACES: usize = 100;
/// Pods behind one scraped address.
const CROWD: usize = 500;
/// Objects that are created at one time.
const AT_ONCE: usize = 16;
/// Sessions of the application in the shared database: what is found out about it is not nothing.
const SESSIONS: usize = 20;
/// Ten thousand take minutes.
const LIMIT: Duration = Duration::from_secs(1800);

pub(crate) struct Fleet {
    pub(crate) session: Session,
    pub(crate) control_plane: ControlPlane,
    pub(crate) prometheus: Prometheus,
    pub(crate) postgres: Postgres,
    pub(crate) http: reqwest::Client,
    pub(crate) size: usize,
    client: Client,
    kubeconfig: PathBuf,
    crowds: Vec<Crowd>,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let options = ControlPlaneOptions {
            // As in earnest: each write waits for the disk.
            fsync: true,
            // Ten thousand Deployments within minutes; by itself it would take a quarter of an hour.
            controller_manager_args: vec![
                "--kube-api-qps=500".to_owned(),
                "--kube-api-burst=1000".to_owned(),
            ],
            ..ControlPlaneOptions::default()
        };
        let (control_plane, prometheus, postgres) = tokio::join!(
            ControlPlane::start(&session, options),
            Prometheus::start(
                &session,
                PrometheusOptions { scrape_interval: SCRAPE, ..PrometheusOptions::default() }
            ),
            Postgres::start(&session, PostgresOptions::default()),
        );
        let control_plane = control_plane.expect("a control plane");
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        kubectl(&control_plane, &["apply", "-f", crds.to_str().expect("a path")]).await;
        kubectl(&control_plane, &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
            .await;
        control_plane.namespace(ACCOUNT).await.expect("the operator's namespace");
        let helm = Helm::find_or_build(&session).await.expect("helm");
        control_plane.rights_of(&helm, &Release::new(json!({}))).await.expect("the chart's rights");
        let kubeconfig = control_plane.kubeconfig_with_token(ACCOUNT, ACCOUNT).await.expect("a kubeconfig");
        let postgres = postgres.expect("PostgreSQL");
        let roles = format!(
            "create role orders login password '{PASSWORD}'; create role {USER} login password '{PASSWORD}' in role pg_monitor, \
             pg_signal_backend"
        );
        postgres.execute("postgres", "create database orders").await.expect("a database");
        postgres.execute("orders", &roles).await.expect("roles");
        for _ in 0..SESSIONS {
            let session = postgres.connect("orders", PASSWORD, "orders").await.expect("a session");
            tokio::spawn(work(session));
        }
        Self {
            client: control_plane.client().await.expect("a client"),
            prometheus: prometheus.expect("Prometheus"),
            http: reqwest::Client::builder().no_proxy().build().expect("an HTTP client"),
            session,
            control_plane,
            postgres,
            kubeconfig,
            size: 0,
            crowds: Vec::new(),
        }
    }

    /// Adds what is missing to so many policies, each with a Deployment of its own, and waits until all is settled.
    pub(crate) async fn grow(&mut self, to: usize) {
        let begun = Instant::now();
        for number in self.size.min(NAMESPACES)..to.min(NAMESPACES) {
            self.control_plane.namespace(&namespace(number)).await.expect("a namespace");
            self.apply::<Secret>(number, self.secret()).await;
        }
        let new = self.size..to;
        let pods: Vec<_> = new.clone().map(|index| (namespace(index), pod(index))).collect();
        for pods in pods.chunks(CROWD) {
            let crowd = Crowd::start(pods.to_vec()).expect("an exporter");
            self.prometheus.add_target("web", &crowd.address(), &[]).expect("a target");
            self.crowds.push(crowd);
        }
        let fleet: &Self = self;
        let create = |index| async move {
            fleet.apply::<Deployment>(index, deployment(index)).await;
            fleet.apply::<LatencyPolicy>(index, policy(index)).await;
        };
        futures::stream::iter(new).map(create).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        self.size = to;
        eprintln!("{to}: created after {:.0?}", begun.elapsed());
        let settled = lab::until(LIMIT, async || (self.seen_by_controllers().await == to).then_some(()));
        settled.await.expect("the controllers have seen every Deployment");
        let scraped = lab::until(LIMIT, async || (self.scraped().await == to).then_some(()));
        scraped.await.expect("every Pod has been scraped");
        eprintln!("{to}: settled after {:.0?}", begun.elapsed());
    }

    async fn apply<K>(&self, index: usize, object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace(index));
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        api.patch(&name, &PatchParams::apply("team"), &Patch::Apply(object)).await.expect("applied");
    }

    /// One database, one user: the same credentials in every namespace.
    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "orders-db", "labels": {"latency-operator.dev/allowed": "true"}},
            "stringData": {
                "host": "127.0.0.1", "port": self.postgres.port().to_string(), "dbname": "orders", "user": USER,
                "password": PASSWORD,
            },
        })
    }

    /// How many Deployments the controllers have nothing to do for any more.
    async fn seen_by_controllers(&self) -> usize {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let all: Api<Deployment> = Api::all(self.client.clone());
        let Ok(listed) = all.list(&ListParams::default()).await else { return 0 };
        let seen = |one: &&Deployment| {
            let status = one.status.as_ref();
            status.and_then(|status| status.observed_generation) == one.metadata.generation
                && status.and_then(|status| status.conditions.as_ref()).is_some_and(|all| !all.is_empty())
        };
        listed.items.iter().filter(seen).count()
    }

    /// How many Pods Prometheus has scraped three times in a row.
    async fn scraped(&self) -> usize {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let histogram = "django_http_requests_latency_seconds_by_view_method_count";
        let query = format!("count(count_over_time({histogram}[{}s]) >= 3)", 4 * SCRAPE.as_secs());
        let samples = self.prometheus.query(&query).await.unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        samples.first().map_or(0, |sample| sample.value as usize)
    }

    pub(crate) fn options(&self) -> OperatorOptions {
        let config = format!(
            "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nbackends: [{{name: default, url: '{}'}}]\nlease: \
             {{namespace: {ACCOUNT}}}\n",
            self.prometheus.url()
        );
        // The release build, as benches are compiled, unless another one is to be compared with it.
        let binary = std::env::var_os("OPERATOR")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_latency-operator")), PathBuf::from);
        OperatorOptions::new(&binary, &self.kubeconfig, &config)
    }
}

/// Short statements, one after the other, for ever.
async fn work(mut session: PgConnection) {
    while session.execute("select pg_sleep(0.2)").await.is_ok() {}
}

async fn kubectl(control_plane: &ControlPlane, args: &[&str]) {
    let finished = control_plane.kubectl_run(args, "").await.expect("kubectl runs");
    assert!(finished.status.success(), "kubectl {args:?}: {}", finished.stderr);
}

fn namespace(index: usize) -> String {
    format!("team-{:02}", index % NAMESPACES)
}

/// Different everywhere: nobody profits from equal names.
fn name(index: usize) -> String {
    format!("web-{index:05}")
}

fn pod(index: usize) -> String {
    format!("{}-{:010x}-x{:04x}", name(index), 0x6d_4cf5_6db6_u64 ^ (index as u64 * 7919), index)
}

/// Without Pods: in calm times nobody looks at them, and ten thousand would only take the machine from what is measured. With an
/// annotation of the size that `kubectl apply` leaves.
fn deployment(index: usize) -> Value {
    let name = name(index);
    let mut template = pod_template(&name);
    template["spec"]["containers"][0]["env"] = (0..8)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": "as it is usual"}))
        .collect();
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template});
    let applied =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "labels": {"app": name},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()},
        },
        "spec": spec,
    })
}

/// The ten lines of `examples/plain/minimal.yaml`.
fn policy(index: usize) -> Value {
    let name = name(index);
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "metadata": {"name": name},
        "spec": {
            "targetRef": {"name": name},
            "dependencies": [{"name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {}}],
        },
    })
}
