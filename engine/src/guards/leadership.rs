//! `Leadership`: one operator acts, only with the whole ledger in its hands, and only while it is there to stay.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse, unknown,
};
use crate::model::Draining;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Leadership,
    refuses: "when this process does not provably hold the Lease, has not yet built the ledger from a consistent list, or is being uninstalled (`latency-operator drain` has marked the Lease)",
    stages: ADMIT_AND_GATE,
    applies: Applies::Always,
    transient: true,
    while_running: WhileRunning::Holds,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Leads,
    NotLeading,
    LedgerIncomplete,
    /// The operator is being uninstalled: nothing is begun, unless it is still there at that time.
    Uninstalling {
        over_at: Timestamp,
    },
}

impl From<Draining> for Fact {
    fn from(draining: Draining) -> Self {
        Self::Uninstalling { over_at: draining.over_at() }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leads => f.write_str("this process leads"),
            Self::NotLeading => f.write_str("this process does not provably hold the Lease"),
            Self::LedgerIncomplete => f.write_str("the ledger has not been built from a consistent list yet"),
            Self::Uninstalling { over_at } => write!(
                f,
                "the operator is being uninstalled (latency-operator drain has marked the Lease): nothing is begun, unless \
                 it is still there at {over_at}"
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Uninstalling { over_at } => forget(over_at),
            Self::Leads | Self::NotLeading | Self::LedgerIncomplete => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let fleet = context.admission()?.fleet;
    if !fleet.leading {
        return unknown(Fact::NotLeading);
    }
    if !fleet.ledger_complete {
        return unknown(Fact::LedgerIncomplete);
    }
    match fleet.draining(context.now) {
        Some(draining) => refuse(Fact::from(draining)),
        None => pass(Fact::Leads),
    }
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
