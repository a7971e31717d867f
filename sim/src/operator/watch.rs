//! What watches show, and when: mirrors `src/controller/work.rs`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use engine::model::{Budget, EntryKey, Limits, earlier};

use super::keeper::{News, PolicyKey};
use super::{Operator, lead, remediation};
use crate::exec::{MS, Node, SECOND, Sim};
use crate::world::api::{PolicyObject, Shown, Stored};
use crate::world::faults::Op;

/// What is younger than this may be missing from a list without having gone.
const SLACK: Duration = Duration::from_secs(60);

/// Lists everything, and follows it from then on.
pub(super) async fn follow(operator: &Rc<Operator>) {
    operator.sim.watchers.borrow_mut().push(operator.clone());
    while !list(operator).await {
        operator.sim.sleep(SECOND).await;
    }
}

/// A whole list: what it does not show is gone.
async fn list(operator: &Rc<Operator>) -> bool {
    type Listed = (u64, Vec<PolicyObject>, Vec<Stored>, Vec<Budget>);
    let listed = operator
        .ask(Op::Read, |world| -> Result<Listed, _> {
            let api = &world.api;
            let remediations = api.remediations.values().cloned().collect();
            Ok((api.version(), api.policies.values().cloned().collect(), remediations, api.budgets.clone()))
        })
        .await;
    let Ok((version, policies, remediations, budgets)) = listed else { return false };
    operator.listed.set(version);
    show(operator, Shown::Budgets(budgets), News::Listed);
    let names: BTreeSet<PolicyKey> =
        policies.iter().map(|p| (p.policy.id.namespace.clone(), p.policy.id.name.clone())).collect();
    let keys: BTreeSet<EntryKey> =
        remediations.iter().map(|s| (s.object.namespace.clone(), s.object.name.clone())).collect();
    let gone: Vec<PolicyKey> =
        operator.policies.borrow().keys().filter(|key| !names.contains(*key)).cloned().collect();
    for key in gone {
        show(operator, Shown::PolicyGone(key), News::Listed);
    }
    for policy in policies {
        show(operator, Shown::Policy(Box::new(policy)), News::Listed);
    }
    for stored in remediations {
        show(operator, Shown::Remediation(Box::new(stored)), News::Listed);
    }
    let before = earlier(operator.now(), SLACK);
    operator.keeper.borrow_mut().forget_unlisted(&keys, before);
    operator.remediations.borrow_mut().retain(|key, _| keys.contains(key));
    true
}

/// Tells those that watch what is new, each after its own while.
pub fn pump(sim: &Rc<Sim>) {
    let news: Vec<(u64, Shown)> = {
        let mut world = sim.world.borrow_mut();
        if world.api.news.is_empty() {
            return;
        }
        world.api.news.drain(..).collect()
    };
    let watchers = sim.watchers.borrow().clone();
    for operator in watchers {
        for (version, shown) in &news {
            if operator.broken_until.get() > sim.now() {
                continue;
            }
            let (lag, stalled) = {
                let mut world = sim.world.borrow_mut();
                let stalled = world.faults.watch_stalled.get(operator.node).copied().unwrap_or(0);
                (world.dice.between(MS, 60 * MS), stalled)
            };
            let at = (sim.now() + lag).max(stalled).max(operator.shown_until.get() + 1);
            operator.shown_until.set(at);
            deliver(sim, at, operator.clone(), *version, shown.clone());
        }
    }
}

fn deliver(sim: &Rc<Sim>, at: u64, operator: Rc<Operator>, version: u64, shown: Shown) {
    sim.at(at, move |sim| {
        let frozen = sim.frozen_until.get(operator.node).map_or(0, std::cell::Cell::get);
        if !operator.alive.get() {
            return;
        }
        if frozen > sim.now() {
            // In order, as it came.
            deliver(sim, frozen, operator, version, shown);
        } else if version > operator.listed.get() {
            show(&operator, shown, News::Changed);
        }
    });
}

/// The watches of a node break: what happens until then is not shown, and then everything is listed anew.
pub fn break_off(sim: &Rc<Sim>, node: Node, seconds: u64) {
    let watchers = sim.watchers.borrow().clone();
    for operator in watchers.into_iter().filter(|operator| operator.node == node) {
        operator.broken_until.set(sim.now() + seconds * SECOND);
        let again = operator.clone();
        sim.spawn(node, async move {
            again.sim.sleep(seconds * SECOND).await;
            while !list(&again).await {
                again.sim.sleep(SECOND).await;
            }
        });
    }
}

/// The process of a node has ended.
pub(super) fn forget(sim: &Sim, node: Node) {
    let mut watchers = sim.watchers.borrow_mut();
    for operator in watchers.iter().filter(|operator| operator.node == node) {
        operator.alive.set(false);
    }
    watchers.retain(|operator| operator.node != node);
}

fn show(operator: &Rc<Operator>, shown: Shown, news: News) {
    match shown {
        Shown::Policy(object) => {
            let key = (object.policy.id.namespace.clone(), object.policy.id.name.clone());
            operator.policies.borrow_mut().insert(key.clone(), *object);
            lead::policy_task(operator, &key);
        }
        Shown::PolicyGone(key) => {
            operator.policies.borrow_mut().remove(&key);
            operator.views.borrow_mut().remove(&key);
            lead::policy_task(operator, &key);
        }
        Shown::Remediation(stored) => {
            let key = (stored.object.namespace.clone(), stored.object.name.clone());
            operator.keeper.borrow_mut().observe(&stored, news);
            operator.remediations.borrow_mut().insert(key.clone(), *stored);
            remediation::wake(operator, &key);
        }
        Shown::RemediationGone(key) => {
            operator.keeper.borrow_mut().forget(&key);
            operator.remediations.borrow_mut().remove(&key);
            remediation::wake(operator, &key);
        }
        Shown::Budgets(budgets) => {
            *operator.limits.borrow_mut() = Limits { budgets, ..Limits::default() };
        }
    }
}
