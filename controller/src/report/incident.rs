//! From records to the status of an incident. Pure.

use std::fmt;

use engine::Tick;
use engine::model::{Incident, Outcome, Phase, Remediation, Severity, Snapshot};
use engine::record::RecordKind;
use jiff::Timestamp;

use super::{CauseReport, RefusalReport, causes, is_breached, refusals, said, sentence};
use crate::announcement::Announcement;
use crate::conditions::{self, ConditionReport, Said, Status, types};
use crate::reasons;

/// Maximum number of entries in the timeline of an incident.
const TIMELINE: usize = 64;
/// The reason of the condition of an incident that is open.
const OPEN: &str = "Open";

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentPhase {
    /// It goes on.
    Open,
    /// It is over.
    Closed,
}

/// How an incident ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentOutcome {
    /// A remediation healed it.
    Healed,
    /// Something of ours was tried, and its effect was not seen.
    RecoveredUnattributed,
    /// Nothing was done.
    RecoveredAlone,
}

impl IncidentOutcome {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Healed, Self::RecoveredUnattributed, Self::RecoveredAlone];

    /// How it ended, in a sentence.
    fn sentence(self) -> &'static str {
        match self {
            Self::Healed => "the objectives are met again, and a remediation had its effect",
            Self::RecoveredUnattributed => {
                "the objectives are met again; a remediation ran, and its effect was not seen"
            }
            Self::RecoveredAlone => "the objectives are met again, and no remediation ran",
        }
    }
}

impl fmt::Display for IncidentOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the status of an incident says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IncidentReport {
    /// Its condition `Resolved`.
    pub conditions: Vec<ConditionReport>,
    /// Where it stands.
    pub phase: Option<IncidentPhase>,
    /// How bad it was at its worst.
    pub severity: Option<Severity>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// When a new leader confirmed that it is closed: older writes are conflicts since then.
    pub closure_confirmed_at: Option<Timestamp>,
    /// The last time that it was opened again.
    pub reopened: Option<Reopening>,
    /// How it ended.
    pub outcome: Option<IncidentOutcome>,
    /// The objectives that are or were breached, with the numbers of the moment.
    pub breached: Vec<String>,
    /// The causes that were found last, roots first.
    pub causes: Vec<CauseReport>,
    /// What was refused last.
    pub refusals: Vec<RefusalReport>,
    /// The remediations of this incident.
    pub remediations: Vec<RemediationStep>,
    /// Why a person must decide.
    pub escalation: Option<String>,
    /// The notifications that were sent.
    pub notified: Vec<Notified>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
}

/// An incident that was opened again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopening {
    /// How often.
    pub times: u32,
    /// The first Breached reading, of the last time.
    pub first_breached_at: Timestamp,
    /// When it was opened, the last time.
    pub at: Timestamp,
}

/// A remediation of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemediationStep {
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// A notification that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// The notification's name.
    pub route: String,
    /// The key of the message: each is sent to a route once.
    pub key: String,
    /// When it was sent.
    pub at: Timestamp,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What: the reason of the Event that reported it.
    pub reason: String,
    /// One sentence, with the numbers.
    pub message: String,
}

/// The status of an incident after an evaluation.
#[must_use]
pub fn incident(
    before: &IncidentReport,
    facts: &Incident,
    snapshot: &Snapshot,
    ticked: &Tick,
    announcements: &[Announcement],
) -> IncidentReport {
    let closed = ticked.situation.incident.is_none();
    let name =
        snapshot.incident.as_ref().or(ticked.situation.incident.as_ref()).map(|open| open.name.as_str());
    let ours: Vec<&Remediation> =
        snapshot.remediations.iter().filter(|r| Some(r.spec.incident.as_str()) == name).collect();
    let mut timeline = before.timeline.clone();
    timeline.extend(ours.iter().flat_map(|remediation| steps(before, remediation)));
    timeline.extend(announcements.iter().filter_map(|announcement| entry(before, facts, announcement)));
    let excess = timeline.len().saturating_sub(TIMELINE);
    timeline.drain(..excess);
    let breached = said(ticked).find_map(|record| {
        let RecordKind::Incident { broken, .. } = &record.kind else { return None };
        Some(broken.iter().map(|text| sentence(text)).collect())
    });
    let escalation = said(ticked)
        .find(|record| matches!(record.kind, RecordKind::Escalated { .. }))
        .map(|record| sentence(&record.sentence()));
    let outcome = closed.then(|| outcome(&ours, facts.opened_at));
    let found = causes(ticked);
    let refused = refusals(ticked);
    IncidentReport {
        conditions: resolved(&before.conditions, outcome, snapshot.now),
        phase: Some(if closed { IncidentPhase::Closed } else { IncidentPhase::Open }),
        severity: Some(facts.severity),
        reopened: before.reopened.clone(),
        closed_at: if closed { before.closed_at.or(Some(snapshot.now)) } else { None },
        closure_confirmed_at: None,
        outcome,
        breached: breached.unwrap_or_else(|| before.breached.clone()),
        // The causes that were found last stay in the report once they are gone.
        causes: if found.is_empty() { before.causes.clone() } else { found },
        refusals: if refused.is_empty() && !is_breached(ticked) { before.refusals.clone() } else { refused },
        remediations: ours.iter().map(|remediation| step(remediation)).collect(),
        escalation: escalation.or_else(|| before.escalation.clone()),
        // Whoever sends notifications adds to them.
        notified: before.notified.clone(),
        timeline,
    }
}

