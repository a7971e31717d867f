//! From records to the status of an incident. Pure.

use std::fmt;

use engine::Tick;
use engine::model::{Incident, Outcome, Phase, Remediation, Severity, Snapshot};
use engine::record::{DecisionRecord, RecordKind};
use jiff::Timestamp;

use super::{CauseReport, RefusalReport, blocked_by, causes, is_breached, said, sentence};
use crate::reasons;

/// Maximum number of entries in the timeline of an incident.
const TIMELINE: usize = 64;

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

impl fmt::Display for IncidentOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the status of an incident says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IncidentReport {
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
    /// What is or was broken, with the numbers of the moment.
    pub broken: Vec<String>,
    /// The causes that were found last, roots first.
    pub causes: Vec<CauseReport>,
    /// What was refused last.
    pub blocked_by: Vec<RefusalReport>,
    /// The remediations of this incident.
    pub attempts: Vec<Attempt>,
    /// Why a person must decide.
    pub escalation: Option<String>,
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
pub struct Attempt {
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Option<Outcome>,
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
    closed: bool,
) -> IncidentReport {
    let name =
        snapshot.incident.as_ref().or(ticked.situation.incident.as_ref()).map(|open| open.name.as_str());
    let ours: Vec<&Remediation> =
        snapshot.remediations.iter().filter(|r| Some(r.spec.incident.as_str()) == name).collect();
    let mut timeline = before.timeline.clone();
    timeline.extend(ours.iter().flat_map(|remediation| steps(before, remediation)));
    timeline.extend(
        ticked.records.iter().filter(|r| r.changed).filter_map(|record| entry(before, facts, record)),
    );
    let excess = timeline.len().saturating_sub(TIMELINE);
    timeline.drain(..excess);
    let broken = said(ticked).find_map(|record| {
        let RecordKind::Incident { broken, .. } = &record.kind else { return None };
        Some(broken.iter().map(|text| sentence(text)).collect())
    });
    let escalation = said(ticked)
        .find(|record| matches!(record.kind, RecordKind::Escalated { .. }))
        .map(|record| sentence(&record.sentence()));
    let found = causes(ticked);
    let refused = blocked_by(ticked);
    IncidentReport {
        phase: Some(if closed { IncidentPhase::Closed } else { IncidentPhase::Open }),
        severity: Some(facts.severity),
        reopened: before.reopened.clone(),
        closed_at: if closed { before.closed_at.or(Some(snapshot.now)) } else { None },
        closure_confirmed_at: None,
        outcome: closed.then(|| outcome(&ours, facts.opened_at)),
        broken: broken.unwrap_or_else(|| before.broken.clone()),
        // The causes that were found last stay in the report once they are gone.
        causes: if found.is_empty() { before.causes.clone() } else { found },
        blocked_by: if refused.is_empty() && !is_breached(ticked) {
            before.blocked_by.clone()
        } else {
            refused
        },
        attempts: ours.iter().map(|remediation| attempt(remediation)).collect(),
        escalation: escalation.or_else(|| before.escalation.clone()),
        timeline,
    }
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

fn attempt(remediation: &Remediation) -> Attempt {
    Attempt {
        name: remediation.name.clone(),
        phase: remediation.status.phase,
        outcome: remediation.status.outcome,
    }
}

/// What a remediation has done since the incident was last written.
fn steps(before: &IncidentReport, remediation: &Remediation) -> Option<TimelineEntry> {
    let known = before.attempts.iter().find(|attempt| attempt.name == remediation.name);
    if known == Some(&attempt(remediation)) || remediation.status.phase == Phase::Admitted {
        return None;
    }
    let status = &remediation.status;
    let reason = reasons::remediation(status.phase, status.outcome)
        .map_or("RemediationProposed", |reason| reason.name);
    let reason = if status.phase == Phase::Verifying { "RemediationStarted" } else { reason };
    let at = status.completed_at.or(status.effect_at).or(status.acted_at);
    let at = at
        .or(status.executing.as_ref().map(|executing| executing.started_at))
        .unwrap_or(remediation.created_at);
    let message = sentence(&format!("{}: {}", remediation.name, status.message));
    Some(TimelineEntry { at, reason: reason.to_owned(), message })
}

fn entry(before: &IncidentReport, facts: &Incident, record: &DecisionRecord) -> Option<TimelineEntry> {
    let reason = reasons::of(record, None)?;
    // A dry run is reported as a step of its LatencyRemediation.
    if matches!(record.kind, RecordKind::Proposed { .. }) {
        return None;
    }
    let message = sentence(&record.sentence());
    // A new leader finds what the previous one has reported already.
    let mut since = before.timeline.iter().filter(|entry| entry.at >= facts.first_breached_at);
    let known = since.any(|entry| entry.reason == reason.name && entry.message == message);
    (!known).then(|| TimelineEntry { at: record.at, reason: reason.name.to_owned(), message })
}
