//! `OptOut`: the target's owner wants to be left alone, whatever a policy says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse, unknown,
};
use crate::actions::replicas::NoWorkload;
use crate::model::{NoData, Observed, Target, TargetRef};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::OptOut,
    refuses: "when the target, or the workload that would be changed, carries the annotation latency-operator.dev/opt-out with any value but \"false\", does not exist, or cannot be read",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::Stops,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    NotOptedOut,
    OptedOut {
        value: String,
    },
    Unreadable(NoData),
    /// The workload that would be changed, where that is not the target.
    ChangedOptedOut {
        workload: TargetRef,
        value: String,
    },
    ChangedUnreadable(NoWorkload),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOptedOut => f.write_str("the target has not opted out"),
            Self::OptedOut { value } => {
                write!(f, "the target has opted out (latency-operator.dev/opt-out: {value})")
            }
            Self::Unreadable(no_data) => write!(f, "the target cannot be read: {no_data}"),
            Self::ChangedOptedOut { workload, value } => {
                write!(f, "{workload} has opted out (latency-operator.dev/opt-out: {value})")
            }
            Self::ChangedUnreadable(why) => why.fmt(f),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable(no_data) => no_data.forget_numbers(),
            Self::ChangedUnreadable(why) => why.forget_numbers(),
            Self::NotOptedOut | Self::OptedOut { .. } | Self::ChangedOptedOut { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let target = match &snapshot.observations.target {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return unknown(Fact::Unreadable(no_data.clone())),
    };
    if let Some(value) = opted_out(target) {
        return refuse(Fact::OptedOut { value });
    }
    let effect = context.candidate.action.act().effect();
    let Some(workload) = effect.workload().filter(|workload| **workload != snapshot.policy.target) else {
        return pass(Fact::NotOptedOut);
    };
    match snapshot.workload(workload) {
        Some(Ok((_, changed))) => match opted_out(changed) {
            None => pass(Fact::NotOptedOut),
            Some(value) => refuse(Fact::ChangedOptedOut { workload: workload.clone(), value }),
        },
        Some(Err(no_data)) => {
            let (workload, no_data) = (workload.clone(), no_data.clone());
            unknown(Fact::ChangedUnreadable(NoWorkload::Unreadable { workload, no_data }))
        }
        None => unknown(Fact::ChangedUnreadable(NoWorkload::NotRead { workload: workload.clone() })),
    }
}

/// The annotation's value, where it says so.
fn opted_out(workload: &Target) -> Option<String> {
    workload.opt_out.clone().filter(|value| value != "false")
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::NoDataReason;

    #[test]
    fn the_annotation_refuses_unless_it_says_false() {
        let mut setup = Setup::acting();
        for (value, refuses) in [("true", true), ("", true), ("yes", true), ("false", false)] {
            if let Observed::Known { value: target, .. } = &mut setup.snapshot.observations.target {
                target.opt_out = Some(value.into());
            }
            assert_eq!(refused(&setup, GUARD.name, Stage::Propose).is_some(), refuses, "{value}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_read_refuses() {
        let mut setup = Setup::acting();
        setup.snapshot.observations.target = Observed::missing(NoDataReason::Deleting, "it is being deleted");
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
