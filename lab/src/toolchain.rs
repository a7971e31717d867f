//! The programs of the control plane, of a real node, helm, and one of our own that asks the libraries of GitOps controllers,
//! built from the Go modules in `lab/toolchain` and kept in the cache.
//!
//! No ready-made kube-apiserver is packaged anywhere, so it is built from source once; the modules pin the versions
//! with checksums.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::random::hex;
use crate::session::Session;
use crate::spec::Spec;

/// Several times what a cold build takes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Commands that are built from one Go module below `lab/toolchain`.
struct Module {
    /// Its folder.
    folder: &'static str,
    /// How the build is called in the cache: one module may be built in parts.
    name: &'static str,
    /// The module whose version names the build.
    source: &'static str,
    /// Program and package; `.` is the module itself.
    commands: &'static [(&'static str, &'static str)],
    /// How long a first build takes on two cores, measured.
    takes: &'static str,
    /// Whether the version has to be stamped in: otherwise the server calls itself `v0.0.0-master`.
    stamped: bool,
}

const KUBERNETES: Module = Module {
    folder: "kubernetes",
    name: "kubernetes",
    source: "k8s.io/kubernetes",
    commands: &[
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
    takes: "4 to 5 minutes",
    stamped: true,
};

const ETCD: Module = Module {
    folder: "etcd",
    name: "etcd",
    source: "go.etcd.io/etcd/server/v3",
    commands: &[("etcd", "go.etcd.io/etcd/server/v3")],
    takes: "half a minute",
    stamped: false,
};

const KWOK: Module = Module {
    folder: "kwok",
    name: "kwok",
    source: "sigs.k8s.io/kwok",
    commands: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
    takes: "1 to 2 minutes",
    stamped: false,
};

/// What a real node runs, of the same version as the control plane: an ordinary user cannot run it, so it is built apart.
const NODE: Module = Module {
    folder: "kubernetes",
    name: "node",
    source: "k8s.io/kubernetes",
    commands: &[
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ],
    takes: "a minute after the control plane, 5 minutes alone",
    stamped: true,
};

const COREDNS: Module = Module {
    folder: "coredns",
    name: "coredns",
    source: "github.com/coredns/coredns",
    commands: &[("coredns", "github.com/coredns/coredns")],
    takes: "2 to 3 minutes",
    stamped: false,
};

const HELM: Module = Module {
    folder: "helm",
    name: "helm",
    source: "helm.sh/helm/v3",
    commands: &[("helm", "helm.sh/helm/v3/cmd/helm")],
    takes: "1 to 2 minutes",
    stamped: false,
};

/// What Flux and Argo CD say about an object: a program of ours around the libraries that they are made of.
const GITOPS: Module = Module {
    folder: "gitops",
    name: "gitops",
    source: "github.com/fluxcd/cli-utils",
    commands: &[("gitops-health", ".")],
    takes: "a minute",
    stamped: false,
};

/// Where the programs of the control plane are.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The store of the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers of Deployments, ReplicaSets, namespaces and so on.
    pub kube_controller_manager: PathBuf,
    /// The command line client.
    pub kubectl: PathBuf,
    /// Plays the kubelet: Pods on its Node become ready without running anything.
    pub kwok: PathBuf,
}

impl Toolchain {
    /// Finds the programs in `KUBEBUILDER_ASSETS` or in the cache, and builds those that are nowhere.
    pub async fn find_or_build(session: &Session) -> Result<Self> {
        // One build after the other: each uses all cores already. What is cached costs only a look.
        let (kubernetes, etcd, kwok) = tokio::try_join!(
            Place::of(session, &KUBERNETES),
            Place::of(session, &ETCD),
            Place::of(session, &KWOK)
        )?;
        let kubernetes = kubernetes.programs(session).await?;
        let etcd = etcd.programs(session).await?;
        let kwok = kwok.programs(session).await?;
        Ok(Self {
            etcd: etcd.program("etcd"),
            kube_apiserver: kubernetes.program("kube-apiserver"),
            kube_controller_manager: kubernetes.program("kube-controller-manager"),
            kubectl: kubernetes.program("kubectl"),
            kwok: kwok.program("kwok"),
        })
    }

