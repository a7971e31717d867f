//! What the actions and guards that are about replicas have in common.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Candidate, NoData, Snapshot, Target, TargetRef, Workload};

/// Why the replicas of a workload are not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NoWorkload {
    Unreadable { workload: TargetRef, no_data: NoData },
    NotRead { workload: TargetRef },
}

impl fmt::Display for NoWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { workload, no_data } => write!(f, "{workload} cannot be read: {no_data}"),
            Self::NotRead { workload } => write!(f, "the replicas of {workload} have not been read"),
        }
    }
}

impl NoWorkload {
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable { no_data, .. } => no_data.forget_numbers(),
            Self::NotRead { .. } => {}
        }
    }
}

/// A workload that the policy names and its replicas, or why they are not known.
pub(crate) fn workload<'a>(
    snapshot: &'a Snapshot,
    workload: &TargetRef,
) -> Result<(&'a Target, &'a Workload), NoWorkload> {
    let not_read = || NoWorkload::NotRead { workload: workload.clone() };
    let (_, target) = snapshot
        .workload(workload)
        .ok_or_else(not_read)?
        .map_err(|no_data| NoWorkload::Unreadable { workload: workload.clone(), no_data: no_data.clone() })?;
    Ok((target, target.workload.as_ref().ok_or_else(not_read)?))
}

/// The workload that a candidate changes, or the target where it changes none.
pub(crate) fn changed<'a>(
    snapshot: &'a Snapshot,
    candidate: &Candidate,
) -> Result<(&'a Target, &'a Workload), NoWorkload> {
    let effect = candidate.action.act().effect();
    workload(snapshot, effect.workload().unwrap_or(&snapshot.policy.target))
}
