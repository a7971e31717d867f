//! Everything that the demo runs.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lab::forward::Forward;
use lab::prometheus::Target;
use lab::{
    Caddy, CaddyOptions, ControlPlane, Error, Operator, OperatorOptions, Process, Prometheus,
    PrometheusOptions, Result, Session, Venv, workspace,
};

use super::Arguments;
use super::cache::{self, Cache};
use super::cluster;
use super::database::Database;
use super::fault::{Fault, Kind};
use super::kubernetes::{Kubernetes, Node};
use super::real;

/// The name of Caddy's server, which is a label of its metrics: the policies name it.
const EDGE: &str = "orders";
const LINES: usize = 15;

pub(super) struct Stack {
    pub(super) session: Session,
    pub(super) kubernetes: Kubernetes,
    pub(super) database: Database,
    pub(super) caddy: Caddy,
    pub(super) prometheus: Prometheus,
    pub(super) venv: Venv,
    /// For the fault that is in it. Without it the application computes everything, which the others' figures are of.
    cache: Option<Cache>,
    /// Where a process is started of it.
    binary: Option<PathBuf>,
    later: Mutex<Later>,
}

/// What starts when the rest is ready.
#[derive(Default)]
struct Later {
    load: Option<Process>,
    operator: Option<Operator>,
    /// By which Pods reach what runs beside them.
    forwards: Vec<Forward>,
}

impl Stack {
    /// Starts what does not need anything else, all at the same time.
    pub(super) async fn start(session: &Session, arguments: &Arguments) -> Result<Self> {
        let fault = arguments.fault;
        let (kubernetes, database, (caddy, prometheus), venv, cache, binary) = tokio::try_join!(
            Kubernetes::start(session, arguments.node, arguments.image.as_deref()),
            Database::start(session, fault.more_rows()),
            edge(session),
            python(session),
            cache(session, fault),
            binary(session, arguments),
        )?;
        let session = session.clone();
        let later = Mutex::default();
        Ok(Self { session, kubernetes, database, caddy, prometheus, venv, cache, binary, later })
    }

    /// The control plane.
    pub(super) fn plane(&self) -> &ControlPlane {
        self.kubernetes.plane()
    }

    /// Keeps what lets Pods reach something for as long as all this runs.
    pub(super) fn hold(&self, forward: Forward) {
        self.later().forwards.push(forward);
    }

    /// The application's cache, in the demo of the fault that is in it.
    pub(super) fn cache(&self) -> Result<&Cache> {
        self.known_cache().ok_or_else(|| {
            Error::setup("flushing the cache", "there is none", "run the demo with FAULT=coldcache")
        })
    }

    pub(super) fn known_cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Fills the cache as people would who know the API.
    pub(super) async fn fill_cache(&self) -> Result<()> {
        let url = format!("{}{}", self.caddy.url(), cache::FILLED_BY);
        lab::http::get(self.caddy.process(), &url).await.map(drop)
    }

