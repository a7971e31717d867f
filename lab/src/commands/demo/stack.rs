//! Everything that the demo runs.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lab::prometheus::Target;
use lab::{
    Caddy, CaddyOptions, ControlPlane, ControlPlaneOptions, Operator, OperatorOptions, Process, Prometheus,
    PrometheusOptions, Result, Session, Venv, workspace,
};

use super::cluster;
use super::database::Database;

/// The name of Caddy's server, which is a label of its metrics: the policies name it.
const EDGE: &str = "orders";
const LINES: usize = 15;

pub(super) struct Stack {
    pub(super) session: Session,
    pub(super) plane: ControlPlane,
    pub(super) database: Database,
    pub(super) caddy: Caddy,
    pub(super) prometheus: Prometheus,
    pub(super) venv: Venv,
    binary: PathBuf,
    later: Mutex<Later>,
}

/// What starts when the rest is ready.
#[derive(Default)]
struct Later {
    load: Option<Process>,
    operator: Option<Operator>,
}

impl Stack {
    /// Starts what does not need anything else, all at the same time.
    pub(super) async fn start(session: &Session, operator: Option<&Path>) -> Result<Self> {
        let requirements = workspace::root().join("demo/requirements.txt");
        let (plane, database, (caddy, prometheus), venv, binary) = tokio::try_join!(
            ControlPlane::start(session, ControlPlaneOptions::default()),
            Database::start(session),
            edge(session),
            Venv::find_or_build(session, &requirements),
            binary(session, operator),
        )?;
        let session = session.clone();
        Ok(Self { session, plane, database, caddy, prometheus, venv, binary, later: Mutex::default() })
    }

    /// Sends the users.
    pub(super) async fn start_load(&self, users: u16) -> Result<()> {
        let health = format!("{}/api/health", self.caddy.url());
        let look = || async { lab::http::get(self.caddy.process(), &health).await.ok() };
        self.caddy.process().ready("forwards to the first Pod", cluster::LIMIT, look).await?;
        self.session.say(&format!("sending {users} users to {}", self.caddy.url()));
        let spec = self
            .venv
            .module("locust", "locust")
            .arg("--locustfile")
            .arg(workspace::root().join("demo/load/locustfile.py"))
            .args(["--headless", "--only-summary", "--loglevel", "WARNING"])
            .args(["--users", &users.to_string(), "--spawn-rate", "20", "--host", &self.caddy.url()])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let load = self.session.spawn(spec).await?;
        self.later().load = Some(load);
        Ok(())
    }

    /// Starts the operator as a user of the API server who may do what `deploy/rbac.yaml` says and no more.
    pub(super) async fn start_operator(&self) -> Result<()> {
        self.session.say("starting the operator");
        let kubeconfig = self.plane.kubeconfig_for(cluster::OPERATOR, &[])?;
        let config = cluster::operator_config(self.prometheus.url());
        let options = OperatorOptions::new(&self.binary, &kubeconfig, &config)
            .arg("--log-format=text")
            .env("NO_COLOR", "1");
        let operator = Operator::start(&self.session, options).await?;
        self.later().operator = Some(operator);
        Ok(())
    }

    /// Fails when something has ended that should run.
    pub(super) fn must_run(&self) -> Result<()> {
        for process in self.plane.processes() {
            process.must_run()?;
        }
        self.database.server.process().must_run()?;
        self.caddy.process().must_run()?;
        self.prometheus.process().must_run()?;
        let later = self.later();
        later.load.iter().try_for_each(Process::must_run)?;
        later.operator.iter().try_for_each(|operator| operator.process().must_run())
    }

    /// Shows the end of the log that explains most failures. That of a process that has ended is in the error already.
    pub(super) fn show_logs(&self) {
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

async fn binary(session: &Session, given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => std::path::absolute(path).map_err(lab::Error::path("looking for", path)),
        None => workspace::build_operator(session).await,
    }
}
