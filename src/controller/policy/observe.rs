//! Putting a policy's Snapshot together.

use std::time::Instant;

use engine::model::{ClosedIncident, Incident, PausedBy, Policy, PolicyRef, Snapshot, elapsed};
use kube::{Api, ResourceExt};

use super::incident::confirm;
use super::{Error, Runtime};
use crate::api::conditions::types;
use crate::api::convert::{self, Episode};
use crate::api::policy::LatencyPolicyStatus;
use crate::api::text::ObjectName;
use crate::api::{LatencyIncident, LatencyPolicy, Stored};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::controller::look::{self, Looked};
use crate::controller::policy::runtime::{ClosedStory, OpenIncident};
use crate::observe::kubernetes::pause;

pub(super) async fn snapshot(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    policy: Policy,
) -> Result<Snapshot, Error> {
    runtime.evaluating(object);
    adopt(ctx, runtime, object).await?;
    confirm(ctx, runtime, object).await?;
    let shared = &ctx.shared;
    let namespace = policy.id.namespace.clone();
    let started = Instant::now();
    let Looked { traffic, probes, databases, caches, target } =
        look::at(&ctx.shared, &ctx.workloads, &policy, runtime.state()).await;
    shared.metrics.read("all", started.elapsed());
    let mut pauses = ctx.workloads.pauses(&namespace, &policy.target);
    pauses.extend(pause(object.annotations(), PausedBy::Policy));
    let now = shared.clock.now();
    runtime.closed.take_if(|closed| !closed.facts().goes_on(now) && !runtime.unconfirmed);
    let incident = runtime.incident.as_ref().map(|open| open.facts.clone());
    let closed = runtime.closed.as_ref().filter(|_| incident.is_none()).map(ClosedStory::facts);
    let closed = closed.filter(|closed| closed.goes_on(now));
    let last = incident.as_ref().or(closed.as_ref().map(|closed| &closed.incident));
    Ok(Snapshot {
        now,
        traffic,
        probes,
        databases,
        caches,
        target,
        pauses,
        remediations: shared.keeper.of_policy(runtime.key(), last.map(|incident| incident.name.as_str())),
        history: shared.keeper.history(runtime.key()),
        incident,
        closed,
        next_ordinal: runtime.reserved.unwrap_or(runtime.ordinal.saturating_add(1)),
        operator: look::health(shared, now),
        policy,
    })
}

/// Once for each policy and leader, and after a write of which nobody knows what came of it: the incident that was left
/// open, or that ended so short a while ago that a breach would open it again.
async fn adopt(ctx: &Context, runtime: &mut Runtime, object: &LatencyPolicy) -> Result<(), Error> {
    let status = object.status.clone().unwrap_or_default();
    let known = status.incident_ordinal.and_then(|ordinal| u64::try_from(ordinal).ok()).unwrap_or_default();
    runtime.ordinal = runtime.ordinal.max(known);
    if runtime.adopted {
        return Ok(());
    }
    let policy = PolicyRef {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    };
    let last = || {
        let (ordinal, told) = (runtime.ordinal, known == runtime.ordinal);
        let recent = ordinal > 0 && !(told && long_within(&status, ctx.shared.clock.now()));
        recent.then(|| ObjectName(Incident::name_of(&policy, ordinal)))
    };
    if let Some(name) = &status.active_incident.clone().or_else(last) {
        let incidents: Api<Stored<LatencyIncident>> =
            Api::namespaced(ctx.shared.client.clone(), &object.namespace().unwrap_or_default());
        let found = incidents.get_opt(&name.0).await.map_err(|error| Error::Read(brief(&error)))?;
        let missing = found.is_none() && status.active_incident.is_some();
        (runtime.incident, runtime.closed) = match found {
            Some(Stored(Ok(incident))) => known_incident(&name.0, incident),
            Some(Stored(Err(undecodable))) => {
                tracing::warn!(
                    name = name.0,
                    error = undecodable.error,
                    "the open incident cannot be decoded; it is left as it is"
                );
                (None, None)
            }
            None => (None, None),
        };
        runtime.unconfirmed = runtime.closed.is_some();
        // Its number was taken, and it may yet be created: by a leader that was frozen in the middle. Its name is taken up.
        runtime.reserved = (missing && name.0 == Incident::name_of(&policy, known)).then_some(known);
    }
    runtime.adopted = true;
    Ok(())
}

/// Whether the status says that the objectives have been kept for so long that no incident goes on, nor can be made to. An incident
/// ends some minutes later than that begins: when calm has lasted, and what was done in it has been judged.
fn long_within(status: &LatencyPolicyStatus, now: jiff::Timestamp) -> bool {
    let within = status.conditions.iter().find(|known| known.type_ == types::WITHIN_OBJECTIVE);
    within.is_some_and(|known| {
        known.status == "True"
            && elapsed(now, known.last_transition_time.0) > ClosedIncident::CONFIRMED_WITHIN
    })
}

/// What is remembered of a stored incident: as an open one or as a closed one.
pub(super) fn known_incident(
    name: &str,
    object: LatencyIncident,
) -> (Option<OpenIncident>, Option<ClosedStory>) {
    let story = object.status.clone().unwrap_or_default();
    match convert::incident(name, &object) {
        Episode::Open(facts) => {
            (Some(OpenIncident { facts, object: Box::new(object), story: Box::new(story) }), None)
        }
        Episode::Closed(ClosedIncident { incident: facts, at }) => {
            let last = OpenIncident { facts, object: Box::new(object), story: Box::new(story) };
            (None, Some(ClosedStory { last, at }))
        }
        Episode::Over => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::model::earlier;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;

    #[test]
    fn the_last_incident_is_looked_for_as_long_as_somebody_may_be_about_to_open_it_again() {
        let now = Timestamp::UNIX_EPOCH;
        let kept = |status: &str, minutes: u64| {
            let condition = Condition {
                type_: types::WITHIN_OBJECTIVE.to_owned(),
                status: status.to_owned(),
                last_transition_time: Time(earlier(now, Duration::from_secs(minutes * 60))),
                reason: String::new(),
                message: String::new(),
                observed_generation: None,
            };
            let status = LatencyPolicyStatus { conditions: vec![condition], ..Default::default() };
            long_within(&status, now)
        };
        assert!(kept("True", 91) && !kept("True", 89));
        assert!(!kept("False", 91) && !kept("Unknown", 91));
        assert!(!long_within(&LatencyPolicyStatus::default(), now), "nothing is known");
    }
}
