//! Policies that cannot be acted on: they get a condition and an Event, and stop nobody else.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::{Api, Resource};

use super::{Error, Runtime};
use crate::api::conditions::{self, Said, Stalled, Status, types};
use crate::api::convert::Problem;
use crate::api::{GROUP, LatencyPolicy, MetadataOf};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::controller::events::Told;
use crate::controller::reasons;
use crate::telemetry::metrics::PolicyLabels;
use crate::write::{self, WriteError};

/// Looked at again after so long, should it be somebody else's change that mends it.
const AGAIN: Duration = Duration::from_secs(300);

/// A policy asks for something that cannot be done, here or at all: `Stalled`, with each field's path.
pub(super) async fn stall(
    ctx: &Arc<Context>,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    (why, problems): (Stalled, &[Problem]),
) -> Result<Action, Error> {
    let key = runtime.key().clone();
    ctx.shared.views.set(&key, None);
    let labels = PolicyLabels { namespace: key.0.clone(), policy: key.1.clone() };
    ctx.shared.metrics.policy(&labels, false, None, None);
    let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let before = runtime.last_status(object);
    let generation = object.metadata.generation.unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = Some(generation);
    let said = stalled(why, &message);
    status.conditions = conditions::write(&before.conditions, said, generation, ctx.shared.clock.now());
    status.causes.clear();
    status.blocked_by.clear();
    if status != before {
        tracing::warn!(policy = %format!("{}/{}", key.0, key.1), "stalled: {message}");
        publish(ctx, object.object_ref(&()), reasons::POLICY_STALLED, &message, generation);
        let policies: Api<LatencyPolicy> = Api::namespaced(ctx.shared.mutating.clone(), &key.0);
        let mut changed = runtime.newest(object).clone();
        changed.status = Some(status);
        match write::status(&policies, &key.1, &changed, "LatencyPolicy", &ctx.shared.metrics).await {
            Ok(written) => runtime.wrote(Some(written)),
            Err(WriteError::Gone(_)) => {}
            Err(source) => {
                runtime.wrote(policies.get(&key.1).await.ok());
                return Err(Error::Write { what: "the policy's status", source });
            }
        }
    }
    Ok(Action::requeue(AGAIN))
}

/// A stored object that cannot be decoded: its conditions are patched, nothing else of it is touched.
pub(super) async fn tell(ctx: &Arc<Context>, undecodable: &InvalidObject) -> Result<Action, Error> {
    let metadata = &undecodable.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let generation = metadata.generation.unwrap_or_default();
    let message = format!("the stored object cannot be decoded: {}", undecodable.error);
    let key = (namespace.clone(), name.clone());
    ctx.shared.views.set(&key, None);
    if ctx.runtimes.was_told(&key, generation) {
        return Ok(Action::requeue(AGAIN));
    }
    ctx.shared.metrics.policy(
        &PolicyLabels { namespace: namespace.clone(), policy: name.clone() },
        false,
        None,
        None,
    );
    let conditions =
        conditions::write(&[], stalled(Stalled::Undecodable, &message), generation, ctx.shared.clock.now());
    let regarding = ObjectReference {
        api_version: Some(format!("{GROUP}/v1alpha1")),
        kind: Some("LatencyPolicy".to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: metadata.uid.clone(),
        ..Default::default()
    };
    publish(ctx, regarding, reasons::POLICY_INVALID, &message, generation);
    let patch =
        serde_json::json!({ "status": { "observedGeneration": generation, "conditions": conditions } });
    let policies: Api<MetadataOf<LatencyPolicy>> = Api::namespaced(ctx.shared.mutating.clone(), &namespace);
    policies
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|error| Error::Read(brief(&error)))?;
    tracing::warn!(policy = %format!("{namespace}/{name}"), "{message}");
    ctx.runtimes.told(key, generation);
    Ok(Action::requeue(AGAIN))
}

/// What is said of a policy that cannot be acted on, whatever it said before.
fn stalled(why: Stalled, message: &str) -> Vec<Said> {
    let reason = why.reason();
    let unknown = |kind| Said::new(kind, Status::Unknown, reason, "the policy is not being watched");
    vec![
        Said::new(types::READY, Status::False, reason, message),
        unknown(types::DATA_AVAILABLE),
        unknown(types::WITHIN_OBJECTIVE),
        Said::new(
            types::REMEDIATION_ALLOWED,
            Status::False,
            reason,
            "nothing is done for a policy that is stalled",
        ),
        Said::new(types::STALLED, Status::True, reason, message),
    ]
}

fn publish(
    ctx: &Context,
    regarding: ObjectReference,
    reason: reasons::Reason,
    message: &str,
    generation: i64,
) {
    ctx.shared.publisher.tell(Told {
        regarding,
        related: None,
        reason,
        action: "Accept".to_owned(),
        note: message.to_owned(),
        identity: format!("{generation}/{message}"),
    });
}
