//! `TerminateIdle`: ends the session that is idle in a transaction and is the cause. There is no statement to cancel.

use super::{Remedy, Traits, rung, sessions};
use crate::model::{
    Action, ActionKind, Candidate, Finding, ResourceKey, Rung, RungAction, SessionState, Snapshot,
    TerminateIdle, duration::human,
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
    let RungAction::TerminateIdle { writers, min_idle } = rung.action else { return None };
    let (target, resource, session) = sessions::target(snapshot, finding, writers)?;
    let idle_since = session.state_change;
    Some((Action::TerminateIdle(TerminateIdle { target, idle_since, min_idle }), resource))
}

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Result<String, String> {
    let Action::TerminateIdle(idle) = &candidate.action else {
        return Err("it is another action".to_owned());
    };
    let RungAction::TerminateIdle { writers, min_idle } = rung(snapshot, candidate)?.action else {
        return Err("the rung does something else now".to_owned());
    };
    let (facts, session) = sessions::touchable(snapshot, candidate, writers, "terminateIdle.writers: Allow")?;
    let pid = session.identity.pid;
    if session.state != SessionState::IdleInTransaction || session.state_change != idle.idle_since {
        return Err(format!("pid {pid} is not idle any more, or has done something since"));
    }
    let needed = min_idle.max(idle.min_idle);
    let age = facts.age(session.state_change);
    if age < needed {
        return Err(format!(
            "pid {pid} has been idle for {}, {} are needed (terminateIdle.minIdle)",
            human(age),
            human(needed)
        ));
    }
    Ok(format!("pid {pid} has been idle in its transaction for {}{}", human(age), sessions::partly(facts)))
}
