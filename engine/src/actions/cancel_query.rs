//! `CancelQuery`: cancels the one statement that is the cause. Its transaction fails, its session lives.
//!
//! A statement that was cancelled and runs all the same (a lost network, a function that catches everything) may be met by
//! ending its session, where the rung says after how long: an act of its own, which every guard sees again.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Act, Action, ActionKind, Checked, Evidence, Line, RungChanged, Settings, Traits, rung, sessions,
};
use crate::effects::{Effect, Progress, SessionTarget, Signal, SignalSession};
use crate::model::{
    Candidate, Change, EffectSeen, Finding, Phase, Policy, ResourceKey, Rung, SessionState, Severity,
    Situation, Snapshot, Subject, TargetRef, UncommittedWrites, UndoSpec, forget,
};

pub(super) const LINE: Line = Line {
    kind: ActionKind::CancelQuery,
    does: "cancels the one statement that is the cause; its transaction fails, its session lives. With `terminateAfter`, a session whose statement still runs so long after that is ended",
    answers: &["BlockingQuery", "RunawayQuery"],
    traits: Traits {
        adds_load: false,
        removes_capacity: false,
        touches_workload: false,
        disruptive: true,
        signals_sessions: true,
    },
    min_severity: Severity::P2,
    reversible: false,
};

/// How a rung cancels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CancelQuerySettings {
    /// Whether a transaction that has written may be cancelled.
    pub writes: UncommittedWrites,
    /// The session is ended when its statement still runs so long after it was cancelled; `None`: never.
    pub terminate_after: Option<Duration>,
}

/// Cancel the statement: its transaction fails, its session lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelQuery(pub SessionTarget);

/// End the session, because cancelling its statement did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateQuery(pub SessionTarget);

impl Settings for CancelQuerySettings {
    fn permissions(&self) -> &'static [ActionKind] {
        match self.terminate_after {
            None => CANCELS,
            Some(_) => TERMINATES,
        }
    }

    fn propose(&self, snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<Action> {
        let (target, _) = sessions::target(snapshot, finding, self.writes)?;
        let ends = self.terminate_after.is_some() && was_in_vain(snapshot, rung, &target);
        Some(if ends {
            Action::TerminateQuery(TerminateQuery(target))
        } else {
            Action::CancelQuery(CancelQuery(target))
        })
    }

    fn effect_within(&self, action: &Action) -> Option<Duration> {
        self.terminate_after.filter(|_| !action.act().follows_up())
    }

    fn changes<'a>(&'a self, _: &'a Policy) -> Option<&'a TargetRef> {
        None
    }

    fn undo(&self, _: &Policy, _: &Action) -> Option<UndoSpec> {
        None
    }
}

const CANCELS: &[ActionKind] = &[ActionKind::CancelQuery];
const TERMINATES: &[ActionKind] = &[ActionKind::CancelQuery, ActionKind::TerminateIdle];

impl Act for CancelQuery {
    fn effect(&self) -> Effect {
        Effect::SignalSession(SignalSession { target: self.0.clone(), signal: Signal::Cancel })
    }

    fn subject(&self) -> Subject {
        sessions::subject(&self.0)
    }

    fn resource(&self, namespace: &str) -> ResourceKey {
        ResourceKey::database(namespace, &self.0.server)
    }

    fn permissions(&self) -> &'static [ActionKind] {
        CANCELS
    }

    fn follows_up(&self) -> bool {
        false
    }

    fn sentence(&self) -> String {
        let SessionTarget { session, role, dependency, .. } = &self.0;
        format!(
            "cancel what pid {} (role {role}) has been running in {dependency} since {:.0}",
            session.pid, session.query_start
        )
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        runs(snapshot, candidate, &self.0, false)
    }

    fn is_cause_visible(&self, _: &Situation) -> bool {
        true
    }

    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress> {
        evidence.inspected(&self.effect())
    }

    fn manual_rollback(&self, _: &str, _: &Change) -> Option<String> {
        None
    }
}

impl Act for TerminateQuery {
    fn effect(&self) -> Effect {
        Effect::SignalSession(SignalSession { target: self.0.clone(), signal: Signal::Terminate })
    }

    fn subject(&self) -> Subject {
        sessions::subject(&self.0)
    }

    fn resource(&self, namespace: &str) -> ResourceKey {
        ResourceKey::database(namespace, &self.0.server)
    }

    fn permissions(&self) -> &'static [ActionKind] {
        TERMINATES
    }

    fn follows_up(&self) -> bool {
        true
    }

    fn sentence(&self) -> String {
        let SessionTarget { session, role, dependency, .. } = &self.0;
        format!(
            "end the session of pid {} (role {role}), whose statement of {:.0} in {dependency} was \
             cancelled and runs all the same",
            session.pid, session.query_start
        )
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        runs(snapshot, candidate, &self.0, true)
    }

    fn is_cause_visible(&self, _: &Situation) -> bool {
        true
    }

    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress> {
        evidence.inspected(&self.effect())
    }

    fn manual_rollback(&self, _: &str, _: &Change) -> Option<String> {
        None
    }
}

/// Whether this rung has cancelled this very statement, and it was seen to run on.
fn was_in_vain(snapshot: &Snapshot, rung: &Rung, target: &SessionTarget) -> bool {
    snapshot.remediations.iter().any(|earlier| {
        let same = matches!(&earlier.spec.action, Action::CancelQuery(CancelQuery(cancelled))
            if cancelled.session == target.session && cancelled.server == target.server);
        same && earlier.spec.rung == rung.name
            && earlier.status.phase == Phase::Completed
            && earlier.status.effect == Some(EffectSeen::NotSeen)
    })
}

/// What the precondition comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    Runs { pid: i32, partial: bool },
    RunsNothing { pid: i32 },
    NoTerminateAfter,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs { pid, partial } => {
                write!(f, "the statement of pid {pid} still runs{}", sessions::partly(*partial))
            }
            Self::RunsNothing { pid } => {
                write!(f, "pid {pid} runs no statement; cancelling would do nothing")
            }
            Self::NoTerminateAfter => {
                f.write_str("the remediation has no cancelQuery.terminateAfter any more")
            }
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Runs { pid, .. } | Self::RunsNothing { pid } => forget(pid),
            Self::NoTerminateAfter => {}
        }
    }
}

/// Whether the statement still runs, and the session may be touched. `ends` it: whether that is what the rung still says.
fn runs(snapshot: &Snapshot, candidate: &Candidate, target: &SessionTarget, ends: bool) -> Checked {
    let settings = rung(snapshot, candidate)?.cancel_query().ok_or(RungChanged::OtherRung)?;
    let allow = "cancelQuery.uncommittedWrites: RollBack";
    let (facts, session) = sessions::touchable(snapshot, candidate, target, settings.writes, allow)?;
    let pid = session.identity.pid;
    if session.state != SessionState::Active {
        return Err(Condition::RunsNothing { pid }.into());
    }
    if ends && settings.terminate_after.is_none() {
        return Err(Condition::NoTerminateAfter.into());
    }
    Ok(Condition::Runs { pid, partial: sessions::is_partial(facts) }.into())
}
