//! Making an incident durable before anything is done in its name.

use std::time::Duration;

use engine::model::{Incident, PolicyRef, Severity, Snapshot, later};
use engine::{Overall, Tick};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};

use super::observe::known_incident;
use super::runtime::{ClosedStory, OpenIncident};
use super::{Error, Runtime};
use crate::api::incident::{LatencyIncidentStatus, PolicyReference, Reopening};
use crate::api::text::{Instant, ObjectName, Word};
use crate::api::{LatencyIncident, LatencyIncidentSpec, LatencyPolicy, POLICY_LABEL, Stored};
use crate::connections::secrets::brief;
use crate::controller::context::Context;
use crate::write::{self, WriteError};

/// Creates the incident that the tick has opened; takes over its severity where it goes on. Closing is told, not done here.
pub(super) async fn follow(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Result<(), Error> {
    match (&snapshot.incident, &ticked.situation.incident) {
        (None, Some(opened)) if opened.reopened > 0 => reopen(ctx, runtime, object, opened).await,
        (None, Some(opened)) => open(ctx, runtime, object, opened).await,
        (Some(_), Some(known)) => {
            if let Some(open) = &mut runtime.incident {
                open.facts = known.clone();
            }
            Ok(())
        }
        // It is over before its incident could be created. Whoever has sent it may still do so, and nobody would close it.
        (None, None) if ticked.situation.overall == Overall::Healthy => match runtime.reserved {
            Some(ordinal) => open(ctx, runtime, object, &over(snapshot, ordinal)).await,
            None => Ok(()),
        },
        (Some(_) | None, None) => Ok(()),
    }
}

/// An incident of which nothing but its number is known. It is closed as soon as it is told of.
fn over(snapshot: &Snapshot, ordinal: u64) -> Incident {
    Incident {
        name: Incident::name_of(&snapshot.policy.id, ordinal),
        ordinal,
        first_breached_at: snapshot.now,
        opened_at: snapshot.now,
        severity: Severity::P2,
        reopened: 0,
    }
}

async fn open(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    opened: &Incident,
) -> Result<(), Error> {
    let namespace = object.namespace().unwrap_or_default();
    let incidents: Api<LatencyIncident> = Api::namespaced(ctx.shared.mutating.clone(), &namespace);
    if runtime.reserved != Some(opened.ordinal) {
        let highest = highest(ctx, object).await?;
        if highest >= opened.ordinal {
            // Whether that one is open is not known, either.
            (runtime.ordinal, runtime.adopted) = (highest, false);
            return Err(Error::Read(format!(
                "incident {highest} is known already; the next one gets another number"
            )));
        }
        reserve(ctx, runtime, object, opened).await?;
        runtime.reserved = Some(opened.ordinal);
    }
    let incident = incident(object, opened);
    let created = write::create(&incidents, &incident, "LatencyIncident", &ctx.shared.metrics).await;
    let stored = match created {
        Ok(stored) => stored,
        // It was created by a write whose answer was lost, or by the leader before us.
        Err(WriteError::Conflict(_) | WriteError::Lost(_)) => {
            incidents.get(&opened.name).await.map_err(|error| Error::Read(brief(&error)))?
        }
        Err(source) => return Err(Error::Write { what: "LatencyIncident", source }),
    };
    runtime.reserved = None;
    ctx.shared.metrics.incident(&opened.severity.to_string());
    (runtime.incident, runtime.closed) = known_incident(&opened.name, stored);
    if let Some(open) = &mut runtime.incident {
        open.facts = opened.clone();
    }
    Ok(())
}

/// The incident goes on, with its attempts. If that cannot be written (somebody has deleted or changed it, the answer was
/// lost), what is stored is read again and decides.
async fn reopen(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    opened: &Incident,
) -> Result<(), Error> {
    runtime.adopted = false;
    let Some(ClosedStory { last, .. }) = runtime.closed.take() else {
        return Err(Error::Read(format!("the closed incident {} is not known any more", opened.name)));
    };
    let story = LatencyIncidentStatus {
        phase: Some(Word::text("Open")),
        severity: Some(Word(opened.severity.to_string())),
        closed_at: None,
        closure_confirmed_at: None,
        outcome: None,
        escalation: None,
        reopened: Some(Reopening {
            times: i32::try_from(opened.reopened).unwrap_or(i32::MAX),
            first_breached_at: Instant(opened.first_breached_at),
            at: Instant(opened.opened_at),
        }),
        ..*last.story
    };
    let incident = LatencyIncident { status: Some(story.clone()), ..*last.object };
    let incidents: Api<LatencyIncident> =
        Api::namespaced(ctx.shared.mutating.clone(), &object.namespace().unwrap_or_default());
    let written =
        write::status(&incidents, &opened.name, &incident, "LatencyIncident", &ctx.shared.metrics).await;
    let object = written.map_err(|source| Error::Write { what: "LatencyIncident", source })?;
    runtime.incident =
        Some(OpenIncident { facts: opened.clone(), object: Box::new(object), story: Box::new(story) });
    runtime.adopted = true;
    Ok(())
}

/// What is closed stays closed: the object is changed, so that whatever an earlier leader was about to write when it was paused,
/// or has written without an answer, is a conflict when it arrives. Until that has succeeded it is tried at each look.
pub(super) async fn confirm(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
) -> Result<(), Error> {
    let now = ctx.shared.clock.now();
    runtime.unconfirmed &=
        runtime.closed.as_ref().is_some_and(|closed| closed.facts().may_be_opened_again(now));
    let Some(ClosedStory { last, .. }) = runtime.closed.as_mut().filter(|_| runtime.unconfirmed) else {
        return Ok(());
    };
    // Never what stands there already: that would change nothing.
    let before = last.story.closure_confirmed_at.map(|known| later(known.0, Duration::from_millis(1)));
    let confirmed_at = before.map_or(now, |before| before.max(now));
    let story =
        LatencyIncidentStatus { closure_confirmed_at: Some(Instant(confirmed_at)), ..*last.story.clone() };
    let incident = LatencyIncident { status: Some(story.clone()), ..*last.object.clone() };
    let incidents: Api<LatencyIncident> =
        Api::namespaced(ctx.shared.mutating.clone(), &object.namespace().unwrap_or_default());
    let name = &last.facts.name;
    match write::status(&incidents, name, &incident, "LatencyIncident", &ctx.shared.metrics).await {
        Ok(written) => {
            (*last.object, *last.story, runtime.unconfirmed) = (written, story, false);
        }
        Err(WriteError::Gone(_)) => (runtime.closed, runtime.unconfirmed) = (None, false),
        // Nothing was written, and looking at the policy does not depend on it.
        Err(WriteError::Refused(why)) => {
            tracing::warn!(name, why, "that it is closed could not be confirmed")
        }
        // Somebody has changed it, or may have: what is stored is read again.
        Err(source @ (WriteError::Conflict(_) | WriteError::Lost(_))) => {
            runtime.adopted = false;
            return Err(Error::Write { what: "LatencyIncident", source });
        }
    }
    Ok(())
}

/// The highest number that an existing incident of the policy has.
async fn highest(ctx: &Context, object: &LatencyPolicy) -> Result<u64, Error> {
    let incidents: Api<Stored<LatencyIncident>> =
        Api::namespaced(ctx.shared.client.clone(), &object.namespace().unwrap_or_default());
    let params = ListParams::default().labels(&format!("{POLICY_LABEL}={}", object.name_any()));
    let known = incidents.list(&params).await.map_err(|error| Error::Read(brief(&error)))?;
    let ours = Incident::name_of(&policy_ref(object), 0);
    let ours = ours.trim_end_matches('0');
    // By its name: that of one that cannot be decoded is taken, too.
    let names = known.items.iter().map(ResourceExt::name_any);
    let numbers = names.filter_map(|name| name.strip_prefix(ours)?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or_default())
}

fn policy_ref(object: &LatencyPolicy) -> PolicyRef {
    PolicyRef {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Takes the number, by compare-and-swap on the policy's status.
async fn reserve(
    ctx: &Context,
    runtime: &mut Runtime,
    object: &LatencyPolicy,
    opened: &Incident,
) -> Result<(), Error> {
    let policies: Api<LatencyPolicy> =
        Api::namespaced(ctx.shared.mutating.clone(), &object.namespace().unwrap_or_default());
    let mut reserved = runtime.newest(object).clone();
    let status = reserved.status.get_or_insert_default();
    status.incident_ordinal = i64::try_from(opened.ordinal).ok();
    status.active_incident = Some(ObjectName(opened.name.clone()));
    let written =
        write::status(&policies, &object.name_any(), &reserved, "LatencyPolicy", &ctx.shared.metrics).await;
    match written {
        Ok(written) => {
            runtime.ordinal = opened.ordinal;
            runtime.wrote(Some(written));
            Ok(())
        }
        Err(source) => {
            // What we thought to be the newest is not: the next try starts from what is stored.
            runtime.wrote(policies.get(&object.name_any()).await.ok());
            Err(Error::Write { what: "the incident's number", source })
        }
    }
}

fn incident(object: &LatencyPolicy, opened: &Incident) -> LatencyIncident {
    let spec = LatencyIncidentSpec {
        policy_ref: PolicyReference {
            name: ObjectName(object.name_any()),
            uid: object.uid().unwrap_or_default(),
        },
        target: format!("{}/{}", object.spec.target_ref.kind.0, object.spec.target_ref.name.0),
        ordinal: i64::try_from(opened.ordinal).unwrap_or(i64::MAX),
        first_breached_at: Instant(opened.first_breached_at),
        opened_at: Instant(opened.opened_at),
    };
    let mut incident = LatencyIncident::new(&opened.name, spec);
    incident.metadata.namespace = object.namespace();
    incident.metadata.owner_references = object.controller_owner_ref(&()).map(|owner| vec![owner]);
    incident.labels_mut().insert(POLICY_LABEL.to_owned(), object.name_any());
    incident
}
