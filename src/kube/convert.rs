//! Between API objects and the values that cross the ports. Statuses convert both ways without loss, so that a status that
//! says nothing new is not written.

mod judged;

use controller::conditions::{ConditionReport, Stalled};
use controller::objects::{
    IncidentSummary, NewRemediation, Rejected, Stored, StoredIncident, StoredPolicy, UndecodablePolicy,
    Version,
};
use controller::report::{
    BudgetReport, CauseReport, EvidenceReport, IncidentOutcome, IncidentPhase, IncidentReport, Notified,
    PolicyReport, PolicyState, RefusalReport, RemediationStep, RemediationSummary, Reopening, TimelineEntry,
};
use engine::model::{
    ActionKind, BudgetUsage, Confidence, Outcome, PausedBy, Phase, PolicyRef, Remediation, Severity,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;

use crate::api::budget as budgets;
use crate::api::convert::{self, variant};
use crate::api::incident as incidents;
use crate::api::policy::{self as policies, LatencyPolicyStatus};
use crate::api::text::{Instant, Label, ObjectName, Sentence, Word};
use crate::api::{
    FINALIZER, LatencyIncident, LatencyIncidentStatus, LatencyPolicy, LatencyRemediation, POLICY_LABEL,
    RemediationBudgetStatus,
};
use crate::observe::kubernetes::pause;

pub(super) fn version(metadata: &ObjectMeta) -> Version {
    Version(metadata.resource_version.clone().unwrap_or_default().into())
}

fn policy_ref(metadata: &ObjectMeta) -> PolicyRef {
    PolicyRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// A policy as it is stored. `enabled`: the actions that are switched on.
pub(super) fn policy(object: &LatencyPolicy, enabled: &[ActionKind]) -> StoredPolicy {
    let rejected = |why, problems: Vec<convert::Problem>| Rejected {
        why,
        message: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    let spec = match convert::policy(object) {
        Ok(mut policy) => {
            // Of what it did not ask for it is not told either.
            if object.spec.remediations.is_empty() {
                policy.rungs.retain(|rung| {
                    rung.action.settings().permissions().iter().all(|kind| enabled.contains(kind))
                });
            }
            let off = convert::switched_off(&policy, enabled);
            if off.is_empty() { Ok(policy) } else { Err(rejected(Stalled::ActionDisabled, off)) }
        }
        Err(problems) => Err(rejected(Stalled::InvalidSpec, problems)),
    };
    StoredPolicy {
        id: policy_ref(&object.metadata),
        generation: object.metadata.generation.unwrap_or_default(),
        version: version(&object.metadata),
        deleting: object.metadata.deletion_timestamp.is_some(),
        pause: pause(object.annotations(), PausedBy::Policy),
        spec,
        report: object.status.as_ref().map(policy_report).unwrap_or_default(),
    }
}

/// A policy of which only the metadata can be decoded.
pub(super) fn undecodable(object: &InvalidObject) -> UndecodablePolicy {
    UndecodablePolicy {
        id: policy_ref(&object.metadata),
        generation: object.metadata.generation.unwrap_or_default(),
        error: object.error.clone(),
    }
}

pub(super) fn policy_report(status: &LatencyPolicyStatus) -> PolicyReport {
    PolicyReport {
        observed_generation: status.observed_generation,
        conditions: status.conditions.iter().map(condition).collect(),
        state: status.state.as_ref().and_then(|word| named(PolicyState::ALL, word)),
        measured: status.measured.clone(),
        objectives: status.objectives.iter().filter_map(judged::objective).collect(),
        effective: status.effective.as_ref().map(judged::effective),
        severity: status.severity.as_ref().and_then(|word| variant(&word.0)),
        active_incident: status.active_incident.as_ref().map(|name| name.0.clone()),
        ordinal: status.incident_ordinal.and_then(|ordinal| u64::try_from(ordinal).ok()).unwrap_or_default(),
        causes: status.causes.iter().filter_map(cause).collect(),
        refusals: status.refusals.iter().map(refusal).collect(),
        last_remediation: status
            .last_remediation
            .as_ref()
            .map(|last| RemediationSummary { name: last.name.0.clone(), result: last.result.clone() }),
        paused: status.paused.clone(),
    }
}

pub(super) fn policy_status(report: &PolicyReport) -> LatencyPolicyStatus {
    LatencyPolicyStatus {
        observed_generation: report.observed_generation,
        conditions: report.conditions.iter().map(condition_of).collect(),
        state: report.state.map(|state| Word(state.to_string())),
        measured: report.measured.clone(),
        objectives: report.objectives.iter().map(judged::objective_of).collect(),
        effective: report.effective.as_ref().map(judged::effective_of),
        severity: report.severity.map(severity_of),
        active_incident: report.active_incident.clone().map(ObjectName),
        incident_ordinal: i64::try_from(report.ordinal).ok().filter(|ordinal| *ordinal > 0),
        causes: report.causes.iter().map(cause_of).collect(),
        refusals: report.refusals.iter().map(refusal_of).collect(),
        last_remediation: report.last_remediation.as_ref().map(|last| policies::RemediationSummary {
            name: ObjectName(last.name.clone()),
            result: last.result.clone(),
        }),
        paused: report.paused.clone(),
    }
}

/// What the status of a budget says. A usage that this version cannot read is left out, and is written again.
pub(super) fn budget_report(status: &RemediationBudgetStatus) -> BudgetReport {
    let usage = status.usage.as_ref().and_then(|usage| {
        Some(BudgetUsage {
            actions: usage.actions_in_last_hour.try_into().ok()?,
            open: usage.open_remediations.try_into().ok()?,
            frozen: variant(&usage.frozen.0)?,
        })
    });
    BudgetReport {
        observed_generation: status.observed_generation,
        conditions: status.conditions.iter().map(condition).collect(),
        usage,
    }
}

/// The status of a budget.
pub(super) fn budget_status(report: &BudgetReport) -> RemediationBudgetStatus {
    RemediationBudgetStatus {
        observed_generation: report.observed_generation,
        conditions: report.conditions.iter().map(condition_of).collect(),
        usage: report.usage.map(|usage| budgets::BudgetUsage {
            actions_in_last_hour: usage.actions.into(),
            open_remediations: usage.open.into(),
            frozen: Word(usage.frozen.to_string()),
        }),
    }
}

fn condition(condition: &Condition) -> ConditionReport {
    ConditionReport {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: condition.observed_generation,
        since: condition.last_transition_time.0,
    }
}

pub(super) fn condition_of(report: &ConditionReport) -> Condition {
    Condition {
        type_: report.r#type.clone(),
        status: report.status.clone(),
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation: report.observed_generation,
        last_transition_time: Time(report.since),
    }
}

/// What this version does not know is left out: it is written anew where it changes.
fn cause(status: &policies::CauseStatus) -> Option<CauseReport> {
    let confidence: Confidence = variant(&status.confidence.0)?;
    Some(CauseReport {
        name: status.name.0.clone(),
        confidence,
        explained_by: status.explained_by.as_ref().map(|by| by.0.clone()),
        subject: status.subject.clone(),
        message: status.message.0.clone(),
        evidence: status.evidence.iter().map(evidence).collect(),
    })
}

fn cause_of(report: &CauseReport) -> policies::CauseStatus {
    policies::CauseStatus {
        name: Word(report.name.clone()),
        confidence: Word(report.confidence.to_string()),
        explained_by: report.explained_by.clone().map(Word),
        subject: report.subject.clone(),
        message: Sentence(report.message.clone()),
        evidence: report.evidence.iter().map(evidence_of).collect(),
    }
}

fn evidence(status: &policies::EvidenceStatus) -> EvidenceReport {
    EvidenceReport { name: status.name.clone(), value: status.value.clone() }
}

fn evidence_of(report: &EvidenceReport) -> policies::EvidenceStatus {
    policies::EvidenceStatus { name: report.name.clone(), value: report.value.clone() }
}

fn refusal(status: &policies::RefusalStatus) -> RefusalReport {
    RefusalReport {
        remediation: status.remediation.0.clone(),
        guard: status.guard.0.clone(),
        message: status.message.0.clone(),
    }
}

fn refusal_of(report: &RefusalReport) -> policies::RefusalStatus {
    policies::RefusalStatus {
        remediation: Label(report.remediation.clone()),
        guard: Word(report.guard.clone()),
        message: Sentence(report.message.clone()),
    }
}

fn severity_of(severity: Severity) -> Word {
    Word(severity.to_string())
}

/// An incident as it is stored.
#[must_use]
pub fn incident(object: &LatencyIncident) -> StoredIncident {
    StoredIncident {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        version: version(&object.metadata),
        ordinal: u64::try_from(object.spec.ordinal).unwrap_or_default(),
        first_breached_at: object.spec.first_breached_at.0,
        opened_at: object.spec.opened_at.0,
        report: object.status.as_ref().map(incident_report).unwrap_or_default(),
    }
}

/// What a list shows of an incident, where it can be decoded and where it cannot.
pub(super) fn incident_summary(found: &Result<LatencyIncident, InvalidObject>) -> IncidentSummary {
    let metadata = match found {
        Ok(object) => &object.metadata,
        Err(undecodable) => &undecodable.metadata,
    };
    let closed = found.as_ref().ok().map(incident).filter(is_closed);
    IncidentSummary {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        version: version(metadata),
        closed: closed.map(|stored| (stored.opened_at, stored.ordinal)),
    }
}

fn is_closed(stored: &StoredIncident) -> bool {
    stored.report.phase == Some(IncidentPhase::Closed)
}

fn incident_report(status: &LatencyIncidentStatus) -> IncidentReport {
    let phase = status
        .phase
        .as_ref()
        .map(|word| if word.0 == "Closed" { IncidentPhase::Closed } else { IncidentPhase::Open });
    IncidentReport {
        conditions: status.conditions.iter().map(condition).collect(),
        phase,
        severity: status.severity.as_ref().and_then(|word| variant(&word.0)),
        closed_at: status.closed_at.map(|at| at.0),
        closure_confirmed_at: status.closure_confirmed_at.map(|at| at.0),
        reopened: status.reopened.as_ref().map(|again| Reopening {
            times: u32::try_from(again.times).unwrap_or_default(),
            first_breached_at: again.first_breached_at.0,
            at: again.at.0,
        }),
        outcome: status.outcome.as_ref().and_then(|word| named(IncidentOutcome::ALL, word)),
        breached: status.breached.iter().map(|text| text.0.clone()).collect(),
        causes: status.causes.iter().filter_map(cause).collect(),
        refusals: status.refusals.iter().map(refusal).collect(),
        remediations: status.remediations.iter().filter_map(step).collect(),
        escalation: status.escalation.as_ref().map(|text| text.0.clone()),
        notified: status.notified.iter().map(notified).collect(),
        timeline: status.timeline.iter().map(entry).collect(),
    }
}

pub(super) fn incident_status(report: &IncidentReport) -> LatencyIncidentStatus {
    LatencyIncidentStatus {
        conditions: report.conditions.iter().map(condition_of).collect(),
        phase: report.phase.map(|phase| match phase {
            IncidentPhase::Open => Word("Open".to_owned()),
            IncidentPhase::Closed => Word("Closed".to_owned()),
        }),
        severity: report.severity.map(severity_of),
        closed_at: report.closed_at.map(Instant),
        closure_confirmed_at: report.closure_confirmed_at.map(Instant),
        reopened: report.reopened.as_ref().map(|again| incidents::Reopening {
            times: i32::try_from(again.times).unwrap_or(i32::MAX),
            first_breached_at: Instant(again.first_breached_at),
            at: Instant(again.at),
        }),
        outcome: report.outcome.map(|outcome| Word(outcome.to_string())),
        breached: report.breached.iter().cloned().map(Sentence).collect(),
        causes: report.causes.iter().map(cause_of).collect(),
        refusals: report.refusals.iter().map(refusal_of).collect(),
        remediations: report.remediations.iter().map(step_of).collect(),
        escalation: report.escalation.clone().map(Sentence),
        notified: report.notified.iter().map(notified_of).collect(),
        timeline: report.timeline.iter().map(entry_of).collect(),
    }
}

/// The value of that name, where this version knows it.
fn named<T: ToString, const N: usize>(all: [T; N], word: &Word) -> Option<T> {
    all.into_iter().find(|known| known.to_string() == word.0)
}

fn step(status: &incidents::IncidentRemediation) -> Option<RemediationStep> {
    let phase: Phase = variant(&status.phase.0)?;
    let outcome: Option<Outcome> = status.outcome.as_ref().and_then(|word| variant(&word.0));
    Some(RemediationStep { name: status.name.0.clone(), phase, outcome })
}

fn step_of(report: &RemediationStep) -> incidents::IncidentRemediation {
    incidents::IncidentRemediation {
        name: ObjectName(report.name.clone()),
        phase: Word(report.phase.to_string()),
        outcome: report.outcome.map(|outcome| Word(outcome.to_string())),
    }
}

fn notified(status: &incidents::Notified) -> Notified {
    Notified { route: status.route.0.clone(), key: status.key.clone(), at: status.at.0 }
}

fn notified_of(report: &Notified) -> incidents::Notified {
    incidents::Notified {
        route: Label(report.route.clone()),
        key: report.key.clone(),
        at: Instant(report.at),
    }
}

fn entry(status: &incidents::TimelineEntry) -> TimelineEntry {
    TimelineEntry { at: status.at.0, reason: status.reason.0.clone(), message: status.message.0.clone() }
}

fn entry_of(report: &TimelineEntry) -> incidents::TimelineEntry {
    incidents::TimelineEntry {
        at: Instant(report.at),
        reason: Word(report.reason.clone()),
        message: Sentence(report.message.clone()),
    }
}

/// A remediation as it is stored, or why it cannot be understood.
pub(super) fn remediation(object: &LatencyRemediation) -> Result<Stored<Remediation>, String> {
    let understood = convert::remediation(object);
    let value =
        understood.map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())?;
    let others = object.finalizers().iter().filter(|known| *known != FINALIZER);
    Ok(Stored {
        value,
        uid: object.uid().unwrap_or_default(),
        version: version(&object.metadata),
        other_finalizers: others.cloned().collect(),
    })
}

/// A remediation that is to be created.
pub(super) fn new_remediation(new: &NewRemediation) -> LatencyRemediation {
    let mut object = LatencyRemediation::new(&new.key.1, convert::spec_of(&new.spec));
    object.metadata.namespace = Some(new.key.0.clone());
    object.labels_mut().insert(POLICY_LABEL.to_owned(), new.spec.policy.name.clone());
    if new.held {
        object.finalizers_mut().push(FINALIZER.to_owned());
    }
    object
}

#[cfg(test)]
mod tests {
    use controller::report::{EffectiveReport, Judged, ObjectiveReport, ThresholdReport, resolved};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_policys_status_converts_both_ways_without_loss() {
        let at = Timestamp::from_second(1_767_236_400).unwrap();
        let report = PolicyReport {
            observed_generation: Some(3),
            conditions: vec![ConditionReport {
                r#type: "Ready".into(),
                status: "True".into(),
                reason: "Accepted".into(),
                message: "the policy is being watched".into(),
                observed_generation: Some(3),
                since: at,
            }],
            state: Some(PolicyState::Breached),
            measured: Some("p95 812ms > 500ms".into()),
            objectives: vec![
                ObjectiveReport {
                    name: "p95".into(),
                    verdict: Judged::Breached,
                    measured: Some("812ms".into()),
                    threshold: "400ms".into(),
                    bucket_bound: Some("500ms".into()),
                    requests: Some(379),
                    since: at,
                    measured_at: at,
                },
                ObjectiveReport {
                    name: "errors".into(),
                    verdict: Judged::NoData,
                    measured: None,
                    threshold: "5%".into(),
                    bucket_bound: None,
                    requests: None,
                    since: at,
                    measured_at: at,
                },
            ],
            effective: Some(EffectiveReport {
                no_data_after: "45s".into(),
                resolution: Some("15s".into()),
                within: "5m".into(),
                thresholds: vec![ThresholdReport {
                    cause: "ColdCache".into(),
                    older_than: Some("30s".into()),
                    above: Some("90%".into()),
                    below: Some("80%".into()),
                    more_than: Some(20),
                }],
            }),
            severity: Some(Severity::P1),
            active_incident: Some("orders-a-1".into()),
            ordinal: 1,
            causes: vec![CauseReport {
                name: "RunawayQuery".into(),
                confidence: Confidence::Certain,
                explained_by: Some("ColdCache".into()),
                subject: Some("db: pid 101".into()),
                message: "it runs".into(),
                evidence: vec![EvidenceReport { name: "running for".into(), value: "6.5s".into() }],
            }],
            refusals: vec![RefusalReport {
                remediation: "cancel".into(),
                guard: "Mode".into(),
                message: "no".into(),
            }],
            last_remediation: Some(RemediationSummary { name: "r".into(), result: "Scale Healed".into() }),
            paused: Some("forever".into()),
        };
        assert_eq!(policy_report(&policy_status(&report)), report);
        assert_eq!(policy_report(&policy_status(&PolicyReport::default())), PolicyReport::default());
    }

    #[test]
    fn an_incidents_status_converts_both_ways_without_loss() {
        let at = Timestamp::from_microsecond(1_767_236_400_123_456).unwrap();
        let report = IncidentReport {
            conditions: resolved(&[], Some(IncidentOutcome::RecoveredUnattributed), at),
            phase: Some(IncidentPhase::Closed),
            severity: Some(Severity::P0),
            closed_at: Some(at),
            closure_confirmed_at: Some(at),
            reopened: Some(Reopening { times: 2, first_breached_at: at, at }),
            outcome: Some(IncidentOutcome::RecoveredUnattributed),
            breached: vec!["p95".into()],
            causes: Vec::new(),
            refusals: Vec::new(),
            remediations: vec![RemediationStep {
                name: "r".into(),
                phase: Phase::Completed,
                outcome: Some(Outcome::Healed),
            }],
            escalation: Some("decide".into()),
            notified: vec![Notified { route: "oncall".into(), key: "opened/P1".into(), at }],
            timeline: vec![TimelineEntry { at, reason: "CauseFound".into(), message: "m".into() }],
        };
        assert_eq!(incident_report(&incident_status(&report)), report);
        assert_eq!(incident_report(&incident_status(&IncidentReport::default())), IncidentReport::default());
    }
}
