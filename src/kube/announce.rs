//! Announcements become Events, measurements become metrics.

use controller::objects::{Announcement, Measurement, Recorded};
use controller::ports::Announce;
use engine::Overall;
use engine::model::PolicyRef;
use engine::record::DecisionRecord;
use k8s_openapi::api::core::v1::ObjectReference;

use super::events::{NewEvent, Publisher};
use super::watched::{self, Watched};
use crate::api::GROUP;
use crate::telemetry::metrics::PolicyLabels;
use crate::telemetry::{Metrics, Recorder};

/// Publishes what is announced and measured.
pub struct Announcer {
    /// Writes Events.
    pub publisher: Publisher,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Writes evaluations down, where that is wanted.
    pub recorder: Option<Recorder>,
    /// Where targets are known with their uids.
    pub scopes: Vec<Watched>,
}

impl Announce for Announcer {
    /// One line of the log.
    fn record(&self, record: &DecisionRecord) {
        let (slot, policy, incident) = (record.slot(), &*record.policy, record.incident.as_deref());
        tracing::info!(%policy, incident, %slot, "{}", record.sentence());
    }

    /// One Event on the policy and one on the target.
    fn announce(&self, announcement: Announcement) {
        let Announcement { policy, target, reason, action, note, identity } = announcement;
        let target = target.and_then(|target| {
            let watched = watched::of(&self.scopes, &policy.namespace)?;
            watched.workloads.reference(&policy.namespace, &target)
        });
        let policy = reference(&policy);
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

    fn evaluated(&self, recorded: Recorded<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.record(recorded.snapshot, recorded.answers, recorded.records);
        }
    }

    fn measure(&self, measurement: Measurement<'_>) {
        let metrics = &self.metrics;
        match measurement {
            Measurement::Evaluated { overall, took } => {
                let result = match overall {
                    Overall::Breached(_) => "breached",
                    Overall::Healthy => "healthy",
                    Overall::NoData => "no_data",
                };
                metrics.evaluated(result, took);
            }
            Measurement::Late(by) => metrics.late(by),
            Measurement::Read(took) => metrics.read("all", took),
            Measurement::NoData(reason) => metrics.no_data(&reason.to_string()),
            Measurement::Refused(guard) => metrics.refused(guard),
            Measurement::Incident(severity) => metrics.incident(&severity.to_string()),
            Measurement::Remediated(status, remediation) => {
                let outcome = status.outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
                let kind = remediation.spec.action.kind().to_string();
                metrics.remediated(&kind, &status.phase.to_string(), &outcome);
            }
            Measurement::Policy { policy, ready, within, value } => {
                metrics.policy(&labels(policy), ready, within, value);
            }
            Measurement::Forgotten(policy) => metrics.forget(&labels(policy)),
        }
    }
}

fn labels((namespace, policy): &controller::PolicyKey) -> PolicyLabels {
    PolicyLabels { namespace: namespace.clone(), policy: policy.clone() }
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