    /// Sends the users.
    pub(super) async fn start_load(&self, fault: Fault) -> Result<()> {
        let users = fault.users();
        let health = format!("{}/api/health", self.caddy.url());
        let look = || async { lab::http::get(self.caddy.process(), &health).await.ok() };
        self.caddy.process().ready("forwards to the first Pod", cluster::LIMIT, look).await?;
        if self.cache.is_some() {
            self.fill_cache().await?;
        }
        self.session.say(&format!("sending {users} users to {}", self.caddy.url()));
        let spec = self
            .venv
            .module("locust", "locust")
            .arg("--locustfile")
            .arg(workspace::root().join("demo/load/locustfile.py"))
            .args(["--headless", "--only-summary", "--loglevel", "WARNING"])
            .args(["--users", &users.to_string(), "--spawn-rate", "20", "--host", &self.caddy.url()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PORTFOLIOS", fault.portfolios().to_string());
        let load = self.session.spawn(spec).await?;
        self.later().load = Some(load);
        Ok(())
    }

    /// Starts the operator: from its chart where there is a node, otherwise as a process and as the chart's account, which may
    /// do what the chart grants and no more.
    pub(super) async fn start_operator(&self) -> Result<()> {
        let Some(binary) = &self.binary else { return real::install(self).await };
        self.session.say("starting the operator");
        let kubeconfig = self.plane().kubeconfig_with_token(cluster::OPERATOR, cluster::OPERATOR).await?;
        let config = cluster::operator_config(self.prometheus.url());
        let mut options =
            OperatorOptions::new(binary, &kubeconfig, &config).arg("--log-format=text").env("NO_COLOR", "1");
        if self.cache.is_some() {
            // kwok's Pods have no address: what is meant for the Service goes to the edge, which has all of them behind it.
            let service = format!("{}/{}:http", cluster::NAMESPACE, cluster::TARGET);
            options = options.arg(format!("--dev-service-override={service}={}", self.caddy.address()));
        }
        let operator = Operator::start(&self.session, options).await?;
        self.later().operator = Some(operator);
        Ok(())
    }

    /// Fails when something has ended that should run.
    pub(super) fn must_run(&self) -> Result<()> {
        for process in self.kubernetes.processes() {
            process.must_run()?;
        }
        self.database.server.process().must_run()?;
        self.caddy.process().must_run()?;
        self.prometheus.process().must_run()?;
        self.cache.iter().try_for_each(|cache| cache.server.process().must_run())?;
        let later = self.later();
        later.load.iter().try_for_each(Process::must_run)?;
        later.operator.iter().try_for_each(|operator| operator.process().must_run())
    }

    /// Shows the end of the log that explains most failures. That of a process that has ended is in the error already.
    pub(super) async fn show_logs(&self) {
        if let Some(cluster) = self.kubernetes.real() {
            self.session.say(&real::look(cluster).await);
        }
        let later = self.later();
        if let Some(operator) = later.operator.as_ref().filter(|one| one.process().exit_status().is_none()) {
            let text = operator.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LINES);
            let end = lines.get(from..).unwrap_or_default().join("\n    ");
            self.session
                .say(&format!("the last lines of {}:\n    {end}", operator.process().log().display()));
        }
        let folder = self.session.folder().display();
        self.session.say(&format!("all logs were in {folder}; with LAB_KEEP=1 that folder stays"));
    }

    fn later(&self) -> std::sync::MutexGuard<'_, Later> {
        // Nothing that is done under the lock can fail half-way.
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn edge(session: &Session) -> Result<(Caddy, Prometheus)> {
    let caddy = CaddyOptions { server: EDGE.to_owned(), ..Default::default() };
    let caddy = Caddy::start(session, caddy).await?;
    let targets = vec![edge_target(&caddy)];
    let prometheus = PrometheusOptions { targets, ..Default::default() };
    let prometheus = Prometheus::start(session, prometheus).await?;
    Ok((caddy, prometheus))
}

/// An edge has a namespace of its own; that of what it serves is under another label, as with a scraped ingress.
pub(super) fn edge_target(caddy: &Caddy) -> Target {
    Target::new("edge", caddy.metrics_address(), &[(cluster::EDGE_NAMESPACE_LABEL, cluster::NAMESPACE)])
}

async fn cache(session: &Session, fault: Fault) -> Result<Option<Cache>> {
    match fault.kind() {
        Kind::Cache => Cache::start(session).await.map(Some),
        Kind::Session { .. } | Kind::Upstream { .. } => Ok(None),
    }
}

/// The application's Python, and its users'.
pub(super) async fn python(session: &Session) -> Result<Venv> {
    Venv::find_or_build(session, &workspace::root().join(workspace::PYTHON)).await
}

async fn binary(session: &Session, arguments: &Arguments) -> Result<Option<PathBuf>> {
    match (arguments.node, &arguments.operator) {
        // It is in the image.
        (Node::Real, _) => Ok(None),
        (Node::Kwok, Some(path)) => {
            std::path::absolute(path).map(Some).map_err(Error::path("looking for", path))
        }
        (Node::Kwok, None) => workspace::build_operator(session).await.map(Some),
    }
}
