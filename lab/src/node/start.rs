//! Starting a cluster: the control plane, then the nodes, then what makes them one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;

use super::settings::{self, Numbered, PAUSE};
use super::{Cluster, ClusterOptions, Node};
use crate::bottle;
use crate::control_plane::{ControlPlane, ControlPlaneOptions, flag};
use crate::error::{Error, Result};
use crate::image::{Archive, Entry};
use crate::packages::{CONTAINERS, Programs};
use crate::process::Process;
use crate::session::Session;
use crate::spec::Spec;
use crate::toolchain::NodeTools;

/// Many times what it takes on two cores.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Holds the namespaces of a Pod, and does nothing.
const PAUSE_SOURCE: &str = "#include <signal.h>\n#include <unistd.h>\nstatic void end(int s) { (void)s; _exit(0); }\n\
    int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }\n";

impl Cluster {
    /// Starts a cluster in the bottle that this program runs in, and waits until its nodes are ready.
    ///
    /// # Errors
    /// This program runs in none, or a part does not start.
    pub async fn start(session: &Session, options: ClusterOptions) -> Result<Self> {
        let tools = NodeTools::find_or_build(session).await?;
        let programs = Programs::find(session, &CONTAINERS).await?;
        let plane_options = ControlPlaneOptions {
            in_bottle: true,
            controller_manager_args: options.controller_manager_args,
            ..Default::default()
        };
        let (plane, pause) =
            tokio::try_join!(ControlPlane::start(session, plane_options), pause_image(session))?;
        let scheduler = scheduler(&plane, &tools).await?;
        let dns = dns(&plane, &tools).await?;
        let mut nodes = Vec::new();
        for number in 1..=options.nodes.clamp(1, 9) {
            nodes.push(Node::start(&plane, &tools, &programs, Numbered::new(number)).await?);
        }
        let proxy =
            proxy(&plane, &tools, &programs, nodes.first().map_or("node-1", |node| &node.name)).await?;
        let cluster = Self { plane, nodes, others: vec![scheduler, proxy, dns] };
        cluster.import(&pause).await?;
        let client = cluster.plane.client().await?;
        for node in &cluster.nodes {
            node.wait(client.clone()).await?;
        }
        Ok(cluster)
    }
}

impl Node {
    async fn start(
        plane: &ControlPlane,
        tools: &NodeTools,
        programs: &Programs,
        node: Numbered,
    ) -> Result<Self> {
        if node.address != bottle::NODE_ADDRESS {
            bottle::address(&node.address)?;
        }
        let (containerd, socket) = containerd(plane.session(), programs, &node).await?;
        let group = bottle::group(&node.name)?;
        let kubelet = kubelet(plane, tools, &group, &node, &socket).await?;
        Ok(Self { name: node.name, containerd, kubelet, socket, programs: programs.clone() })
    }

    async fn wait(&self, client: kube::Client) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(client);
        let look = || async {
            let node = nodes.get_opt(&self.name).await.ok().flatten()?;
            let tainted = node.spec?.taints.is_some_and(|taints| !taints.is_empty());
            let conditions = node.status?.conditions?;
            let is_ready = |one: &k8s_openapi::api::core::v1::NodeCondition| {
                one.type_ == "Ready" && one.status == "True"
            };
            (!tainted && conditions.iter().any(is_ready)).then_some(())
        };
        self.kubelet.ready(&format!("makes {} ready", self.name), READY_LIMIT, look).await
    }
}

async fn containerd(session: &Session, programs: &Programs, node: &Numbered) -> Result<(Process, PathBuf)> {
    let (name, folder) = session.new_folder("containerd", None)?;
    let network = folder.join("network");
    std::fs::create_dir(&network).map_err(Error::path("creating", &network))?;
    write(&network.join("10-lab.conflist"), &settings::network(node).to_string())?;
    // In the bottle /run is its own, and a short path.
    let socket = PathBuf::from(format!("/run/{name}.sock"));
    let config = folder.join("config.toml");
    write(&config, &settings::containerd(&folder, &socket, &network, programs))?;
    let spec = programs
        .spec("containerd", "usr/bin/containerd")
        .arg("--config")
        .arg(&config)
        .env("PATH", search_path(programs));
    let containerd = session.spawn_in(spec, name, &folder).await?;
    let look = || async { std::os::unix::net::UnixStream::connect(&socket).ok() };
    containerd.ready("listens", READY_LIMIT, look).await?;
    Ok((containerd, socket))
}

