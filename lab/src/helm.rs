//! The real helm: what it keeps lies in the session's folder, and goes with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::error::Result;
use crate::session::{Finished, Session};
use crate::spec::Spec;
use crate::{toolchain, workspace};

/// Helm waits for hooks only; what it is told to wait for takes less.
const LIMIT: Duration = Duration::from_secs(300);
/// The cluster for which something is rendered while nobody can be asked: the one that the laboratory runs.
const KUBERNETES: &str = "1.35.0";
/// What says as whom the operator runs, and what it may do.
const RIGHTS: [&str; 3] = ["templates/serviceaccount.yaml", "templates/rights.yaml", "templates/lease.yaml"];

/// A release of the chart.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Where it is installed.
    pub namespace: String,
    /// What differs from the chart's own values.
    pub values: Value,
}

impl Release {
    /// The release `latency-operator` in the namespace `latency-operator`, as people install it.
    pub fn new(values: Value) -> Self {
        Self { name: "latency-operator".to_owned(), namespace: "latency-operator".to_owned(), values }
    }

    /// Another one, by name and namespace.
    #[must_use]
    pub fn named(mut self, name: &str, namespace: &str) -> Self {
        name.clone_into(&mut self.name);
        namespace.clone_into(&mut self.namespace);
        self
    }
}

/// The program, and the chart of this checkout.
#[derive(Debug, Clone)]
pub struct Helm {
    session: Session,
    program: PathBuf,
    home: PathBuf,
    chart: PathBuf,
}

impl Helm {
    /// Finds helm, or builds it.
    pub async fn find_or_build(session: &Session) -> Result<Self> {
        let program = toolchain::helm(session).await?;
        let (_, home) = session.new_folder("helm-home", None)?;
        let chart = workspace::root().join("charts/latency-operator");
        Ok(Self { session: session.clone(), program, home, chart })
    }

    /// The folder of the chart.
    pub fn chart(&self) -> &Path {
        &self.chart
    }

    /// Looks for mistakes, warnings included.
    pub async fn lint(&self, values: &Value) -> Result<Finished> {
        let spec =
            self.spec(&["lint", "--strict", "--kube-version", KUBERNETES, "--values=-"]).arg(&self.chart);
        self.run(spec, values).await
    }

    /// Renders a release without any cluster; with `only`, these templates and no others.
    pub async fn template(&self, release: &Release, only: &[&str]) -> Result<Finished> {
        self.template_for(KUBERNETES, release, only).await
    }

    /// The same for a cluster of this version.
    pub async fn template_for(&self, version: &str, release: &Release, only: &[&str]) -> Result<Finished> {
        let spec = self.release("template", release).args(["--kube-version", version]);
        let only = only.iter().map(|template| format!("--show-only={template}"));
        self.run(spec.args(only), &release.values).await
    }

    /// What an installation would do and tell people; nothing is changed.
    pub async fn try_install(&self, plane: &ControlPlane, release: &Release) -> Result<Finished> {
        let spec = self.release("install", release).arg("--dry-run=server");
        self.run(spec.arg("--kubeconfig").arg(plane.kubeconfig()), &release.values).await
    }

    /// Installs a release, and waits for nothing.
    pub async fn install(&self, plane: &ControlPlane, release: &Release) -> Result<Finished> {
        let spec = self.release("install", release).arg("--kubeconfig").arg(plane.kubeconfig());
        self.run(spec, &release.values).await
    }

    /// Upgrades a release to these values, and waits for nothing.
    pub async fn upgrade(&self, plane: &ControlPlane, release: &Release) -> Result<Finished> {
        let spec = self.release("upgrade", release).arg("--kubeconfig").arg(plane.kubeconfig());
        self.run(spec, &release.values).await
    }

    /// Removes a release; `args` such as `--no-hooks`.
    pub async fn uninstall(
        &self,
        plane: &ControlPlane,
        release: &Release,
        args: &[&str],
    ) -> Result<Finished> {
        let spec = self.spec(&["uninstall", &release.name, "--namespace", &release.namespace]);
        let spec = spec.args(args).arg("--kubeconfig").arg(plane.kubeconfig());
        self.session.run(spec, LIMIT).await
    }

    fn spec(&self, args: &[&str]) -> Spec {
        let mut spec = Spec::new("helm", &self.program).args(args).env("HOME", &self.home);
        for (name, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            spec = spec.env(name, self.home.join(folder));
        }
        spec
    }

    fn release(&self, command: &str, release: &Release) -> Spec {
        let spec = self.spec(&[command, &release.name]).arg(&self.chart);
        spec.args(["--namespace", &release.namespace, "--values=-"])
    }

    async fn run(&self, spec: Spec, values: &Value) -> Result<Finished> {
        self.session.run(spec.input(values.to_string()), LIMIT).await
    }
}

impl ControlPlane {
    /// Creates the account that a release of the chart runs as and gives it its rights, and installs nothing else of the chart.
    pub async fn rights_of(&self, helm: &Helm, release: &Release) -> Result<()> {
        self.apply_of(helm, release, &RIGHTS).await
    }

    /// Applies some templates of the chart, and nothing else of it.
    pub async fn apply_of(&self, helm: &Helm, release: &Release, only: &[&str]) -> Result<()> {
        let rendered = helm.template(release, only).await?.success("rendering the chart")?;
        let applied = self.kubectl_run(&["apply", "--server-side", "--filename", "-"], &rendered.stdout);
        applied.await?.success("applying what the chart renders").map(drop)
    }
}
