//! `CancelQueries`: cancels the one statement that is the cause. Its transaction fails, its session lives.
//!
//! A statement that was cancelled and runs all the same (a lost network, a function that catches everything) may be met by
//! ending its session, where the rung says after how long: an act of its own, which every guard sees again.

use super::{Remedy, Traits, rung, sessions};
use crate::model::{
    Action, ActionKind, Candidate, EffectSeen, Finding, Phase, ResourceKey, Rung, RungAction, SessionState,
    SessionTarget, Snapshot,
};

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::CancelQueries,
    does: "cancels the one statement that is the cause; its transaction fails, its session lives. With `terminateAfter`, a session whose statement still runs so long after that is ended",
    answers: &["BlockingQuery", "RunawayQuery"],
    traits: Traits { adds_load: false, removes_capacity: false, touches_workload: false, disruptive: true },
    propose,
    precondition,
    undo: None,
};

fn propose(snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::CancelQueries { writers, terminate_after } = rung.action else { return None };
    let (target, resource, _) = sessions::target(snapshot, finding, writers)?;
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

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Result<String, String> {
    let RungAction::CancelQueries { writers, terminate_after } = rung(snapshot, candidate)?.action else {
        return Err("the rung does something else now".to_owned());
    };
    let (facts, session) = sessions::touchable(snapshot, candidate, writers, "cancelQueries.writers: Allow")?;
    let pid = session.identity.pid;
    if session.state != SessionState::Active {
        return Err(format!("pid {pid} runs no statement; cancelling would do nothing"));
    }
    if candidate.action.follows_up() && terminate_after.is_none() {
        return Err("the rung has no cancelQueries.terminateAfter any more".to_owned());
    }
    Ok(format!("the statement of pid {pid} still runs{}", sessions::partly(facts)))
}
