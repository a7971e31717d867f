//! From records to the status of a policy. Pure. Numbers are those of the moment at which something was first reported, so
//! that nothing is written while nothing changes.

mod effective;
mod incident;
mod objectives;
mod state;

use std::time::Duration;

use engine::causes;
use engine::model::{
    BudgetUsage, Confidence, Evidence, Facts, Incident, Mode, NoData, NoDataReason, Observed, Remediation,
    Severity, Snapshot, Verdict,
};
use engine::record::{DecisionRecord, RecordKind};
use engine::{Overall, Tick};

pub use self::effective::{EffectiveReport, ThresholdReport};
pub use self::incident::{
    IncidentOutcome, IncidentPhase, IncidentReport, Notified, RemediationStep, Reopening, TimelineEntry,
    incident, resolved,
};
pub use self::objectives::{Judged, ObjectiveReport};
use self::objectives::{Numbers, have_moved};
pub use self::state::PolicyState;
use crate::conditions::{self, ConditionReport, Said, Status, must_be_mended, types};

/// Maximum number of characters of a sentence in a status.
const SENTENCE: usize = 1024;
/// Maximum number of characters of a subject, and of a value of the evidence.
const SHORT: usize = 256;
/// Maximum number of refusals in a status.
const REFUSALS: usize = 64;
/// Maximum number of values behind one cause.
const EVIDENCE: usize = 16;

/// What the status of a RemediationBudget says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BudgetReport {
    /// The generation of the spec that it is about.
    pub observed_generation: Option<i64>,
    /// `Ready`.
    pub conditions: Vec<ConditionReport>,
    /// How much of the budget is used.
    pub usage: Option<BudgetUsage>,
}

/// What the status of a policy says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyReport {
    /// The generation of the spec that it is about.
    pub observed_generation: Option<i64>,
    /// Its conditions.
    pub conditions: Vec<ConditionReport>,
    /// The policy in one word.
    pub state: Option<PolicyState>,
    /// The worst objective in short.
    pub measured: Option<String>,
    /// The objectives with their last verdicts.
    pub objectives: Vec<ObjectiveReport>,
    /// The values in force that the spec leaves out.
    pub effective: Option<EffectiveReport>,
    /// How bad the open incident is at its worst.
    pub severity: Option<Severity>,
    /// The name of the open incident.
    pub active_incident: Option<String>,
    /// The number of the newest incident; zero where there has been none.
    pub ordinal: u64,
    /// The causes that are found now, roots first.
    pub causes: Vec<CauseReport>,
    /// The remediations that would act and are refused.
    pub refusals: Vec<RefusalReport>,
    /// The newest remediation.
    pub last_remediation: Option<RemediationSummary>,
    /// Until when the policy is paused.
    pub paused: Option<String>,
}

/// A cause that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseReport {
    /// Its name.
    pub name: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// The cause that explains it.
    pub explained_by: Option<String>,
    /// The session, dependency or workload that it points at.
    pub subject: Option<String>,
    /// What was found, with the numbers of the moment.
    pub message: String,
    /// The numbers one by one.
    pub evidence: Vec<EvidenceReport>,
}

/// One number behind a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceReport {
    /// What was measured.
    pub name: String,
    /// Its value, with the unit.
    pub value: String,
}

/// A remediation that would act and is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalReport {
    /// Its name in the policy.
    pub remediation: String,
    /// The guard.
    pub guard: String,
    /// Why, with the numbers of the moment.
    pub message: String,
}

/// A remediation in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemediationSummary {
    /// Its name.
    pub name: String,
    /// Its action and how it stands: `CancelQuery Healed`.
    pub result: String,
}

/// What a report needs besides an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Background<'a> {
    /// What the status says at present.
    pub before: &'a PolicyReport,
    /// What is wrong with references of the policy's objectives.
    pub problems: &'a [String],
    /// How often the policy's sources can say something new.
    pub resolution: Option<Duration>,
}

/// A sentence, cut to what a status admits.
pub(crate) fn sentence(text: &str) -> String {
    cut(text, SENTENCE)
}

/// A text of at most that many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most - 1).collect();
    cut.push('…');
    cut
}

/// A value may come from a server or a client: control characters could forge a line on a terminal.
fn evidence(evidence: &Evidence) -> EvidenceReport {
    let value: String = evidence.value.chars().filter(|character| !character.is_control()).collect();
    EvidenceReport { name: evidence.what.clone(), value: cut(&value, SHORT) }
}

