//! The life of a process: it waits for its turn, leads, and ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use controller::election::{Elector, LeaseTimes};
use controller::ledger_store::LedgerStore;
use controller::ports::Cluster;
use controller::{Controllers, Settings};
use engine::actions::ACTIONS;
use futures::future::{Either, join, select};

use crate::exec::{MS, Micros, SECOND, lock};
use crate::ports::{self, LEASE, Port};
use crate::process::Process;
use crate::watches;
use crate::world::faults::Op;

/// How long what is under way may take after a signal to stop.
const GRACE: Micros = 20 * SECOND;

/// A Lease's times, as they are configured by default.
const TIMES: LeaseTimes = LeaseTimes {
    duration: LEASE,
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

fn elector(process: &Arc<Process>) -> Elector<Port, Port> {
    let ports = ports::of(process);
    Elector::new(ports.cluster, ports.time, TIMES, &process.identity)
}

/// The life of a process.
pub(crate) async fn run(process: Arc<Process>) {
    let elector = elector(&process);
    let term = elector.acquire().await;
    term.time_is_known();
    process.lead(term.clone());
    process.sim.spawn(process.node, work(process.clone()));
    let why = match select(pin!(elector.keep(&term)), pin!(finished(&process))).await {
        // A marked Lease is deleted only by its holder at its end: nobody lingers here.
        Either::Left((lost, _)) => format!("the Lease was lost: {lost}"),
        Either::Right(_) => {
            elector.release(&term).await;
            "it was told to".to_owned()
        }
    };
    process.die(&why).await;
}

/// Both controllers, for as long as this process leads.
async fn work(process: Arc<Process>) {
    let ports = ports::of(&process);
    let ledger = LedgerStore::default();
    match ports.cluster.remediations().await {
        Ok(listed) => ledger.build(listed),
        Err(_) => return process.die("the LatencyRemediations cannot be listed").await,
    }
    let _ = process.refresh_limits(Op::Read).await;
    let settings = Settings {
        enabled_actions: ACTIONS.iter().map(|line| line.kind).collect::<Vec<_>>().into(),
        protected_roles: vec!["postgres".into()].into(),
        api_contact_within: LEASE,
        leading_since: process.now(),
    };
    let controllers = Controllers::new(ports, settings, ledger);
    process.control(&controllers);
    watches::follow(&process).await;
    join(controllers.keep_history_trimmed(None), controllers.keep_budgets_reported()).await;
}

/// Waits for the signal to end, then until what is under way is finished, within a grace.
async fn finished(process: &Process) {
    process.told.clone().await;
    process.ring_all();
    let overdue = process.sim.now() + GRACE;
    while !lock(&process.work).is_empty() && process.sim.now() < overdue {
        process.sim.sleep(100 * MS).await;
    }
}
