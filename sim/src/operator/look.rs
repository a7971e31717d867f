//! Looking at everything that a policy names: mirrors `src/controller/look.rs` and `src/observe`.

use std::time::Duration;

use engine::advance::Look;
use engine::invariants::{Reading, Seen, What};
use engine::model::{
    Action, ActionKind, ByName, Coverage, NoData, NoDataReason, Observed, OperatorHealth, Pause, Policy,
    PostgresFacts, RedisFacts, Target, TargetRef, Traffic, TrafficWindow, earlier,
};

use super::Operator;
use super::keeper::PolicyKey;
use crate::exec::{MS, Micros, SECOND};
use crate::planted;
use crate::world::World;
use crate::world::api::ApiError;
use crate::world::faults::Op;
use crate::world::setup::{TARGETS, cache_of, database_of};

/// While all is well a database is looked at so often.
const CALM: Micros = 60 * SECOND;

pub(super) struct Looked {
    pub(super) traffic: ByName<Observed<Traffic>>,
    pub(super) databases: ByName<Observed<PostgresFacts>>,
    pub(super) caches: ByName<Observed<RedisFacts>>,
    pub(super) target: Observed<Target>,
}

fn place_of(policy: &Policy) -> usize {
    let is = |t: &(&str, &str, usize, u32)| (t.0, t.1) == (&*policy.id.namespace, &*policy.target.name);
    TARGETS.iter().position(is).unwrap_or(usize::MAX)
}

/// Looks at everything, closely where something is wrong.
pub(super) async fn at(operator: &Operator, policy: &Policy, alert: bool) -> Looked {
    let mut databases = ByName::new();
    for (name, postgres) in policy.databases() {
        databases.insert(name.clone(), facts(operator, &postgres.secret, alert).await);
    }
    let mut caches = ByName::new();
    for (name, redis) in policy.caches() {
        caches.insert(name.clone(), cache(operator, &redis.secret, alert).await);
    }
    let target = target(operator, policy, alert).await;
    let traffic = traffic(operator, policy, &databases).await;
    Looked { traffic, databases, caches, target }
}

async fn facts(operator: &Operator, secret: &str, alert: bool) -> Observed<PostgresFacts> {
    let max_age = if alert { SECOND / 2 } else { CALM };
    if let Some((at, facts)) = operator.databases.borrow().get(secret)
        && operator.sim.now().saturating_sub(*at) < max_age
    {
        return facts.clone();
    }
    let took = operator.sim.world.borrow_mut().answer_time();
    operator.sim.sleep(took).await;
    let (now, ours) = (operator.sim.now(), operator.now());
    let facts = {
        let world = operator.sim.world.borrow();
        let place = database_of(secret).filter(|place| *place < world.databases.len());
        match place.and_then(|place| Some((place, world.databases.get(place)?))) {
            Some((_, database)) if now < database.down_until || now < database.mute_until => {
                Observed::missing(NoDataReason::Unreachable, "no answer")
            }
            Some((place, database)) => {
                Observed::Known { at: ours, value: database.facts(now, world.connections(place)) }
            }
            None => Observed::missing(NoDataReason::SecretNotFound, "there is no such Secret"),
        }
    };
    if matches!(facts, Observed::Known { .. }) {
        operator.databases.borrow_mut().insert(secret.to_owned(), (now, facts.clone()));
    }
    facts
}

async fn cache(operator: &Operator, secret: &str, alert: bool) -> Observed<RedisFacts> {
    let max_age = if alert { SECOND / 2 } else { CALM };
    if let Some((at, facts)) = operator.caches.borrow().get(secret)
        && operator.sim.now().saturating_sub(*at) < max_age
    {
        return facts.clone();
    }
    let took = operator.sim.world.borrow_mut().answer_time();
    operator.sim.sleep(took).await;
    let (now, ours) = (operator.sim.now(), operator.now());
    let facts = {
        let mut world = operator.sim.world.borrow_mut();
        match cache_of(secret).and_then(|place| world.caches.get_mut(place)) {
            Some(cache) if now < cache.down_until => {
                Observed::missing(NoDataReason::Unreachable, "no answer")
            }
            Some(cache) => {
                cache.settle(now);
                Observed::Known { at: ours, value: cache.facts(now) }
            }
            None => Observed::missing(NoDataReason::SecretNotFound, "there is no such Secret"),
        }
    };
    if matches!(facts, Observed::Known { .. }) {
        operator.caches.borrow_mut().insert(secret.to_owned(), (now, facts.clone()));
    }
    facts
}

async fn target(operator: &Operator, policy: &Policy, closely: bool) -> Observed<Target> {
    let (namespace, name) = (policy.id.namespace.clone(), policy.target.clone());
    let read = move |world: &mut World| {
        let now = world.now;
        world.refresh();
        let found = world.target(&namespace, &name).ok_or(ApiError::NotFound)?;
        let workload = closely.then(|| found.workload(now));
        Ok(Target { uid: found.uid.clone(), workload, opt_out: found.opt_out.clone() })
    };
    // Metadata comes from a watch while all is well.
    let found =
        if closely { operator.ask(Op::Read, read).await } else { read(&mut operator.sim.world.borrow_mut()) };
    match found {
        Ok(value) => Observed::Known { at: operator.now(), value },
        Err(_) => Observed::missing(NoDataReason::ApiUnavailable, "the target cannot be asked for"),
    }
}

