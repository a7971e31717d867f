//! What the API server was asked, by whom: the neutral witness of everything that reaches it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CONTROLLER_MANAGER, KWOK};
use crate::error::{Error, Result};

/// One line of the audit log: a request that has been answered, or a watch that has begun (and, again, ended).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// The same for the beginning and the end of one request.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// `ResponseStarted` for a watch that begins, `ResponseComplete`, or `Panic`.
    pub stage: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The verb as RBAC knows it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Who asked.
    pub user: AuditUser,
    /// What the client calls itself.
    #[serde(default)]
    pub user_agent: String,
    /// What was asked for; `None` for paths that are no resources.
    pub object_ref: Option<ObjectRef>,
    /// How it was answered; `None` at the beginning of a watch in old servers.
    pub response_status: Option<ResponseStatus>,
    /// What was sent: only for changes.
    pub request_object: Option<Value>,
    /// What is stored since then: only for changes of what the product is about.
    pub response_object: Option<Value>,
    /// When it arrived.
    pub request_received_timestamp: MicroTime,
    /// When this stage was reached.
    pub stage_timestamp: MicroTime,
}

/// The user of a request.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    /// The name.
    pub username: String,
    /// The groups, `system:authenticated` among them.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The object of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural, in lower case.
    pub resource: String,
    /// Empty for what has no namespace.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// Empty for the core group.
    pub api_group: String,
    /// Such as `v1`.
    pub api_version: String,
    /// Such as `scale` or `status`; empty for the object itself.
    pub subresource: String,
    /// The version that a change was conditional on.
    pub resource_version: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Deserialize)]
pub struct ResponseStatus {
    /// The HTTP status.
    #[serde(default)]
    pub code: u16,
    /// Why it was refused.
    #[serde(default)]
    pub reason: String,
    /// The message of a refusal.
    #[serde(default)]
    pub message: String,
}

impl AuditEvent {
    /// The HTTP status of the answer; 0 when there is none yet.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    /// Whether the request was for this resource (and `subresource`, empty for the object itself).
    pub fn is_for(&self, resource: &str, subresource: &str) -> bool {
        self.object_ref
            .as_ref()
            .is_some_and(|object| object.resource == resource && object.subresource == subresource)
    }

    /// Whether it was a change.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// What is recorded: every request of others than the control plane itself, changes with what was sent.
pub(super) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // A watch is recorded when it begins too: it may never end.
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            {"level": "None", "users": ["system:apiserver", CONTROLLER_MANAGER, KWOK]},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/openapi*"]},
            // Contents of secrets are nobody's business, even here.
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
            {"level": "Metadata", "verbs": ["get", "list", "watch"]},
            // With what is stored since then: who judges a run reads every version of these.
            {"level": "RequestResponse", "resources": [
                {"group": "latency-operator.dev"},
                {"group": "apps", "resources": ["deployments", "deployments/scale", "statefulsets", "statefulsets/scale"]},
                {"group": "coordination.k8s.io", "resources": ["leases"]},
            ]},
            {"level": "Request"},
        ],
    })
}

/// Reads the log; the API server writes a line before it answers, so what was answered is in there.
///
/// Only the lines in which one of `words` occurs are looked at, all of them where there is none: most of a long log is
/// somebody else's. What begins before `from` is left out.
pub(super) fn read(log: &Path, from: u64, words: &[&str]) -> Result<Vec<AuditEvent>> {
    let mut file = match std::fs::File::open(log) {
        // The first request has not been made yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::path("reading", log))?,
    };
    let mut text = Vec::new();
    // One byte earlier: what stood behind the last line break when the mark was set was being written.
    file.seek(SeekFrom::Start(from.saturating_sub(1))).map_err(Error::path("reading", log))?;
    file.read_to_end(&mut text).map_err(Error::path("reading", log))?;
    let text = String::from_utf8_lossy(&text);
    let text = if from == 0 { &*text } else { text.split_once('\n').map_or("", |(_, whole)| whole) };
    // What stands behind the last line break is being written right now.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| words.is_empty() || words.iter().any(|word| line.contains(word)))
        .map(|line| serde_json::from_str(line).map_err(Error::request("reading the audit log", log)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_an_unfinished_one_is_left() {
        let path = std::env::temp_dir().join(format!("lab-audit-{}", crate::random::name().unwrap()));
        let line = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/x/scale","verb":"patch","user":{"username":"latency-operator","groups":["system:authenticated"]},"sourceIPs":["127.0.0.1"],"userAgent":"lab","objectRef":{"resource":"deployments","namespace":"shop","name":"x","apiGroup":"apps","apiVersion":"v1","subresource":"scale"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-23T07:00:00.000001Z","stageTimestamp":"2026-11-23T07:00:00.000002Z"}"#;
        std::fs::write(&path, format!("{line}\n{{\"kind\":\"Ev")).unwrap();
        let events = read(&path, 0, &[]).unwrap();
        assert_eq!(read(&path, 0, &["nobody", "shop"]).unwrap().len(), 1);
        assert!(read(&path, 0, &["nobody"]).unwrap().is_empty());
        let second = u64::try_from(line.len() + 1).unwrap();
        std::fs::write(&path, format!("{line}\n{line}\n")).unwrap();
        let since = |mark| read(&path, mark, &[]).unwrap().len();
        assert_eq!([0, 1, second - 1, second, 2 * second].map(since), [2, 1, 1, 1, 0]);
        std::fs::remove_file(&path).unwrap();
        let [event] = events.as_slice() else { panic!("one event expected, got {events:?}") };
        assert!(event.is_for("deployments", "scale") && !event.is_for("deployments", ""));
        assert_eq!((event.code(), event.is_write()), (200, true));
        assert!(event.stage_timestamp.0 > event.request_received_timestamp.0);
    }
}
