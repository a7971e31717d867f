//! Letting what is planned happen.

use std::sync::Arc;

use controller::report::PolicyReport;
use engine::invariants::{Place, What};
use engine::model::{Autoscaler, Budget, Draining, Freeze, Mode, later};

use crate::exec::{SECOND, Sim};
use crate::plan::{Item, Manner};
use crate::process;
use crate::watches;
use crate::world::World;
use crate::world::api::{LeaseObject, PolicyObject, Stored};
use crate::world::database::Conduct;
use crate::world::faults::Ambush;
use crate::world::setup::{POLICIES, policy};

/// It happens now. People say `forever` and mean until they take it back.
pub fn happen(sim: &Arc<Sim>, item: &Item) {
    {
        let mut world = sim.world();
        let kind = item.kind();
        if !item.is_fault() {
            crate::world::count(&mut world.counts.events, &kind);
        } else if !matches!(item, Item::Ambush { .. }) {
            world.fault(&kind);
        }
        world.note(&format!("* {item:?}"));
    }
    trouble(sim, item);
    people(sim, item);
    rules(sim, item);
    faults(sim, item);
    sim.world().refresh();
}

fn after(sim: &Arc<Sim>, span: u64, change: impl FnOnce(&mut World) + Send + 'static) {
    sim.at(sim.now() + span * SECOND, move |sim| {
        let mut world = sim.world();
        change(&mut world);
        world.refresh();
    });
}

fn conduct(manner: Manner, idle: bool) -> Conduct {
    let plain = Conduct { idle, ..Conduct::default() };
    match manner {
        Manner::Plain => plain,
        Manner::Wrote => Conduct { wrote: true, ..plain },
        Manner::Deaf => Conduct { deaf: true, ..plain },
        Manner::Restless => Conduct { restless: true, ..plain },
        Manner::Privileged => Conduct { privileged: true, ..plain },
        Manner::Protected => Conduct { protected: true, ..plain },
        Manner::Maintenance => Conduct { maintenance: true, ..plain },
        Manner::Foreign => Conduct { foreign: true, ..plain },
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "each part knows its own items")]
fn trouble(sim: &Arc<Sim>, item: &Item) {
    let mut world = sim.world();
    let now = world.now;
    let begin = |world: &mut World, database: usize, manner: Manner, idle: bool, victims: u32| {
        let found = world.databases.get_mut(database)?;
        if now < found.down_until {
            return None;
        }
        let pid = found.begin(now, conduct(manner, idle));
        if victims > 0 {
            found.block(now, pid, victims);
        }
        Some(pid)
    };
    match item {
        Item::Runaway { database, span, manner } => {
            let begun = begin(&mut world, *database, *manner, false, 0);
            drop(world);
            ends(sim, *database, begun, *span, *manner);
        }
        Item::Blocker { database, span, victims, manner } => {
            let begun = begin(&mut world, *database, *manner, false, *victims);
            drop(world);
            ends(sim, *database, begun, *span, *manner);
        }
        Item::Idle { database, span, victims, manner } => {
            let begun = begin(&mut world, *database, *manner, true, *victims);
            drop(world);
            ends(sim, *database, begun, *span, Manner::Plain);
        }
        Item::Saturation { target, span, demand } => {
            if let Some(found) = world.targets.get_mut(*target) {
                found.demand = f64::from(*demand);
            }
            drop(world);
            calms(sim, *target, *span);
        }
        Item::Hang { target, span } => {
            if let Some(found) = world.targets.get_mut(*target) {
                found.hangs = true;
            }
            drop(world);
            calms(sim, *target, *span);
        }
        Item::Flush { cache, span, futile } => {
            if let Some(found) = world.caches.get_mut(*cache) {
                found.flush(now);
                found.futile_until = if *futile { now + span * SECOND } else { 0 };
            }
            drop(world);
            fills(sim, *cache, *span);
        }
        Item::CacheRestart { cache, span } => {
            let life = world.api.bump();
            if let Some(found) = world.caches.get_mut(*cache) {
                found.restart(now, life);
            }
            drop(world);
            fills(sim, *cache, *span);
        }
        Item::Lull { target, span } => {
            if let Some(found) = world.targets.get_mut(*target) {
                found.rate = 0.4;
            }
            drop(world);
            calms(sim, *target, *span);
        }
        _ => {}
    }
}

/// The cache is filled in the end, whoever has done it.
fn fills(sim: &Arc<Sim>, cache: usize, span: u64) {
    after(sim, span, move |world| {
        let now = world.now;
        if let Some(found) = world.caches.get_mut(cache) {
            found.heal(now);
        }
    });
}

