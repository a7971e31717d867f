//! `WorkersSaturated`: every worker of the target is busy, and the databases are well: there is too little of it.

use super::case::{Case, Found, Hurts};
use super::{Cause, Need, database_trouble};
use crate::model::{Evidence, Policy, Subject, Target, Traffic};

pub(super) const CAUSE: Cause = Cause {
    name: "WorkersSaturated",
    found_when: "in every reading of a window there were at least as many requests in flight as the ready pods have workers (`target.concurrencyPerPod`); it is only Possible while a declared database is not known to be well",
    needs: Some(Need {
        setting: "spec.target.concurrencyPerPod",
        is_set: |policy| policy.concurrency_per_pod.is_some(),
    }),
    diagnose,
    ..Cause::DEFAULT
};

/// Requests in flight against what the ready pods can serve at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) in_flight: f64,
    pub(crate) ready: u32,
    pub(crate) workers: u32,
}

impl Load {
    /// The load as it is measured; nothing where it cannot be told. Of several sources the one that sees most counts: an edge
    /// knows of requests that wait for a worker, the application does not.
    pub(crate) fn of<'a>(
        policy: &Policy,
        target: Option<&Target>,
        traffic: impl Iterator<Item = &'a Traffic>,
    ) -> Option<Self> {
        let concurrency_per_pod = policy.concurrency_per_pod?;
        let ready = target?.workload.as_ref()?.ready;
        let in_flight =
            traffic.filter_map(|traffic| traffic.in_flight.known().copied()).max_by(f64::total_cmp)?;
        Some(Self { in_flight, ready, workers: ready.saturating_mul(concurrency_per_pod) })
    }

    pub(crate) fn is_full(self) -> bool {
        self.workers > 0 && self.in_flight >= f64::from(self.workers)
    }
}

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    saturated(case).into_iter().collect()
}

fn saturated(case: &Case<'_>) -> Option<Found> {
    let (snapshot, saturated) = (case.snapshot, case.state.saturated);
    let since =
        saturated.since().filter(|_| saturated.lasts(snapshot.now, case.policy().evaluation.window))?;
    let traffic = case.measurements().map(|(_, traffic)| traffic);
    let load = Load::of(case.policy(), case.target(), traffic).filter(|load| load.is_full())?;
    let Load { in_flight, ready, workers } = load;
    let trouble = database_trouble(snapshot, case.found, CAUSE.name);
    let target = &snapshot.policy.target;
    let databases = match (&trouble, snapshot.policy.dependencies.is_empty()) {
        (Some(trouble), _) => format!("but {trouble}"),
        (None, true) => "no database is declared".to_owned(),
        (None, false) => "the databases are well".to_owned(),
    };
    Some(Found {
        subject: Subject::Workload(target.clone()),
        onset: Some(since),
        hurts: if trouble.is_some() { Hurts::Unknown } else { Hurts::Now },
        advice: false,
        evidence: vec![
            Evidence::new("requests in flight", format!("{in_flight:.0}")),
            Evidence::new("workers of the ready pods", workers.to_string()),
            Evidence::new("ready pods", ready.to_string()),
        ],
        sentence: format!(
            "{in_flight:.0} requests are in flight, and the {ready} ready pods of {target} serve {workers} at a time; {databases}"
        ),
    })
}
