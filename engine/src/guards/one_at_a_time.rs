//! `OneAtATime`: a resource has one remediation at a time, so that each effect can be told from the next.

use super::{ADMIT_AND_GATE, Context, Guard, always};

pub(super) const GUARD: Guard = Guard {
    name: "OneAtATime",
    refuses: "while another remediation of the same resource is open, whoever's it is; an interrupted one holds it until it is resolved",
    stages: ADMIT_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    if context.candidate.is_dry_run() {
        return Ok("a dry run takes no lock".to_owned());
    }
    let admission = context.admission()?;
    let own = context.own();
    let holder = admission
        .ledger
        .others(&own)
        .find(|(_, entry)| entry.open && entry.resource.same_as(&context.candidate.resource));
    match holder {
        None => Ok(format!("{} is free", context.candidate.resource)),
        Some(((namespace, name), entry)) => Err(format!(
            "{} is held by {namespace}/{name} of policy {}",
            context.candidate.resource, entry.policy
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::Phase;

    #[test]
    fn an_open_remediation_of_another_policy_holds_the_resource_until_it_is_over() {
        let mut setup = Setup::acting();
        let mut other = setup.remediation();
        other.name = "other".into();
        other.spec.policy.name = "another-api".into();
        for (phase, holds) in [
            (Phase::Admitted, true),
            (Phase::Executing, true),
            (Phase::Verifying, true),
            (Phase::Completed, false),
            (Phase::OutcomeUnknown, false),
        ] {
            other.status.phase = phase;
            setup.ledger.observe(&other);
            let message = refused(&setup, GUARD.name, Stage::Admit);
            assert_eq!(message.is_some(), holds, "{phase}");
            assert!(message.is_none_or(|message| message.contains("shop/another-api")));
        }
    }

    #[test]
    fn ones_own_reservation_does_not_count() {
        let mut setup = Setup::acting();
        setup.ledger.reserve(&setup.candidate.clone(), setup.now);
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
    }

    #[test]
    fn a_server_that_claims_the_same_identity_from_another_namespace_locks_nothing() {
        let mut setup = Setup::acting();
        let mut other = setup.remediation();
        other.namespace = "elsewhere".into();
        other.spec.resource.as_database().namespace = "elsewhere".into();
        other.spec.resource.as_database().peer = "10.0.0.9:5432".into();
        setup.ledger.observe(&other);
        assert_eq!(refused(&setup, GUARD.name, Stage::Admit), None);
        other.spec.resource.as_database().peer = setup.candidate.resource.as_database().peer.clone();
        setup.ledger.observe(&other);
        assert!(refused(&setup, GUARD.name, Stage::Admit).is_some());
    }
}