fn calms(sim: &Arc<Sim>, target: usize, span: u64) {
    after(sim, span, move |world| {
        if let Some(found) = world.targets.get_mut(target) {
            found.calm();
        }
    });
}

/// The session ends by itself; a restless one moves on every twenty seconds or so.
fn ends(sim: &Arc<Sim>, database: usize, pid: Option<i32>, span: u64, manner: Manner) {
    let Some(pid) = pid else { return };
    let restless = manner == Manner::Restless;
    if restless {
        let (mut at, mut world) = (0, sim.world());
        let mut moves = Vec::new();
        while at < span {
            at += world.dice.between(12, 35);
            moves.push(at);
        }
        drop(world);
        for at in moves {
            after(sim, at, move |world| {
                let now = world.now;
                if let Some(found) = world.databases.get_mut(database) {
                    found.end(now, pid);
                }
            });
        }
    }
    after(sim, span, move |world| {
        let now = world.now;
        if let Some(found) = world.databases.get_mut(database) {
            if let Some(client) = found.clients.get_mut(&pid) {
                client.restless = false;
            }
            found.end(now, pid);
        }
    });
}

#[allow(clippy::wildcard_enum_match_arm, reason = "each part knows its own items")]
fn people(sim: &Arc<Sim>, item: &Item) {
    let mut world = sim.world();
    let now = world.now;
    match item {
        Item::ScaleByHand { target, to } => world.others_scale(*target, *to, "kubectl"),
        Item::ScaleByGit { target } => {
            world.others_scale(*target, 4, "argocd-controller");
            drop(world);
            let target = *target;
            after(sim, 3600, move |world| world.others_scale(target, 4, "kubectl"));
        }
        Item::Autoscaler { target, span } => {
            set_autoscaler(&mut world, *target, true);
            drop(world);
            let target = *target;
            after(sim, *span, move |world| set_autoscaler(world, target, false));
        }
        Item::Replace { target } => replace(&mut world, *target),
        Item::Rollout { target, span } => {
            if let Some(found) = world.targets.get_mut(*target) {
                found.rolling_until = now + span * SECOND;
                found.version += 1;
                found.generation += 1;
            }
        }
        Item::OptOut { target, span } => {
            if let Some(found) = world.targets.get_mut(*target) {
                found.opt_out = Some("true".into());
            }
            drop(world);
            let target = *target;
            after(sim, *span, move |world| {
                if let Some(found) = world.targets.get_mut(target) {
                    found.opt_out = None;
                }
            });
        }
        Item::PauseTarget { target, span } => {
            pause_target(&mut world, *target, Some("forever".into()));
            drop(world);
            let target = *target;
            after(sim, *span, move |world| pause_target(world, target, None));
        }
        Item::PauseNamespace { place, span } => {
            let namespace = ["shop", "depot"].get(*place).copied().unwrap_or("shop").to_owned();
            world.api.namespaces.insert(namespace.clone(), "forever".into());
            let place = Place::Namespace(namespace.clone());
            world.tell(What::Paused { place: place.clone(), until: Some("forever".into()) });
            drop(world);
            after(sim, *span, move |world| {
                world.api.namespaces.remove(&namespace);
                world.tell(What::Paused { place, until: None });
            });
        }
        Item::Drain { span } => {
            // The operator's clock says until when: a second behind at most.
            let until = later(world.instant(), std::time::Duration::from_secs(*span));
            let draining = Some(Draining { until });
            let known = world.api.lease.draining.is_some_and(|known| known.until >= until);
            let lease = LeaseObject { draining, ..world.api.lease.clone() };
            if !known {
                let _ = world.write_lease(&lease);
            }
        }
        Item::DeleteRemediation => {
            let newest = world.api.remediations.values().max_by_key(|stored| stored.object.created_at);
            let key = newest.map(|stored| (stored.object.namespace.clone(), stored.object.name.clone()));
            if let Some(key) = key {
                world.tell(What::Erased(key.clone()));
                let _ = world.delete_remediation(&key, None);
            }
        }
        _ => {}
    }
}

fn set_autoscaler(world: &mut World, target: usize, there: bool) {
    let Some(found) = world.targets.get_mut(target) else { return };
    found.autoscalers.clear();
    if there {
        found.autoscalers.push(Autoscaler { kind: "HorizontalPodAutoscaler".into(), name: "hpa".into() });
    }
    let scalers = found.autoscalers.iter().map(ToString::to_string).collect();
    let (namespace, target) = (found.namespace.clone(), found.name.clone());
    world.tell(What::Scalers { namespace, target, scalers });
}