async fn kubelet(
    plane: &ControlPlane,
    tools: &NodeTools,
    group: &str,
    node: &Numbered,
    socket: &Path,
) -> Result<Process> {
    let session = plane.session();
    let kubeconfig =
        plane.kubeconfig_for(&format!("system:node:{}", node.name), &["system:nodes", "system:masters"])?;
    let (name, folder) = session.new_folder("kubelet", None)?;
    let config = folder.join("config.json");
    write(&config, &settings::kubelet(node, &folder, socket, group).to_string())?;
    let spec = Spec::new("kubelet", &tools.kubelet)
        .arg(flag("--config", &config))
        .arg(flag("--kubeconfig", &kubeconfig))
        .arg(flag("--root-dir", &folder.join("root")))
        .arg(flag("--cert-dir", &folder.join("certificates")))
        .arg(format!("--hostname-override={}", node.name))
        .arg(format!("--node-ip={}", node.address));
    session.spawn_in(spec, name, &folder).await
}

async fn scheduler(plane: &ControlPlane, tools: &NodeTools) -> Result<Process> {
    let kubeconfig = plane.kubeconfig_for("system:kube-scheduler", &["system:masters"])?;
    let spec = Spec::new("kube-scheduler", &tools.kube_scheduler)
        .arg(flag("--kubeconfig", &kubeconfig))
        .args(["--bind-address=127.0.0.1", "--leader-elect=false"])
        .arg(format!("--secure-port={}", plane.session().free_port()?));
    plane.session().spawn(spec).await
}

async fn proxy(plane: &ControlPlane, tools: &NodeTools, programs: &Programs, node: &str) -> Result<Process> {
    let session = plane.session();
    let kubeconfig = plane.kubeconfig_for("system:kube-proxy", &["system:masters"])?;
    let (name, folder) = session.new_folder("kube-proxy", None)?;
    let config = folder.join("config.json");
    write(&config, &settings::kube_proxy(&kubeconfig, node).to_string())?;
    let spec = programs
        .with_libraries(Spec::new("kube-proxy", &tools.kube_proxy))
        .arg(flag("--config", &config))
        .env("PATH", search_path(programs));
    session.spawn_in(spec, name, &folder).await
}

async fn dns(plane: &ControlPlane, tools: &NodeTools) -> Result<Process> {
    let session = plane.session();
    let kubeconfig = plane.kubeconfig_for("system:coredns", &["system:masters"])?;
    let (name, folder) = session.new_folder("coredns", None)?;
    let corefile = folder.join("Corefile");
    write(&corefile, &settings::corefile(&kubeconfig))?;
    let spec = Spec::new("coredns", &tools.coredns).arg("-conf").arg(&corefile);
    session.spawn_in(spec, name, &folder).await
}

/// containerd starts its shims, and kube-proxy `nft`, by name.
fn search_path(programs: &Programs) -> std::ffi::OsString {
    let own = ["usr/bin", "usr/sbin"].map(|folder| programs.program(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap_or(path)
}

async fn pause_image(session: &Session) -> Result<PathBuf> {
    let (_, folder) = session.new_folder("pause", None)?;
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    write(&source, PAUSE_SOURCE)?;
    let spec = Spec::new("cc", "cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source);
    session
        .run(spec, READY_LIMIT)
        .await?
        .success("compiling the program that holds Pods (package libc6-dev)")?;
    let file = folder.join("pause.tar");
    let image = Archive::new(PAUSE, &["/pause"]).entry(Entry::program("pause", &program));
    image.write(&file)?;
    Ok(file)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::path("writing", path))
}
