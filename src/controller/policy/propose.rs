//! Creating what was admitted, under its deterministic name.

use engine::Admitted;
use engine::Tick;
use engine::model::{Candidate, EntryKey, RemediationSpec};
use kube::{Api, ResourceExt};

use crate::api::{FINALIZER, LatencyRemediation, POLICY_LABEL, convert};
use crate::controller::context::Context;
use crate::controller::keeper::News;
use crate::write::{self, WriteError};

/// Creates a LatencyRemediation for each proposal that was admitted. A failure is not the evaluation's: the reservation goes
/// back where it certainly was not created, and the next tick proposes again.
pub(super) async fn create(ctx: &Context, ticked: &Tick, answers: &[Admitted]) {
    for (proposal, answer) in ticked.proposals.iter().zip(answers) {
        if matches!(answer, Admitted::Yes { .. }) {
            one(ctx, &proposal.candidate).await;
        }
    }
}

async fn one(ctx: &Context, candidate: &Candidate) {
    let name = candidate.object_name();
    let namespace = &candidate.policy.namespace;
    let key: EntryKey = (namespace.clone(), name.clone());
    let api: Api<LatencyRemediation> = Api::namespaced(ctx.shared.mutating.clone(), namespace);
    let mut object = LatencyRemediation::new(&name, convert::spec_of(&RemediationSpec::from(candidate)));
    object.metadata.namespace = Some(namespace.clone());
    object.labels_mut().insert(POLICY_LABEL.to_owned(), candidate.policy.name.clone());
    if candidate.undo.is_some() && !candidate.is_dry_run() {
        // With the object: what has to be taken back is never lost with it.
        object.finalizers_mut().push(FINALIZER.to_owned());
    }
    match write::create(&api, &object, "LatencyRemediation", &ctx.shared.metrics).await {
        Ok(created) => observe(ctx, &created),
        // Somebody has created it before: it is adopted, and done once.
        Err(WriteError::Conflict(_) | WriteError::Lost(_)) => match api.get_opt(&name).await {
            Ok(Some(existing)) => observe(ctx, &existing),
            Ok(None) => ctx.shared.keeper.release(&key),
            Err(error) => {
                tracing::warn!(%error, name, "whether it was created cannot be said; its resource stays held")
            }
        },
        Err(error) => {
            tracing::warn!(%error, name, "a LatencyRemediation could not be created");
            ctx.shared.keeper.release(&key);
        }
    }
}

fn observe(ctx: &Context, object: &LatencyRemediation) {
    match convert::remediation(object) {
        Ok(remediation) => {
            let version = object.metadata.resource_version.as_deref();
            ctx.shared.keeper.observe(remediation, version, News::Changed);
        }
        Err(problems) => {
            tracing::warn!(name = object.name_any(), ?problems, "a LatencyRemediation cannot be understood")
        }
    }
}
