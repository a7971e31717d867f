//! What the tests share: one cluster with a database, a metrics backend, and an API that is slow when its database is.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lab::exporter::ExporterOptions;
use lab::forward::Forward;
use lab::packages::{POSTGRESQL, PROMETHEUS, Programs};
use lab::{
    Cluster, ClusterOptions, Exporter, Postgres, PostgresOptions, Prometheus, PrometheusOptions, Session,
    Traffic,
};
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Names the image of an earlier build: upgrades begin with it.
pub(crate) const PREVIOUS: &str = "LATENCY_OPERATOR_PREVIOUS_IMAGE";
/// The tag that the earlier build has in the cluster.
pub(crate) const PREVIOUS_TAG: &str = "previous";
/// Names another image than the one that `make image` builds.
pub(crate) const IMAGE: &str = "LATENCY_OPERATOR_IMAGE";
/// The database of the documents.
pub(crate) const DATABASE: &str = "orders";
/// Another one of the same server: an act rests for as long as its policy said, whatever a later policy says.
pub(crate) const RESTED: &str = "rested";
pub(crate) const PASSWORD: &str = "lab-password";
/// Long enough for a busy machine; what a test waits for takes a fraction of it.
pub(crate) const SOON: Duration = Duration::from_secs(90);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"));
static WORLD: OnceCell<World> = OnceCell::const_new();

/// The argument by which kubectl waits for so many seconds, as they are on this machine.
pub(crate) fn deadline(seconds: u64) -> String {
    format!("--timeout={}s", lab::patience(Duration::from_secs(seconds)).as_secs())
}

/// Runs a test on the runtime that the shared cluster lives on.
pub(crate) fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Outside: what is needed inside is found, built or downloaded.
pub(crate) fn prepare() {
    RUNTIME.block_on(async {
        let session = Session::start().await.expect("a session");
        lab::node::prepare(&session).await.expect("the programs of a node");
        for package in [&POSTGRESQL, &PROMETHEUS] {
            Programs::find(&session, package).await.expect("a package");
        }
    });
}

/// The cluster and what is around it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) postgres: Postgres,
    pub(crate) prometheus: Prometheus,
    pub(crate) exporter: Arc<Exporter>,
    _forwards: [Forward; 2],
}

pub(crate) async fn world() -> &'static World {
    WORLD.get_or_init(World::start).await
}

