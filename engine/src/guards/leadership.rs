//! `Leadership`: one operator acts, only with the whole ledger in its hands, and only while it is there to stay.

use super::{ADMIT_AND_GATE, Context, Guard, always};
use crate::model::Draining;

pub(super) const GUARD: Guard = Guard {
    name: "Leadership",
    refuses: "when this process does not provably hold the Lease, has not yet built the ledger from a consistent list, or is being uninstalled (`latency-operator drain` has marked the Lease)",
    stages: ADMIT_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let fleet = context.admission()?.fleet;
    if !fleet.leading {
        return Err("this process does not provably hold the Lease".to_owned());
    }
    if !fleet.ledger_complete {
        return Err("the ledger has not been built from a consistent list yet".to_owned());
    }
    #[cfg(planted_bugs)]
    if crate::planted::is("no_draining") {
        return Ok("planted".to_owned());
    }
    match fleet.draining(context.now) {
        Some(draining) => Err(nothing_begins(draining)),
        None => Ok("this process leads".to_owned()),
    }
}

/// Why nothing is begun while the operator is being uninstalled.
pub(crate) fn nothing_begins(draining: Draining) -> String {
    format!(
        "the operator is being uninstalled (latency-operator drain has marked the Lease): nothing is begun, unless it is \
         still there at {}",
        draining.over_at()
    )
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{earlier, later};

    #[test]
    fn only_a_leader_with_a_whole_ledger_passes() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
        setup.fleet.ledger_complete = false;
        assert!(refused(&setup, GUARD.name, Stage::Admit).is_some());
        let mut setup = Setup::acting();
        setup.fleet.leading = false;
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }

    #[test]
    fn nothing_begins_while_the_operator_is_being_uninstalled_and_a_mark_that_is_over_means_nothing() {
        let mut setup = Setup::acting();
        for stage in [Stage::Admit, Stage::Gate] {
            for (until, why) in [
                (later(setup.now, Draining::LINGERS), "while it drains"),
                (earlier(setup.now, Draining::LINGERS / 2), "and a while after, until it is deleted"),
            ] {
                setup.fleet.draining = Some(Draining { until });
                let refused = refused(&setup, GUARD.name, stage).expect(why);
                assert!(refused.contains(&later(until, Draining::LINGERS).to_string()), "{refused}");
            }
            setup.fleet.draining = Some(Draining { until: earlier(setup.now, Draining::LINGERS) });
            assert_eq!(refused(&setup, GUARD.name, stage), None, "{stage:?}");
        }
    }
}
