//! A policy in one word, for the column that people read first. Pure.

use std::fmt;

use engine::Tick;
use engine::model::{Reading, Snapshot};

use super::objectives::{Judged, ObjectiveReport};
use crate::conditions::{Said, Status, types};

/// How a policy stands. The first that applies counts: a column has room for one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyState {
    /// Its spec cannot be used.
    Stalled,
    /// It, its target or its namespace is paused: nothing is done, whatever the objectives say.
    Paused,
    /// An objective is breached.
    Breached,
    /// The objectives are met again, and the incident is still open.
    Recovering,
    /// Something that it refers to is missing.
    NotReady,
    /// Nothing has been read yet.
    Pending,
    /// Not every objective can be judged.
    NoData,
    /// The objectives are met.
    Healthy,
}

impl PolicyState {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Stalled,
        Self::Paused,
        Self::Breached,
        Self::Recovering,
        Self::NotReady,
        Self::Pending,
        Self::NoData,
        Self::Healthy,
    ];
}

impl fmt::Display for PolicyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The state after an evaluation, from what else the status says.
pub(super) fn state(
    snapshot: &Snapshot,
    ticked: &Tick,
    said: &[Said],
    judged: &[ObjectiveReport],
) -> PolicyState {
    if snapshot.observations.pauses.iter().any(|pause| pause.holds(snapshot.now)) {
        return PolicyState::Paused;
    }
    if judged.iter().any(|objective| objective.verdict == Judged::Breached) {
        return PolicyState::Breached;
    }
    let all_met = are_met(ticked, judged);
    if ticked.situation.incident.is_some() && all_met {
        return PolicyState::Recovering;
    }
    if said.iter().any(|said| said.r#type == types::READY && said.status == Status::False) {
        return PolicyState::NotReady;
    }
    if judged.is_empty() {
        return PolicyState::Pending;
    }
    if all_met { PolicyState::Healthy } else { PolicyState::NoData }
}

/// Whether every objective is met. One that the exporter's buckets cannot show says nothing, ever; the others speak for all.
fn are_met(ticked: &Tick, judged: &[ObjectiveReport]) -> bool {
    let never = |name: &str| {
        let is_never = |reading: &Reading| reading.objective == name && !reading.can_be_judged();
        ticked.situation.readings.iter().any(is_never)
    };
    let mut counted = judged.iter().filter(|objective| !never(&objective.name)).peekable();
    counted.peek().is_some() && counted.all(|objective| objective.verdict == Judged::Healthy)
}
