//! `LatencyIncident` to the engine's incident. There is none that cannot be understood: it is a record, and what it says
//! that this version does not know changes nothing that is done.

use engine::model::{ClosedIncident, Incident, Severity};

use crate::api::incident as api;

/// What a stored incident is to the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Episode {
    /// It goes on.
    Open(Incident),
    /// It has ended; a breach soon after opens it again.
    Closed(ClosedIncident),
    /// It has ended, nobody knows when.
    Over,
}

/// The engine's view of the incident of that name.
#[must_use]
pub fn incident(name: &str, object: &api::LatencyIncident) -> Episode {
    let none = api::LatencyIncidentStatus::default();
    let status = object.status.as_ref().unwrap_or(&none);
    let severity = match status.severity.as_ref().map(|word| word.0.as_str()) {
        Some("P0") => Severity::P0,
        Some("P1") => Severity::P1,
        _ => Severity::P2,
    };
    let again = status.reopened.as_ref();
    let incident = Incident {
        name: name.to_owned(),
        ordinal: u64::try_from(object.spec.ordinal).unwrap_or_default(),
        first_breached_at: again.map_or(object.spec.first_breached_at, |again| again.first_breached_at).0,
        opened_at: again.map_or(object.spec.opened_at, |again| again.at).0,
        severity,
        reopened: again.and_then(|again| u32::try_from(again.times).ok()).unwrap_or_default(),
    };
    let is_closed = status.phase.as_ref().is_some_and(|phase| phase.0 == "Closed");
    match (is_closed, status.closed_at) {
        (false, _) => Episode::Open(incident),
        (true, Some(at)) => Episode::Closed(ClosedIncident { incident, at: at.0 }),
        (true, None) => Episode::Over,
    }
}
