//! Leading: mirrors `src/leader.rs` and `src/cli/run.rs`.

use std::rc::Rc;

use engine::model::{Draining, EntryKey, Remediation};

use super::{LEASE, Operator, RENEW_DEADLINE, RETRY, policy, remediation, retention, watch};
use crate::exec::{MS, Micros, SECOND};
use crate::planted;
use crate::world::api::{Answer, ApiError, LeaseObject};
use crate::world::faults::Op;

/// What is under way may take so long after a signal to stop.
const GRACE: Micros = 20 * SECOND;

/// A Lease as it was last seen to change.
type Observed = Option<(u64, Micros)>;

/// The life of a process.
pub(super) async fn run(operator: Rc<Operator>) {
    let (mut observed, mut marked): (Observed, Option<Micros>) = (None, None);
    while !matches!(acquire(&operator, &mut observed, &mut marked).await, Ok(true)) {
        operator.sim.sleep(RETRY).await;
    }
    operator.sim.spawn(operator.node, keep(operator.clone()));
    let listed: Answer<Vec<Remediation>> = operator
        .ask(Op::Read, |world| {
            Ok(world.api.remediations.values().map(|stored| stored.object.clone()).collect())
        })
        .await;
    match listed {
        Ok(listed) => operator.keeper.borrow_mut().build(listed),
        Err(_) => return operator.die("the LatencyRemediations cannot be listed").await,
    }
    operator.refresh_budgets(Op::Read).await;
    operator.leading_since.set(operator.now());
    watch::follow(&operator).await;
    retention::keep_up(operator).await;
}

/// Tries to take the Lease once.
async fn acquire(operator: &Operator, observed: &mut Observed, marked: &mut Option<Micros>) -> Answer<bool> {
    let lease = operator.ask(Op::Read, |world| Ok(world.api.lease.clone())).await?;
    let now = operator.sim.now();
    if lease.version != 0 {
        *marked = lease.draining.map(|_| now);
    } else if marked.is_some_and(|at| u128::from(now.saturating_sub(at)) < Draining::LINGERS.as_micros()) {
        // Who has been uninstalled does not begin anew.
        return Ok(false);
    }
    if lease.version != 0 && lease.holder.is_some() && !is_free(operator, &lease, observed) {
        return Ok(false);
    }
    let epoch = if lease.version == 0 { 0 } else { lease.epoch + 1 };
    let sent = operator.sim.now();
    let draining = lease.draining;
    let taken = LeaseObject { holder: Some(operator.identity.clone()), epoch, ..lease };
    match operator.ask(Op::Lease, move |world| world.write_lease(&taken)).await {
        Ok(()) => {
            operator.epoch.set(epoch);
            operator.draining.set(draining.filter(|_| !planted::is("mark_is_not_heard")));
            operator.renewed.set(sent);
            Ok(true)
        }
        Err(ApiError::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it has not changed before our eyes for its whole duration.
fn is_free(operator: &Operator, lease: &LeaseObject, observed: &mut Observed) -> bool {
    let now = operator.sim.now();
    match observed {
        Some((version, since)) if *version == lease.version => now.saturating_sub(*since) > LEASE,
        _ => {
            *observed = Some((lease.version, now));
            false
        }
    }
}

/// Renews until the Lease is lost.
async fn keep(operator: Rc<Operator>) {
    loop {
        operator.sim.sleep(RETRY).await;
        if operator.since_contact() >= RENEW_DEADLINE {
            return operator.die("the Lease could not be renewed").await;
        }
        if let Ok(false) = renew(&operator).await {
            return operator.die("another operator holds the Lease").await;
        }
    }
}

async fn renew(operator: &Rc<Operator>) -> Answer<bool> {
    let lease = operator.ask(Op::Read, |world| Ok(world.api.lease.clone())).await?;
    if lease.holder.as_ref() != Some(&operator.identity) || lease.epoch != operator.epoch.get() {
        return Ok(false);
    }
    hear(operator, lease.draining);
    let sent = operator.sim.now();
    let draining = lease.draining.filter(|draining| draining.holds(operator.now()));
    let renewed = LeaseObject { draining, ..lease };
    operator.ask(Op::Lease, move |world| world.write_lease(&renewed)).await?;
    operator.renewed.set(sent);
    hear(operator, draining);
    Ok(true)
}

/// Takes in the mark; what waits looks again at once.
fn hear(operator: &Rc<Operator>, draining: Option<Draining>) {
    if planted::is("mark_is_not_heard") || operator.draining.replace(draining) == draining {
        return;
    }
    let keys: Vec<EntryKey> = operator.remediations.borrow().keys().cloned().collect();
    for key in keys {
        remediation::wake(operator, &key);
    }
}

/// Ends in good order: what is under way is finished, within a grace, and the Lease given back.
pub(super) async fn stop(operator: Rc<Operator>) {
    let tasks: Vec<u64> = operator.tasks.borrow().values().copied().collect();
    for task in tasks {
        operator.sim.wake(task);
    }
    let overdue = operator.sim.now() + GRACE;
    while !operator.tasks.borrow().is_empty() && operator.sim.now() < overdue {
        operator.sim.sleep(100 * MS).await;
    }
    let lease = operator.ask(Op::Read, |world| Ok(world.api.lease.clone())).await;
    if let Ok(lease) = lease
        && lease.holder.as_ref() == Some(&operator.identity)
    {
        let version = lease.version;
        let _ = if lease.draining.is_some_and(|draining| draining.holds(operator.now())) {
            operator.ask(Op::Lease, move |world| world.delete_lease(version)).await
        } else {
            let given_back = LeaseObject { holder: None, ..lease };
            operator.ask(Op::Lease, move |world| world.write_lease(&given_back)).await
        };
    }
    operator.die("it was told to").await;
}

/// Starts the task of a policy, if there is none.
pub(super) fn policy_task(operator: &Rc<Operator>, key: &super::PolicyKey) {
    if operator.stopping.get() {
        return;
    }
    let name = format!("policy {}/{}", key.0, key.1);
    let known = operator.tasks.borrow().get(&name).copied();
    match known {
        Some(task) => operator.sim.wake(task),
        None => {
            let body = policy::follow(operator.clone(), key.clone(), name.clone());
            let task = operator.sim.spawn(operator.node, body);
            operator.tasks.borrow_mut().insert(name, task);
        }
    }
}

/// A leader looks after its history at leisure.
pub(super) const EVERY: Micros = 600 * SECOND;
