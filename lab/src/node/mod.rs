//! A real cluster in a [`bottle`](crate::bottle): the control plane, and nodes on which Pods really run.
//!
//! Each node is a containerd with a kubelet. They share the network of the bottle, and so one kube-proxy; a scheduler and
//! CoreDNS run beside them. Real are scheduling, probes, restarts, logs, exec, tokens, Jobs, Services, names, limits.
//! Not there: NetworkPolicy, metrics.k8s.io.

mod settings;
mod start;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::packages::Programs;
use crate::process::Process;
use crate::session::{Finished, Session};
use crate::spec::Spec;
use crate::toolchain::NodeTools;

/// The addresses of Services.
pub const SERVICES: &str = "198.19.0.0/24";
/// The address of the Service `kubernetes`.
pub(crate) const FIRST_SERVICE: &str = "198.19.0.1";

/// An image with next to nothing in it, for Pods that mount what they run from the machine: every node has it.
pub const EMPTY_IMAGE: &str = settings::PAUSE;

const IMPORT_LIMIT: Duration = Duration::from_secs(120);

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many nodes; at most 9.
    pub nodes: u8,
    /// Further arguments for kube-controller-manager.
    pub controller_manager_args: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { nodes: 1, controller_manager_args: Vec::new() }
    }
}

/// A running cluster.
pub struct Cluster {
    plane: ControlPlane,
    nodes: Vec<Node>,
    /// kube-scheduler, kube-proxy and CoreDNS.
    others: Vec<Process>,
}

/// One node: what runs its Pods.
struct Node {
    name: String,
    containerd: Process,
    kubelet: Process,
    socket: PathBuf,
    programs: Programs,
}

impl Cluster {
    /// Its control plane.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The session that it runs in.
    pub fn session(&self) -> &Session {
        self.plane.session()
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }

    /// Gives an image, a docker-archive, to every node.
    ///
    /// # Errors
    /// A node refuses it.
    pub async fn import(&self, image: &Path) -> Result<()> {
        let image = image.canonicalize().map_err(Error::path("looking for", image))?;
        for node in &self.nodes {
            let spec = node
                .programs
                .spec("ctr", "usr/bin/ctr")
                .arg("--address")
                .arg(&node.socket)
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(&image);
            let doing = format!("giving {} to {}", image.display(), node.name);
            self.session().run(spec, IMPORT_LIMIT).await?.success(&doing)?;
        }
        Ok(())
    }

    /// Makes a server that listens on loopback a Service, and forwards to it for as long as the answer lives.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn publish(
        &self,
        (namespace, name): (&str, &str),
        port: u16,
        loopback: u16,
    ) -> Result<Forward> {
        let forward = Forward::start(loopback).await?;
        let to = forward.address();
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                "spec": {"ports": [{"port": port, "targetPort": to.port()}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-1"), "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"port": to.port()}],
                "endpoints": [{"addresses": [to.ip().to_string()], "conditions": {"ready": true}}],
            },
        ]});
        let args = ["apply", "--server-side", "--filename", "-"];
        let applied = self.plane.kubectl_run(&args, &objects.to_string()).await?;
        applied.success(&format!("making the Service {namespace}/{name}"))?;
        Ok(forward)
    }

    /// Runs a shell script in which `kubectl` and `helm` are these and mean this cluster, to its end, whatever its exit status.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn shell(&self, script: &str, folder: &Path, limit: Duration) -> Result<Finished> {
        // kubectl and helm keep what they have learned at home: not in somebody's checkout.
        let home = self.session().folder().join("home");
        std::fs::create_dir_all(&home).map_err(Error::path("creating", &home))?;
        let spec = Spec::new("shell", "bash")
            .args(["-euo", "pipefail", "-c", script])
            .folder(folder)
            .env("HOME", &home)
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("PATH", self.search_path().await?);
        self.session().run(spec, limit).await
    }

    /// Where a shell finds kubectl and helm, and all others.
    ///
    /// # Errors
    /// Helm cannot be had.
    pub async fn search_path(&self) -> Result<OsString> {
        let helm = crate::toolchain::helm(self.session()).await?;
        let own = [self.plane.kubectl(), helm.as_path()].into_iter().filter_map(Path::parent);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all: Vec<PathBuf> = own.map(Path::to_owned).chain(std::env::split_paths(&path)).collect();
        std::env::join_paths(all)
            .map_err(|error| Error::io("putting a search path together")(std::io::Error::other(error)))
    }

    /// All that runs beside the control plane.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().flat_map(|node| [&node.containerd, &node.kubelet]).chain(&self.others)
    }
}

/// Finds, builds or downloads what a cluster runs: to be done outside, nothing can be fetched in a bottle.
///
/// # Errors
/// Something cannot be had.
pub async fn prepare(session: &Session) -> Result<()> {
    crate::toolchain::Toolchain::find_or_build(session).await?;
    NodeTools::find_or_build(session).await?;
    crate::toolchain::helm(session).await?;
    Programs::find(session, &crate::packages::CONTAINERS).await?;
    Ok(())
}