impl World {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let session = Session::start().await.expect("a session");
        let (cluster, postgres, prometheus) = tokio::join!(
            Cluster::start(&session, ClusterOptions { nodes: 2, ..Default::default() }),
            Postgres::start(&session, PostgresOptions::default()),
            Prometheus::start(&session, PrometheusOptions::default()),
        );
        let cluster = cluster.expect("a cluster");
        let (postgres, prometheus) = (postgres.expect("PostgreSQL"), prometheus.expect("Prometheus"));
        let exporter = Arc::new(Exporter::start(ExporterOptions::default()).expect("an exporter"));
        exporter.set(calm());
        let image = std::env::var_os(IMAGE).map_or_else(built, PathBuf::from);
        cluster.import(&image).await.expect("the image");
        // Where there is none of an earlier build, the same program counts as one.
        let previous = std::env::var_os(PREVIOUS).map_or(image, PathBuf::from);
        let renamed = session.folder().join("previous.tar");
        lab::image::rename(&previous, &format!("latency-operator:{PREVIOUS_TAG}"), &renamed)
            .expect("an archive");
        cluster.import(&renamed).await.expect("the earlier image");
        for namespace in ["monitoring", "shop"] {
            cluster.plane().namespace(namespace).await.expect("a namespace");
        }
        let metrics =
            cluster.publish(("monitoring", "prometheus"), 9090, prometheus.port()).await.expect("a Service");
        let database =
            cluster.publish(("shop", "orders-db-rw"), 5432, postgres.port()).await.expect("a Service");
        let world = Self { cluster, postgres, prometheus, exporter, _forwards: [database, metrics] };
        world.database().await;
        world.target().await;
        world
    }

    /// A database as CloudNativePG makes it: one owner, who may not look at the sessions of others.
    async fn database(&self) {
        let roles = format!(
            "create role orders login password '{PASSWORD}'; create role reporting login password '{PASSWORD}'"
        );
        self.postgres.execute("postgres", &roles).await.expect("roles");
        for name in [DATABASE, RESTED] {
            let create = format!("create database {name} owner orders");
            self.postgres.execute("postgres", &create).await.expect("a database");
            self.database_secret(name).await;
        }
    }

    async fn database_secret(&self, name: &str) {
        // As its operator writes it, without any label of ours.
        let text = |host: &str| format!("postgresql://orders:{PASSWORD}@{host}:5432/{name}");
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": {
                "name": format!("{name}-db-app"), "namespace": "shop",
                "labels": {"cnpg.io/cluster": "orders-db", "cnpg.io/reload": "true"},
            },
            "stringData": {
                "username": "orders", "user": "orders", "password": PASSWORD, "dbname": name,
                "host": "orders-db-rw", "port": "5432",
                "uri": text("orders-db-rw.shop"),
                "fqdn-uri": text("orders-db-rw.shop.svc.cluster.local"),
                "jdbc-uri": format!("jdbc:postgresql://orders-db-rw.shop:5432/{name}?password={PASSWORD}&user=orders"),
                "fqdn-jdbc-uri":
                    format!("jdbc:postgresql://orders-db-rw.shop.svc.cluster.local:5432/{name}?password={PASSWORD}&user=orders"),
                "pgpass": format!("orders-db-rw:5432:{name}:orders:{PASSWORD}\n"),
            },
        }))
        .await;
    }

    /// Two real Pods that answer requests: this machine's own Python in an empty image.
    async fn target(&self) {
        let folders =
            ["usr", "lib", "lib64", "bin"].into_iter().filter(|folder| Path::new("/").join(folder).exists());
        let folders: Vec<&str> = folders.collect();
        let volumes: Vec<Value> = folders
            .iter()
            .map(|folder| json!({"name": folder, "hostPath": {"path": format!("/{folder}")}}))
            .collect();
        let mounts: Vec<Value> = folders
            .iter()
            .map(|folder| json!({"name": folder, "mountPath": format!("/{folder}"), "readOnly": true}))
            .collect();
        self.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "orders-api", "namespace": "shop", "labels": {"app": "orders-api"}},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "orders-api"}},
                "template": {
                    "metadata": {"labels": {"app": "orders-api"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{
                            "name": "app", "image": lab::node::EMPTY_IMAGE, "imagePullPolicy": "Never",
                            "command": ["/usr/bin/python3", "-m", "http.server", "8000", "--directory", "/usr/share/doc"],
                            "ports": [{"name": "http", "containerPort": 8000}],
                            "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
                            "volumeMounts": mounts,
                        }],
                        "volumes": volumes,
                    },
                },
            },
        }))
        .await;
        self.rolled_out("shop", "orders-api").await;
        let pods = self.shell("kubectl get pods -n shop -l app=orders-api -o name").await;
        let pod = pods.lines().next().and_then(|line| line.strip_prefix("pod/")).expect("a Pod").to_owned();
        let labels = [("namespace", "shop"), ("pod", pod.as_str())];
        self.prometheus.add_target("app", &self.exporter.address(), &labels).expect("a target");
    }

    pub(crate) async fn apply(&self, object: &Value) {
        let plane = self.cluster.plane();
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let finished = plane.kubectl_run(&args, &object.to_string()).await.expect("kubectl runs");
        assert!(finished.status.success(), "{}\n{object:#}", finished.stderr);
    }

    /// Runs a script in which kubectl and helm mean this cluster, in the project's folder; it must succeed.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let finished = match self.cluster.shell(script, root(), SOON).await {
            Ok(finished) => finished,
            Err(error) => panic!("{script}\n-> {error}\n{}", self.seen().await),
        };
        let (out, err) = (&finished.stdout, &finished.stderr);
        if !finished.status.success() {
            panic!("{script}\n-> {}\n{out}\n{err}\n{}", finished.status, self.seen().await);
        }
        finished.stdout
    }

    /// Waits until a Deployment has all its Pods.
    pub(crate) async fn rolled_out(&self, namespace: &str, name: &str) {
        let timeout = deadline(80);
        self.shell(&format!("kubectl rollout status -n {namespace} deployment/{name} {timeout}")).await;
    }

    /// The same until it succeeds and prints what is wanted.
    pub(crate) async fn until(&self, script: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = lab::until(SOON, async || {
            let finished = self.cluster.shell(script, root(), SOON).await.expect("bash runs");
            last = format!("{}{}", finished.stdout, finished.stderr);
            (finished.status.success() && wanted(&finished.stdout)).then_some(finished.stdout)
        })
        .await;
        match found {
            Some(found) => found,
            None => panic!("{script}: in the end it said\n{last}\n{}", self.seen().await),
        }
    }

    /// What a person would look at first.
    async fn seen(&self) -> String {
        let look = "kubectl get pods,lp,li,lr -A -o wide; kubectl get events -A | tail -40; \
                    kubectl logs -n latency-operator -l app.kubernetes.io/name=latency-operator --tail=30 --prefix";
        match self.cluster.shell(&format!("set +e; {look}"), root(), SOON).await {
            Ok(finished) => format!("{}{}", finished.stdout, finished.stderr),
            Err(error) => error.to_string(),
        }
    }

    /// From now on the API is slow for as long as the database runs a report.
    pub(crate) fn suffer_while_reporting(&self) -> Suffering {
        let (exporter, url) = (self.exporter.clone(), self.postgres.superuser_url("orders"));
        Suffering(tokio::spawn(async move {
            let mut connection = sqlx::PgConnection::connect(&url).await.expect("a connection");
            let query =
                "select count(*) from pg_stat_activity where usename = 'reporting' and state = 'active'";
            while let Ok(count) = sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await {
                exporter.set(if count > 0 { slow() } else { calm() });
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }))
    }

    /// Starts the report.
    pub(crate) async fn report(&self, database: &str) -> Report {
        let mut connection = self.postgres.connect("reporting", PASSWORD, database).await.expect("a session");
        Report(tokio::spawn(async move {
            let result = sqlx::query("select pg_sleep(600)").execute(&mut connection).await;
            result.map(|_| ()).map_err(|error| error.to_string())
        }))
    }

    /// The process behind the report is stopped: what it is told it hears of when the guard is dropped.
    pub(crate) async fn deafen(&self) -> Deaf {
        let query = "select pid from pg_stat_activity where usename = 'reporting' and state = 'active'";
        let mut connection = self.postgres.superuser("orders").await.expect("a connection");
        let look = async || {
            sqlx::query_scalar::<_, i32>(query).fetch_optional(&mut connection).await.expect("an answer")
        };
        let pid = lab::until(SOON, look).await.expect("the report runs");
        self.shell(&format!("kill -STOP {pid}")).await;
        Deaf(pid)
    }

    /// Every worker of the API is busy, and it is slow; or all is calm.
    pub(crate) fn saturate(&self, busy: bool) {
        if busy {
            self.exporter.set_view("stock", slow());
        }
        self.exporter.set(if busy { slow() } else { calm() });
    }

    /// No release of the chart is there, and nobody reports; what a release leaves is.
    pub(crate) async fn uninstalled(&self) {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reporting'";
        self.postgres.execute("postgres", end).await.expect("an answer");
        self.shell(
            "if helm status latency-operator --namespace latency-operator >/dev/null 2>&1; then \
             helm uninstall latency-operator --namespace latency-operator --wait; fi",
        )
        .await;
    }

    /// Nothing of the operator is left but its definitions and their history.
    pub(crate) async fn nothing_is_left(&self) {
        let look = "kubectl get all,configmap,secret,lease,pdb,role,rolebinding,serviceaccount -n latency-operator -o name; \
                    kubectl get clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding \
                    -o name | grep latency-operator || true";
        let of_the_namespace = ["serviceaccount/default", "configmap/kube-root-ca.crt"];
        let only_those = |left: &str| left.lines().all(|line| of_the_namespace.contains(&line));
        // Pods that end are not waited for by everything that deletes them.
        self.until(look, only_those).await;
    }

    /// How often PostgreSQL says that it has cancelled something at a user's request.
    pub(crate) fn cancelled(&self) -> usize {
        let log = std::fs::read_to_string(self.postgres.log()).expect("the server's log");
        log.matches("canceling statement due to user request").count()
    }
}

/// Where `make image` puts it: beside this very binary.
fn built() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_latency-operator"));
    let target = binary.ancestors().nth(2).expect("the target folder");
    target.join("image/latency-operator.tar")
}

/// Hears again when it is dropped.
pub(crate) struct Deaf(i32);

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").args(["-CONT", &self.0.to_string()]).status();
    }
}

/// Ends when it is dropped.
pub(crate) struct Suffering(tokio::task::JoinHandle<()>);

impl Drop for Suffering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A statement that takes ten minutes.
pub(crate) struct Report(tokio::task::JoinHandle<Result<(), String>>);

impl Report {
    /// How it ended.
    pub(crate) async fn ended(self) -> Result<(), String> {
        lab::within(SOON, self.0).await.expect("it ends").expect("it does not panic")
    }
}

pub(crate) fn calm() -> Traffic {
    Traffic::steady(100.0, Duration::from_millis(50)).in_flight(5)
}

fn slow() -> Traffic {
    Traffic::steady(60.0, Duration::from_millis(50)).slow(0.5, Duration::from_millis(2_200)).in_flight(40)
}
