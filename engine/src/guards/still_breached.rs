//! `StillBreached`: the breach has lasted for `breachFor` before this process's eyes, and lasts still.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
    unknown,
};
use crate::model::Overall;
use crate::model::duration::human;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::StillBreached,
    refuses: "unless the newest readings say Breached and have done so for `breachFor`; time without data does not count",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: true,
    while_running: WhileRunning::HoldsIfUnknown,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Breached { counted: Duration, needed: Duration },
    Kept,
    NotKnown,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breached { counted, needed } => {
                write!(f, "breached for {} of {}", human(*counted), human(*needed))
            }
            Self::Kept => f.write_str("the objectives are kept again"),
            Self::NotKnown => f.write_str("whether the objectives are broken is not known"),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Breached { counted, needed } => {
                forget(counted);
                forget(needed);
            }
            Self::Kept | Self::NotKnown => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, situation) = context.view()?;
    match situation.overall {
        Overall::Breached(_) => {}
        Overall::Healthy => return refuse(Fact::Kept),
        Overall::NoData => return unknown(Fact::NotKnown),
    }
    let counted = situation.breach.map(|breach| breach.counted).unwrap_or_default();
    let needed = snapshot.policy.evaluation.breach_for;
    let fact = Fact::Breached { counted, needed };
    if counted >= needed { pass(fact) } else { refuse(fact) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn only_a_breach_that_lasted_and_lasts_passes() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
        setup.situation.breach.as_mut().unwrap().counted = Duration::from_secs(2);
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate).as_deref(), Some("breached for 2s of 3s"));
        for overall in [Overall::Healthy, Overall::NoData] {
            let mut setup = Setup::acting();
            setup.situation.overall = overall;
            assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
        }
    }
}
