//! `TerminateIdle`: ends the session that is idle in a transaction and is the cause. There is no statement to cancel.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checked, Remedy, RungChanged, Traits, rung, sessions};
use crate::model::{
    Action, ActionKind, Candidate, Finding, ResourceKey, Rung, RungAction, SessionState, Snapshot,
    TerminateIdle, duration::human, forget,
};

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::TerminateIdle,
    does: "ends the session that is idle in a transaction for at least `minIdle` and is the cause; its transaction is rolled back, its client has to connect again",
    answers: &["IdleInTransaction"],
    traits: Traits { adds_load: false, removes_capacity: false, touches_workload: false, disruptive: true },
    propose,
    precondition,
    undo: None,
};

fn propose(snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::TerminateIdle { writes, min_idle } = rung.action else { return None };
    let (target, resource, session) = sessions::target(snapshot, finding, writes)?;
    let idle_since = session.state_change;
    Some((Action::TerminateIdle(TerminateIdle { target, idle_since, min_idle }), resource))
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

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Checked {
    let Action::TerminateIdle(decided) = &candidate.action else {
        return Err(RungChanged::OtherAction.into());
    };
    let RungAction::TerminateIdle { writes, min_idle } = rung(snapshot, candidate)?.action else {
        return Err(RungChanged::OtherRung.into());
    };
    let (facts, session) =
        sessions::touchable(snapshot, candidate, writes, "terminateIdle.uncommittedWrites: RollBack")?;
    let pid = session.identity.pid;
    if session.state != SessionState::IdleInTransaction || session.state_change != decided.idle_since {
        return Err(Condition::MovedOn { pid }.into());
    }
    let needed = min_idle.max(decided.min_idle);
    let idle = facts.age(session.state_change);
    if idle < needed {
        return Err(Condition::TooYoung { pid, idle, needed }.into());
    }
    Ok(Condition::Idle { pid, idle, partial: sessions::is_partial(facts) }.into())
}
