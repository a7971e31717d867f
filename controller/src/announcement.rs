//! What people should learn, as one value. It is made here, from decisions, steps and rejections, and nowhere else. Events, log
//! lines and notifications are made of it, and so is the timeline of an incident. Pure.

use engine::model::{
    ActionKind, Outcome, Phase, PolicyRef, Remediation, RemediationStatus, Severity, Shared, TargetRef,
    UndoState,
};
use engine::record::{DecisionRecord, Key, RecordKind};
use jiff::Timestamp;

use crate::reasons::{self, Reason};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// When it was decided.
    pub at: Timestamp,
    /// The policy that it is about.
    pub policy: Shared<PolicyRef>,
    /// The policy's target, where it concerns the target as well.
    pub target: Option<TargetRef>,
    /// The incident that it belongs to.
    pub incident: Option<String>,
    /// How severe that incident is, where it is known.
    pub severity: Option<Severity>,
    /// What it reports.
    pub subject: Subject,
    /// Why people are told. A decision without a reason is logged only.
    pub reason: Option<Reason>,
    /// What the operator did, in one word.
    pub action: String,
    /// One sentence.
    pub note: String,
    /// What makes it the same announcement: an equal one is not published twice, by any leader.
    pub identity: String,
}

/// What an announcement reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// An evaluation has newly decided this.
    Decision(DecisionRecord),
    /// A remediation went a step further.
    Step {
        /// The step.
        record: DecisionRecord,
        /// The kind of its action.
        kind: ActionKind,
        /// How it ended, where this step is its last one.
        ended: Option<(Phase, Option<Outcome>)>,
    },
    /// A policy cannot be acted on.
    Rejection,
}

impl Announcement {
    /// Of a decision. `last` is what was last reported on its slot.
    pub(crate) fn of_decision(record: &DecisionRecord, last: Option<&Key>, context: &Context<'_>) -> Self {
        Self {
            at: record.at,
            policy: record.policy.clone(),
            target: Some(context.target.clone()),
            incident: record.incident.clone(),
            severity: context.severity,
            reason: reasons::of(record, last),
            action: verb(&record.kind).to_owned(),
            note: record.sentence(),
            identity: identity(record, context.reopened),
            subject: Subject::Decision(record.clone()),
        }
    }

    /// Of a step of a remediation, which had the status of `before` until then.
    pub(crate) fn of_step(
        at: Timestamp,
        before: &Remediation,
        status: &RemediationStatus,
        record: &RecordKind,
        severity: Option<Severity>,
    ) -> Option<Self> {
        let Step { sentence, reason, identity } = Step::of(before, status, record)?;
        let (name, spec) = (&before.name, &before.spec);
        let policy: Shared<PolicyRef> = spec.policy.clone().into();
        let ended = status.phase.is_terminal() && !before.status.phase.is_terminal();
        let record = DecisionRecord {
            at,
            policy: policy.clone(),
            incident: Some(spec.incident.clone()),
            kind: record.clone(),
            changed: true,
        };
        let kind = spec.action.kind();
        Some(Self {
            at,
            policy,
            target: Some(spec.target.clone()),
            incident: Some(spec.incident.clone()),
            severity,
            reason,
            action: kind.to_string(),
            note: format!("{name}: {sentence}"),
            identity: format!("{name}/{identity}"),
            subject: Subject::Step { record, kind, ended: ended.then_some((status.phase, status.outcome)) },
        })
    }

    /// Of a policy that cannot be acted on.
    pub(crate) fn of_rejection(
        at: Timestamp,
        policy: &PolicyRef,
        reason: Reason,
        message: &str,
        generation: i64,
    ) -> Self {
        Self {
            at,
            policy: policy.clone().into(),
            target: None,
            incident: None,
            severity: None,
            subject: Subject::Rejection,
            reason: Some(reason),
            action: "Accept".to_owned(),
            note: message.to_owned(),
            identity: format!("{generation}/{message}"),
        }
    }

    /// The decision that it reports, where it is one.
    #[must_use]
    pub fn record(&self) -> Option<&DecisionRecord> {
        match &self.subject {
            Subject::Decision(record) | Subject::Step { record, .. } => Some(record),
            Subject::Rejection => None,
        }
    }
}

/// What the announcements of one evaluation have in common.
pub(crate) struct Context<'a> {
    /// The policy's target.
    pub(crate) target: &'a TargetRef,
    /// The severity of its incident, where one is open.
    pub(crate) severity: Option<Severity>,
    /// How often that incident was opened again.
    pub(crate) reopened: u32,
}

/// Within an incident the same is announced once each time that it is open, also when the leader changes. Outside of one every change is
/// news.
fn identity(record: &DecisionRecord, again: u32) -> String {
    match &record.incident {
        Some(incident) => format!("{incident}/{again}/{}/{:?}", record.slot(), record.key()),
        None => format!("{}/{}/{:?}", record.at, record.slot(), record.key()),
    }
}

/// What the operator did, in one word.
fn verb(kind: &RecordKind) -> &'static str {
    match kind {
        RecordKind::Objective(_)
        | RecordKind::Dependency { .. }
        | RecordKind::Target { .. }
        | RecordKind::BreachSuspected { .. }
        | RecordKind::Incident { .. }
        | RecordKind::Calm { .. } => "Evaluate",
        RecordKind::Cause(_) => "Diagnose",
        RecordKind::Blocked { .. } | RecordKind::Proposed { .. } => "Decide",
        RecordKind::Escalated { .. } => "Escalate",
        RecordKind::Remediation { .. } => "Remediate",
        RecordKind::Undo { .. } => "Undo",
    }
}

/// A step of a remediation, as it is announced.
struct Step<'a> {
    sentence: &'a str,
    reason: Option<Reason>,
    identity: String,
}

impl<'a> Step<'a> {
    fn of(remediation: &Remediation, status: &RemediationStatus, record: &'a RecordKind) -> Option<Self> {
        if let RecordKind::Remediation { sentence, .. } = record {
            let stepped = status.phase != remediation.status.phase;
            let reason = reasons::remediation(status.phase, status.outcome).filter(|_| stepped);
            return Some(Self { sentence, reason, identity: status.phase.to_string() });
        }
        let RecordKind::Undo { state, overdue, sentence, .. } = record else { return None };
        let writing = status.undo.as_ref().and_then(|undo| undo.change.writing());
        // A step of a rollback is announced when it begins; that they are done is announced when all are.
        let told = *state != UndoState::Pending || *overdue || writing.is_some();
        let reason = reasons::undo(*state, *overdue && writing.is_none()).filter(|_| told);
        Some(Self { sentence, reason, identity: format!("undo/{state}/{overdue}/{writing:?}") })
    }
}
