//! `OptOut`: the target's owner wants to be left alone, whatever a policy says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse, unknown,
};
use crate::model::{NoData, Observed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::OptOut,
    refuses: "when the target carries the annotation latency-operator.dev/opt-out with any value but \"false\", does not exist, or cannot be read",
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
    OptedOut { value: String },
    Unreadable(NoData),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOptedOut => f.write_str("the target has not opted out"),
            Self::OptedOut { value } => {
                write!(f, "the target has opted out (latency-operator.dev/opt-out: {value})")
            }
            Self::Unreadable(no_data) => write!(f, "the target cannot be read: {no_data}"),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable(no_data) => no_data.forget_numbers(),
            Self::NotOptedOut | Self::OptedOut { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let target = match &snapshot.observations.target {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return unknown(Fact::Unreadable(no_data.clone())),
    };
    match target.opt_out.as_deref() {
        None | Some("false") => pass(Fact::NotOptedOut),
        Some(value) => refuse(Fact::OptedOut { value: value.to_owned() }),
    }
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
