//! `MinAvailable`: where pods do not become ready, more of them do not help.

use super::{Context, Guard, PROPOSE_AND_GATE, touches_workload};
use crate::model::ratio::percent;
use crate::remediations::scale::workload;

pub(super) const GUARD: Guard = Guard {
    name: "MinAvailable",
    refuses: "while fewer than `guards.minAvailable` of the target's replicas are ready: something else is wrong with it",
    stages: PROPOSE_AND_GATE,
    applies: touches_workload,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    let (_, workload) = workload(snapshot)?;
    let least = snapshot.policy.guards.min_available;
    let numbers = format!(
        "{} of {} replicas are ready, {} are needed (guards.minAvailable)",
        workload.ready,
        workload.desired,
        percent(least)
    );
    let enough = f64::from(workload.ready) >= f64::from(workload.desired) * least;
    if enough && workload.ready > 0 { Ok(numbers) } else { Err(numbers) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn the_share_of_ready_replicas_decides_and_none_ready_is_never_enough() {
        let refusal = |ready: u32, least: f64| {
            let mut setup = Setup::scaling();
            setup.snapshot.policy.guards.min_available = least;
            setup.workload().ready = ready;
            refused(&setup, GUARD.name, Stage::Gate)
        };
        assert_eq!(refusal(3, 0.75), None);
        assert_eq!(
            refusal(2, 0.75).as_deref(),
            Some("2 of 4 replicas are ready, 75% are needed (guards.minAvailable)")
        );
        assert!(refusal(0, 0.0).is_some());
    }
}