    /// The names of the programs with their paths, for people.
    pub fn programs(&self) -> [(&'static str, &Path); 5] {
        [
            ("etcd", &self.etcd),
            ("kube-apiserver", &self.kube_apiserver),
            ("kube-controller-manager", &self.kube_controller_manager),
            ("kubectl", &self.kubectl),
            ("kwok", &self.kwok),
        ]
    }
}

/// Where the programs of a real node are.
#[derive(Debug, Clone)]
pub struct NodeTools {
    /// Runs Pods, through containerd.
    pub kubelet: PathBuf,
    /// Makes Services reachable.
    pub kube_proxy: PathBuf,
    /// Assigns Pods to nodes.
    pub kube_scheduler: PathBuf,
    /// Answers names in the cluster.
    pub coredns: PathBuf,
}

impl NodeTools {
    /// Finds the programs in `KUBEBUILDER_ASSETS` or in the cache, and builds those that are nowhere.
    pub async fn find_or_build(session: &Session) -> Result<Self> {
        let (node, coredns) = tokio::try_join!(Place::of(session, &NODE), Place::of(session, &COREDNS))?;
        let node = node.programs(session).await?;
        let coredns = coredns.programs(session).await?;
        Ok(Self {
            kubelet: node.program("kubelet"),
            kube_proxy: node.program("kube-proxy"),
            kube_scheduler: node.program("kube-scheduler"),
            coredns: coredns.program("coredns"),
        })
    }

    /// The names of the programs with their paths, for people.
    pub fn programs(&self) -> [(&'static str, &Path); 4] {
        [
            ("kubelet", &self.kubelet),
            ("kube-proxy", &self.kube_proxy),
            ("kube-scheduler", &self.kube_scheduler),
            ("coredns", &self.coredns),
        ]
    }
}

/// The `helm` that lints, renders and installs the chart: in `KUBEBUILDER_ASSETS`, in the cache, or built now.
pub async fn helm(session: &Session) -> Result<PathBuf> {
    Ok(Place::of(session, &HELM).await?.programs(session).await?.program("helm"))
}

/// The program that says what GitOps controllers see in an object: in `KUBEBUILDER_ASSETS`, in the cache, or built now.
pub(crate) async fn gitops_health(session: &Session) -> Result<PathBuf> {
    Ok(Place::of(session, &GITOPS).await?.programs(session).await?.program("gitops-health"))
}

/// A folder with programs, and one that goes before it.
struct Programs {
    assets: Option<PathBuf>,
    built: PathBuf,
}

impl Programs {
    fn program(&self, name: &str) -> PathBuf {
        asset(self.assets.as_deref(), name).unwrap_or_else(|| self.built.join(name))
    }
}

/// What `KUBEBUILDER_ASSETS` has of this name.
fn asset(assets: Option<&Path>, name: &str) -> Option<PathBuf> {
    assets.map(|folder| folder.join(name)).filter(|path| path.is_file())
}

/// One module, with the key of its build.
struct Place {
    module: &'static Module,
    source: PathBuf,
    version: String,
    key: Option<String>,
    assets: Option<PathBuf>,
}

impl Place {
    async fn of(session: &Session, module: &'static Module) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("toolchain").join(module.folder);
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let mut place = Self { module, source, version: String::new(), key: None, assets };
        let all_given =
            module.commands.iter().all(|(name, _)| asset(place.assets.as_deref(), name).is_some());
        if all_given {
            return Ok(place);
        }
        let read = |name: &str| {
            let path = place.source.join(name);
            std::fs::read_to_string(&path).map_err(Error::path("reading", &path))
        };
        let (requirements, sums, code) = (read("go.mod")?, read("go.sum")?, go_files(&place.source)?);
        place.version = required_version(&requirements, module.source).ok_or_else(|| {
            Error::setup(
                format!("reading {}", place.source.join("go.mod").display()),
                format!("it does not require {}", module.source),
                "restore the file from the repository",
            )
        })?;
        let compiler = go_version(session, &place.source).await?;
        let mut hash = Sha256::new();
        let commands = module.commands.iter().map(|(_, package)| *package).collect::<Vec<_>>().join(" ");
        for part in [&requirements, &sums, &code, &compiler, &place.linker_flags(), &commands] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest = hex(&hash.finalize());
        let digest = digest.get(..12).unwrap_or(&digest);
        place.key = Some(format!("{}-{}-{digest}", module.name, place.version));
        Ok(place)
    }

