//! A real Kubernetes control plane as plain processes: etcd, kube-apiserver, kube-controller-manager, and kwok in the
//! place of the kubelets.

mod audit;
mod objects;
mod start;

pub(crate) use start::flag;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

pub use audit::{AuditEvent, AuditUser, ObjectRef, ResponseStatus};
pub use objects::pod_template;
pub use start::ControlPlaneOptions;
use start::Plan;

use crate::error::{Error, Result};
use crate::patience::patience;
use crate::process::Process;
use crate::session::{Finished, Session};
use crate::spec::Spec;

/// The fake Node on which all Pods are.
pub const NODE: &str = "lab-node";
/// Who the laboratory is to the API server: a member of `system:masters`.
pub const ADMIN: &str = "lab-admin";
/// What the laboratory's own clients call themselves.
pub const USER_AGENT: &str = "lab";

const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const KWOK: &str = "system:kwok";
const KUBECTL_LIMIT: Duration = Duration::from_secs(60);

/// A running control plane.
pub struct ControlPlane {
    session: Session,
    plan: Plan,
    users: AtomicU32,
    etcd: Process,
    api_server: Process,
    controller_manager: Process,
    /// A real node needs nobody who plays one.
    kwok: Option<Process>,
}

impl ControlPlane {
    /// The address of the API server.
    pub fn url(&self) -> &str {
        &self.plan.url
    }

    /// The kubeconfig of [`ADMIN`].
    pub fn kubeconfig(&self) -> &Path {
        &self.plan.admin
    }

    /// A kubeconfig with a client certificate for another user: that is how the audit log tells clients apart.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let plain: String =
            user.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        self.plan.kubeconfig(&format!("{plain}-{number}"), user, groups)
    }

    /// A kubeconfig with a token of a service account, as its Pods have one; it holds for a day. The audit log knows the account
    /// as `system:serviceaccount:<namespace>:<account>`.
    pub async fn kubeconfig_with_token(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let token = self.token(namespace, account).await?;
        self.plan.kubeconfig_of_token(&format!("{namespace}-{account}-{number}"), account, &token)
    }

    /// A client as [`ADMIN`]. It belongs to the runtime that it is made on: make one in each test.
    pub async fn client(&self) -> Result<kube::Client> {
        self.client_with(&self.plan.admin).await
    }

    /// A client with the identity in a kubeconfig of [`ControlPlane::kubeconfig_for`] or
    /// [`ControlPlane::kubeconfig_with_token`].
    pub async fn client_with(&self, kubeconfig: &Path) -> Result<kube::Client> {
        client(kubeconfig, self.api_server.log()).await
    }

    /// The `kubectl` of the same version.
    pub fn kubectl(&self) -> &Path {
        &self.plan.tools.kubectl
    }

    /// Runs `kubectl` as [`ADMIN`] to its end, whatever its exit status, with `input` on its standard input.
    pub async fn kubectl_run(&self, args: &[&str], input: &str) -> Result<Finished> {
        self.kubectl_run_as(&self.plan.admin, args, input).await
    }

    /// Runs `kubectl` with another kubeconfig. What it is given as `--timeout=30s` is a deadline as well, and scaled like all.
    pub async fn kubectl_run_as(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Result<Finished> {
        let spec = Spec::new("kubectl", &self.plan.tools.kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            // Shared, so that not every call asks the server for all that it serves.
            .arg("--cache-dir")
            .arg(self.plan.folder.join("kubectl-cache"))
            .args(args.iter().map(|arg| deadline(arg)))
            .input(input);
        self.session.run(spec, KUBECTL_LIMIT).await
    }

    /// The file that takes the audit log.
    pub fn audit_log(&self) -> &Path {
        &self.plan.audit_log
    }

    /// All requests so far, but for those of the control plane itself.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.plan.audit_log, 0, &[])
    }

    /// The requests so far in which one of these words occurs, such as a namespace.
    pub fn audit_about(&self, words: &[&str]) -> Result<Vec<AuditEvent>> {
        audit::read(&self.plan.audit_log, 0, words)
    }

    /// How long the audit log is by now: where to go on reading with [`ControlPlane::audit_from`]. All requests that have
    /// been answered stand before it.
    pub fn audit_mark(&self) -> u64 {
        std::fs::metadata(&self.plan.audit_log).map_or(0, |log| log.len())
    }

    /// The requests since a mark in which one of these words occurs: of a log of hundreds of megabytes the end.
    pub fn audit_from(&self, mark: u64, words: &[&str]) -> Result<Vec<AuditEvent>> {
        audit::read(&self.plan.audit_log, mark, words)
    }

    /// The requests of one user so far.
    pub fn audit_of(&self, user: &str) -> Result<Vec<AuditEvent>> {
        Ok(self.audit()?.into_iter().filter(|event| event.user.username == user).collect())
    }

    /// The session that it runs in.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The API server: to pause it, or to measure it.
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// etcd, kube-apiserver, kube-controller-manager and, where there is one, kwok, in this order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        [&self.etcd, &self.api_server, &self.controller_manager].into_iter().chain(&self.kwok)
    }
}

async fn client(kubeconfig: &Path, log: &Path) -> Result<kube::Client> {
    crate::http::install_crypto();
    let doing = || format!("making a client from {}", kubeconfig.display());
    let text = Kubeconfig::read_from(kubeconfig).map_err(Error::request(doing(), log))?;
    let mut config = kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default())
        .await
        .map_err(Error::request(doing(), log))?;
    // Taken from the environment, and of no use for loopback.
    config.proxy_url = None;
    config.headers.push((axum::http::header::USER_AGENT, axum::http::HeaderValue::from_static(USER_AGENT)));
    kube::Client::try_from(config).map_err(Error::request(doing(), log))
}

/// An argument of kubectl; a timeout in it is this machine's.
fn deadline(arg: &str) -> String {
    let seconds = arg.strip_prefix("--timeout=").and_then(|span| span.strip_suffix('s')?.parse().ok());
    match seconds.map(Duration::from_secs) {
        Some(limit) => format!("--timeout={}s", patience(limit).as_secs()),
        None => arg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_timeout_is_scaled() {
        let scaled = format!("--timeout={}s", patience(Duration::from_secs(30)).as_secs());
        assert_eq!(deadline("--timeout=30s"), scaled);
        for other in ["--timeout=soon", "--for=condition=Established", "30s"] {
            assert_eq!(deadline(other), other);
        }
    }
}
