//! What the tests share: one laboratory for all, one world for each.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use lab::control_plane::AuditEvent;
use lab::exporter::ExporterOptions;
use lab::proxy::{ApiProxy, Grip, PostgresProxy};
use lab::{
    ControlPlane, ControlPlaneOptions, Exporter, Helm, Operator, OperatorOptions, Postgres, PostgresOptions,
    Prometheus, PrometheusOptions, Release, Session, Traffic,
};
use latency_operator::api::{LatencyIncident, LatencyPolicy, LatencyRemediation};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

#[path = "asked.rs"]
pub(crate) mod asked;
#[path = "cached.rs"]
pub(crate) mod cached;
#[path = "witness.rs"]
pub(crate) mod witness;

pub(crate) const PASSWORD: &str = "lab-password";
/// As whom the operator talks to the API server, by a token of the chart's account: the audit log tells it apart by this.
pub(crate) const OPERATOR: &str = "system:serviceaccount:latency-operator:latency-operator";
/// The account's name, and its namespace.
const ACCOUNT: &str = "latency-operator";
/// Long enough for a busy machine; what a test waits for takes a fraction of it.
pub(crate) const SOON: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"));
static LAB: OnceCell<Lab> = OnceCell::const_new();

/// Runs a test on the runtime that all tests and the shared laboratory live on.
pub(crate) fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// What all tests of this binary share.
pub(crate) struct Lab {
    pub(crate) session: Session,
    pub(crate) control_plane: ControlPlane,
    pub(crate) prometheus: Prometheus,
    pub(crate) helm: Helm,
    pub(crate) operator_kubeconfig: PathBuf,
}

pub(crate) async fn lab() -> &'static Lab {
    LAB.get_or_init(start).await
}

