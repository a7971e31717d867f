//! `Leadership`: one operator acts, and only with the whole ledger in its hands.

use super::{ADMIT_AND_GATE, Context, Guard, always};

pub(super) const GUARD: Guard = Guard {
    name: "Leadership",
    refuses: "when this process does not provably hold the Lease, or has not yet built the ledger from a consistent list",
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
    Ok("this process leads".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

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
}
