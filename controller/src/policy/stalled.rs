//! Policies that cannot be acted on: they get a condition and an Event, and stop no other policy.

use std::time::Duration;

use engine::model::PolicyRef;

use super::EvaluationError;
use super::memory::PolicyMemory;
use crate::announcement::Announcement;
use crate::conditions::{self, Said, Stalled, Status, types};
use crate::objects::{Measurement, Rejected, StoredPolicy, UndecodablePolicy};
use crate::ports::{Announce, Cluster, Environment, WriteError};
use crate::reasons::{self, Reason};
use crate::report::{PolicyReport, PolicyState};
use crate::{Controllers, Next};

/// How soon a stalled policy is looked at again, should a change of something else fix it.
const AGAIN: Duration = Duration::from_secs(300);

impl<E: Environment> Controllers<E> {
    /// A policy asks for something that cannot be done, here or at all: `Stalled`, with each field's path.
    pub(super) async fn stall(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        rejected: &Rejected,
    ) -> Result<Next, EvaluationError> {
        let key = memory.key.clone();
        self.evaluations.forget(&key);
        let gauge = Measurement::Policy { policy: &key, ready: false, within: None, value: None };
        self.ports.announce.measure(gauge);
        let (before, version) = memory.newest(object);
        let said = stalled(rejected.why, &rejected.message);
        let report = PolicyReport {
            observed_generation: Some(object.generation),
            conditions: conditions::write(&before.conditions, said, object.generation, self.now()),
            state: Some(PolicyState::Stalled),
            measured: None,
            objectives: Vec::new(),
            effective: None,
            causes: Vec::new(),
            refusals: Vec::new(),
            ..before.clone()
        };
        if report == *before {
            return Ok(Next::After(AGAIN));
        }
        let version = version.clone();
        self.announce_rejection(&object.id, reasons::POLICY_STALLED, &rejected.message, object.generation);
        match self.ports.cluster.write_policy_status(&object.id, &version, &report).await {
            Ok(written) => memory.wrote(Some(written)),
            Err(WriteError::Gone(_)) => {}
            Err(error) => {
                self.reread(memory, &object.id).await;
                return Err(EvaluationError::write("the policy's status", error));
            }
        }
        Ok(Next::After(AGAIN))
    }

    /// A stored policy that cannot be decoded: its conditions are set, nothing else of it is touched.
    ///
    /// # Errors
    /// The conditions could not be written; nothing is lost by trying again.
    pub async fn report_undecodable(&self, object: &UndecodablePolicy) -> Result<Next, EvaluationError> {
        let key = (object.id.namespace.clone(), object.id.name.clone());
        self.evaluations.forget(&key);
        if self.memories.was_reported(&key, object.generation) {
            return Ok(Next::After(AGAIN));
        }
        let gauge = Measurement::Policy { policy: &key, ready: false, within: None, value: None };
        self.ports.announce.measure(gauge);
        let message = format!("the stored object cannot be decoded: {}", object.error);
        let said = stalled(Stalled::Undecodable, &message);
        let conditions = conditions::write(&[], said, object.generation, self.now());
        self.announce_rejection(&object.id, reasons::POLICY_INVALID, &message, object.generation);
        let written = self.ports.cluster.write_conditions(&key, object.generation, &conditions).await;
        written.map_err(|error| EvaluationError::write("the policy's conditions", error))?;
        self.memories.reported(key, object.generation);
        Ok(Next::After(AGAIN))
    }

    fn announce_rejection(&self, policy: &PolicyRef, reason: Reason, message: &str, generation: i64) {
        let rejection = Announcement::of_rejection(self.now(), policy, reason, message, generation);
        self.ports.announce.announce(&rejection);
    }
}

/// The conditions of a policy that cannot be acted on, whatever they were before.
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
