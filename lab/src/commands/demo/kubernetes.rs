//! Who plays the Pods: kwok, for which the demo keeps a Gunicorn each, or a real node.

use std::path::Path;

use lab::{Cluster, ClusterOptions, ControlPlane, ControlPlaneOptions, Error, Process, Result, Session};

/// Who plays the Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Node {
    /// kwok: no root is needed. The demo runs a Gunicorn for each Pod and the operator as a process.
    Kwok,
    /// Two real nodes in private namespaces: the Gunicorns are Pods with probes and limits, the operator is what its chart
    /// installs from its image. Needs root.
    Real,
}

/// The control plane, and who plays the Pods.
pub(super) enum Kubernetes {
    Played(Box<ControlPlane>),
    Real(Box<Cluster>),
}

/// So many that four Pods that ask for half a processor each find a place on two cores.
const NODES: u8 = 2;

impl Kubernetes {
    pub(super) async fn start(session: &Session, node: Node, image: Option<&Path>) -> Result<Self> {
        match node {
            Node::Kwok => {
                let plane = ControlPlane::start(session, ControlPlaneOptions::default()).await?;
                Ok(Self::Played(Box::new(plane)))
            }
            Node::Real => {
                let image = image.ok_or_else(|| {
                    Error::setup(
                        "starting the demo on a real node",
                        "there is no image of the operator",
                        "`make demo NODE=real` builds it; `lab demo` is told with --image",
                    )
                })?;
                let image = std::path::absolute(image).map_err(Error::path("looking for", image))?;
                let options = ClusterOptions { nodes: NODES, ..Default::default() };
                let cluster = Box::new(Cluster::start(session, options).await?);
                cluster.import(&image).await?;
                Ok(Self::Real(cluster))
            }
        }
    }

    pub(super) fn plane(&self) -> &ControlPlane {
        match self {
            Self::Played(plane) => plane,
            Self::Real(cluster) => cluster.plane(),
        }
    }

    /// The cluster, where Pods really run.
    pub(super) fn real(&self) -> Option<&Cluster> {
        match self {
            Self::Played(_) => None,
            Self::Real(cluster) => Some(cluster),
        }
    }

    /// All that has to run.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.plane().processes().chain(self.real().into_iter().flat_map(Cluster::processes))
    }
}