async fn traffic(
    operator: &Operator,
    policy: &Policy,
    databases: &ByName<Observed<PostgresFacts>>,
) -> ByName<Observed<Traffic>> {
    let took = operator.sim.world.borrow_mut().dice.between(2 * MS, 60 * MS);
    operator.sim.sleep(took).await;
    let ours = operator.now();
    let mut world = operator.sim.world.borrow_mut();
    let down = world.faults.metrics_down.get(operator.node).copied().unwrap_or(0);
    let (observed, objectives) = if world.now < down {
        (Observed::missing(NoDataReason::Timeout, "no answer"), Seen::Dark)
    } else {
        let (observed, seen) = world.traffic(place_of(policy), policy.evaluation.window);
        (on_our_clock(observed, ours), seen)
    };
    let readable = |observed: &Observed<PostgresFacts>| {
        observed.known().is_some_and(|facts| facts.coverage == Coverage::Full)
    };
    let all = databases.values().all(readable);
    let reading = Reading {
        policy: policy.id.clone(),
        reader: operator.identity.clone(),
        objectives,
        databases: Some(if all { Seen::Healthy } else { Seen::Dark }),
    };
    world.tell(What::Reading(reading));
    let unseen = matches!(observed, Observed::Missing(_));
    let observed = if unseen && planted::is("missing_metrics_are_zero") {
        Observed::Known { at: ours, value: all_fast(policy, ours) }
    } else {
        observed
    };
    policy.objectives.iter().map(|objective| (objective.name.clone(), observed.clone())).collect()
}

/// What somebody would see who takes a missing series for "nobody was slow".
fn all_fast(policy: &Policy, at: jiff::Timestamp) -> Traffic {
    let bucket = |le: f64| engine::model::Bucket { le, count: 1000.0 };
    Traffic::from(TrafficWindow {
        window: policy.evaluation.window,
        buckets: [0.5, 2.5, f64::INFINITY].map(bucket).to_vec(),
        in_flight: Observed::Known { at, value: 0.0 },
        errors: Observed::Known { at, value: 0.0 },
        views: Observed::missing(NoDataReason::NotYetRead, ""),
    })
}

fn on_our_clock(observed: Observed<Traffic>, ours: jiff::Timestamp) -> Observed<Traffic> {
    match observed {
        Observed::Known { value, .. } => Observed::Known { at: ours, value },
        Observed::Missing(no_data) => Observed::Missing(no_data),
    }
}

/// The pauses as a watch shows them: one that stalls or is broken shows those of before.
pub(super) fn pauses(operator: &Operator, key: &PolicyKey, target: &TargetRef) -> Vec<Pause> {
    let world = operator.sim.world.borrow();
    let stalled = world.faults.watch_stalled.get(operator.node).copied().unwrap_or(0);
    let mut known = operator.pauses.borrow_mut();
    if let Some(pauses) = known.get(key).filter(|_| world.now < stalled.max(operator.broken_until.get())) {
        return pauses.clone();
    }
    let pauses = world.pauses(key, target);
    known.insert(key.clone(), pauses.clone());
    pauses
}

/// What the operator knows about itself.
pub(super) fn health(operator: &Operator, now: jiff::Timestamp) -> OperatorHealth {
    OperatorHealth {
        leading_since: operator.leading_since.get(),
        api_contact_at: earlier(now, Duration::from_micros(operator.since_contact())),
        api_contact_within: Duration::from_micros(super::LEASE),
        enabled_actions: vec![
            ActionKind::CancelQueries,
            ActionKind::TerminateIdle,
            ActionKind::Scale,
            ActionKind::WarmCache,
        ]
        .into(),
        protected_roles: vec!["postgres".into()].into(),
    }
}

/// What has become of what an action is done to.
pub(super) async fn effect(operator: &Operator, namespace: &str, action: &Action) -> Look {
    let unreadable = |reason| Look::Unreadable(NoData::new(reason, "it cannot be asked for"));
    if let Action::Scale(scale) = action {
        let (namespace, target) = (namespace.to_owned(), scale.target.clone());
        let read = operator.ask(Op::Read, move |world| world.read_workload(&namespace, &target)).await;
        return match read {
            Ok((now, _)) => Look::Workload(now),
            Err(ApiError::NotFound) => Look::Gone,
            Err(ApiError::Conflict | ApiError::Refused | ApiError::Lost) => {
                unreadable(NoDataReason::ApiUnavailable)
            }
        };
    }
    let took = operator.sim.world.borrow_mut().answer_time();
    operator.sim.sleep(took).await;
    let Some(target) = action.session() else { return unreadable(NoDataReason::NotFound) };
    let world = operator.sim.world.borrow();
    let database = database_of(&target.secret).and_then(|place| world.databases.get(place));
    match database {
        Some(database) if world.now >= database.down_until.max(database.mute_until) => {
            if database.runs(action, &target.session) { Look::Running } else { Look::Gone }
        }
        Some(_) | None => unreadable(NoDataReason::Unreachable),
    }
}