/// The status of a policy after an evaluation. `numbers` are the newest incident's, and one that is reserved. Where the status
/// is written anyway, the values of the objectives are those of this evaluation.
#[must_use]
pub fn policy(
    background: Background<'_>,
    snapshot: &Snapshot,
    ticked: &Tick,
    numbers: (u64, Option<u64>),
    newest: Option<&Remediation>,
) -> PolicyReport {
    let before = background.before;
    let with = |values| {
        let judged = objectives::objectives(before, snapshot, ticked, values);
        assemble(background, snapshot, ticked, numbers, newest, judged)
    };
    let report = with(Numbers::Stored);
    if report == *before && !have_moved(before, snapshot, ticked) { report } else { with(Numbers::Current) }
}

fn assemble(
    background: Background<'_>,
    snapshot: &Snapshot,
    ticked: &Tick,
    numbers: (u64, Option<u64>),
    newest: Option<&Remediation>,
    judged: Vec<ObjectiveReport>,
) -> PolicyReport {
    let said = vec![
        ready(background, snapshot, ticked),
        data_available(snapshot, ticked),
        within_objective(ticked, &judged),
        remediation_allowed(snapshot),
    ];
    let state = state::state(snapshot, ticked, &said, &judged);
    let incident = ticked.situation.incident.as_ref();
    let (ordinal, reserved) = numbers;
    // A reserved number stays named until its incident exists.
    let active = incident
        .map(|incident| incident.name.clone())
        .or(reserved.map(|number| Incident::name_of(&snapshot.policy.id, number)));
    let generation = snapshot.policy.generation;
    PolicyReport {
        observed_generation: Some(generation),
        conditions: conditions::write(&background.before.conditions, said, generation, snapshot.now),
        state: Some(state),
        measured: objectives::worst(&judged),
        objectives: judged,
        effective: Some(effective::effective(&snapshot.policy, background.resolution)),
        severity: incident.map(|incident| incident.severity),
        active_incident: active,
        ordinal,
        causes: causes(ticked),
        refusals: refusals(ticked),
        last_remediation: newest.map(summary),
        paused: snapshot
            .observations
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
    RemediationSummary { name: remediation.name.clone(), result: format!("{kind} {result}") }
}

/// The last record on each slot, in the order of the slots.
fn said(ticked: &Tick) -> impl Iterator<Item = &DecisionRecord> {
    ticked.state.said.values().map(|said| &*said.record)
}

/// A dependency that this evaluation could not read, where an author must fix something and `Ready` has not been reported for
/// this spec before. A report is not withdrawn for a single failed read. But a gate that waits for a new policy, or for a
/// change of it, goes by the first report and would be let through.
fn missing_from_the_start(before: &PolicyReport, snapshot: &Snapshot) -> Option<(String, NoData)> {
    let was_ready = before.conditions.iter().any(|condition| {
        condition.r#type == types::READY
            && condition.status == "True"
            && condition.observed_generation == Some(snapshot.policy.generation)
    });
    if was_ready {
        return None;
    }
    let read = &snapshot.observations.dependencies;
    let missing = |name: &String| read.get(name).and_then(Observed::missing_because).cloned();
    let declared = snapshot.policy.by_kind().into_iter();
    declared
        .filter_map(|(name, _)| Some((name.clone(), missing(name)?)))
        .find(|(_, missing)| must_be_mended(missing.reason))
}

/// The condition `Ready`: accepted, permitted, and what the policy refers to exists. A breach does not make it False.
#[must_use]
pub fn ready(background: Background<'_>, snapshot: &Snapshot, ticked: &Tick) -> Said {
    let missing = |name: &str, no_data: &NoData| {
        let message = format!("spec.dependencies[{name}]: {}", no_data.detail);
        Said::new(types::READY, Status::False, no_data.reason.to_string(), message)
    };
    if let Observed::Missing(no_data) = &snapshot.observations.target {
        let saying = if no_data.reason == NoDataReason::NotFound {
            conditions::TARGET_NOT_FOUND
        } else {
            conditions::TARGET_UNAVAILABLE
        };
        return Said::of(saying, format!("spec.targetRef: {}", no_data.detail));
    }
    if let Some(problem) = background.problems.first() {
        return Said::of(conditions::NO_BACKEND, format!("spec.objectives: {problem}"));
    }
    for record in said(ticked) {
        if let RecordKind::Dependency { name, missing: Some(no_data), .. } = &record.kind
            && must_be_mended(no_data.reason)
        {
            return missing(name, no_data);
        }
    }
    if let Some((name, no_data)) = missing_from_the_start(background.before, snapshot) {
        return missing(&name, &no_data);
    }
    if !snapshot.policy.ignored.is_empty() {
        return Said::of(conditions::PARTLY_UNKNOWN, snapshot.policy.ignored.join("; "));
    }
    let notes = notes(snapshot, ticked);
    let message = if notes.is_empty() { "the policy is being watched".to_owned() } else { notes.join("; ") };
    Said::of(conditions::ACCEPTED, message)
}

/// What an author should know although the policy is being watched.
fn notes(snapshot: &Snapshot, ticked: &Tick) -> Vec<String> {
    let stored = |path: &String| format!("{path} is stored; this version does not act on it");
    let mut notes: Vec<String> = snapshot.policy.unused.iter().map(stored).collect();
    for record in said(ticked) {
        if let RecordKind::Dependency { name, partial: Some(grant), .. } = &record.kind {
            notes.push(format!("dependency {name} is readable in part only; run: {grant}"));
        }
        if let RecordKind::Objective(reading) = &record.kind {
            let told = reading.measured.iter().flat_map(|measured| &measured.notes);
            notes.extend(told.map(|note| format!("objective {}: {note}", reading.objective)));
        }
    }
    for (name, observed) in &snapshot.observations.dependencies {
        let unreadable = observed.known().map(Facts::unreadable).unwrap_or_default();
        notes.extend(unreadable.iter().map(|what| format!("dependency {name} is read without {what}")));
    }
    let answered =
        |cause: &str| snapshot.policy.rungs.iter().any(|rung| rung.causes.iter().any(|name| name == cause));
    let missing = causes::not_looked_for(&snapshot.policy).filter(|(cause, _)| answered(cause));
    notes.extend(missing.map(|(cause, setting)| format!("{cause} is not judged: set {setting}")));
    notes
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

/// It follows incidents and not single readings: a value that swings around its threshold is not news every second.
fn within_objective(ticked: &Tick, judged: &[ObjectiveReport]) -> Said {
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
        let judged: Vec<String> = judged.iter().map(objectives::short).collect();
        return Said::of(conditions::KEPT, format!("the objectives are met: {}", judged.join("; ")));
    }
    Said::of(conditions::NONE_JUDGED, "no objective has been read yet")
}

fn remediation_allowed(snapshot: &Snapshot) -> Said {
    if let Some(pause) = snapshot.observations.pauses.iter().find(|pause| pause.holds(snapshot.now)) {
        let reason = pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        return Said::of(conditions::PAUSED, format!("{} is paused until {}{reason}", pause.by, pause.until));
    }
    if let Observed::Known { value, .. } = &snapshot.observations.target
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
            "spec.remediations is empty: causes are found and reported, nothing is done",
        );
    }
    if snapshot.policy.rungs.iter().all(|rung| snapshot.policy.mode_of(rung) == Mode::Observe) {
        return Said::of(conditions::OBSERVE_ONLY, "mode is Observe: what would be done is written down");
    }
    Said::of(conditions::AUTO, "mode is Auto: what the guards let through is done")
}

