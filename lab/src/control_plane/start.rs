//! Starting the control plane, in the order in which its parts need each other.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use serde_json::{Value, json};

use super::{ADMIN, CONTROLLER_MANAGER, ControlPlane, KWOK, NODE, audit, client, objects};
use crate::bottle;
use crate::error::{Error, Result};
use crate::files;
use crate::http;
use crate::node;
use crate::pki::{Authority, Pair};
use crate::process::Process;
use crate::session::Session;
use crate::spec::Spec;
use crate::toolchain::Toolchain;

/// Ten times what it takes on two cores.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The controllers that the product and its tests meet. The names end in `-controller`; shorter ones are refused.
const CONTROLLERS: &[&str] = &[
    // Fills the built-in roles `view`, `edit` and `admin`: they are empty without it.
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    // Type-checks the expressions of admission policies.
    "validatingadmissionpolicy-status-controller",
];

/// How a control plane is started.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneOptions {
    /// Lets etcd wait for the disk, as in production: for measurements. Tests need not.
    pub fsync: bool,
    /// For real nodes: the control plane of a [`bottle`], which listens for Pods too, and has no fake Node.
    pub in_bottle: bool,
    /// Further arguments for kube-apiserver; a repeated flag overrides the laboratory's own.
    pub api_server_args: Vec<String>,
    /// Further arguments for kube-controller-manager, such as `--horizontal-pod-autoscaler-sync-period=1s`.
    pub controller_manager_args: Vec<String>,
}

/// What all parts need to know of each other.
pub(super) struct Plan {
    pub(super) tools: Toolchain,
    pub(super) folder: PathBuf,
    pub(super) url: String,
    pub(super) admin: PathBuf,
    pub(super) audit_log: PathBuf,
    authority: Authority,
    options: ControlPlaneOptions,
    etcd_url: String,
    api_port: u16,
    server: Pair,
    token_keys: (PathBuf, PathBuf),
}

impl ControlPlane {
    /// Starts a control plane and waits until Pods can become ready in it.
    pub async fn start(session: &Session, options: ControlPlaneOptions) -> Result<Self> {
        let tools = Toolchain::find_or_build(session).await?;
        let plan = Plan::new(session, tools, options)?;
        // Each waits for the one before: an API server that does not find its etcd, or a controller manager that
        // does not find its API server, looks again only seconds later.
        let etcd = plan.etcd(session).await?;
        let (name, folder) = session.new_folder("kube-apiserver", None)?;
        let api_server = plan.api_server(session, name, &folder).await?;
        let controller_manager = plan.controller_manager(session).await?;
        let kwok = if plan.options.in_bottle { None } else { Some(plan.kwok(session).await?) };
        let client = client(&plan.admin, api_server.log()).await?;
        tokio::try_join!(wait_for_accounts(&controller_manager, client.clone()), async {
            match &kwok {
                Some(kwok) => wait_for_node(kwok, client, api_server.log()).await,
                None => Ok(()),
            }
        })?;
        Ok(Self {
            session: session.clone(),
            plan,
            users: AtomicU32::new(0),
            etcd,
            api_server,
            controller_manager,
            kwok,
        })
    }

    /// `kill -9` for the API server: from now on connections are refused.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.api_server.kill().await.map(drop)
    }

    /// Starts the killed API server where it was, with all that it had stored, and waits until it answers.
    pub async fn start_api_server_again(&mut self) -> Result<()> {
        let name = self.api_server.name().to_owned();
        let folder = self.session.folder().join(&name);
        self.api_server = self.plan.api_server(&self.session, name, &folder).await?;
        Ok(())
    }
}

