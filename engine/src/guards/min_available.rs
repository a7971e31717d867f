//! `MinAvailable`: where pods do not become ready, more of them do not help.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
    unknown,
};
use crate::actions::replicas::{NoWorkload, changed};
use crate::model::ratio::percent;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::MinAvailable,
    refuses: "while fewer than `guards.minAvailable` of the target's replicas are ready: something else is wrong with it",
    stages: PROPOSE_AND_GATE,
    applies: Applies::TouchesWorkload,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Replicas { ready: u32, desired: u32, least: f64 },
    NoWorkload(NoWorkload),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas { ready, desired, least } => {
                let least = percent(*least);
                write!(f, "{ready} of {desired} replicas are ready, {least} are needed (guards.minAvailable)")
            }
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Replicas { ready, desired, least } => {
                forget(ready);
                forget(desired);
                forget(least);
            }
            Self::NoWorkload(why) => why.forget_numbers(),
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let workload = match changed(snapshot, context.candidate) {
        Ok((_, workload)) => workload,
        Err(why) => return unknown(Fact::NoWorkload(why)),
    };
    let least = snapshot.policy.guards.min_available;
    let fact = Fact::Replicas { ready: workload.ready, desired: workload.desired, least };
    let enough = f64::from(workload.ready) >= f64::from(workload.desired) * least;
    if enough && workload.ready > 0 { pass(fact) } else { refuse(fact) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn the_share_of_ready_replicas_decides_and_none_ready_is_never_enough() {
        let refusal = |ready: u32, least: f64| {
            let mut setup = Setup::scaling();
            setup.snapshot.policy.guards.min_available = least;
            setup.workload().ready = ready;
            refused(&setup, GUARD.name, Stage::Gate)
        };
        assert_eq!(refusal(3, 0.75), None);
        assert_eq!(
            refusal(2, 0.75).as_deref(),
            Some("2 of 4 replicas are ready, 75% are needed (guards.minAvailable)")
        );
        assert!(refusal(0, 0.0).is_some());
    }
}