fn causes(ticked: &Tick) -> Vec<CauseReport> {
    let found = |record: &DecisionRecord| {
        let RecordKind::Cause(finding) = &record.kind else { return None };
        Some(CauseReport {
            name: finding.cause.to_string(),
            confidence: finding.confidence,
            explained_by: finding.explained_by.as_ref().map(ToString::to_string),
            subject: finding.subject.as_ref().map(|subject| cut(&subject.to_string(), SHORT)),
            message: sentence(&finding.sentence),
            evidence: finding.evidence.iter().take(EVIDENCE).map(evidence).collect(),
        })
    };
    let mut causes: Vec<CauseReport> = said(ticked).filter_map(found).collect();
    // Roots first, in the order in which the findings were made.
    let order = |cause: &CauseReport| ticked.situation.findings.iter().position(|f| f.cause == cause.name);
    causes.sort_by_key(|cause| (cause.explained_by.is_some(), order(cause)));
    causes
}

fn refusals(ticked: &Tick) -> Vec<RefusalReport> {
    let refused = |record: &DecisionRecord| -> Vec<RefusalReport> {
        let RecordKind::Blocked { rung, refusals, .. } = &record.kind else { return Vec::new() };
        let reports = refusals.iter().map(|verdict| RefusalReport {
            remediation: rung.clone(),
            guard: verdict.guard.to_string(),
            message: sentence(&verdict.fact().to_string()),
        });
        reports.collect()
    };
    said(ticked).flat_map(refused).take(REFUSALS).collect()
}

/// Whether an evaluation found the objectives broken.
fn is_breached(ticked: &Tick) -> bool {
    matches!(ticked.situation.overall, Overall::Breached(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_evidence_is_one_short_line() {
        let shown = |value: &str| evidence(&Evidence::new("application", value)).value;
        assert_eq!(shown("report\n\u{1b}[31mFORGED"), "report[31mFORGED");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), SHORT);
    }
}