impl Plan {
    fn new(session: &Session, tools: Toolchain, options: ControlPlaneOptions) -> Result<Self> {
        let (_, folder) = session.new_folder("control-plane", None)?;
        let authority = Authority::create(&folder)?;
        let mut names =
            vec!["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        if options.in_bottle {
            names.extend([bottle::NODE_ADDRESS, node::FIRST_SERVICE]);
        }
        let server = authority.server("server", &names)?;
        let token_keys = authority.signing_key("service-account")?;
        let api_port = session.free_port()?;
        let url = format!("https://127.0.0.1:{api_port}");
        let admin = write_kubeconfig(&folder, &authority, &url, "admin", ADMIN, &["system:masters"])?;
        let etcd_url = format!("http://127.0.0.1:{}", session.free_port()?);
        let audit_log = folder.join("audit.log");
        Ok(Self {
            tools,
            folder,
            url,
            admin,
            audit_log,
            authority,
            options,
            etcd_url,
            api_port,
            server,
            token_keys,
        })
    }

    pub(super) fn kubeconfig(&self, file: &str, user: &str, groups: &[&str]) -> Result<PathBuf> {
        write_kubeconfig(&self.folder, &self.authority, &self.url, file, user, groups)
    }

    pub(super) fn kubeconfig_of_token(&self, file: &str, user: &str, token: &str) -> Result<PathBuf> {
        let identity = json!({ "token": token });
        write_identity(&self.folder, &self.authority, &self.url, file, user, &identity)
    }

    async fn etcd(&self, session: &Session) -> Result<Process> {
        let peer = format!("http://127.0.0.1:{}", session.free_port()?);
        let mut spec = Spec::new("etcd", &self.tools.etcd)
            .args(["--name", "lab", "--data-dir", "data", "--log-level", "warn"])
            .args(["--listen-client-urls", &self.etcd_url, "--advertise-client-urls", &self.etcd_url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("lab={peer}")]);
        if !self.options.fsync {
            spec = spec.arg("--unsafe-no-fsync");
        }
        let etcd = session.spawn(spec).await?;
        let health = format!("{}/health", self.etcd_url);
        let look = || async { http::get(&etcd, &health).await.ok() };
        etcd.ready("answers on /health", READY_LIMIT, look).await?;
        Ok(etcd)
    }