    async fn programs(self, session: &Session) -> Result<Programs> {
        let Some(key) = &self.key else {
            return Ok(Programs { assets: self.assets, built: self.source });
        };
        let build = |folder: PathBuf| self.build(session, key, folder);
        let built = session.cache().entry(key, session.voice(), build).await?;
        Ok(Programs { assets: self.assets, built })
    }

    async fn build(&self, session: &Session, key: &str, folder: PathBuf) -> Result<()> {
        let log = session.cache().log(&format!("build-{key}"))?;
        let names: Vec<&str> = self.module.commands.iter().map(|(name, _)| *name).collect();
        let what = format!("building {} {}", names.join(", "), self.version);
        session.say(&format!("{what}: {} on two cores, once; log: {}", self.module.takes, log.display()));
        let mut output = folder.into_os_string();
        match self.module.commands {
            // The package of a single command need not be called like the command.
            [(name, _)] => output.push(format!("/{name}")),
            _ => output.push("/"),
        }
        let spec = Spec::new("go-build", "go")
            .inherit_env()
            .folder(&self.source)
            .log(log)
            // The caller's GOFLAGS may say otherwise: the sums in the repository decide what is built.
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags"])
            .arg(self.linker_flags())
            .arg("-o")
            .arg(output)
            .args(self.module.commands.iter().map(|(_, package)| package));
        session.run_long(spec, &what, BUILD_LIMIT).await
    }

    fn linker_flags(&self) -> String {
        let mut flags = String::from("-s -w");
        if self.module.stamped {
            let (major, minor) = major_minor(&self.version);
            for (name, value) in [
                ("gitVersion", self.version.as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
            ] {
                flags.push_str(&format!(" -X k8s.io/component-base/version.{name}={value}"));
            }
        }
        flags
    }
}

/// The text of all Go files of a module's folder: what is built from them depends on it.
fn go_files(folder: &Path) -> Result<String> {
    let reading = || Error::path("reading", folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(reading())? {
        files.push(entry.map_err(reading())?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "go"));
    files.sort();
    let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(Error::path("reading", path));
    files.iter().map(read).collect()
}

/// Asked in the folder of the module, whose go.mod may call for another compiler than the installed one.
async fn go_version(session: &Session, folder: &Path) -> Result<String> {
    let doing = "asking Go for its version";
    let spec = Spec::new("go-version", "go").inherit_env().folder(folder).arg("version");
    // The first call may download the compiler that go.mod asks for.
    let finished = session.run(spec, Duration::from_secs(300)).await?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    Err(Error::setup(
        doing,
        finished.stderr.trim(),
        "install Go (https://go.dev/dl), at least the version that lab/toolchain/kubernetes/go.mod names, or set \
         KUBEBUILDER_ASSETS to a folder with all the programs",
    ))
}

/// The version of `module` in the text of a go.mod.
fn required_version(requirements: &str, module: &str) -> Option<String> {
    requirements.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_ascii_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().map(str::to_owned)
    })
}

fn major_minor(version: &str) -> (&str, &str) {
    let mut parts = version.trim_start_matches('v').split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_of_our_own_is_built_again_when_its_code_changes() {
        let folder = std::env::temp_dir().join(format!("lab-go-{}", crate::random::name().unwrap()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("go.sum"), "sums").unwrap();
        std::fs::write(folder.join("main.go"), "package main").unwrap();
        std::fs::write(folder.join("health.go"), "// health\n").unwrap();
        assert_eq!(go_files(&folder).unwrap(), "// health\npackage main");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(go_files(&folder).is_err());
    }

    #[test]
    fn the_version_is_read_from_either_form_of_require() {
        let text = "module x\n\nrequire k8s.io/kubernetes v1.35.8\n\nrequire (\n\tsigs.k8s.io/kwok v0.7.0 // direct\n)\nreplace k8s.io/api => k8s.io/api v0.35.8\n";
        assert_eq!(required_version(text, "k8s.io/kubernetes").as_deref(), Some("v1.35.8"));
        assert_eq!(required_version(text, "sigs.k8s.io/kwok").as_deref(), Some("v0.7.0"));
        assert_eq!(required_version(text, "k8s.io/api"), None);
        assert_eq!(major_minor("v1.35.8"), ("1", "35"));
    }
}
