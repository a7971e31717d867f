//! What the operator tells Kubernetes, as it happens: Events on the policy, its own objects, and what it scales.

use std::time::SystemTime;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::cluster::{NAMESPACE, TARGET, objects, text};

/// One thing that was told.
#[derive(Debug, Clone)]
pub(super) enum News {
    Event(Told),
    Remediation(Remediation),
    Undo(Undo),
    Incident(Incident),
    /// How many replicas the Deployment shall have.
    Replicas(i32),
}

/// An Event on the policy.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) uid: String,
    pub(super) at: SystemTime,
    pub(super) reason: String,
    pub(super) note: String,
}

/// A LatencyRemediation as it is now.
#[derive(Debug, Clone, Default)]
pub(super) struct Remediation {
    pub(super) name: String,
    pub(super) action: String,
    pub(super) cause: String,
    pub(super) confidence: String,
    /// The session that it is about.
    pub(super) pid: Option<i64>,
    /// From how many replicas to how many it scales.
    pub(super) scale: Option<(i64, i64)>,
    pub(super) phase: String,
    pub(super) effect: String,
    pub(super) outcome: String,
    /// When the intent was written down, which is before the effect.
    pub(super) began_at: Option<SystemTime>,
    /// When it was written down, to the second.
    pub(super) created_at: Option<SystemTime>,
    /// In the operator's words.
    pub(super) message: String,
    /// When the effect was sent.
    pub(super) acted_at: Option<SystemTime>,
}

/// What a LatencyRemediation still owes, as it is now.
#[derive(Debug, Clone, Default)]
pub(super) struct Undo {
    /// The remediation's name.
    pub(super) name: String,
    /// None, Pending, Done, Contested or Abandoned.
    pub(super) state: String,
    /// To how many replicas it goes back.
    pub(super) baseline: Option<i64>,
}

/// A LatencyIncident as it is now.
#[derive(Debug, Clone, Default)]
pub(super) struct Incident {
    /// When the breach was believed, the last time.
    pub(super) opened_at: Option<SystemTime>,
    pub(super) phase: String,
    pub(super) outcome: String,
    pub(super) closed_at: Option<SystemTime>,
}

/// Everything that is there already, and everything that follows. It never ends: watches that fail begin again.
pub(super) fn all(client: &Client) -> impl Stream<Item = News> {
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let on_policy = format!("regarding.kind=LatencyPolicy,regarding.name={TARGET}");
    let events = watcher(events, watcher::Config::default().fields(&on_policy));
    let events = events.default_backoff().applied_objects();
    let events = events.filter_map(async |event| event.ok().map(|event| News::Event(told(event))));
    let remediations = follow(client, "LatencyRemediation", "latencyremediations");
    let remediations = remediations.flat_map(|object| {
        let owed = undo(&object).map(News::Undo);
        futures::stream::iter(std::iter::once(News::Remediation(remediation(&object))).chain(owed))
    });
    let incidents = follow(client, "LatencyIncident", "latencyincidents");
    let incidents = incidents.map(|object| News::Incident(incident(&object)));
    futures::stream::select_all([
        events.boxed(),
        remediations.boxed(),
        incidents.boxed(),
        replicas(client).boxed(),
    ])
}

fn replicas(client: &Client) -> impl Stream<Item = News> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let target = watcher::Config::default().fields(&format!("metadata.name={TARGET}"));
    let changes = watcher(deployments, target).default_backoff().applied_objects();
    changes.filter_map(async |deployment| Some(News::Replicas(deployment.ok()?.spec?.replicas?)))
}

fn follow(client: &Client, kind: &str, plural: &str) -> BoxStream<'static, DynamicObject> {
    let objects = objects(client.clone(), kind, plural);
    let changes = watcher(objects, watcher::Config::default()).default_backoff().applied_objects();
    changes.filter_map(async |object| object.ok()).boxed()
}

