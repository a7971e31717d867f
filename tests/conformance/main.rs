//! The simulated API server against the real one: the same calls in the same order, chosen by a seed, have the same
//! answers, leave the same objects, and are shown by a watch as the same changes. Of the calls that the operator makes, and
//! only of those.
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

use lab::{ControlPlane, ControlPlaneOptions, Session};
use sim::world::api::ApiError;

/// What the API server has answered, as the operator understands it.
type Answer<T> = Result<T, ApiError>;

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

/// Which of the objects that were returned have one and the same version: what an operator may conclude from versions.
fn same_as(versions: &[String]) -> Option<usize> {
    let last = versions.last()?;
    versions.iter().position(|version| version == last)
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
