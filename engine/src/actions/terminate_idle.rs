//! `TerminateIdle`: ends the session that is idle in a transaction and is the cause. There is no statement to cancel.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Act, Action, ActionKind, Checked, Evidence, Line, RungChanged, Settings, Traits, rung, sessions,
};
use crate::effects::{Effect, Progress, SessionTarget, Signal, SignalSession};
use crate::model::{
    Candidate, Change, Finding, Policy, ResourceKey, Rung, SessionState, Severity, Situation, Snapshot,
    Subject, TargetRef, UncommittedWrites, UndoSpec, duration::human, forget,
};

pub(super) const LINE: Line = Line {
    kind: ActionKind::TerminateIdle,
    does: "ends the session that is idle in a transaction for at least `minIdle` and is the cause; its transaction is rolled back, its client has to connect again",
    answers: &["IdleInTransaction"],
    traits: Traits {
        adds_load: false,
        removes_capacity: false,
        touches_workload: false,
        disruptive: true,
        signals_sessions: true,
    },
    // Ending a session that did nothing wrong but wait costs more than a mild breach.
    min_severity: Severity::P1,
    reversible: false,
};

/// How a rung ends sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TerminateIdleSettings {
    /// Whether a transaction that has written may be ended.
    pub writes: UncommittedWrites,
    /// So long it must have been idle.
    pub min_idle: Duration,
}

/// End a session that is idle in a transaction: no statement runs that could be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateIdle {
    /// Which session.
    pub target: SessionTarget,
    /// Since when it is idle, by the server's clock; another instant means that it has done something since.
    pub idle_since: Timestamp,
    /// So long it must have been idle.
    pub min_idle: Duration,
}

const ALLOWED: &[ActionKind] = &[ActionKind::TerminateIdle];

impl Settings for TerminateIdleSettings {
    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn propose(&self, snapshot: &Snapshot, _: &Rung, finding: &Finding) -> Option<Action> {
        let (target, session) = sessions::target(snapshot, finding, self.writes)?;
        let (idle_since, min_idle) = (session.state_change, self.min_idle);
        Some(Action::TerminateIdle(TerminateIdle { target, idle_since, min_idle }))
    }

    fn effect_within(&self, _: &Action) -> Option<Duration> {
        None
    }

    fn changes<'a>(&'a self, _: &'a Policy) -> Option<&'a TargetRef> {
        None
    }

    fn undo(&self, _: &Policy, _: &Action) -> Option<UndoSpec> {
        None
    }
}

impl Act for TerminateIdle {
    fn effect(&self) -> Effect {
        let signal = Signal::TerminateIdle(self.idle_since);
        Effect::SignalSession(SignalSession { target: self.target.clone(), signal })
    }

    fn subject(&self) -> Subject {
        sessions::subject(&self.target)
    }

    fn resource(&self, namespace: &str) -> ResourceKey {
        ResourceKey::database(namespace, &self.target.server)
    }

    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn follows_up(&self) -> bool {
        false
    }

    fn sentence(&self) -> String {
        let Self { target, idle_since, .. } = self;
        format!(
            "end the session of pid {} (role {}), idle in a transaction in {} since {idle_since:.0}",
            target.session.pid, target.role, target.dependency
        )
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        let settings = rung(snapshot, candidate)?.terminate_idle().ok_or(RungChanged::OtherRung)?;
        let allow = "terminateIdle.uncommittedWrites: RollBack";
        let (facts, session) =
            sessions::touchable(snapshot, candidate, &self.target, settings.writes, allow)?;
        let pid = session.identity.pid;
        if session.state != SessionState::IdleInTransaction || session.state_change != self.idle_since {
            return Err(Condition::MovedOn { pid }.into());
        }
        let needed = settings.min_idle.max(self.min_idle);
        let idle = facts.age(session.state_change);
        if idle < needed {
            return Err(Condition::TooYoung { pid, idle, needed }.into());
        }
        Ok(Condition::Idle { pid, idle, partial: sessions::is_partial(facts) }.into())
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

/// What the precondition comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    Idle { pid: i32, idle: Duration, partial: bool },
    MovedOn { pid: i32 },
    TooYoung { pid: i32, idle: Duration, needed: Duration },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { pid, idle, partial } => {
                let (idle, partly) = (human(*idle), sessions::partly(*partial));
                write!(f, "pid {pid} has been idle in its transaction for {idle}{partly}")
            }
            Self::MovedOn { pid } => write!(f, "pid {pid} is not idle any more, or has done something since"),
            Self::TooYoung { pid, idle, needed } => {
                let (idle, needed) = (human(*idle), human(*needed));
                write!(f, "pid {pid} has been idle for {idle}, {needed} are needed (terminateIdle.minIdle)")
            }
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Idle { pid, idle, .. } => {
                forget(pid);
                forget(idle);
            }
            Self::MovedOn { pid } => forget(pid),
            Self::TooYoung { pid, idle, needed } => {
                forget(pid);
                forget(idle);
                forget(needed);
            }
        }
    }
}
