//! `Rollout`: a target that is on the move is left alone; what is slow may be the new version, or the move itself.

use super::{Context, Guard, PROPOSE_AND_GATE, touches_workload};
use crate::remediations::scale::workload;

pub(super) const GUARD: Guard = Guard {
    name: "Rollout",
    refuses: "while the target is being rolled out or scaled, or its rollout is paused",
    stages: PROPOSE_AND_GATE,
    applies: touches_workload,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    let (_, workload) = workload(snapshot)?;
    match workload.unsettled() {
        None => Ok("the target is at rest".to_owned()),
        Some(why) => Err(format!("the target is being rolled out: {why}")),
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
        setup.snapshot.target =
            crate::model::Observed::missing(crate::model::NoDataReason::ApiUnavailable, "x");
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