fn replace(world: &mut World, target: usize) {
    let (number, now) = (world.api.bump(), world.now);
    let Some(found) = world.targets.get_mut(target) else { return };
    let before = found.key();
    found.replace(number, now);
    let (after, to) = (found.key(), found.replicas);
    let (namespace, name) = (found.namespace.clone(), found.name.clone());
    world.tell(What::WorkloadGone(before));
    let manager = "kubectl-client-side-apply".to_owned();
    let told = engine::invariants::Replicas {
        workload: after,
        from: None,
        to,
        manager,
        sent: None,
        remediation: None,
    };
    world.tell(What::Replicas(told));
    world.tell(What::Scalers { namespace, target: name, scalers: Vec::new() });
}

fn pause_target(world: &mut World, target: usize, until: Option<String>) {
    let Some(found) = world.targets.get_mut(target) else { return };
    found.paused.clone_from(&until);
    let place = Place::Target(found.namespace.clone(), found.name.clone());
    world.tell(What::Paused { place, until });
}

fn key_of(place: usize) -> (String, String) {
    let (namespace, name, ..) = POLICIES.get(place).copied().unwrap_or_default();
    (namespace.to_owned(), name.to_owned())
}

/// People change a policy, if it is there.
fn change(world: &mut World, place: usize, change: impl FnOnce(&mut PolicyObject)) {
    let key = key_of(place);
    if let Ok(object) = world.edit_policy(&key, change) {
        world.tell(What::Paused { place: Place::Policy(key.0, key.1), until: object.paused });
    }
}

fn set_budget(world: &mut World, budget: Option<Budget>) {
    world.set_budgets(budget.into_iter().collect());
}

#[allow(clippy::wildcard_enum_match_arm, reason = "each part knows its own items")]
fn rules(sim: &Arc<Sim>, item: &Item) {
    let mut world = sim.world();
    match item {
        Item::PausePolicy { policy, span } => {
            change(&mut world, *policy, |object| object.paused = Some("forever".into()));
            drop(world);
            let place = *policy;
            after(sim, *span, move |world| change(world, place, |object| object.paused = None));
        }
        Item::Observe { policy, span } => {
            change(&mut world, *policy, |object| object.policy.mode = Mode::Observe);
            drop(world);
            let place = *policy;
            after(sim, *span, move |world| change(world, place, |object| object.policy.mode = Mode::Auto));
        }
        Item::Edit { policy, per_hour, cooldown } => change(&mut world, *policy, |object| {
            object.policy.guards.max_actions_per_hour = *per_hour;
            object.policy.guards.cooldown = std::time::Duration::from_secs(*cooldown);
        }),
        Item::DeletePolicy { policy: place, span } => {
            let _ = world.delete_policy(&key_of(*place));
            let place = *place;
            drop(world);
            after(sim, *span, move |world| create_policy(world, place));
        }
        Item::DeleteOwing { span } => {
            let owes = |stored: &&Stored| stored.object.owes() && stored.object.status.phase.is_terminal();
            let newest = world.api.remediations.values().filter(owes).max_by_key(|s| s.object.created_at);
            let key = newest.map(|s| (s.object.namespace.clone(), s.object.spec.policy.name.clone()));
            let Some(place) = (0..POLICIES.len()).find(|place| Some(key_of(*place)) == key) else { return };
            let _ = world.delete_policy(&key_of(place));
            drop(world);
            after(sim, *span, move |world| create_policy(world, place));
        }
        Item::Freeze { all, span } => {
            let freeze = if *all { Freeze::ActionsAndRollbacks } else { Freeze::Actions };
            set_budget(&mut world, Some(Budget { freeze, ..Budget::unlimited("quiet") }));
            drop(world);
            after(sim, *span, |world| set_budget(world, None));
        }
        Item::Limit { per_hour, concurrent, span } => {
            let (per_hour, concurrent) = (Some(*per_hour), Some(*concurrent));
            set_budget(&mut world, Some(Budget { per_hour, concurrent, ..Budget::unlimited("quiet") }));
            drop(world);
            after(sim, *span, |world| set_budget(world, None));
        }
        _ => {}
    }
}

/// A policy is created (again), if it is not there.
pub fn create_policy(world: &mut World, place: usize) {
    if world.api.policies.contains_key(&key_of(place)) {
        return;
    }
    let life = world.api.bump();
    let mut object =
        PolicyObject { policy: policy(place, 1), version: 0, paused: None, report: PolicyReport::default() };
    object.policy.id.uid = format!("{place}{life:07}-aaaa");
    object.policy.created_at = world.instant();
    let _ = world.create_policy(object);
    let key = key_of(place);
    world.tell(What::Paused { place: Place::Policy(key.0, key.1), until: None });
}

