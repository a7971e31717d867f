//! The simulated API server against the real one. The operator's calls go through one trait, the port
//! [`controller::ports::Cluster`], as it is implemented on either. What people do is done to each in its own way. The same
//! calls in an order chosen by a seed have the same answers, leave the same objects, and are shown by a watch as the same
//! changes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod leases;
mod names;
mod policies;
mod remediations;
mod replicas;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use controller::ports::{WriteError, Written};
use engine::actions::ACTIONS;
use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use lab::{ControlPlane, ControlPlaneOptions, Session};
use latency_operator::clock::Clock;
use latency_operator::kube::budgets::Budgets;
use latency_operator::kube::{Cluster, Namespaces, Watched};
use latency_operator::observe::kubernetes::Workloads;
use latency_operator::scope::Scope;
use latency_operator::telemetry::Metrics;
use serde::de::DeserializeOwned;
use sim::world::api::{Answer, ApiError};

/// The port on Kubernetes, for one namespace.
fn cluster(client: &Client, namespace: &str) -> Cluster {
    let scope = Scope::Namespace(namespace.to_owned());
    // Nothing is asked of the watches: they need not run.
    let (workloads, _) = Workloads::watch(client, client, &scope, |_| ());
    let (requeue, _) = tokio::sync::mpsc::unbounded_channel();
    Cluster::new(
        (client.clone(), client.clone()),
        Clock::at(sim::world::START),
        Metrics::new(false),
        Budgets::new(Namespaces::new(&[])),
        ACTIONS.iter().map(|line| line.kind).collect::<Vec<_>>().into(),
        vec![Watched { scope, workloads, requeue }],
    )
}

/// What a write of the operator's has come to. No answer is lost here.
fn written<T>(answer: Written<T>) -> Answer<T> {
    answer.map_err(|error| match error {
        WriteError::Conflict(_) => ApiError::Conflict,
        WriteError::Gone(_) => ApiError::NotFound,
        WriteError::Refused(_) => ApiError::Refused,
        WriteError::Lost(why) => panic!("{why}"),
    })
}

/// What people's request to the real API server has come to.
fn understood<T>(answer: kube::Result<T>) -> Answer<T> {
    answer.map_err(|error| {
        let kube::Error::Api(status) = error else { panic!("{error}") };
        match status.code {
            409 => ApiError::Conflict,
            404 => ApiError::NotFound,
            400..=499 => ApiError::Refused,
            _ => panic!("{status:?}"),
        }
    })
}

/// From where a watch shows everything that comes.
async fn beginning<K: Clone + Debug + DeserializeOwned>(api: &Api<K>) -> String {
    let listed = api.list_metadata(&ListParams::default()).await.expect("a list");
    listed.metadata.resource_version.expect("a version")
}

/// So many changes as the real API server's watch shows them: an object, or that one has gone.
async fn watched<K: Clone + Debug + DeserializeOwned>(
    api: &Api<K>,
    since: &str,
    many: usize,
) -> Vec<Option<K>> {
    let stream = api.watch(&WatchParams::default(), since).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let mut shown = Vec::new();
    while shown.len() < many {
        let next = lab::within(Duration::from_secs(10), stream.try_next()).await;
        match next.unwrap_or_else(|| panic!("{} of {many} changes were shown", shown.len())) {
            Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => shown.push(Some(object)),
            Ok(Some(WatchEvent::Deleted(_))) => shown.push(None),
            Ok(Some(WatchEvent::Bookmark(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    shown
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
