//! `Mode`: in Observe nothing is done.

use super::{Context, Guard, PROPOSE_AND_GATE, Stage, always};
use crate::model::Mode;
use crate::remediations;

pub(super) const GUARD: Guard = Guard {
    name: "Mode",
    refuses: "to act when policy or rung are in Observe (a dry run is written down instead), when the rung does not answer the cause any more, or when the administrator has switched the action off",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    let candidate = context.candidate;
    let kind = candidate.action.kind();
    let off =
        candidate.action.permissions().iter().find(|kind| !snapshot.operator.enabled_actions.contains(kind));
    if let Some(kind) = off {
        return Err(format!("{kind} is switched off in the operator's configuration"));
    }
    let rung = snapshot.policy.rung(&context.candidate.rung);
    let Some(rung) = rung.filter(|rung| remediations::kind_of(rung) == kind) else {
        return Err(format!("the policy has no rung {} with {kind} any more", context.candidate.rung));
    };
    if !rung.causes.contains(&context.candidate.cause) {
        return Err(format!("rung {} does not answer {} any more", rung.name, context.candidate.cause));
    }
    match (context.stage, snapshot.policy.mode_of(rung)) {
        (_, Mode::Auto) => Ok("mode is Auto".to_owned()),
        (Stage::Propose | Stage::Admit, Mode::Observe) if context.candidate.is_dry_run() => {
            Ok("mode is Observe: a dry run".to_owned())
        }
        (_, Mode::Observe) => Err("mode is Observe".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::ActionKind;

    #[test]
    fn observe_lets_only_dry_runs_through() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
        setup.snapshot.policy.mode = Mode::Observe;
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate).as_deref(), Some("mode is Observe"));
        setup.candidate.mode = Mode::Observe;
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
    }

    #[test]
    fn a_rung_can_lower_the_mode() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.rungs[0].mode = Some(Mode::Observe);
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
    }

    #[test]
    fn a_rung_that_has_changed_its_mind_is_asked_again_at_the_gate() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.rungs[0].causes.clear();
        let message = refused(&setup, GUARD.name, Stage::Gate);
        assert!(message.is_some_and(|message| message.contains("does not answer RunawayQuery any more")));
    }

    #[test]
    fn an_action_that_is_switched_off_is_refused() {
        let mut setup = Setup::acting();
        setup.snapshot.operator.enabled_actions.retain(|kind| *kind != ActionKind::CancelQueries);
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
    }
}
