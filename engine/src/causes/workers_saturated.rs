//! `WorkersSaturated`: every worker of the target is busy, and the databases are well: there is too little of it.

use super::{Cause, Detector, Whole, database_trouble};
use crate::model::{Confidence, Evidence, Finding, Observed, Snapshot, Subject};

pub(super) const CAUSE: Cause = Cause {
    name: "WorkersSaturated",
    found_when: "in every reading of a window there were at least as many requests in flight as the ready pods have workers (`diagnosis.workersPerPod`); it is only Possible while a declared database is not known to be well",
    diagnose: Detector::Target(diagnose),
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
    pub(crate) fn is_full(self) -> bool {
        self.workers > 0 && self.in_flight >= f64::from(self.workers)
    }
}

/// The load as this snapshot shows it; nothing where it cannot be told. Of several sources the one that sees most counts: an
/// edge knows of requests that wait for a worker, the application does not.
pub(crate) fn load(snapshot: &Snapshot) -> Option<Load> {
    let workers_per_pod = snapshot.policy.workers_per_pod?;
    let ready = snapshot.target.known()?.workload.as_ref()?.ready;
    let in_flight = snapshot
        .traffic
        .values()
        .filter_map(Observed::known)
        .filter_map(|traffic| traffic.in_flight.known().copied())
        .max_by(f64::total_cmp)?;
    Some(Load { in_flight, ready, workers: ready.saturating_mul(workers_per_pod) })
}

fn diagnose(whole: &Whole<'_>) -> Option<Finding> {
    let snapshot = whole.snapshot;
    let saturated = whole.state.saturated;
    let since =
        saturated.since().filter(|_| saturated.lasts(snapshot.now, snapshot.policy.evaluation.window))?;
    let load = load(snapshot).filter(|load| load.is_full())?;
    let trouble = database_trouble(snapshot, whole.findings, CAUSE.name);
    let confidence = if trouble.is_some() { Confidence::Possible } else { Confidence::Likely };
    let Load { in_flight, ready, workers } = load;
    let target = &snapshot.policy.target;
    let databases = match (&trouble, snapshot.policy.dependencies.is_empty()) {
        (Some(trouble), _) => format!("but {trouble}"),
        (None, true) => "no database is declared".to_owned(),
        (None, false) => "the databases are well".to_owned(),
    };
    Some(Finding {
        cause: CAUSE.name.into(),
        confidence,
        advice: false,
        subject: Some(Subject::Workload(target.clone())),
        onset: Some(since),
        evidence: vec![
            Evidence::new("requests in flight", format!("{in_flight:.0}")),
            Evidence::new("workers of the ready pods", workers.to_string()),
            Evidence::new("ready pods", ready.to_string()),
        ],
        sentence: format!(
            "{in_flight:.0} requests are in flight, and the {ready} ready pods of {target} serve {workers} at a time; {databases}"
        ),
        explained_by: None,
    })
}
