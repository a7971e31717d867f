//! Writing Events (`events.k8s.io/v1`) in the background: no decision waits for them.
//!
//! An Event's name is a hash of what it says, so that a new leader that finds the same thing does not publish it again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use controller::announcement::Announcement;
use controller::ports::Sink;
use controller::reasons::Reason;
use engine::model::PolicyRef;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::api::GROUP;
use crate::kube::watched::{self, Watched};
use crate::telemetry::Metrics;

/// The controller's name in every Event.
pub const CONTROLLER: &str = "latency-operator.dev/latency-operator";
/// Maximum number of Events that wait to be written; more are dropped and counted.
const QUEUE: usize = 1024;
/// `note` may have 1 kB.
const NOTE: usize = 1000;

/// One Event that is to be written.
#[derive(Debug, Clone)]
struct NewEvent {
    /// The object that it is about.
    regarding: ObjectReference,
    /// Another object that it concerns.
    related: Option<ObjectReference>,
    /// Why.
    reason: Reason,
    /// What was done or looked at, in one word.
    action: String,
    /// One sentence.
    note: String,
    /// What makes it the same Event: an equal one is not written twice.
    identity: String,
}

/// One Event on the policy and one on the target.
pub(super) struct Events {
    pub(super) publisher: Publisher,
    /// Where targets are known with their uids.
    pub(super) scopes: Vec<Watched>,
}

impl Sink for Events {
    fn wants(&self, announcement: &Announcement) -> bool {
        announcement.reason.is_some()
    }

    fn deliver(&self, announcement: &Announcement) {
        let Announcement { policy, target, action, note, identity, .. } = announcement;
        let Some(reason) = announcement.reason else { return };
        let target = target.as_ref().and_then(|target| {
            let watched = watched::of(&self.scopes, &policy.namespace)?;
            watched.workloads.reference(&policy.namespace, target)
        });
        let policy = reference(policy);
        let event = |regarding: ObjectReference, related| NewEvent {
            regarding,
            related,
            reason,
            action: action.clone(),
            note: note.clone(),
            identity: identity.clone(),
        };
        self.publisher.publish(event(policy.clone(), target.clone()));
        if let Some(target) = target {
            self.publisher.publish(event(target, Some(policy)));
        }
    }
}

fn reference(policy: &PolicyRef) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/v1alpha1")),
        kind: Some("LatencyPolicy".to_owned()),
        namespace: Some(policy.namespace.clone()),
        name: Some(policy.name.clone()),
        uid: Some(policy.uid.clone()),
        ..Default::default()
    }
}

/// Where Events are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<NewEvent>,
    metrics: Metrics,
}

impl Publisher {
    /// A publisher, and the future that writes what is handed in. It ends when all publishers are gone and everything has
    /// been written.
    pub fn new(
        client: Client,
        identity: String,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, mut waiting) = mpsc::channel::<NewEvent>(QUEUE);
        let counted = metrics.clone();
        let writer = async move {
            while let Some(new) = waiting.recv().await {
                let reason = new.reason.name;
                if write(&client, &identity, new).await {
                    counted.event(reason);
                } else {
                    counted.event_dropped();
                }
            }
        };
        (Self { queue, metrics }, writer)
    }

    /// Hands an Event in.
    fn publish(&self, new: NewEvent) {
        if self.queue.try_send(new).is_err() {
            self.metrics.event_dropped();
        }
    }
}

async fn write(client: &Client, identity: &str, new: NewEvent) -> bool {
    let namespace = new.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let event = event(identity, new);
    for pause in [Duration::from_millis(200), Duration::from_secs(2), Duration::ZERO] {
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => return true,
            // It has been said before; or the namespace is going, and nobody is left to read it.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 404 | 403 | 422) => {
                if status.code != 409 {
                    tracing::debug!(message = status.message, "an Event was refused");
                }
                return status.code == 409;
            }
            Err(error) => tracing::debug!(%error, "an Event could not be written"),
        }
        tokio::time::sleep(pause).await;
    }
    false
}

fn event(identity: &str, new: NewEvent) -> Event {
    let mut hasher = DefaultHasher::new();
    (&new.regarding.uid, &new.reason.name, &new.identity).hash(&mut hasher);
    let regarding: String = new.regarding.name.clone().unwrap_or_default().chars().take(200).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{regarding}.{:016x}", hasher.finish())),
            namespace: new.regarding.namespace.clone(),
            ..Default::default()
        },
        action: Some(new.action),
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        note: Some(cut(&new.note)),
        reason: Some(new.reason.name.to_owned()),
        regarding: Some(new.regarding),
        related: new.related,
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        type_: Some(if new.reason.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Default::default()
    }
}

/// Cut to so many bytes, at a character's edge.
fn cut(note: &str) -> String {
    if note.len() <= NOTE {
        return note.to_owned();
    }
    let mut end = NOTE - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", note.get(..end).unwrap_or_default())
}