/// The condition of an incident that has this outcome, or that is open.
#[must_use]
pub fn resolved(
    before: &[ConditionReport],
    outcome: Option<IncidentOutcome>,
    now: Timestamp,
) -> Vec<ConditionReport> {
    let said = match outcome {
        None => Said::new(types::RESOLVED, Status::False, OPEN, "the incident is open"),
        Some(outcome) => Said::new(types::RESOLVED, Status::True, outcome.to_string(), outcome.sentence()),
    };
    // The spec of an incident is immutable, so it has one generation.
    conditions::write(before, vec![said], 1, now)
}

/// An action from before the incident was opened again had its end then.
fn outcome(ours: &[&Remediation], opened_at: Timestamp) -> IncidentOutcome {
    let acted = |r: &&&Remediation| r.may_have_acted_at().is_some_and(|at| at >= opened_at);
    if ours.iter().filter(acted).any(|r| r.status.outcome == Some(Outcome::Healed)) {
        IncidentOutcome::Healed
    } else if ours.iter().any(|r| acted(&r)) {
        IncidentOutcome::RecoveredUnattributed
    } else {
        IncidentOutcome::RecoveredAlone
    }
}

fn step(remediation: &Remediation) -> RemediationStep {
    RemediationStep {
        name: remediation.name.clone(),
        phase: remediation.status.phase,
        outcome: remediation.status.outcome,
    }
}

/// What a remediation has done since the incident was last written.
fn steps(before: &IncidentReport, remediation: &Remediation) -> Option<TimelineEntry> {
    let known = before.remediations.iter().find(|step| step.name == remediation.name);
    if known == Some(&step(remediation)) {
        return None;
    }
    let status = &remediation.status;
    let reason = reasons::standing(status.phase, status.outcome)?.name;
    let at = status.completed_at.or(status.effect_at).or(status.acted_at);
    let at = at
        .or(status.executing.as_ref().map(|executing| executing.started_at))
        .unwrap_or(remediation.created_at);
    let message = sentence(&format!("{}: {}", remediation.name, status.message));
    Some(TimelineEntry { at, reason: reason.to_owned(), message })
}

fn entry(before: &IncidentReport, facts: &Incident, announcement: &Announcement) -> Option<TimelineEntry> {
    let reason = announcement.reason?;
    // A dry run is an entry as a step of its LatencyRemediation. That data is back is in the conditions: each time it comes with
    // other numbers, and a source that comes and goes would push everything else out.
    if reason == reasons::REMEDIATION_PROPOSED || reason == reasons::DATA_RESTORED {
        return None;
    }
    let message = sentence(&announcement.note);
    // A new leader finds what the previous one has reported already.
    let mut since = before.timeline.iter().filter(|entry| entry.at >= facts.first_breached_at);
    let known = since.any(|entry| entry.reason == reason.name && entry.message == message);
    (!known).then(|| TimelineEntry { at: announcement.at, reason: reason.name.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use engine::model::later;

    use super::*;

    #[test]
    fn an_incident_is_resolved_once_it_has_an_outcome() {
        let opened = Timestamp::from_second(1_767_236_400).unwrap();
        let minutes = |minutes: u64| later(opened, std::time::Duration::from_secs(60 * minutes));
        let told = |conditions: &[ConditionReport]| {
            let [resolved] = conditions else { panic!("{conditions:?}") };
            assert_eq!(resolved.r#type, "Resolved");
            (resolved.status.clone(), resolved.reason.clone(), resolved.since)
        };
        let open = resolved(&[], None, opened);
        assert_eq!(told(&open), ("False".into(), "Open".into(), opened));
        assert_eq!(resolved(&open, None, minutes(1)), open, "nothing new is written");
        let closed = resolved(&open, Some(IncidentOutcome::Healed), minutes(2));
        assert_eq!(told(&closed), ("True".into(), "Healed".into(), minutes(2)));
        let again = resolved(&closed, None, minutes(3));
        assert_eq!(told(&again), ("False".into(), "Open".into(), minutes(3)), "it was reopened");
    }
}
