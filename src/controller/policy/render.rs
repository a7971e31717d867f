//! From records to the status of policy and incident. Numbers are those of the moment at which something was first said, so
//! that nothing is written while nothing changes.

use engine::model::{
    DecisionRecord, Incident, Mode, NoData, NoDataReason, Observed, Outcome, Phase, RecordKind, Remediation,
    Snapshot, Verdict,
};
use engine::{Overall, Tick};
use jiff::Timestamp;

use crate::api::conditions::{self, Said, Status, must_be_mended, types};
use crate::api::incident::{Attempt, LatencyIncidentStatus, TimelineEntry};
use crate::api::policy::{CauseStatus, LatencyPolicyStatus, RefusalStatus, RemediationSummary};
use crate::api::text::{Instant, Label, ObjectName, Sentence, Word};
use crate::controller::context::Context;
use crate::controller::reasons;

/// So many entries the timeline of an incident has at most.
const TIMELINE: usize = 64;

pub(super) fn policy(
    ctx: &Context,
    before: &LatencyPolicyStatus,
    snapshot: &Snapshot,
    ticked: &Tick,
    (ordinal, reserved): (u64, Option<u64>),
) -> LatencyPolicyStatus {
    let said = vec![
        ready(ctx, before, snapshot, ticked),
        data_available(snapshot, ticked),
        within_objective(ticked),
        remediation_allowed(snapshot),
    ];
    let incident = ticked.situation.incident.as_ref();
    let policy = (snapshot.policy.id.namespace.clone(), snapshot.policy.id.name.clone());
    // A number that was taken stays named until its incident is there.
    let active = incident
        .map(|incident| incident.name.clone())
        .or(reserved.map(|number| Incident::name_of(&snapshot.policy.id, number)));
    LatencyPolicyStatus {
        observed_generation: Some(snapshot.policy.generation),
        conditions: conditions::write(&before.conditions, said, snapshot.policy.generation, snapshot.now),
        severity: incident.map(|incident| Word(incident.severity.to_string())),
        active_incident: active.map(ObjectName),
        incident_ordinal: i64::try_from(ordinal).ok().filter(|ordinal| *ordinal > 0),
        causes: causes(ticked),
        blocked_by: blocked_by(ticked),
        last_remediation: ctx.shared.keeper.newest(&policy).map(|newest| summary(&newest)),
        paused: snapshot
            .pauses
            .iter()
            .find(|pause| pause.holds(snapshot.now))
            .map(|pause| pause.until.clone()),
    }
}

fn summary(remediation: &Remediation) -> RemediationSummary {
    let status = &remediation.status;
    let result = status.outcome.map_or_else(|| status.phase.to_string(), |outcome| outcome.to_string());
    let kind = remediation.spec.action.kind();
    RemediationSummary { name: ObjectName(remediation.name.clone()), result: format!("{kind} {result}") }
}

/// What was said last, in the order of its slots.
fn said(ticked: &Tick) -> impl Iterator<Item = &DecisionRecord> {
    ticked.state.said.values().map(|said| &*said.record)
}

/// What somebody has to mend of the dependencies that this look could not read, where `Ready` has not been said of this spec
/// before. What has been said is not taken back for a single failed read; but a gate that waits for a new policy, or for a
/// change of it, goes by the first word, and would be let through.
fn not_there_from_the_start(before: &LatencyPolicyStatus, snapshot: &Snapshot) -> Option<(String, NoData)> {
    let was_ready = before.conditions.iter().any(|condition| {
        condition.type_ == types::READY
            && condition.status == "True"
            && condition.observed_generation == Some(snapshot.policy.generation)
    });
    if was_ready {
        return None;
    }
    let databases = snapshot.databases.iter().map(|(name, observed)| (name, observed.missing_because()));
    let caches = snapshot.caches.iter().map(|(name, observed)| (name, observed.missing_because()));
    databases
        .chain(caches)
        .filter_map(|(name, missing)| Some((name.clone(), missing?.clone())))
        .find(|(_, missing)| must_be_mended(missing.reason))
}

