//! `Paused`: somebody has said "not now".

use super::{Context, Guard, PROPOSE_AND_GATE, always};

pub(super) const GUARD: Guard = Guard {
    name: "Paused",
    refuses: "while `spec.suspend` is true or the annotation latency-operator.dev/paused-until on policy, target or namespace holds",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    #[cfg(planted_bugs)]
    if crate::planted::is("no_paused") {
        return Ok("planted".to_owned());
    }
    let (snapshot, _) = context.view()?;
    if snapshot.policy.suspended {
        return Err("spec.suspend is true".to_owned());
    }
    match snapshot.pauses.iter().find(|pause| pause.holds(context.now)) {
        None => Ok("not paused".to_owned()),
        Some(pause) => {
            let reason = pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            Err(format!("{} is paused until {}{reason}", pause.by, pause.until))
        }
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
        setup.snapshot.pauses.push(pause);
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

    #[test]
    fn suspend_refuses() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.suspended = true;
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
