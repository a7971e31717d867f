//! `Rollout`: a target that is on the move is left alone; what is slow may be the new version, or the move itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse, unknown,
};
use crate::actions::replicas::{NoWorkload, changed};
use crate::model::Unsettled;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Rollout,
    refuses: "while the target is being rolled out or scaled, or its rollout is paused",
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
    AtRest,
    RollingOut(Unsettled),
    NoWorkload(NoWorkload),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtRest => f.write_str("the target is at rest"),
            Self::RollingOut(why) => write!(f, "the target is being rolled out: {why}"),
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::AtRest => {}
            Self::RollingOut(why) => why.forget_numbers(),
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
    match workload.unsettled() {
        None => pass(Fact::AtRest),
        Some(why) => refuse(Fact::RollingOut(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn a_target_on_the_move_is_left_alone() {
        let mut setup = Setup::scaling();
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
        setup.workload().updated = 3;
        assert!(refused(&setup, GUARD.name, Stage::Gate).unwrap().contains("3 of 4"));
        setup.snapshot.observations.target =
            crate::model::Observed::missing(crate::model::NoDataReason::ApiUnavailable, "x");
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