async fn start() -> Lab {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let session = Session::start().await.expect("a session");
    let (control_plane, prometheus) = tokio::join!(
        ControlPlane::start(&session, ControlPlaneOptions::default()),
        Prometheus::start(&session, PrometheusOptions::default()),
    );
    let (control_plane, prometheus) =
        (control_plane.expect("a control plane"), prometheus.expect("Prometheus"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    kubectl(&control_plane, &["apply", "-f", root.join("crds").to_str().expect("a path")], "").await;
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"];
    kubectl(&control_plane, &established, "").await;
    control_plane.namespace(ACCOUNT).await.expect("the operator's namespace");
    let helm = Helm::find_or_build(&session).await.expect("helm");
    control_plane.rights_of(&helm, &Release::new(json!({}))).await.expect("the chart's rights");
    let operator_kubeconfig =
        control_plane.kubeconfig_with_token(ACCOUNT, ACCOUNT).await.expect("a kubeconfig");
    Lab { session, control_plane, prometheus, helm, operator_kubeconfig }
}

/// Runs kubectl and returns what it prints; it must succeed.
pub(crate) async fn kubectl(control_plane: &ControlPlane, args: &[&str], input: &str) -> String {
    let finished = control_plane.kubectl_run(args, input).await.expect("kubectl runs");
    assert!(finished.status.success(), "kubectl {args:?}: {}", finished.stderr);
    finished.stdout
}

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, limit: Duration, look: impl AsyncFnMut() -> Option<T>) -> T {
    lab::until(limit, look)
        .await
        .unwrap_or_else(|| panic!("{what}: not within {}", lab::patience::told(limit)))
}

/// One test's part of the laboratory.
pub(crate) struct World {
    pub(crate) lab: &'static Lab,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) postgres: Postgres,
    pub(crate) exporter: Arc<Exporter>,
    pub(crate) operator: Option<Operator>,
    /// Its operator looks after all namespaces.
    pub(crate) everywhere: bool,
    /// Other namespaces that its operator looks after.
    pub(crate) neighbours: Vec<String>,
    /// The URL of the metrics backend that the operator is told of, and what else is said of it in further lines.
    pub(crate) backend: String,
    /// What its operators log.
    pub(crate) log_level: &'static str,
    /// Further lines of the operator's configuration.
    pub(crate) settings: String,
    /// What stands between the operator and its servers, if anything does.
    pub(crate) proxies: Option<Proxies>,
    /// The target itself, where it is asked for something: its Service is reached there.
    pub(crate) target: Option<asked::Target>,
    /// A cache in use, where there is one.
    #[allow(dead_code, reason = "only the sweep looks into it")]
    pub(crate) cache: Option<(lab::Redis, cached::Lookups)>,
    /// The database's own name for itself.
    pub(crate) system_identifier: String,
    /// The test itself ends sessions of the operator.
    pub(crate) signals_itself: bool,
    /// The test itself takes rights away from the operator.
    pub(crate) takes_rights_away: bool,
    /// What happened has been judged by the test.
    pub(crate) judged: bool,
}

/// Whatever a test was about: what happened in its world must not violate any invariant.
impl Drop for World {
    fn drop(&mut self) {
        // Its port may be another test's soon.
        let _ = self.lab.prometheus.remove_target(&self.exporter.address());
        if std::thread::panicking() || self.judged {
            return;
        }
        let violations = self.violations();
        assert!(violations.is_empty(), "in {}: {violations:#?}\n{}", self.namespace, self.operator_log());
        let refused = self.refused();
        assert!(self.takes_rights_away || refused.is_empty(), "the chart does not grant: {refused:#?}");
    }
}

/// See [`World::behind_proxies`].
#[allow(dead_code, reason = "only the sweep looks into them")]
pub(crate) struct Proxies {
    pub(crate) api: ApiProxy,
    pub(crate) database: PostgresProxy,
    pub(crate) grip: Grip,
}

impl World {
    /// A namespace with a Deployment and a Secret, a database with roles, an exporter that Prometheus scrapes, and calm
    /// traffic; no operator and no policy yet.
    pub(crate) async fn new(namespace: &str) -> Self {
        Self::within(lab().await, namespace, PostgresOptions::default()).await
    }

    /// The same in a laboratory of the test's own, for what would disturb others. It ends with the process.
    pub(crate) async fn alone(namespace: &str) -> Self {
        Self::within(Box::leak(Box::new(start().await)), namespace, PostgresOptions::default()).await
    }

    /// One whose database claims to be that of another world.
    pub(crate) async fn posing_as(other: &World, namespace: &str) -> Self {
        let system_identifier = other.system_identifier.parse().ok();
        Self::within(other.lab, namespace, PostgresOptions { system_identifier, ..Default::default() }).await
    }

    /// From now on operators that are started reach the API server and the database through proxies.
    #[allow(dead_code, reason = "only the sweep does so")]
    pub(crate) async fn behind_proxies(&mut self) {
        let (session, grip) = (&self.lab.session, Grip::default());
        let identity = &self.lab.operator_kubeconfig;
        let api = ApiProxy::start(session, &self.lab.control_plane, identity, grip.clone()).await;
        let database = PostgresProxy::start(session, self.postgres.port(), grip.clone()).await;
        let (api, database) = (api.expect("a proxy"), database.expect("a proxy"));
        self.proxies = Some(Proxies { api, database, grip });
        self.secret(PASSWORD).await;
    }

    pub(crate) async fn within(lab: &'static Lab, namespace: &str, options: PostgresOptions) -> Self {
        let client = lab.control_plane.client().await.expect("a client");
        lab.control_plane.namespace(namespace).await.expect("a namespace");
        let postgres = Postgres::start(&lab.session, options).await.expect("PostgreSQL");
        let system_identifier = identifier(&postgres).await;
        let exporter = Arc::new(Exporter::start(ExporterOptions::default()).expect("an exporter"));
        let world = Self {
            lab,
            client,
            namespace: namespace.to_owned(),
            postgres,
            exporter,
            operator: None,
            everywhere: false,
            neighbours: Vec::new(),
            backend: lab.prometheus.url().to_owned(),
            log_level: "info,latency_operator=debug",
            settings: String::new(),
            proxies: None,
            target: None,
            cache: None,
            system_identifier,
            signals_itself: false,
            takes_rights_away: false,
            judged: false,
        };
        world.exporter.set(calm());
        world.database().await;
        let labels = [("namespace", namespace), ("pod", "orders-api-6d4cf56db6-x7k2p")];
        lab.prometheus.add_target("app", &world.exporter.address(), &labels).expect("a target");
        lab.control_plane.deployment(namespace, "orders-api", 2).await.expect("a Deployment");
        world.secret(PASSWORD).await;
        world.lease().await;
        world
    }

    /// The right to this world's Lease: each world has one, and the chart grants one.
    async fn lease(&self) {
        let values = json!({
            "fullnameOverride": self.namespace, "serviceAccount": {"name": ACCOUNT},
            "config": {"lease": {"name": self.namespace}},
        });
        let (plane, release) = (&self.lab.control_plane, Release::new(values));
        let granted = plane.apply_of(&self.lab.helm, &release, &["templates/lease.yaml"]).await;
        granted.expect("the chart's right to a Lease");
    }

    async fn database(&self) {
        self.postgres.execute("postgres", "create database orders").await.expect("a database");
        let roles = format!(
            "create role orders login password '{PASSWORD}'; create role reporting login password '{PASSWORD}'; \
             create role latency_operator login password '{PASSWORD}' in role pg_monitor, pg_signal_backend; \
             alter role latency_operator set log_statement = 'all'; \
             create table accounts (id int primary key, balance numeric); insert into accounts select i, 100 from \
             generate_series(1, 100) i; grant all on accounts to orders, reporting"
        );
        self.postgres.execute("orders", &roles).await.expect("roles");
    }

    /// Writes the Secret with this password.
    pub(crate) async fn secret(&self, password: &str) {
        let port = self.proxies.as_ref().map_or(self.postgres.port(), |proxies| proxies.database.port());
        self.secret_with(json!({
            "host": "127.0.0.1", "port": port.to_string(), "dbname": "orders",
            "user": "latency_operator", "password": password,
        }))
        .await;
    }

    /// Writes the Secret with these keys.
    pub(crate) async fn secret_with(&self, data: Value) {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "orders-db", "labels": {"latency-operator.dev/allowed": "true"}},
            "stringData": data,
        }))
        .await;
    }

    /// Server-side apply, as a user would.
    pub(crate) async fn apply(&self, object: Value) {
        let args = ["apply", "--server-side", "--force-conflicts", "-n", &self.namespace, "-f", "-"];
        kubectl(&self.lab.control_plane, &args, &object.to_string()).await;
    }

    /// Starts an operator that looks after this namespace, and its neighbours if it has any.
    pub(crate) async fn operate(&mut self) {
        self.operator = Some(self.another_operator().await);
    }

    /// Kills the operator and starts another one, whose configuration has these further lines.
    #[allow(dead_code, reason = "the sweep does not")]
    pub(crate) async fn operate_with(&mut self, settings: &str) {
        if let Some(operator) = self.operator.take() {
            operator.kill().await.expect("it is killed");
        }
        settings.clone_into(&mut self.settings);
        self.operate().await;
    }

    pub(crate) async fn another_operator(&self) -> Operator {
        Operator::start(&self.lab.session, self.options()).await.expect("an operator")
    }

    pub(crate) fn options(&self) -> OperatorOptions {
        let direct = self.lab.operator_kubeconfig.as_path();
        let kubeconfig = self.proxies.as_ref().map_or(direct, |proxies| proxies.api.kubeconfig());
        let binary = Path::new(env!("CARGO_BIN_EXE_latency-operator"));
        let options = OperatorOptions::new(binary, kubeconfig, &self.config())
            .arg("--log-format=text")
            .arg(format!("--log-level={}", self.log_level));
        match &self.target {
            Some(target) => {
                let (namespace, address) = (&self.namespace, target.address);
                options.arg(format!("--dev-service-override={namespace}/orders-api:http={address}"))
            }
            None => options,
        }
    }

    /// The target has a Service and answers requests; to be called before the operator is started.
    pub(crate) async fn serve(&mut self) {
        self.target = Some(asked::Target::start().await);
        self.service("orders-api").await;
    }

    /// The Service `orders-api`, over the Pods with that label.
    pub(crate) async fn service(&self, app: &str) {
        let port = json!({"name": "http", "port": 80, "targetPort": "http"});
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-api"},
            "spec": {"selector": {"app": app}, "ports": [port]},
        }))
        .await;
    }

    /// What the target was asked for.
    pub(crate) fn asked(&self) -> asked::Asked {
        self.target.as_ref().map(asked::Target::asked).unwrap_or_default()
    }

    fn config(&self) -> String {
        let mut namespaces = [std::slice::from_ref(&self.namespace), self.neighbours.as_slice()].concat();
        namespaces.retain(|_| !self.everywhere);
        format!(
            "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nbackends:\n- name: default\n  url: {}\n  scrapeInterval: \
             1s\n  timeout: 2s\nwatchNamespaces: [{}]\nlease: {}\n{}",
            self.backend,
            namespaces.join(", "),
            lab::operator::lease(ACCOUNT, &self.namespace),
            self.settings
        )
    }

    /// Creates the policy, changed by `change`.
    pub(crate) async fn policy(&self, change: impl FnOnce(&mut Value)) {
        let mut policy = policy();
        change(&mut policy);
        self.apply(policy).await;
    }

    /// A closed incident of long ago: one in half an hour would be the same one, opened again.
    #[allow(dead_code, reason = "the sweep has none")]
    pub(crate) async fn forgotten_incident(&self) {
        let object: LatencyIncident = serde_json::from_value(json!({
            "metadata": {"name": "long-ago", "labels": {"latency-operator.dev/policy": "orders-api"}},
            "spec": {
                "policyRef": {"name": "orders-api", "uid": "another"}, "ordinal": 1,
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-api"},
                "firstBreachedAt": "2026-01-01T02:58:00Z", "openedAt": "2026-01-01T02:58:03Z",
            },
        }))
        .expect("an incident");
        self.incidents().create(&PostParams::default(), &object).await.expect("created");
        let closed = Patch::Merge(json!({"status": {"phase": "Closed", "closedAt": "2026-01-01T03:10:00Z"}}));
        self.incidents().patch_status("long-ago", &PatchParams::default(), &closed).await.expect("closed");
    }

    pub(crate) fn policies(&self) -> Api<LatencyPolicy> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn incidents(&self) -> Api<LatencyIncident> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn remediations(&self) -> Api<LatencyRemediation> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The condition of that type on the policy, as `status/reason: message`.
    pub(crate) async fn condition(&self, kind: &str) -> String {
        self.condition_of("orders-api", kind).await
    }

    pub(crate) async fn condition_of(&self, policy: &str, kind: &str) -> String {
        let policy = self.policies().get(policy).await.expect("the policy");
        let conditions = policy.status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        found.map(|c| format!("{}/{}: {}", c.status, c.reason, c.message)).unwrap_or_default()
    }

    /// Waits until the condition begins with `begins`, and returns it whole.
    pub(crate) async fn until_condition(&self, kind: &str, begins: &str) -> String {
        self.until_condition_of("orders-api", kind, begins).await
    }

    pub(crate) async fn until_condition_of(&self, policy: &str, kind: &str, begins: &str) -> String {
        let mut last = String::new();
        let found = lab::until(SOON, async || {
            last = self.condition_of(policy, kind).await;
            last.starts_with(begins).then(|| last.clone())
        });
        let found = found.await;
        found.unwrap_or_else(|| {
            panic!("{policy}: {kind} never became {begins}; it is {last}\n{}", self.operator_log())
        })
    }

    /// The Events on the policy, oldest first, as `reason: note`.
    pub(crate) async fn events(&self) -> Vec<String> {
        self.events_on("LatencyPolicy", "orders-api").await
    }

    pub(crate) async fn events_on(&self, kind: &str, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = events.list(&ListParams::default()).await.expect("events");
        let regards = |event: &&Event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|on| on.kind.as_deref() == Some(kind) && on.name.as_deref() == Some(name))
        };
        let mut events: Vec<&Event> = listed.items.iter().filter(regards).collect();
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let text = |event: &&Event| {
            format!(
                "{}: {}",
                event.reason.clone().unwrap_or_default(),
                event.note.clone().unwrap_or_default()
            )
        };
        events.iter().map(text).collect()
    }

    /// Waits for an Event of that reason, and returns it.
    pub(crate) async fn until_event(&self, reason: &str) -> String {
        let found = lab::until(SOON, async || {
            self.events().await.into_iter().find(|event| event.starts_with(&format!("{reason}: ")))
        });
        match found.await {
            Some(event) => event,
            None => {
                panic!("no Event {reason}; there are {:#?}\n{}", self.events().await, self.operator_log())
            }
        }
    }

    /// Waits until the only remediation of that name pattern has reached a phase.
    pub(crate) async fn until_phase(&self, phase: &str) -> LatencyRemediation {
        let found = lab::until(SOON, async || {
            let all = self.remediations().list(&ListParams::default()).await.expect("remediations").items;
            all.into_iter().find(|one| self::phase(one) == phase)
        });
        match found.await {
            Some(found) => found,
            None => panic!(
                "no remediation became {phase}; events: {:#?}\n{}",
                self.events().await,
                self.operator_log()
            ),
        }
    }

    /// Annotates an object, or with `None` removes the annotation.
    pub(crate) async fn annotate(&self, resource: &str, name: &str, value: Option<&str>) {
        let annotation = match value {
            Some(value) => format!("latency-operator.dev/paused-until={value}"),
            None => "latency-operator.dev/paused-until-".to_owned(),
        };
        let args = ["annotate", "--overwrite", "-n", &self.namespace, resource, name, &annotation];
        kubectl(&self.lab.control_plane, &args, "").await;
    }

    /// Changes the policy's spec.
    pub(crate) async fn patch(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.policies().patch("orders-api", &PatchParams::default(), &patch).await.expect("a patch");
    }

    /// The API is calm and the operator has seen it: only now a fault is a change.
    pub(crate) async fn until_calm(&self) {
        self.until_condition("WithinObjective", "True").await;
        self.until_condition("DataAvailable", "True").await;
    }

    /// From now on the API is slow for as long as `sessions` (a condition on `pg_stat_activity`) finds somebody, as if the
    /// database were behind it.
    pub(crate) fn suffer_while(&self, sessions: &'static str, suffering: Traffic) -> Suffering {
        let (exporter, url) = (self.exporter.clone(), self.postgres.superuser_url("orders"));
        let task = tokio::spawn(async move {
            let mut connection = sqlx::PgConnection::connect(&url).await.expect("a connection");
            let query = format!("select count(*) from pg_stat_activity where {sessions}");
            loop {
                let query = sqlx::AssertSqlSafe(query.clone());
                let Ok(count) = sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await else {
                    return;
                };
                exporter.set(if count > 0 { suffering.clone() } else { calm() });
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Suffering(task)
    }

    /// From now on the API is slow while fewer than `enough` replicas of the target are ready: every worker is busy.
    pub(crate) fn suffer_below(&self, enough: i32) -> Suffering {
        let (exporter, namespace) = (self.exporter.clone(), self.namespace.clone());
        let targets: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(target) = targets.get("orders-api").await {
                    let ready = target.status.and_then(|status| status.ready_replicas).unwrap_or_default();
                    saturate(&exporter, ready < enough);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Suffering(task)
    }

    /// The replicas that the target is asked for.
    pub(crate) async fn replicas(&self) -> i32 {
        let targets: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let target = targets.get("orders-api").await.expect("the target");
        target.spec.and_then(|spec| spec.replicas).unwrap_or_default()
    }

    /// Starts a session that runs `statements` one after the other, the last of them for long.
    pub(crate) async fn session(&self, role: &str, name: &str, statements: &[&str]) -> Running {
        let mut connection = self.postgres.connect(role, PASSWORD, "orders").await.expect("a session");
        connection
            .execute(sqlx::AssertSqlSafe(format!("set application_name = '{name}'")))
            .await
            .expect("a name");
        let (first, last) = statements.split_at(statements.len() - 1);
        for statement in first {
            connection.execute(sqlx::AssertSqlSafe((*statement).to_owned())).await.expect("a statement");
        }
        let last = last[0].to_owned();
        let task = tokio::spawn(async move {
            let result = connection.execute(sqlx::AssertSqlSafe(last)).await;
            (connection, result.map(|_| ()).map_err(|error| error.to_string()))
        });
        Running { task }
    }

    /// Waits until the operator has looked at its policies that many times more.
    pub(crate) async fn until_looked(&self, times: u64) {
        let operator = self.operator.as_ref().expect("an operator");
        let looks = async || {
            let metrics = operator.metrics().await.expect("metrics");
            let of = metrics.lines().filter(|line| line.starts_with("latency_operator_evaluations_total"));
            of.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        let before = looks().await;
        eventually("evaluations", SOON, async || (looks().await >= before + times).then_some(())).await;
    }

    /// How often PostgreSQL says that it has cancelled or terminated something at a user's request.
    pub(crate) fn signals(&self) -> usize {
        let log = std::fs::read_to_string(self.postgres.log()).expect("the server's log");
        log.matches("canceling statement due to user request").count()
            + log.matches("terminating connection due to administrator command").count()
    }

    /// What the operator wrote to the API server in this namespace.
    pub(crate) fn writes(&self) -> Vec<AuditEvent> {
        let events = self.lab.control_plane.audit_of(OPERATOR).expect("the audit log");
        let here = |event: &AuditEvent| {
            event.object_ref.as_ref().is_some_and(|object| object.namespace == self.namespace)
                && event.is_write()
        };
        events.into_iter().filter(here).collect()
    }

    /// What the operator asked for here and had no right to, by the words of the API server.
    fn refused(&self) -> Vec<String> {
        let events = self.lab.control_plane.audit_about(&["\"code\":403"]).expect("the audit log");
        let ours = events.into_iter().filter(|event| {
            let here = event.object_ref.as_ref().is_some_and(|object| object.namespace == self.namespace);
            here && event.user.username == OPERATOR && event.code() == 403
        });
        let answers = ours.filter_map(|event| event.response_status).map(|status| status.message);
        // A namespace that is being deleted refuses new objects, too.
        answers.filter(|message| message.contains(" cannot ")).collect()
    }

    /// The invariants that were violated in this world so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        witness::violations(self)
    }

    pub(crate) fn operator_log(&self) -> String {
        self.operator.as_ref().map(Operator::log_text).unwrap_or_default()
    }
}

async fn identifier(postgres: &Postgres) -> String {
    let mut connection = postgres.superuser("postgres").await.expect("a connection");
    let query = "select system_identifier::text from pg_control_system()";
    sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("it has one")
}

/// Ends when it is dropped.
pub(crate) struct Suffering(tokio::task::JoinHandle<()>);

impl Drop for Suffering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Ended = (sqlx::PgConnection, Result<(), String>);

/// A session whose last statement runs.
pub(crate) struct Running {
    task: tokio::task::JoinHandle<Ended>,
}

impl Running {
    /// How the statement ended.
    pub(crate) async fn ended(self) -> Result<(), String> {
        lab::within(SOON, self.task).await.expect("it ends").expect("it does not panic").1
    }

    /// Whether it still runs.
    pub(crate) fn runs(&self) -> bool {
        !self.task.is_finished()
    }
}

pub(crate) fn phase(remediation: &LatencyRemediation) -> String {
    remediation.status.clone().unwrap_or_default().phase.map(|phase| phase.0).unwrap_or_default()
}

pub(crate) fn outcome(remediation: &LatencyRemediation) -> String {
    remediation.status.clone().unwrap_or_default().outcome.map(|outcome| outcome.0).unwrap_or_default()
}

pub(crate) fn calm() -> Traffic {
    Traffic::steady(100.0, Duration::from_millis(50)).in_flight(5)
}

pub(crate) fn slow() -> Traffic {
    Traffic::steady(60.0, Duration::from_millis(50)).slow(0.5, Duration::from_millis(2_200)).in_flight(40)
}

pub(crate) fn hanging() -> Traffic {
    Traffic::steady(0.0, Duration::from_millis(50)).in_flight(80)
}

/// Every worker is busy, and all views are slow; or all is calm.
pub(crate) fn saturate(exporter: &Exporter, busy: bool) {
    if !busy {
        return exporter.set(calm());
    }
    exporter.set(slow());
    exporter.set_view("stock", slow());
}

/// A policy with short times.
pub(crate) fn policy() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api"},
        "spec": {
            "mode": "Auto",
            "targetRef": {"name": "orders-api"},
            "evaluation": {
                "interval": "1s", "window": "5s", "breachFor": "2s", "recoverFor": "3s", "noDataAfter": "3s",
            },
            "objectives": [{
                "name": "p95", "type": "Latency",
                "latency": {"threshold": "500ms"}, "severity": "P2", "raise": [{"level": "P1", "above": "2s"}],
            }],
            "dependencies": [{
                "name": "db", "type": "PostgreSQL",
                "secretRef": {"name": "orders-db"},
                "postgresql": {
                    "clientRoles": ["orders"], "cancellableRoles": ["orders", "reporting"], "connectionsPerPod": 5,
                },
            }],
            "diagnosis": {"thresholds": [{"cause": "RunawayQuery", "olderThan": "2s"}]},
            "remediations": [{
                "name": "cancel", "causes": ["RunawayQuery", "BlockingQuery"],
                "action": {"type": "CancelQuery", "cancelQuery": {"uncommittedWrites": "RollBack"}},
            }],
            "guards": {"cooldown": "10s"},
            "verification": {"after": "1s", "within": "30s"},
        },
    })
}
