//! The reasons of Events, and which record is told with which. `docs/events.md` is compared with this table.

use engine::model::{Outcome, Phase, UndoState, Verdict};
use engine::record::{DecisionRecord, Key, RecordKind};

/// An Event's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub name: &'static str,
    /// Something that people should look at.
    pub warning: bool,
    /// When it is told, for the documentation.
    pub when: &'static str,
}

macro_rules! reasons {
    ($($constant:ident, $name:literal, $warning:literal, $when:literal;)+) => {
        $(#[doc = $when] pub const $constant: Reason = Reason { name: $name, warning: $warning, when: $when };)+
        /// All reasons.
        pub const REASONS: &[Reason] = &[$($constant),+];
    };
}

reasons! {
    OBJECTIVE_BREACHED, "ObjectiveBreached", true, "A breach has lasted for `breachFor` and an incident is open (again, where the last one ended less than 30 minutes before), or it has become more severe.";
    CAUSE_FOUND, "CauseFound", true, "A cause was found, with what was measured.";
    REMEDIATION_PROPOSED, "RemediationProposed", false, "Mode Observe: what would be done.";
    REMEDIATION_BLOCKED, "RemediationBlocked", true, "A remediation would act and is refused; the guards and their numbers.";
    REMEDIATION_STARTED, "RemediationStarted", false, "The intent is durable; the act follows at once.";
    REMEDIATION_COMPLETED, "RemediationCompleted", false, "The act was judged and the objectives are kept again.";
    REMEDIATION_INEFFECTIVE, "RemediationIneffective", true, "The act was judged and the objectives are still broken.";
    REMEDIATION_WORSE, "RemediationWorse", true, "A database that was well before the act is in trouble after it; the act is taken back at once.";
    REMEDIATION_INCONCLUSIVE, "RemediationInconclusive", true, "Whether the act helped, or was done at all, cannot be said; it is not repeated.";
    REMEDIATION_REFUSED, "RemediationRefused", true, "A guard refused at the last moment; nothing was done.";
    REMEDIATION_FAILED, "RemediationFailed", true, "It could not be done; nothing happened as far as the world shows.";
    ROLLBACK_STEP, "RollbackStep", false, "What was done is being taken back, a step at a time.";
    REMEDIATION_ROLLED_BACK, "RemediationRolledBack", false, "What was done has been taken back.";
    ROLLBACK_OVERDUE, "RollbackOverdue", true, "What was done has been held for `maxHold` and cannot be taken back yet; why.";
    ROLLBACK_CONTESTED, "RollbackContested", true, "Somebody else has changed since what was done: theirs stands, nothing is taken back.";
    ROLLBACK_ABANDONED, "RollbackAbandoned", true, "What was done stays: its target or policy is gone, or the operator is being uninstalled; the command that takes it back, where there is something to take back.";
    OBJECTIVE_RECOVERED, "ObjectiveRecovered", false, "Calm has lasted for `recoverFor` and the incident is closed.";
    INCIDENT_ESCALATED, "IncidentEscalated", true, "The operator is at its end; people have to decide.";
    DATA_UNAVAILABLE, "DataUnavailable", true, "An objective, a dependency or the target cannot be read; why, and what to mend.";
    DATA_PARTIAL, "DataPartial", true, "A database can be read in part only; the GRANT that is missing.";
    DATA_RESTORED, "DataRestored", false, "What could not be read can be read again.";
    POLICY_STALLED, "PolicyStalled", true, "The policy asks for something that this version cannot do, or for an action that is switched off; the field's path.";
    POLICY_INVALID, "PolicyInvalid", true, "The stored object cannot be decoded.";
}

/// The reason with which a record is told, if it is told as an Event. `before` is what was last said on its slot.
#[must_use]
pub fn of(record: &DecisionRecord, before: Option<&Key>) -> Option<Reason> {
    let was_missing = before.is_some_and(Key::is_unreadable);
    match &record.kind {
        RecordKind::Objective(reading) => match reading.verdict {
            Verdict::NoData(_) => Some(DATA_UNAVAILABLE),
            Verdict::Breached(_) | Verdict::Healthy if was_missing => Some(DATA_RESTORED),
            Verdict::Breached(_) | Verdict::Healthy => None,
        },
        RecordKind::Dependency { missing: Some(_), .. } | RecordKind::Target { missing: Some(_) } => {
            Some(DATA_UNAVAILABLE)
        }
        RecordKind::Dependency { partial: Some(_), .. } => Some(DATA_PARTIAL),
        RecordKind::Dependency { .. } | RecordKind::Target { .. } => was_missing.then_some(DATA_RESTORED),
        RecordKind::BreachSuspected { .. } => None,
        RecordKind::Incident { .. } => {
            // Falling back from calm into the same incident is not news.
            let calming = matches!(before, Some(Key::Calming { .. }));
            (!calming).then_some(OBJECTIVE_BREACHED)
        }
        RecordKind::Calm { counted, needed, .. } => (counted >= needed).then_some(OBJECTIVE_RECOVERED),
        RecordKind::Cause(_) => Some(CAUSE_FOUND),
        RecordKind::Blocked { .. } => Some(REMEDIATION_BLOCKED),
        RecordKind::Proposed { dry_run, .. } => dry_run.then_some(REMEDIATION_PROPOSED),
        RecordKind::Escalated { .. } => Some(INCIDENT_ESCALATED),
        RecordKind::Remediation { phase, outcome, .. } => remediation(*phase, *outcome),
        RecordKind::Undo { state, overdue, .. } => undo(*state, *overdue),
    }
}

/// The reason with which a step of an undo is told.
#[must_use]
pub fn undo(state: UndoState, overdue: bool) -> Option<Reason> {
    match state {
        UndoState::None => None,
        UndoState::Pending if overdue => Some(ROLLBACK_OVERDUE),
        UndoState::Pending => Some(ROLLBACK_STEP),
        UndoState::Done => Some(REMEDIATION_ROLLED_BACK),
        UndoState::Contested => Some(ROLLBACK_CONTESTED),
        UndoState::Abandoned => Some(ROLLBACK_ABANDONED),
    }
}

/// The reason with which a remediation's step is told.
#[must_use]
pub fn remediation(phase: Phase, outcome: Option<Outcome>) -> Option<Reason> {
    match phase {
        // The action is announced before it is verified, and a dry run as the decision that it is.
        Phase::AwaitingApproval | Phase::Denied | Phase::Expired | Phase::DryRun | Phase::Verifying => None,
        Phase::Admitted
        | Phase::Executing
        | Phase::Completed
        | Phase::OutcomeUnknown
        | Phase::Refused
        | Phase::Failed => standing(phase, outcome),
    }
}

/// The reason with which a remediation is shown that is in this phase: that of the last step that was told.
#[must_use]
pub fn standing(phase: Phase, outcome: Option<Outcome>) -> Option<Reason> {
    match (phase, outcome) {
        (Phase::Admitted, _) => None,
        (Phase::AwaitingApproval | Phase::Denied | Phase::Expired | Phase::DryRun, _) => {
            Some(REMEDIATION_PROPOSED)
        }
        (Phase::Executing | Phase::Verifying, _) => Some(REMEDIATION_STARTED),
        (Phase::Completed, Some(Outcome::Healed | Outcome::RecoveredUnattributed)) => {
            Some(REMEDIATION_COMPLETED)
        }
        (Phase::Completed, Some(Outcome::Ineffective)) => Some(REMEDIATION_INEFFECTIVE),
        (Phase::Completed, Some(Outcome::Worse)) => Some(REMEDIATION_WORSE),
        (Phase::Completed, Some(Outcome::Inconclusive) | None) | (Phase::OutcomeUnknown, _) => {
            Some(REMEDIATION_INCONCLUSIVE)
        }
        (Phase::Refused, _) => Some(REMEDIATION_REFUSED),
        (Phase::Failed, _) => Some(REMEDIATION_FAILED),
    }
}
