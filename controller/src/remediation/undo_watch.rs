//! What is watched for a rollback when its policy is not: because it is invalid by now, or gone. The remediation carries a copy
//! of what users were promised, so that capacity is taken away on what is seen and not on hope.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::State;
use engine::model::{Databases, GuardSettings, Mode, Policy, Remediation, Snapshot, UndoSpec, Verification};
use engine::tick;

use super::in_flight::{Key, key_of};
use crate::Controllers;
use crate::fleet::Evaluated;
use crate::ports::{Cluster, Environment, Timer};

struct Watched {
    state: State,
    evaluated: Arc<Evaluated>,
    at: Duration,
}

/// All that is watched in place of a policy.
#[derive(Default)]
pub(crate) struct UndoWatches {
    known: Mutex<HashMap<Key, Watched>>,
}

impl UndoWatches {
    /// Nothing is pending any more, or its policy is evaluated again.
    pub(super) fn forget(&self, remediation: &Remediation) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(remediation));
    }
}

impl<E: Environment> Controllers<E> {
    /// The newest evaluation of what a rollback watches; a new one where the last is older than an interval.
    pub(super) async fn undo_watch(&self, remediation: &Remediation) -> Option<Arc<Evaluated>> {
        let spec = remediation.spec.undo.as_ref()?;
        let key = key_of(remediation);
        let interval = spec.watch.evaluation.interval;
        let started = self.ports.time.monotonic();
        let (state, before) = {
            let known = self.undo_watches.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(&key) {
                Some(watched) if started.saturating_sub(watched.at) < interval.mul_f32(0.9) => {
                    return Some(watched.evaluated.clone());
                }
                Some(watched) => (watched.state.clone(), Some(watched.evaluated.snapshot.now)),
                None => (State::default(), None),
            }
        };
        let policy = policy(remediation, spec);
        let observations = self.observe(&policy, &state).await;
        let now = self.now();
        let seen_at = before.map_or(now, |before| before.max(now));
        let snapshot = Snapshot::new(seen_at, policy, observations, self.health(now));
        let ticked = tick(&snapshot, &state);
        let evaluated = Arc::new(Evaluated { snapshot, situation: ticked.situation });
        let at = self.ports.time.monotonic();
        let watched = Watched { state: ticked.state, evaluated: evaluated.clone(), at };
        self.undo_watches.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, watched);
        Some(evaluated)
    }

    /// Whether its policy certainly does not exist any more: there is none of its name, or another one.
    pub(super) async fn is_policy_gone(&self, remediation: &Remediation) -> bool {
        let policy = &remediation.spec.policy;
        let key = (policy.namespace.clone(), policy.name.clone());
        match self.ports.cluster.policy_meta(&key).await {
            Ok(found) => found.is_none_or(|found| found.uid != policy.uid || found.deleting),
            Err(_) => false,
        }
    }
}

/// A policy that is only evaluated: what the rollback watches, and nothing that could be done.
fn policy(remediation: &Remediation, undo: &UndoSpec) -> Policy {
    let spec = &remediation.spec;
    Policy {
        id: spec.policy.clone(),
        created_at: remediation.created_at,
        generation: 0,
        mode: Mode::Observe,
        target: spec.target.clone(),
        evaluation: undo.watch.evaluation.clone(),
        objectives: undo.watch.objectives.clone(),
        dependencies: undo.watch.dependencies.clone(),
        concurrency_per_pod: None,
        databases: Databases::Declared,
        thresholds: BTreeMap::new(),
        rungs: Vec::new(),
        guards: GuardSettings {
            max_actions_per_hour: 0,
            max_attempts_per_incident: 0,
            cooldown: Duration::ZERO,
            min_available: 1.0,
        },
        verification: Verification { after: spec.verify.after, within: spec.verify.within },
        history_limit: 0,
        ignored: Vec::new(),
        unused: Vec::new(),
    }
}
