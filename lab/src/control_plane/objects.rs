//! Objects that most tests need: namespaces, and Deployments whose Pods become ready.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ControlPlane, NODE};
use crate::error::{Error, Result};

const OBJECT_LIMIT: Duration = Duration::from_secs(30);
/// Longer than anything that runs in a laboratory.
const TOKEN_SECONDS: u32 = 24 * 60 * 60;

impl ControlPlane {
    /// Creates a namespace and waits until Pods are accepted in it.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let client = self.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = object("Namespace", json!({"metadata": {"name": name}}))?;
        namespaces
            .create(&Default::default(), &namespace)
            .await
            .map_err(Error::request(format!("creating namespace {name}"), self.api_server.log()))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, name);
        let look = || async { accounts.get_opt("default").await.ok().flatten() };
        let what = format!("creates the default service account of {name}");
        self.controller_manager.ready(&what, OBJECT_LIMIT, look).await.map(drop)
    }

    /// Asks for a token of a service account.
    pub(super) async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = object("TokenRequest", json!({"spec": {"expirationSeconds": TOKEN_SECONDS}}))?;
        let doing = format!("asking for a token of {namespace}/{account}");
        let asked = accounts.create_token_request(account, &Default::default(), &request).await;
        let answer = asked.map_err(Error::request(doing, self.api_server.log()))?;
        Ok(answer.status.map(|status| status.token).unwrap_or_default())
    }

    /// Creates a Deployment whose Pods land on the fake Node, and waits until all of them are ready.
    ///
    /// The Pods carry the label `app: <name>` and a container `app` with the port `http` (8000).
    pub async fn deployment(&self, namespace: &str, name: &str, replicas: i32) -> Result<Deployment> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await?, namespace);
        let deployment = object(
            "Deployment",
            json!({
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": pod_template(name),
                },
            }),
        )?;
        deployments.create(&Default::default(), &deployment).await.map_err(Error::request(
            format!("creating Deployment {namespace}/{name}"),
            self.api_server.log(),
        ))?;
        self.deployment_ready(namespace, name, replicas).await
    }

    /// Waits until a Deployment has exactly this many replicas, and all of them are ready and of its latest version.
    pub async fn deployment_ready(&self, namespace: &str, name: &str, replicas: i32) -> Result<Deployment> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await?, namespace);
        let look = || async {
            let deployment = deployments.get_opt(name).await.ok().flatten()?;
            let status = deployment.status.as_ref()?;
            let counts = [status.replicas, status.ready_replicas, status.updated_replicas];
            let is_current = status.observed_generation == deployment.metadata.generation;
            let is_ready = counts.iter().all(|count| count.unwrap_or(0) == replicas);
            (is_current && is_ready).then_some(deployment)
        };
        let what = format!("brings Deployment {namespace}/{name} to {replicas} ready replicas");
        self.controller_manager.ready(&what, OBJECT_LIMIT, look).await
    }
}

/// The template of Pods that become ready in the laboratory: no scheduler runs, so the Node is set.
pub fn pod_template(name: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "app",
                "image": "registry.invalid/app:1",
                "ports": [{"name": "http", "containerPort": 8000}],
            }],
        },
    })
}

/// A typed object from its text.
pub(super) fn object<T: DeserializeOwned>(kind: &str, text: Value) -> Result<T> {
    serde_json::from_value(text)
        .map_err(|error| Error::io(format!("writing the {kind} down"))(std::io::Error::other(error)))
}
