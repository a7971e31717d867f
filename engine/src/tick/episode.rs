//! The life of a breach: suspected, believed (an incident opens), calming, over.

use std::time::Duration;

use jiff::Timestamp;

use super::Overall;
use crate::model::{BreachMemory, Incident, Memory, Reading, Severity, Snapshot};
use crate::record::RecordKind;

/// Where the breach is now.
pub(super) struct Episode {
    /// The open incident; one that was closed by this tick is not open.
    pub(super) incident: Option<Incident>,
    /// What is to be said about it.
    pub(super) record: Option<RecordKind>,
}

pub(super) fn follow(
    snapshot: &Snapshot,
    state: &mut Memory,
    readings: &[Reading],
    overall: Overall,
) -> Episode {
    // A long silence counts as two intervals at most.
    let longest = snapshot.policy.evaluation.interval.saturating_mul(2);
    let gap = state.last_judged.since_last(snapshot.now, longest);
    let episode = match overall {
        Overall::Breached(severity) => breached(snapshot, state, readings, severity, gap),
        Overall::Healthy => healthy(snapshot, state, gap),
        Overall::NoData => unknown(snapshot, state, readings),
    };
    let verdict = match overall {
        Overall::Breached(_) => Some(true),
        Overall::Healthy => Some(false),
        Overall::NoData => None,
    };
    state.last_judged.note(snapshot.now, verdict);
    state.alert = state.breach.is_some() || episode.incident.is_some();
    episode
}

fn breached(
    snapshot: &Snapshot,
    state: &mut Memory,
    readings: &[Reading],
    severity: Severity,
    gap: Option<(Duration, bool)>,
) -> Episode {
    let broken_at =
        readings.iter().filter(|reading| reading.breach().is_some()).map(|reading| reading.at).min();
    state.calm = Duration::ZERO;
    let breach = state
        .breach
        .get_or_insert(BreachMemory { first_at: broken_at.unwrap_or(snapshot.now), counted: Duration::ZERO });
    if let Some((span, true)) = gap {
        breach.counted = breach.counted.saturating_add(span);
    }
    let needed = snapshot.policy.evaluation.breach_for;
    let incident = match &snapshot.incident {
        Some(known) => Some(Incident { severity: known.severity.max(severity), ..known.clone() }),
        None if breach.counted >= needed => Some(open(snapshot, breach.first_at, severity)),
        None => None,
    };
    let record = match &incident {
        Some(incident) => RecordKind::Incident {
            name: incident.name.clone(),
            severity: incident.severity,
            reopened: incident.reopened,
            broken: readings
                .iter()
                .filter(|reading| reading.breach().is_some())
                .map(|reading| format!("{}: {}", reading.objective, reading.sentence()))
                .collect(),
        },
        None => RecordKind::BreachSuspected { counted: breach.counted, needed },
    };
    Episode { incident, record: Some(record) }
}

/// The breach is believed: the last incident goes on where it ended a short while ago, with the attempts that it has used
/// up; otherwise a new one begins.
fn open(snapshot: &Snapshot, first_breached_at: Timestamp, severity: Severity) -> Incident {
    let closed = snapshot.closed.as_ref().filter(|closed| closed.goes_on(first_breached_at));
    let (name, ordinal, severity, reopened) = match closed.map(|closed| &closed.incident) {
        Some(known) => (
            known.name.clone(),
            known.ordinal,
            severity.max(known.severity),
            known.reopened.saturating_add(1),
        ),
        None => {
            let ordinal = snapshot.next_ordinal;
            (Incident::name_of(&snapshot.policy.id, ordinal), ordinal, severity, 0)
        }
    };
    Incident { name, ordinal, first_breached_at, opened_at: snapshot.now, severity, reopened }
}

fn healthy(snapshot: &Snapshot, state: &mut Memory, gap: Option<(Duration, bool)>) -> Episode {
    state.breach = None;
    state.last_healthy_at = Some(snapshot.now);
    state.calm = match gap {
        Some((span, false)) => state.calm.saturating_add(span),
        Some((_, true)) => Duration::ZERO,
        // Time without data counts for nothing; that it lasted would have been noticed.
        None => state.calm,
    };
    let Some(incident) = &snapshot.incident else { return Episode { incident: None, record: None } };
    let needed = snapshot.policy.evaluation.recover_for;
    let record = |counted| RecordKind::Calm { incident: incident.name.clone(), counted, needed };
    // An incident is not closed over an act that is still being judged: its outcome belongs to the story.
    let pending = snapshot.remediations.iter().any(|r| r.is_open() && r.spec.incident == incident.name);
    if state.calm >= needed && !pending {
        return Episode { incident: None, record: Some(record(state.calm)) };
    }
    let counted = state.calm.min(needed.saturating_sub(Duration::from_millis(1)));
    Episode { incident: Some(incident.clone()), record: Some(record(counted)) }
}

/// NoData neither breaks nor recovers. When it lasts, a breach has to be seen anew for the whole `breachFor`.
fn unknown(snapshot: &Snapshot, state: &mut Memory, readings: &[Reading]) -> Episode {
    // What has been missing for the shortest time is what may come back.
    let missing = readings
        .iter()
        .filter(|reading| reading.can_be_judged())
        .filter_map(|reading| state.objectives.get(&reading.objective))
        .map(|memory| memory.missing.looks())
        .filter(|missing| *missing > 0)
        .min();
    if missing.is_some_and(|missing| missing >= snapshot.policy.evaluation.missing_data_after) {
        state.breach = None;
        state.calm = Duration::ZERO;
    }
    let record = snapshot.incident.as_ref().map(|incident| RecordKind::Incident {
        name: incident.name.clone(),
        severity: incident.severity,
        reopened: incident.reopened,
        broken: readings
            .iter()
            .map(|reading| format!("{}: {}", reading.objective, reading.sentence()))
            .collect(),
    });
    Episode { incident: snapshot.incident.clone(), record }
}
