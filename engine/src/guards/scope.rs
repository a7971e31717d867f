//! `Scope`: one slow view is not cured by more of everything.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse, unknown,
};
use crate::model::Scope;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Scope,
    refuses: "capacity unless the whole target is slow: when only single views are, or when it is not known (no source counts views)",
    stages: PROPOSE_AND_GATE,
    applies: Applies::AddsCapacity,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Is(Scope),
    /// No objective is broken that would show it.
    NotShown,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(scope) => scope.fmt(f),
            Self::NotShown => {
                f.write_str("no latency objective is broken that would show whether the whole target is slow")
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Is(scope) => scope.forget_numbers(),
            Self::NotShown => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (_, situation) = context.view()?;
    let scopes: Vec<&Scope> =
        situation.readings.iter().filter_map(|reading| reading.scope.as_ref()).collect();
    if scopes.contains(&&Scope::SystemWide) {
        return pass(Fact::Is(Scope::SystemWide));
    }
    // What is known says more than what is not.
    let isolated = scopes.iter().find(|scope| matches!(scope, Scope::Isolated { .. }));
    match (isolated, scopes.first()) {
        (Some(isolated), _) => refuse(Fact::Is((*isolated).clone())),
        (None, Some(scope)) => unknown(Fact::Is((*scope).clone())),
        (None, None) => unknown(Fact::NotShown),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{NoData, NoDataReason};

    fn refusal(scope: Option<Scope>) -> Option<String> {
        let mut setup = Setup::scaling();
        setup.situation.readings[0].scope = scope;
        refused(&setup, GUARD.name, Stage::Gate)
    }

    #[test]
    fn only_slowness_of_the_whole_target_lets_capacity_through() {
        assert_eq!(refusal(Some(Scope::SystemWide)), None);
        let isolated = refusal(Some(Scope::Isolated { views: vec!["report".into()] })).unwrap();
        assert!(isolated.contains("report"), "{isolated}");
        assert!(refusal(Some(Scope::Unknown(NoData::new(NoDataReason::Empty, "no views")))).is_some());
        assert!(refusal(None).is_some());
    }
}
