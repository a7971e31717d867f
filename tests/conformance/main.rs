//! The simulated API server against the real one, through the port that the driver uses: the same calls in the same order,
//! chosen by a seed, have the same answers, leave the same objects, and are shown by a watch as the same changes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod leases;
mod policies;
mod remediations;
mod replicas;

use std::path::Path;
use std::sync::Arc;

use controller::ports::{ReadError, WriteError};
use kube::Client;
use lab::{ControlPlane, ControlPlaneOptions, Session};
use latency_operator::clock::Clock;
use latency_operator::kube::budgets::Budgets;
use latency_operator::telemetry::Metrics;
use sim::exec::Sim;
use sim::ports::Port;
use sim::process;
use sim::world::World;

/// Why a call failed, as far as a driver may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Conflict,
    Gone,
    Refused,
    Lost,
    Unread,
}

type Answer<T> = Result<T, Failed>;

impl From<WriteError> for Failed {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Conflict(_) => Self::Conflict,
            WriteError::Gone(_) => Self::Gone,
            WriteError::Refused(_) => Self::Refused,
            WriteError::Lost(_) => Self::Lost,
        }
    }
}

impl From<ReadError> for Failed {
    fn from(_: ReadError) -> Self {
        Self::Unread
    }
}

/// What people's calls answer.
fn understood<T>(answer: kube::Result<T>) -> Answer<T> {
    answer.map_err(|error| {
        let kube::Error::Api(status) = error else { panic!("{error}") };
        match status.code {
            409 => Failed::Conflict,
            404 => Failed::Gone,
            400..=499 => Failed::Refused,
            _ => panic!("{status:?}"),
        }
    })
}

/// The port on Kubernetes. Nothing is watched.
fn kubernetes(client: &Client) -> latency_operator::kube::Cluster {
    latency_operator::kube::Cluster::new(
        (client.clone(), client.clone()),
        Clock::at(sim::world::START),
        Metrics::new(false),
        Budgets::default(),
        Vec::new().into(),
        Vec::new(),
    )
}

/// The port on a simulated world, in which nothing goes wrong on the way.
struct Simulated {
    sim: Arc<Sim>,
    port: Port,
}

impl Simulated {
    fn new(world: World) -> Self {
        let sim = Sim::new(world);
        let port = sim::ports::of(&process::begin(&sim, 0)).cluster;
        Self { sim, port }
    }

    /// What a call through the port answers.
    fn ask<T, F>(&self, call: impl FnOnce(Port) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.sim.work(0, call(self.port.clone())).expect("an answer")
    }
}

/// Which of the versions that were returned are one and the same: what an operator may conclude from versions.
#[derive(Default)]
struct Versions(Vec<controller::objects::Version>);

impl Versions {
    fn same_as(&mut self, version: Option<controller::objects::Version>) -> Option<usize> {
        let version = version?;
        let known = self.0.iter().position(|known| *known == version);
        self.0.push(version);
        known
    }
}

#[tokio::test]
async fn the_simulated_api_server_answers_as_the_real_one() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let session = Session::start().await.expect("a session");
    let plane = ControlPlane::start(&session, ControlPlaneOptions::default()).await.expect("a control plane");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let crds = crds.to_str().expect("a path").to_owned();
    for args in [
        &["apply", "-f", &crds][..],
        &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"],
    ] {
        plane.kubectl_run(args, "").await.expect("kubectl").success("kubectl").expect("the definitions");
    }
    let client = plane.client().await.expect("a client");
    for seed in 1..=20 {
        let namespace = format!("conformance-{seed}");
        plane.namespace(&namespace).await.expect("a namespace");
        remediations::compare(&client, &namespace, seed).await;
        policies::compare(&client, &namespace, seed).await;
        leases::compare(&client, &namespace, seed).await;
    }
    for seed in 1..=4 {
        replicas::compare(&client, &format!("conformance-{seed}"), seed).await;
    }
}