/// Accepted, permitted, and what it refers to is there. A breach does not make it False.
pub(super) fn ready(ctx: &Context, before: &LatencyPolicyStatus, snapshot: &Snapshot, ticked: &Tick) -> Said {
    let missing = |name: &str, no_data: &NoData| {
        let message = format!("spec.dependencies[{name}]: {}", no_data.detail);
        Said::new(types::READY, Status::False, no_data.reason.to_string(), message)
    };
    if let Observed::Missing(no_data) = &snapshot.target {
        let saying = if no_data.reason == NoDataReason::NotFound {
            conditions::TARGET_NOT_FOUND
        } else {
            conditions::TARGET_UNAVAILABLE
        };
        return Said::of(saying, format!("spec.targetRef: {}", no_data.detail));
    }
    if let Some(problem) = ctx.shared.prometheus.problems(&snapshot.policy).into_iter().next() {
        return Said::of(conditions::NO_BACKEND, format!("spec.objectives: {problem}"));
    }
    for record in said(ticked) {
        if let RecordKind::Dependency { name, missing: Some(no_data), .. } = &record.kind
            && must_be_mended(no_data.reason)
        {
            return missing(name, no_data);
        }
    }
    if let Some((name, no_data)) = not_there_from_the_start(before, snapshot) {
        return missing(&name, &no_data);
    }
    let mut notes: Vec<String> = Vec::new();
    for record in said(ticked) {
        if let RecordKind::Dependency { name, partial: Some(grant), .. } = &record.kind {
            notes.push(format!("dependency {name} is readable in part only; run: {grant}"));
        }
        if let RecordKind::Objective(reading) = &record.kind {
            let told = reading.measured.iter().flat_map(|measured| &measured.notes);
            notes.extend(told.map(|note| format!("objective {}: {note}", reading.objective)));
        }
    }
    for (name, observed) in &snapshot.caches {
        let unreadable = observed.known().map(|facts| facts.unreadable.as_slice()).unwrap_or_default();
        notes.extend(unreadable.iter().map(|what| format!("dependency {name} is read without {what}")));
    }
    let saturation = |rung: &engine::model::Rung| rung.causes.iter().any(|cause| cause == "WorkersSaturated");
    if snapshot.policy.workers_per_pod.is_none() && snapshot.policy.rungs.iter().any(saturation) {
        notes.push("WorkersSaturated is not judged: set spec.diagnosis.workersPerPod".to_owned());
    }
    let message = if notes.is_empty() { "the policy is being watched".to_owned() } else { notes.join("; ") };
    Said::of(conditions::ACCEPTED, message)
}

fn data_available(snapshot: &Snapshot, ticked: &Tick) -> Said {
    let (mut judged, mut read) = (0, 0);
    for record in said(ticked) {
        if let RecordKind::Dependency { name, partial: Some(grant), .. } = &record.kind {
            let message = format!("{name} is readable in part only; run: {grant}");
            return Said::of(conditions::PARTIAL, message);
        }
        read += usize::from(matches!(record.kind, RecordKind::Dependency { missing: None, .. }));
        let mut missing = None;
        if let RecordKind::Dependency { name, missing: Some(no_data), .. } = &record.kind {
            missing = Some((name, no_data));
        }
        if let RecordKind::Objective(reading) = &record.kind {
            match &reading.verdict {
                Verdict::NoData(no_data) => missing = Some((&reading.objective, no_data)),
                Verdict::Breached(_) | Verdict::Healthy => judged += 1,
            }
        }
        if let Some((name, no_data)) = missing {
            let message = format!("{name}: {}", no_data.detail);
            return Said::new(types::DATA_AVAILABLE, Status::False, no_data.reason.to_string(), message);
        }
    }
    if judged < ticked.situation.readings.len() || read < snapshot.policy.dependencies.len() {
        let message = "not every objective and dependency has been read yet";
        return Said::of(conditions::NOT_ALL_READ, message);
    }
    Said::of(conditions::READABLE, "every objective and dependency can be read")
}

/// It follows incidents and not single readings: a value that swings around its target is not news every second.
fn within_objective(ticked: &Tick) -> Said {
    let incident = ticked
        .state
        .said
        .values()
        .find(|said| matches!(said.record.kind, RecordKind::Incident { .. } | RecordKind::Calm { .. }));
    if let Some(said) = incident.filter(|_| ticked.situation.incident.is_some()) {
        return Said::of(conditions::INCIDENT_OPEN, said.record.sentence());
    }
    let unknown = said(ticked).find_map(|record| {
        let RecordKind::Objective(reading) = &record.kind else { return None };
        let Verdict::NoData(no_data) = &reading.verdict else { return None };
        Some((no_data.reason.to_string(), record.sentence()))
    });
    if let Some((reason, message)) = unknown {
        return Said::new(types::WITHIN_OBJECTIVE, Status::Unknown, reason, message);
    }
    if said(ticked).any(|record| matches!(record.kind, RecordKind::Objective(_))) {
        return Said::of(conditions::KEPT, "the objectives are kept");
    }
    Said::of(conditions::NONE_JUDGED, "no objective has been read yet")
}

fn remediation_allowed(snapshot: &Snapshot) -> Said {
    if snapshot.policy.suspended {
        return Said::of(conditions::SUSPENDED, "spec.suspend is true");
    }
    if let Some(pause) = snapshot.pauses.iter().find(|pause| pause.holds(snapshot.now)) {
        let reason = pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        return Said::of(conditions::PAUSED, format!("{} is paused until {}{reason}", pause.by, pause.until));
    }
    if let Observed::Known { value, .. } = &snapshot.target
        && value.opt_out.as_deref().is_some_and(|value| value != "false")
    {
        return Said::of(
            conditions::OPTED_OUT,
            "the target carries the annotation latency-operator.dev/opt-out",
        );
    }
    if snapshot.policy.rungs.is_empty() {
        return Said::of(
            conditions::NO_REMEDIATIONS,
            "spec.remediations is empty: causes are found and told, nothing is done",
        );
    }
    if snapshot.policy.rungs.iter().all(|rung| snapshot.policy.mode_of(rung) == Mode::Observe) {
        return Said::of(conditions::OBSERVE_ONLY, "mode is Observe: what would be done is written down");
    }
    Said::of(conditions::AUTO, "mode is Auto: what the guards let through is done")
}

