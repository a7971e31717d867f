//! Writing to the API server: bounded in time, counted, and honest about what is known afterwards.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connections::secrets::brief;
use crate::telemetry::Metrics;

/// A write without an answer for so long is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a write has not certainly succeeded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// Somebody else wrote first, or created it first. Nothing was written.
    #[error("somebody else was first: {0}")]
    Conflict(String),
    /// The object is not there. Nothing was written.
    #[error("it does not exist any more: {0}")]
    Gone(String),
    /// The API server refused. Nothing was written.
    #[error("the API server refused: {0}")]
    Refused(String),
    /// The answer was lost: it may have been written.
    #[error("the answer was lost: {0}")]
    Lost(String),
}

/// Creates an object under its deterministic name.
pub(crate) async fn create<K>(
    api: &Api<K>,
    object: &K,
    kind: &str,
    metrics: &Metrics,
) -> Result<K, WriteError>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams::default();
    counted(api.create(&params, object), kind, metrics).await
}

/// Replaces an object's status; the object's resourceVersion makes it a compare-and-swap.
pub(crate) async fn status<K>(
    api: &Api<K>,
    name: &str,
    object: &K,
    kind: &str,
    metrics: &Metrics,
) -> Result<K, WriteError>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams::default();
    counted(api.replace_status(name, &params, object), kind, metrics).await
}

/// Takes a finalizer of an object away, if the object is still the one that was read.
pub(crate) async fn release<K>(
    api: &Api<K>,
    name: &str,
    metadata: &ObjectMeta,
    finalizer: &str,
    kind: &str,
    metrics: &Metrics,
) -> Result<K, WriteError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let others: Vec<&String> =
        metadata.finalizers.iter().flatten().filter(|known| *known != finalizer).collect();
    let patch = serde_json::json!({
        "metadata": { "resourceVersion": metadata.resource_version, "finalizers": others }
    });
    counted(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)), kind, metrics).await
}

async fn counted<K>(
    write: impl Future<Output = kube::Result<K>>,
    kind: &str,
    metrics: &Metrics,
) -> Result<K, WriteError> {
    let written = match tokio::time::timeout(ANSWER_WITHIN, write).await {
        Ok(written) => written.map_err(|error| classify(&error)),
        Err(_) => Err(WriteError::Lost(format!("none within {} s", ANSWER_WITHIN.as_secs()))),
    };
    let result = match &written {
        Ok(_) => "ok",
        Err(WriteError::Conflict(_)) => "conflict",
        Err(WriteError::Gone(_) | WriteError::Refused(_) | WriteError::Lost(_)) => "error",
    };
    metrics.wrote(kind, result);
    written
}

pub(crate) fn classify(error: &kube::Error) -> WriteError {
    let message = brief(error);
    let kube::Error::Api(status) = error else { return WriteError::Lost(message) };
    match status.code {
        409 => WriteError::Conflict(message),
        404 => WriteError::Gone(message),
        // The server answers these without having tried, or having tried without success.
        400..=499 => WriteError::Refused(message),
        // 500, 503, 504: it may have been written before something behind the API server failed.
        _ => WriteError::Lost(message),
    }
}
