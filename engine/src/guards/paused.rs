//! `Paused`: somebody has said "not now".

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse};
use crate::model::Pause;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Paused,
    refuses: "while the annotation latency-operator.dev/paused-until on policy, target or namespace holds",
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
    NotPaused,
    Paused(Pause),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPaused => f.write_str("not paused"),
            Self::Paused(Pause { by, until, reason: None }) => write!(f, "{by} is paused until {until}"),
            Self::Paused(Pause { by, until, reason: Some(reason) }) => {
                write!(f, "{by} is paused until {until} ({reason})")
            }
        }
    }
}

impl Fact {
    /// Another end of the pause is no other fact, unless it is none.
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Paused(pause) if pause.ends_at().is_some() => pause.until.clear(),
            Self::Paused(_) | Self::NotPaused => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    match snapshot.observations.pauses.iter().find(|pause| pause.holds(context.now)) {
        None => pass(Fact::NotPaused),
        Some(pause) => refuse(Fact::Paused(pause.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{Pause, PausedBy};

    fn with(until: &str) -> Option<String> {
        let mut setup = Setup::acting();
        let pause = Pause { by: PausedBy::Namespace, until: until.into(), reason: Some("release".into()) };
        setup.snapshot.observations.pauses.push(pause);
        refused(&setup, GUARD.name, Stage::Propose)
    }

    #[test]
    fn a_pause_holds_until_its_time_and_for_ever_when_it_says_so_or_cannot_be_read() {
        assert_eq!(with("1969-01-01T00:00:00Z"), None);
        for until in ["2099-01-01T00:00:00Z", "forever", "tomorrow", ""] {
            let message = with(until).expect(until);
            assert!(message.contains("the namespace") && message.contains("release"), "{message}");
        }
    }
}