fn causes(ticked: &Tick) -> Vec<CauseStatus> {
    let found = |record: &DecisionRecord| {
        let RecordKind::Cause(finding) = &record.kind else { return None };
        Some(CauseStatus {
            name: Word(finding.cause.to_string()),
            confidence: Word(finding.confidence.to_string()),
            explained_by: finding.explained_by.as_ref().map(|by| Word(by.to_string())),
            message: Sentence::of(&finding.sentence),
        })
    };
    let mut causes: Vec<CauseStatus> = said(ticked).filter_map(found).collect();
    // Roots first, in the order in which the findings were made.
    let order = |cause: &CauseStatus| ticked.situation.findings.iter().position(|f| f.cause == cause.name.0);
    causes.sort_by_key(|cause| (cause.explained_by.is_some(), order(cause)));
    causes
}

fn blocked_by(ticked: &Tick) -> Vec<RefusalStatus> {
    let refused = |record: &DecisionRecord| -> Vec<RefusalStatus> {
        let RecordKind::Blocked { rung, refusals, .. } = &record.kind else { return Vec::new() };
        let status = refusals.iter().map(|verdict| RefusalStatus {
            rung: Label(rung.clone()),
            guard: Word(verdict.guard.to_string()),
            message: Sentence::of(&verdict.message),
        });
        status.collect()
    };
    said(ticked).flat_map(refused).take(64).collect()
}

pub(super) fn incident(
    before: &LatencyIncidentStatus,
    facts: &Incident,
    snapshot: &Snapshot,
    ticked: &Tick,
    closed: bool,
) -> LatencyIncidentStatus {
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
        Some(broken.iter().map(|text| Sentence::of(text)).collect())
    });
    let escalation = said(ticked)
        .find(|record| matches!(record.kind, RecordKind::Escalated { .. }))
        .map(|record| Sentence::of(&record.sentence()));
    let found = causes(ticked);
    let refused = blocked_by(ticked);
    let breached = matches!(ticked.situation.overall, Overall::Breached(_));
    LatencyIncidentStatus {
        phase: Some(Word::text(if closed { "Closed" } else { "Open" })),
        severity: Some(Word(facts.severity.to_string())),
        reopened: before.reopened.clone(),
        closed_at: if closed { before.closed_at.or(Some(Instant(snapshot.now))) } else { None },
        closure_confirmed_at: None,
        outcome: closed.then(|| Word::text(outcome(&ours, facts.opened_at))),
        broken: broken.unwrap_or_else(|| before.broken.clone()),
        // What was found last stays in the story once it is gone.
        causes: if found.is_empty() { before.causes.clone() } else { found },
        blocked_by: if refused.is_empty() && !breached { before.blocked_by.clone() } else { refused },
        attempts: ours.iter().map(|remediation| attempt(remediation)).collect(),
        escalation: escalation.or_else(|| before.escalation.clone()),
        timeline,
    }
}

/// What was done before the incident was opened again had its end then.
fn outcome(ours: &[&Remediation], opened_at: Timestamp) -> &'static str {
    let acted = |r: &&&Remediation| r.may_have_acted_at().is_some_and(|at| at >= opened_at);
    if ours.iter().filter(acted).any(|r| r.status.outcome == Some(Outcome::Healed)) {
        "Healed"
    } else if ours.iter().any(|r| acted(&r)) {
        "RecoveredUnattributed"
    } else {
        "RecoveredAlone"
    }
}

fn attempt(remediation: &Remediation) -> Attempt {
    Attempt {
        name: ObjectName(remediation.name.clone()),
        phase: Word(remediation.status.phase.to_string()),
        outcome: remediation.status.outcome.map(|outcome| Word(outcome.to_string())),
    }
}

/// What a remediation has done since the incident was last written.
fn steps(before: &LatencyIncidentStatus, remediation: &Remediation) -> Option<TimelineEntry> {
    let known = before.attempts.iter().find(|attempt| attempt.name.0 == remediation.name);
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
    Some(TimelineEntry {
        at: Instant(at),
        reason: Word::text(reason),
        message: Sentence::of(&format!("{}: {}", remediation.name, status.message)),
    })
}

fn entry(before: &LatencyIncidentStatus, facts: &Incident, record: &DecisionRecord) -> Option<TimelineEntry> {
    let reason = reasons::of(record, None)?;
    // A dry run is told as a step of its LatencyRemediation.
    if matches!(record.kind, RecordKind::Proposed { .. }) {
        return None;
    }
    let message = Sentence::of(&record.sentence());
    // A new leader finds what the last one has written down already.
    let since = before.timeline.iter().filter(|entry| entry.at.0 >= facts.first_breached_at);
    let told = since.into_iter().any(|entry| entry.reason.0 == reason.name && entry.message == message);
    (!told).then(|| TimelineEntry { at: Instant(record.at), reason: Word::text(reason.name), message })
}
