//! `OptOut`: the target's owner wants to be left alone, whatever a policy says.

use super::{Context, Guard, PROPOSE_AND_GATE, always};
use crate::model::Observed;

pub(super) const GUARD: Guard = Guard {
    name: "OptOut",
    refuses: "when the target carries the annotation latency-operator.dev/opt-out with any value but \"false\", does not exist, or cannot be read",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    let target = match &snapshot.target {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return Err(format!("the target cannot be read: {no_data}")),
    };
    match target.opt_out.as_deref() {
        None | Some("false") => Ok("the target has not opted out".to_owned()),
        Some(value) => Err(format!("the target has opted out (latency-operator.dev/opt-out: {value})")),
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
            if let Observed::Known { value: target, .. } = &mut setup.snapshot.target {
                target.opt_out = Some(value.into());
            }
            assert_eq!(refused(&setup, GUARD.name, Stage::Propose).is_some(), refuses, "{value}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_read_refuses() {
        let mut setup = Setup::acting();
        setup.snapshot.target = Observed::missing(NoDataReason::Deleting, "it is being deleted");
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