    async fn api_server(&self, session: &Session, name: String, folder: &Path) -> Result<Process> {
        let audit_policy = self.folder.join("audit-policy.json");
        std::fs::write(&audit_policy, audit::policy().to_string())
            .map_err(Error::path("writing", &audit_policy))?;
        let (private, public) = &self.token_keys;
        let spec = Spec::new("kube-apiserver", &self.tools.kube_apiserver)
            .arg(format!("--etcd-servers={}", self.etcd_url))
            .arg(format!("--secure-port={}", self.api_port))
            .args(self.network())
            .args(["--allow-privileged=true", "--authorization-mode=RBAC"])
            .arg(flag("--cert-dir", &self.folder))
            .arg(flag("--tls-cert-file", &self.server.certificate))
            .arg(flag("--tls-private-key-file", &self.server.key))
            .arg(flag("--client-ca-file", &self.authority.certificate()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag("--service-account-key-file", public))
            .arg(flag("--service-account-signing-key-file", private))
            .arg(flag("--audit-policy-file", &audit_policy))
            .arg(flag("--audit-log-path", &self.audit_log))
            // In megabytes: one file, so that nobody has to look for the rest.
            .arg("--audit-log-maxsize=10000")
            .args(&self.options.api_server_args);
        let api_server = session.spawn_in(spec, name, folder).await?;
        wait_for_api_server(&api_server, &self.admin).await?;
        Ok(api_server)
    }

    fn network(&self) -> Vec<String> {
        if self.options.in_bottle {
            return vec![
                "--bind-address=0.0.0.0".to_owned(),
                format!("--advertise-address={}", bottle::NODE_ADDRESS),
                format!("--service-cluster-ip-range={}", node::SERVICES),
                // The names of nodes are nowhere to be looked up.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
            ];
        }
        [
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            // Looked up in the routing table otherwise, which is empty on a machine without a network.
            "--advertise-address=127.0.0.1",
            // Beside kwok's addresses for Pods, 10.0.0.0/24.
            "--service-cluster-ip-range=10.96.0.0/24",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    async fn controller_manager(&self, session: &Session) -> Result<Process> {
        let kubeconfig = self.kubeconfig("controller-manager", CONTROLLER_MANAGER, &["system:masters"])?;
        let (private, _) = &self.token_keys;
        let spec = Spec::new("kube-controller-manager", &self.tools.kube_controller_manager)
            .arg(flag("--kubeconfig", &kubeconfig))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={}", session.free_port()?))
            .arg(flag("--cert-dir", &self.folder))
            .arg(flag("--tls-cert-file", &self.server.certificate))
            .arg(flag("--tls-private-key-file", &self.server.key))
            .arg(flag("--service-account-private-key-file", private))
            .arg(flag("--root-ca-file", &self.authority.certificate()))
            .arg("--leader-elect=false")
            // Its own brake must not be what a test of a storm measures.
            .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
            .arg(format!("--controllers={}", self.controllers().join(",")))
            .args(&self.options.controller_manager_args);
        session.spawn(spec).await
    }

    fn controllers(&self) -> Vec<&'static str> {
        let mut all = CONTROLLERS.to_vec();
        if self.options.in_bottle {
            // Takes the taint `not-ready` away: nothing would be scheduled.
            all.push("node-lifecycle-controller");
        }
        all
    }

    async fn kwok(&self, session: &Session) -> Result<Process> {
        let kubeconfig = self.kubeconfig("kwok", KWOK, &["system:masters"])?;
        let spec = Spec::new("kwok", &self.tools.kwok)
            .arg(flag("--kubeconfig", &kubeconfig))
            .arg("--manage-all-nodes=true");
        session.spawn(spec).await
    }
}

pub(crate) fn flag(name: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(path);
    text
}

async fn wait_for_api_server(api_server: &Process, kubeconfig: &Path) -> Result<()> {
    let client = client(kubeconfig, api_server.log()).await?;
    let look = || async {
        let request = axum::http::Request::get("/readyz").body(Vec::new()).ok()?;
        client.request_text(request).await.ok().filter(|text| text == "ok")
    };
    api_server.ready("answers ok on /readyz", READY_LIMIT, look).await.map(drop)
}

/// Pods are refused in a namespace until it has its `default` account.
async fn wait_for_accounts(controller_manager: &Process, client: kube::Client) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let look = || async { accounts.get_opt("default").await.ok().flatten() };
    controller_manager.ready("creates the default service account", READY_LIMIT, look).await.map(drop)
}

async fn wait_for_node(kwok: &Process, client: kube::Client, log: &Path) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let capacity = json!({"cpu": "1000", "memory": "1000Gi", "pods": "100000"});
    let node = objects::object(
        "Node",
        json!({
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
            "status": {"capacity": capacity, "allocatable": capacity},
        }),
    )?;
    nodes.create(&Default::default(), &node).await.map_err(Error::request("creating the fake Node", log))?;
    let look = || async {
        let node = nodes.get_opt(NODE).await.ok().flatten()?;
        let conditions = node.status?.conditions?;
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            .then_some(())
    };
    kwok.ready("makes the fake Node ready", READY_LIMIT, look).await
}

fn write_kubeconfig(
    folder: &Path,
    authority: &Authority,
    url: &str,
    file: &str,
    user: &str,
    groups: &[&str],
) -> Result<PathBuf> {
    let pair = authority.client(file, user, groups)?;
    let identity = json!({"client-certificate": pair.certificate, "client-key": pair.key});
    write_identity(folder, authority, url, file, user, &identity)
}

fn write_identity(
    folder: &Path,
    authority: &Authority,
    url: &str,
    file: &str,
    user: &str,
    identity: &Value,
) -> Result<PathBuf> {
    let path = folder.join(format!("{file}.kubeconfig"));
    // JSON is YAML; every client reads it.
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url, "certificate-authority": authority.certificate()}}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    });
    files::replace(&path, content.to_string().as_bytes())?;
    Ok(path)
}