#[allow(clippy::wildcard_enum_match_arm, reason = "each part knows its own items")]
fn faults(sim: &Arc<Sim>, item: &Item) {
    let now = sim.now();
    let until = |span: &u64| now + span * SECOND;
    match item {
        Item::Kill { node } => return process::kill(sim, *node),
        Item::Stop { node } => return process::stop(sim, *node),
        Item::FreezeProcess { node, span } => return process::freeze(sim, *node, *span),
        Item::WatchBreaks { node, span } => return watches::break_off(sim, *node, *span),
        _ => {}
    }
    let mut world = sim.world();
    let world = &mut *world;
    let set = |places: &mut [u64; 2], node: usize, until: u64| {
        if let Some(place) = places.get_mut(node) {
            *place = until;
        }
    };
    match item {
        Item::Ambush { node, op, blow, span } => {
            let ambush = Ambush { node: *node, op: *op, blow: *blow, until: until(span) };
            world.faults.ambushes.push(ambush);
        }
        Item::ApiDown { node, span } => set(&mut world.faults.api_down, *node, until(span)),
        Item::ApiFlaky { node, span } => set(&mut world.faults.api_flaky, *node, until(span)),
        Item::WatchStalls { node, span } => set(&mut world.faults.watch_stalled, *node, until(span)),
        Item::MetricsDown { node, span } => set(&mut world.faults.metrics_down, *node, until(span)),
        Item::CacheDown { cache, span } => {
            if let Some(found) = world.caches.get_mut(*cache) {
                found.down_until = until(span);
            }
        }
        Item::CacheEvicts { cache, span } => {
            if let Some(found) = world.caches.get_mut(*cache) {
                found.evicting_until = until(span);
            }
        }
        Item::ClockJump { node, seconds } => {
            if let Some(skew) = world.faults.skew.get_mut(*node) {
                *skew = seconds * 1_000_000;
            }
        }
        Item::LeaseStolen => {
            let lease = LeaseObject {
                holder: Some("somebody".into()),
                epoch: world.api.lease.epoch + 1,
                ..world.api.lease.clone()
            };
            let _ = world.write_lease(&lease);
        }
        _ => {}
    }
    let place = match item {
        Item::DatabaseDown { database, .. }
        | Item::DatabaseRestart { database }
        | Item::Failover { database, .. }
        | Item::DatabasePartial { database, .. }
        | Item::DatabaseMute { database, .. } => *database,
        _ => return,
    };
    let Some(found) = world.databases.get_mut(place) else { return };
    match item {
        Item::DatabaseDown { span, .. } => {
            found.down_until = until(span);
            found.restart(now, false);
        }
        Item::DatabaseRestart { .. } => found.restart(now, false),
        Item::Failover { span, .. } => {
            found.restart(now, true);
            let span = *span;
            after(sim, span, move |world| {
                if let Some(found) = world.databases.get_mut(place) {
                    found.standby = false;
                }
            });
        }
        Item::DatabasePartial { span, .. } => found.partial_until = until(span),
        Item::DatabaseMute { span, .. } => found.mute_until = until(span),
        _ => {}
    }
}

/// From now on nothing is wrong any more, and nobody changes anything.
pub fn quiet(sim: &Arc<Sim>) {
    {
        let mut world = sim.world();
        world.faults.end();
        for place in 0..world.databases.len() {
            if let Some(database) = world.databases.get_mut(place) {
                (database.down_until, database.partial_until, database.mute_until) = (0, 0, 0);
                database.standby = false;
                database.clients.clear();
                database.waits.clear();
            }
        }
        let now = world.now;
        for cache in &mut world.caches {
            cache.heal(now);
            (cache.down_until, cache.evicting_until, cache.futile_until) = (0, 0, 0);
        }
        for place in 0..world.targets.len() {
            if let Some(target) = world.targets.get_mut(place) {
                target.calm();
                target.opt_out = None;
            }
            set_autoscaler(&mut world, place, false);
            pause_target(&mut world, place, None);
        }
        let paused: Vec<String> = world.api.namespaces.keys().cloned().collect();
        for namespace in paused {
            world.api.namespaces.remove(&namespace);
            world.tell(What::Paused { place: Place::Namespace(namespace), until: None });
        }
        set_budget(&mut world, None);
        for place in 0..POLICIES.len() {
            create_policy(&mut world, place);
            change(&mut world, place, |object| {
                object.paused = None;
                object.policy.mode = Mode::Auto;
            });
        }
        world.refresh();
        world.tell(What::Quiet);
    }
}
