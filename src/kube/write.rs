//! Writing to the API server: bounded in time, counted, and honest about what is known afterwards.

use std::fmt::Debug;
use std::time::Duration;

use controller::objects::Version;
use controller::ports::{WriteError, Written};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connections::secrets::brief;
use crate::telemetry::Metrics;

/// How long an answer to a write is waited for; after that it is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Creates an object under its deterministic name.
pub(crate) async fn create<K>(api: &Api<K>, object: &K, kind: &str, metrics: &Metrics) -> Written<K>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams::default();
    counted(api.create(&params, object), kind, metrics).await
}

/// Replaces an object's status, if the object still has that version. Nothing else of it is sent: the API server takes the
/// rest from what is stored.
pub(crate) async fn status<K>(
    api: &Api<K>,
    name: &str,
    version: &Version,
    status: &impl Serialize,
    kind: &str,
    metrics: &Metrics,
) -> Written<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let object = serde_json::json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": name, "resourceVersion": version.0},
        "status": status,
    });
    let params = PostParams::default();
    counted(api.replace_subresource("status", name, &params, &object), kind, metrics).await
}

/// Leaves an object only these finalizers, if it still has that version.
pub(crate) async fn release<K>(
    api: &Api<K>,
    name: &str,
    version: &Version,
    finalizers: &[String],
    kind: &str,
    metrics: &Metrics,
) -> Written<K>
where
    K: Clone + Debug + DeserializeOwned,
{
    let patch = serde_json::json!({
        "metadata": { "resourceVersion": version.0, "finalizers": finalizers }
    });
    counted(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)), kind, metrics).await
}

/// Deletes exactly this version of an object.
pub(crate) async fn delete<K>(api: &Api<K>, name: &str, uid: &str, version: &Version) -> Written<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    let preconditions =
        Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.0.to_string()) };
    let params = DeleteParams::default().preconditions(preconditions);
    api.delete(name, &params).await.map(drop).map_err(|error| classify(&error))
}

/// The answer to a write, bounded in time and counted.
pub(crate) async fn counted<K>(
    write: impl Future<Output = kube::Result<K>>,
    kind: &str,
    metrics: &Metrics,
) -> Written<K> {
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
