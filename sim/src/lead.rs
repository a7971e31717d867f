//! Leading: one leader by a Lease.

use std::sync::Arc;
use std::time::Duration;

use controller::ledger_store::LedgerStore;
use controller::{Controllers, Settings};
use engine::model::{ActionKind, Draining, Remediation};
use futures::future::join;

use crate::exec::{MS, Micros, SECOND, lock};
use crate::process::{LEASE, Process, RENEW_DEADLINE, RETRY};
use crate::world::api::{Answer, ApiError, LeaseObject};
use crate::world::faults::Op;
use crate::{planted, ports, watches};

/// How long what is under way may take after a signal to stop.
const GRACE: Micros = 20 * SECOND;

/// A Lease as it was last seen to change.
type Observed = Option<(u64, Micros)>;

/// The life of a process.
pub(crate) async fn run(process: Arc<Process>) {
    let (mut observed, mut marked): (Observed, Option<Micros>) = (None, None);
    while !matches!(acquire(&process, &mut observed, &mut marked).await, Ok(true)) {
        process.sim.sleep(RETRY).await;
    }
    process.sim.spawn(process.node, keep(process.clone()));
    let listed: Answer<Vec<Remediation>> = process
        .ask(Op::Read, |world| {
            Ok(world.api.remediations.values().map(|stored| stored.object.clone()).collect())
        })
        .await;
    let ledger = LedgerStore::default();
    match listed {
        Ok(listed) => ledger.build(listed),
        Err(_) => return process.die("the LatencyRemediations cannot be listed").await,
    }
    let _ = process.refresh_limits(Op::Read).await;
    let settings = Settings {
        enabled_actions: vec![
            ActionKind::CancelQuery,
            ActionKind::TerminateIdle,
            ActionKind::Scale,
            ActionKind::WarmCache,
        ]
        .into(),
        protected_roles: vec!["postgres".into()].into(),
        api_contact_within: Duration::from_micros(LEASE),
        leading_since: process.now(),
    };
    let controllers = Controllers::new(ports::of(&process), settings, ledger);
    process.lead(&controllers);
    watches::follow(&process).await;
    join(controllers.keep_history_trimmed(None), controllers.keep_budgets_reported()).await;
}

/// Tries to take the Lease once.
async fn acquire(process: &Process, observed: &mut Observed, marked: &mut Option<Micros>) -> Answer<bool> {
    let lease = process.ask(Op::Read, |world| Ok(world.api.lease.clone())).await?;
    let now = process.sim.now();
    if lease.version != 0 {
        *marked = lease.draining.map(|_| now);
    } else if marked.is_some_and(|at| u128::from(now.saturating_sub(at)) < Draining::LINGERS.as_micros()) {
        // Who has been uninstalled does not begin anew.
        return Ok(false);
    }
    if lease.version != 0 && lease.holder.is_some() && !is_free(now, &lease, observed) {
        return Ok(false);
    }
    let epoch = if lease.version == 0 { 0 } else { lease.epoch + 1 };
    let sent = process.sim.now();
    let draining = lease.draining;
    let taken = LeaseObject { holder: Some(process.identity.clone()), epoch, ..lease };
    match process.ask(Op::Lease, move |world| world.write_lease(&taken)).await {
        Ok(()) => {
            let mut term = lock(&process.term);
            (term.epoch, term.renewed) = (epoch, sent);
            term.draining = draining.filter(|_| !planted::is("mark_is_not_heard"));
            Ok(true)
        }
        Err(ApiError::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it has not changed before our eyes for its whole duration.
fn is_free(now: Micros, lease: &LeaseObject, observed: &mut Observed) -> bool {
    match observed {
        Some((version, since)) if *version == lease.version => now.saturating_sub(*since) > LEASE,
        _ => {
            *observed = Some((lease.version, now));
            false
        }
    }
}

/// Renews until the Lease is lost.
async fn keep(process: Arc<Process>) {
    loop {
        process.sim.sleep(RETRY).await;
        if process.since_contact() >= RENEW_DEADLINE {
            return process.die("the Lease could not be renewed").await;
        }
        if let Ok(false) = renew(&process).await {
            return process.die("another operator holds the Lease").await;
        }
    }
}

async fn renew(process: &Arc<Process>) -> Answer<bool> {
    let lease = process.ask(Op::Read, |world| Ok(world.api.lease.clone())).await?;
    if lease.holder.as_ref() != Some(&process.identity) || lease.epoch != lock(&process.term).epoch {
        return Ok(false);
    }
    hear(process, lease.draining);
    let sent = process.sim.now();
    let draining = lease.draining.filter(|draining| draining.holds(process.now()));
    let renewed = LeaseObject { draining, ..lease };
    process.ask(Op::Lease, move |world| world.write_lease(&renewed)).await?;
    lock(&process.term).renewed = sent;
    hear(process, draining);
    Ok(true)
}

/// Takes in the mark; what waits looks again at once.
fn hear(process: &Arc<Process>, draining: Option<Draining>) {
    if planted::is("mark_is_not_heard") {
        return;
    }
    let before = std::mem::replace(&mut lock(&process.term).draining, draining);
    if before == draining {
        return;
    }
    let Some(controllers) = process.controllers() else { return };
    for key in controllers.ledger.unsettled(None) {
        process.queue_remediation(key);
    }
}

/// Ends in good order: what is under way is finished, within a grace, and the Lease given back.
pub(crate) async fn stop(process: Arc<Process>) {
    process.ring_all();
    let overdue = process.sim.now() + GRACE;
    while !lock(&process.work).is_empty() && process.sim.now() < overdue {
        process.sim.sleep(100 * MS).await;
    }
    let lease = process.ask(Op::Read, |world| Ok(world.api.lease.clone())).await;
    if let Ok(lease) = lease
        && lease.holder.as_ref() == Some(&process.identity)
    {
        let version = lease.version;
        let _ = if lease.draining.is_some_and(|draining| draining.holds(process.now())) {
            process.ask(Op::Lease, move |world| world.delete_lease(version)).await
        } else {
            let given_back = LeaseObject { holder: None, ..lease };
            process.ask(Op::Lease, move |world| world.write_lease(&given_back)).await
        };
    }
    process.die("it was told to").await;
}
