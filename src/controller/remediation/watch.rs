//! What an undo watches when its policy does not: because it is invalid by now, or gone. The remediation carries a copy of what
//! users were promised, so that capacity is taken back on what is seen and not on hope.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{GuardSettings, Mode, Policy, Remediation, Snapshot, State, UndoSpec, Verification};
use engine::tick;
use kube::Api;

use crate::api::{LatencyPolicy, MetadataOf};
use crate::controller::context::{Context, View};
use crate::controller::look;

/// Namespace, name and creation.
type Key = (String, String, jiff::Timestamp);

struct Watched {
    state: State,
    view: View,
    at: Instant,
}

/// All that are watched in place of a policy. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watches {
    known: Arc<Mutex<HashMap<Key, Watched>>>,
}

fn key_of(remediation: &Remediation) -> Key {
    (remediation.namespace.clone(), remediation.name.clone(), remediation.created_at)
}

impl Watches {
    /// The newest look at what the undo watches; a new one where the last is older than an interval.
    pub(super) async fn view(&self, ctx: &Context, remediation: &Remediation) -> Option<View> {
        let spec = remediation.spec.undo.as_ref()?;
        let key = key_of(remediation);
        let interval = spec.watch.evaluation.interval;
        let (state, before) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(&key) {
                Some(watched) if watched.at.elapsed() < interval.mul_f32(0.9) => {
                    return Some(watched.view.clone());
                }
                Some(watched) => (watched.state.clone(), Some(watched.view.0.now)),
                None => (State::default(), None),
            }
        };
        let policy = policy(remediation, spec);
        let looked = look::at(&ctx.shared, &ctx.workloads, &policy, &state).await;
        let now = ctx.shared.clock.now();
        let snapshot = Snapshot {
            now: before.map_or(now, |before| before.max(now)),
            traffic: looked.traffic,
            probes: looked.probes,
            databases: looked.databases,
            caches: looked.caches,
            target: looked.target,
            pauses: Vec::new(),
            incident: None,
            closed: None,
            next_ordinal: 1,
            remediations: Vec::new(),
            history: Vec::new(),
            operator: look::health(&ctx.shared, now),
            policy,
        };
        let ticked = tick(&snapshot, &state);
        let view: View = Arc::new((snapshot, ticked.situation));
        let watched = Watched { state: ticked.state, view: view.clone(), at: Instant::now() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, watched);
        Some(view)
    }

    /// Nothing is owed any more, or its policy watches again.
    pub(super) fn forget(&self, remediation: &Remediation) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(remediation));
    }
}

/// A policy that only looks: what the undo watches, and nothing that could be done.
fn policy(remediation: &Remediation, undo: &UndoSpec) -> Policy {
    let spec = &remediation.spec;
    Policy {
        id: spec.policy.clone(),
        created_at: remediation.created_at,
        generation: 0,
        mode: Mode::Observe,
        suspended: false,
        target: spec.target.clone(),
        evaluation: undo.watch.evaluation.clone(),
        objectives: undo.watch.objectives.clone(),
        dependencies: undo.watch.dependencies.clone(),
        workers_per_pod: None,
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
    }
}

/// Whether there certainly is no such policy any more: none of its name, or another one.
pub(super) async fn is_gone(ctx: &Context, remediation: &Remediation) -> bool {
    let policy = &remediation.spec.policy;
    let policies: Api<MetadataOf<LatencyPolicy>> =
        Api::namespaced(ctx.shared.client.clone(), &policy.namespace);
    match policies.get_opt(&policy.name).await {
        Ok(found) => found.is_none_or(|found| {
            found.metadata.uid.as_ref() != Some(&policy.uid) || found.metadata.deletion_timestamp.is_some()
        }),
        Err(_) => false,
    }
}
