//! `CancelQuery`: cancels the one statement that is the cause. Its transaction fails, its session lives.
//!
//! A statement that was cancelled and runs all the same (a lost network, a function that catches everything) may be met by
//! ending its session, where the rung says after how long: an act of its own, which every guard sees again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Checked, Remedy, RungChanged, Traits, rung, sessions};
use crate::model::{
    Action, ActionKind, Candidate, EffectSeen, Finding, Phase, ResourceKey, Rung, RungAction, SessionState,
    SessionTarget, Snapshot, forget,
};

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::CancelQuery,
    does: "cancels the one statement that is the cause; its transaction fails, its session lives. With `terminateAfter`, a session whose statement still runs so long after that is ended",
    answers: &["BlockingQuery", "RunawayQuery"],
    traits: Traits { adds_load: false, removes_capacity: false, touches_workload: false, disruptive: true },
    propose,
    precondition,
    undo: None,
};

fn propose(snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::CancelQuery { writes, terminate_after } = rung.action else { return None };
    let (target, resource, _) = sessions::target(snapshot, finding, writes)?;
    let action = if terminate_after.is_some() && was_in_vain(snapshot, rung, &target) {
        Action::TerminateQuery(target)
    } else {
        Action::CancelQuery(target)
    };
    Some((action, resource))
}

/// Whether this rung has cancelled this very statement, and it was seen to run on.
fn was_in_vain(snapshot: &Snapshot, rung: &Rung, target: &SessionTarget) -> bool {
    snapshot.remediations.iter().any(|earlier| {
        let same = matches!(&earlier.spec.action, Action::CancelQuery(cancelled)
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

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Checked {
    let RungAction::CancelQuery { writes, terminate_after } = rung(snapshot, candidate)?.action else {
        return Err(RungChanged::OtherRung.into());
    };
    let (facts, session) =
        sessions::touchable(snapshot, candidate, writes, "cancelQuery.uncommittedWrites: RollBack")?;
    let pid = session.identity.pid;
    if session.state != SessionState::Active {
        return Err(Condition::RunsNothing { pid }.into());
    }
    if candidate.action.follows_up() && terminate_after.is_none() {
        return Err(Condition::NoTerminateAfter.into());
    }
    Ok(Condition::Runs { pid, partial: sessions::is_partial(facts) }.into())
}