fn told(event: Event) -> Told {
    Told {
        uid: event.uid().unwrap_or_default(),
        at: event.event_time.as_ref().map_or_else(SystemTime::now, |time| time.0.into()),
        reason: event.reason.unwrap_or_default(),
        note: event.note.unwrap_or_default(),
    }
}

/// Where an action says which session it is about.
const PIDS: [&str; 3] = [
    "/spec/action/cancelQuery/session/pid",
    "/spec/action/terminateQuery/session/pid",
    "/spec/action/terminateIdle/target/session/pid",
];

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}

fn remediation(object: &DynamicObject) -> Remediation {
    let own = |pointer: &str| text(&object.data, pointer).to_owned();
    Remediation {
        name: object.name_any(),
        action: own("/spec/action/type"),
        cause: own("/spec/cause/name"),
        confidence: own("/spec/cause/confidence"),
        pid: PIDS.iter().find_map(|pointer| number(&object.data, pointer)),
        scale: number(&object.data, "/spec/action/scale/from")
            .zip(number(&object.data, "/spec/action/scale/to")),
        phase: own("/status/phase"),
        effect: own("/status/effect"),
        outcome: own("/status/outcome"),
        began_at: time(&object.data, "/status/executing/startedAt"),
        acted_at: time(&object.data, "/status/actedAt"),
        created_at: object.metadata.creation_timestamp.as_ref().map(|time| time.0.into()),
        message: own("/status/message"),
    }
}

fn undo(object: &DynamicObject) -> Option<Undo> {
    let state = object.data.pointer("/status/rollback/state")?.as_str()?.to_owned();
    Some(Undo {
        name: object.name_any(),
        state,
        baseline: number(&object.data, "/status/rollback/change/replicas/baseline"),
    })
}

fn incident(object: &DynamicObject) -> Incident {
    Incident {
        opened_at: time(&object.data, "/status/reopened/at").or(time(&object.data, "/spec/openedAt")),
        phase: text(&object.data, "/status/phase").to_owned(),
        outcome: text(&object.data, "/status/outcome").to_owned(),
        closed_at: time(&object.data, "/status/closedAt"),
    }
}

fn time(value: &Value, pointer: &str) -> Option<SystemTime> {
    let time = value.pointer(pointer)?.clone();
    serde_json::from_value::<MicroTime>(time).ok().map(|time| time.0.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_remediation_is_read_from_its_object() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation", "metadata": {"name": "one"},
            "spec": {"action": {"type": "CancelQuery", "cancelQuery": {"session": {"pid": 42}}}, "cause": {"name": "RunawayQuery", "confidence": "Certain"}},
            "status": {"phase": "Verifying", "actedAt": "2026-11-23T07:00:00.5Z"},
        }))
        .unwrap();
        let read = remediation(&object);
        assert_eq!((read.name.as_str(), read.pid, read.phase.as_str()), ("one", Some(42), "Verifying"));
        assert_eq!((read.cause.as_str(), read.confidence.as_str()), ("RunawayQuery", "Certain"));
        let later = read.acted_at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(later.subsec_millis(), 500);
        assert!(read.outcome.is_empty() && read.scale.is_none() && undo(&object).is_none());
    }

    #[test]
    fn what_was_scaled_and_is_owed_is_read_from_its_object() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation", "metadata": {"name": "one"},
            "spec": {"action": {"type": "Scale", "scale": {"targetRef": {"name": "orders-api"}, "from": 2, "to": 4}}},
            "status": {"phase": "Executing", "rollback": {"state": "Pending", "change": {"type": "Replicas", "replicas": {"baseline": 2, "wrote": 4}}}},
        }))
        .unwrap();
        let read = remediation(&object);
        assert_eq!((read.action.as_str(), read.pid, read.scale), ("Scale", None, Some((2, 4))));
        let owed = undo(&object).unwrap();
        assert_eq!((owed.name.as_str(), owed.state.as_str(), owed.baseline), ("one", "Pending", Some(2)));
    }
}
