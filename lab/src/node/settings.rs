//! The files by which the programs of a node are told what to do.

use std::path::Path;

use serde_json::{Value, json};

use crate::bottle::NODE_ADDRESS;
use crate::packages::Programs;

/// The image of the process that holds a Pod's namespaces.
pub(super) const PAUSE: &str = "latency-operator-lab/pause:1";
const DOMAIN: &str = "cluster.local";

/// What differs from node to node.
pub(super) struct Numbered {
    /// Its number, from 1.
    pub(super) number: u8,
    /// Its name.
    pub(super) name: String,
    /// Its address.
    pub(super) address: String,
    /// The addresses of its Pods.
    pub(super) pods: String,
}

impl Numbered {
    pub(super) fn new(number: u8) -> Self {
        let address = if number == 1 { NODE_ADDRESS.to_owned() } else { format!("198.18.0.{number}") };
        Self { number, name: format!("node-{number}"), address, pods: format!("198.18.{}.0/24", 6 + number) }
    }
}

/// containerd's, as TOML.
pub(super) fn containerd(folder: &Path, socket: &Path, network: &Path, programs: &Programs) -> String {
    let path = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        r#"version = 2
root = {root}
state = {state}
[grpc]
address = {socket}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Where the caller itself may not lower its score, runc would fail.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {network}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = {runc}
"#,
        root = path(&folder.join("root")),
        state = path(&socket.with_extension("state")),
        socket = path(socket),
        plugins = path(&programs.program("usr/lib/cni")),
        network = path(network),
        runc = path(&programs.program("usr/sbin/runc")),
    )
}

/// How Pods get their network.
pub(super) fn network(node: &Numbered) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": node.name,
        "plugins": [{
            "type": "bridge",
            "bridge": format!("pods{}", node.number),
            "isGateway": true,
            // A Pod may reach itself through its own Service.
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": node.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// The kubelet's.
pub(super) fn kubelet(node: &Numbered, folder: &Path, socket: &Path, group: &str) -> Value {
    // Above what nodes of one bottle share.
    let port = 10_250 + 10 * u16::from(node.number);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": port,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": port + 1,
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{group}"),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // It listens in the bottle only.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "localStorageCapacityIsolation": false,
        "evictionHard": {"memory.available": "10Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": DOMAIN,
        // Names outside of the cluster lead nowhere.
        "resolvConf": "",
        "podLogsDir": folder.join("logs"),
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
        "maxPods": 60,
        "shutdownGracePeriod": "0s",
    })
}

/// kube-proxy's.
pub(super) fn kube_proxy(kubeconfig: &Path, name: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clientConnection": {"kubeconfig": kubeconfig},
        "conntrack": {"maxPerCore": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

/// CoreDNS'.
pub(super) fn corefile(kubeconfig: &Path) -> String {
    format!(
        "{DOMAIN}:53 {{\n  bind {NODE_ADDRESS}\n  errors\n  kubernetes {DOMAIN} {{\n    kubeconfig {} lab\n    ttl 1\n  }}\n}}\n\
         .:53 {{\n  bind {NODE_ADDRESS}\n  template ANY ANY {{\n    rcode NXDOMAIN\n  }}\n}}\n",
        kubeconfig.display()
    )
}
