//! What GitOps controllers bring: how they judge an object, and the definitions of their own kinds. The controllers themselves
//! do not run in the laboratory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::random::hex;
use crate::session::Session;
use crate::spec::Spec;
use crate::toolchain::gitops_health;

/// The largest module is that of Argo CD, 55 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
const HEALTH_LIMIT: Duration = Duration::from_secs(60);

/// A definition, and the Go module that it is published in.
struct Definition {
    module: &'static str,
    version: &'static str,
    /// As in a go.sum.
    sum: &'static str,
    /// Its place in the module.
    file: &'static str,
}

/// The kinds that `examples/` uses.
const DEFINITIONS: &[Definition] = &[
    Definition {
        module: "github.com/argoproj/argo-cd/v3",
        version: "v3.5.7",
        sum: "h1:Xm1BF+I5OgDKUG3SDK49vn2/Y5AMyaNVko+/JT08gj0=",
        file: "manifests/crds/application-crd.yaml",
    },
    Definition {
        module: "github.com/fluxcd/source-controller",
        version: "v1.9.6",
        sum: "h1:nG534/bI6nVpyHra7ONAk6xDB3xPsVT+EOLHZHXPrrc=",
        file: "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
    },
    Definition {
        module: "github.com/fluxcd/kustomize-controller",
        version: "v1.9.6",
        sum: "h1:XB+G3A0mky0j5uVHZWv4oSlS2RvZBoNIUhstIvY0JKE=",
        file: "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
    },
    Definition {
        module: "github.com/fluxcd/helm-controller",
        version: "v1.6.4",
        sum: "h1:u/Ew7LehrwDQaE/NqWdaB3XnNDCxRGDcp1FZl7RKj4g=",
        file: "config/crd/bases/helm.toolkit.fluxcd.io_helmreleases.yaml",
    },
];

/// What Flux and Argo CD say about an object.
#[derive(Debug, Clone, Deserialize)]
pub struct Health {
    /// kstatus: Flux, where a Kustomization has no expressions for the kind, and others.
    pub kstatus: Seen,
    /// Argo CD, by a health check of ours.
    pub lua: Seen,
    /// Flux, by expressions of ours.
    pub cel: Seen,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// In one word.
    pub status: String,
    /// In a sentence; Flux' expressions have none.
    pub message: String,
}

/// The libraries and the definitions.
#[derive(Clone)]
pub struct GitOps {
    session: Session,
    program: PathBuf,
    definitions: Vec<PathBuf>,
}

impl GitOps {
    /// Finds them in the cache, and builds or downloads what is not there.
    pub async fn find_or_build(session: &Session) -> Result<Self> {
        let program = gitops_health(session).await?;
        let mut definitions = Vec::new();
        for definition in DEFINITIONS {
            definitions.push(definition.find_or_download(session).await?);
        }
        Ok(Self { session: session.clone(), program, definitions })
    }

    /// The program that asks the libraries.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The files of the CustomResourceDefinitions.
    pub fn definitions(&self) -> &[PathBuf] {
        &self.definitions
    }

    /// What is seen in an object: with `lua`, a health check of Argo CD, and `cel`, an entry of a Flux Kustomization's
    /// `healthCheckExprs`.
    pub async fn health(&self, object: &Value, lua: &str, cel: &Value) -> Result<Health> {
        let doing = "asking the GitOps controllers' libraries";
        let spec = Spec::new("gitops-health", &self.program)
            .args(["-lua", lua, "-cel", &cel.to_string()])
            .input(object.to_string());
        let answer = self.session.run(spec, HEALTH_LIMIT).await?.success(doing)?;
        serde_json::from_str(&answer.stdout)
            .map_err(|error| Error::setup(doing, error.to_string(), "see lab/toolchain/gitops/main.go"))
    }
}

/// What `go mod download -json` prints.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Downloaded {
    dir: PathBuf,
    sum: String,
    error: String,
}

impl Definition {
    async fn find_or_download(&self, session: &Session) -> Result<PathBuf> {
        let source = Path::new(self.file);
        let name = source.file_name().unwrap_or(source.as_os_str());
        let pin = format!("{}@{} {} {}", self.module, self.version, self.sum, self.file);
        let digest = hex(&Sha256::digest(pin));
        let key = format!(
            "definition-{}-{}",
            Path::new(name).file_stem().unwrap_or(name).to_string_lossy(),
            digest.get(..12).unwrap_or(&digest)
        );
        let fill = |folder: PathBuf| async move {
            let module = self.download(session).await?;
            let (from, to) = (module.join(self.file), folder.join(name));
            // Not as a copy of the file: those of the module cache may not be written, or removed.
            let text = std::fs::read(&from).map_err(Error::path("reading", &from))?;
            std::fs::write(&to, text).map_err(Error::path("writing", &to))
        };
        Ok(session.cache().entry(&key, session.voice(), fill).await?.join(name))
    }

    /// The folder of the module.
    async fn download(&self, session: &Session) -> Result<PathBuf> {
        let what = format!("{}@{}", self.module, self.version);
        session.say(&format!("downloading {what}, once"));
        let spec = Spec::new("go-download", "go")
            .inherit_env()
            .args(["mod", "download", "-json"])
            .arg(what.as_str());
        let finished = session.run(spec, DOWNLOAD_LIMIT).await?;
        let doing = || format!("downloading {what}");
        let answer: Downloaded = serde_json::from_str(&finished.stdout).map_err(|_| {
            Error::setup(doing(), finished.stderr.trim(), "the Go module proxy (GOPROXY) has to be reachable")
        })?;
        if !answer.error.is_empty() {
            let remedy = "the Go module proxy (GOPROXY) has to be reachable";
            return Err(Error::setup(doing(), answer.error, remedy));
        }
        if answer.sum != self.sum {
            let problem = format!("its checksum is {}, and not {}", answer.sum, self.sum);
            let remedy = "it is not what was pinned: look into it before lab/src/gitops.rs is changed";
            return Err(Error::setup(doing(), problem, remedy));
        }
        Ok(answer.dir)
    }
}
