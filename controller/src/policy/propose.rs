//! Creating what was admitted, under its deterministic name.

use engine::model::{Candidate, RemediationSpec};
use engine::{Admitted, Tick};

use crate::ledger_store::Freshness;
use crate::objects::NewRemediation;
use crate::ports::{Cluster, Environment, WriteError};
use crate::{Controllers, planted};

impl<E: Environment> Controllers<E> {
    /// Creates a LatencyRemediation for each admitted proposal. A failure does not fail the evaluation: the reservation goes
    /// back where the object was certainly not created, and the next tick proposes again.
    pub(super) async fn create_admitted(&self, ticked: &Tick, answers: &[Admitted]) {
        for (proposal, answer) in ticked.proposals.iter().zip(answers) {
            if matches!(answer, Admitted::Yes { .. }) {
                self.create(&proposal.candidate).await;
            }
        }
    }

    async fn create(&self, candidate: &Candidate) {
        let key = (candidate.policy.namespace.clone(), candidate.object_name());
        let new = NewRemediation {
            key: key.clone(),
            spec: RemediationSpec::from(candidate),
            // With the object: what has to be rolled back is never lost with it.
            held: candidate.undo.is_some() && !candidate.is_dry_run(),
        };
        let cluster = &self.ports.cluster;
        match cluster.create_remediation(&new).await {
            Ok(created) => self.ledger.observe(&created, Freshness::Event),
            // It was created before: it is adopted, and carried out once.
            Err(WriteError::Conflict(_) | WriteError::Lost(_)) => match cluster.remediation(&key).await {
                Ok(Some(existing)) => self.ledger.observe(&existing, Freshness::Event),
                Ok(None) => self.ledger.release(&key),
                Err(_) if planted::is("reservation_given_up_in_doubt") => self.ledger.release(&key),
                Err(error) => {
                    tracing::warn!(%error, name = key.1, "it is unknown whether this was created; its resource stays held");
                }
            },
            Err(error) => {
                tracing::warn!(%error, name = key.1, "a LatencyRemediation could not be created");
                self.ledger.release(&key);
            }
        }
    }
}
