//! What watches show, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use controller::PolicyKey;
use controller::ledger_store::Freshness;
use controller::objects::{Stored, StoredBudget, StoredPolicy};
use engine::model::{EntryKey, Limits, Remediation, earlier};

use crate::exec::{MS, Micros, Node, SECOND, Sim, lock};
use crate::process::Process;
use crate::world::api::{self, PolicyObject, Shown};
use crate::world::faults::Op;

/// An object that is younger than this may be missing from a list without having been deleted.
const SLACK: Duration = Duration::from_secs(60);

/// What the watches of one process have shown.
#[derive(Debug, Default)]
pub struct Watched {
    /// LatencyPolicies.
    pub policies: BTreeMap<PolicyKey, Arc<StoredPolicy>>,
    /// LatencyRemediations.
    pub remediations: BTreeMap<EntryKey, Stored<Remediation>>,
    /// RemediationBudgets.
    pub budgets: Vec<StoredBudget>,
    /// They show nothing until then; afterwards everything is listed anew.
    pub broken_until: Micros,
    /// What is on its way arrives by then.
    shown_until: Micros,
    /// The version of the last list: what was under way then is older.
    listed: u64,
}

/// Lists everything, and follows it from then on.
pub(crate) async fn follow(process: &Arc<Process>) {
    lock(&process.sim.leaders).push(process.clone());
    while !list(process).await {
        process.sim.sleep(SECOND).await;
    }
}

/// A whole list: what it does not show is gone.
async fn list(process: &Arc<Process>) -> bool {
    type Listed = (u64, Vec<PolicyObject>, Vec<api::Stored>, Vec<StoredBudget>);
    let listed = process
        .ask(Op::Read, |world| -> Result<Listed, _> {
            let api = &world.api;
            let remediations = api.remediations.values().cloned().collect();
            Ok((api.version(), api.policies.values().cloned().collect(), remediations, api.budgets.clone()))
        })
        .await;
    let Ok((version, policies, remediations, budgets)) = listed else { return false };
    let names: BTreeSet<PolicyKey> = policies.iter().map(PolicyObject::key).collect();
    let keys: BTreeSet<EntryKey> = remediations.iter().map(api::Stored::key).collect();
    {
        let mut watched = lock(&process.watched);
        watched.listed = version;
        watched.policies.retain(|key, _| names.contains(key));
        watched.remediations.retain(|key, _| keys.contains(key));
    }
    let Some(controllers) = process.controllers() else { return false };
    show(process, Shown::Budgets(budgets), Freshness::List);
    for gone in controllers.forget_unlisted_policies(None, &names) {
        process.queue_policy(gone);
    }
    for policy in policies {
        show(process, Shown::Policy(Arc::new(policy)), Freshness::List);
    }
    for stored in remediations {
        show(process, Shown::Remediation(Arc::new(stored)), Freshness::List);
    }
    controllers.ledger.forget_unlisted(None, &keys, earlier(process.now(), SLACK));
    true
}

/// Tells those that watch what is new, each after its own while.
pub(crate) fn pump(sim: &Arc<Sim>) {
    let (news, stalled) = {
        let mut world = sim.world();
        if world.api.news.is_empty() {
            return;
        }
        (world.api.news.drain(..).collect::<Vec<_>>(), world.faults.watch_stalled)
    };
    let leaders = lock(&sim.leaders).clone();
    for process in leaders {
        for (version, shown) in &news {
            if lock(&process.watched).broken_until > sim.now() {
                continue;
            }
            let lag = sim.world().dice.between(MS, 60 * MS);
            let stalled = stalled.get(process.node).copied().unwrap_or(0);
            let at = {
                let mut watched = lock(&process.watched);
                watched.shown_until = (sim.now() + lag).max(stalled).max(watched.shown_until + 1);
                watched.shown_until
            };
            deliver(sim, at, process.clone(), *version, shown.clone());
        }
    }
}

fn deliver(sim: &Arc<Sim>, at: Micros, process: Arc<Process>, version: u64, shown: Shown) {
    sim.at(at, move |sim| {
        let frozen = sim.frozen_until(process.node);
        if process.controllers().is_none() {
            // It has ended. What runs there now lists everything itself.
        } else if frozen > sim.now() {
            // In order, as it came.
            deliver(sim, frozen, process, version, shown);
        } else if version > lock(&process.watched).listed {
            show(&process, shown, Freshness::Event);
        }
    });
}

/// The watches of a node break: what happens until then is not shown, and then everything is listed anew.
pub(crate) fn break_off(sim: &Arc<Sim>, node: Node, seconds: u64) {
    let leaders = lock(&sim.leaders).clone();
    for process in leaders.into_iter().filter(|process| process.node == node) {
        lock(&process.watched).broken_until = sim.now() + seconds * SECOND;
        sim.spawn(node, async move {
            process.sim.sleep(seconds * SECOND).await;
            while !list(&process).await {
                process.sim.sleep(SECOND).await;
            }
        });
    }
}

fn show(process: &Arc<Process>, shown: Shown, freshness: Freshness) {
    let Some(controllers) = process.controllers() else { return };
    match shown {
        Shown::Policy(object) => {
            let key = object.key();
            lock(&process.watched).policies.insert(key.clone(), Arc::new(StoredPolicy::from(&*object)));
            process.queue_policy(key);
        }
        Shown::PolicyGone(key) => {
            lock(&process.watched).policies.remove(&key);
            controllers.forget_policy(&key);
            process.queue_policy(key);
        }
        Shown::Remediation(stored) => {
            let key = stored.key();
            let stored = Stored::from(&*stored);
            controllers.ledger.observe(&stored, freshness);
            lock(&process.watched).remediations.insert(key.clone(), stored);
            process.queue_remediation(key);
        }
        Shown::RemediationGone(key) => {
            controllers.ledger.forget(&key);
            lock(&process.watched).remediations.remove(&key);
            process.queue_remediation(key);
        }
        Shown::Budgets(budgets) => {
            *lock(&process.limits) = limits(&budgets);
            lock(&process.watched).budgets = budgets;
        }
    }
}

fn limits(budgets: &[StoredBudget]) -> Limits {
    let budgets = budgets.iter().map(|stored| stored.budget.clone()).collect();
    Limits { budgets, ..Limits::default() }
}

impl Process {
    /// The administrator's ceilings as the API server holds them at this moment. Where they cannot be listed: limits that let
    /// nothing through.
    pub(crate) async fn refresh_limits(&self, op: Op) -> Result<Limits, Limits> {
        match self.ask(op, |world| Ok(world.api.budgets.clone())).await {
            Ok(budgets) => {
                let limits = limits(&budgets);
                lock(&self.limits).clone_from(&limits);
                Ok(limits)
            }
            Err(_) => {
                let unreadable = Some("they cannot be listed".to_owned());
                Err(Limits { unreadable, ..lock(&self.limits).clone() })
            }
        }
    }
}
