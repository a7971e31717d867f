//! `OneAtATime`: a resource has one remediation at a time, so that each effect can be told from the next.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    ADMIT_AND_GATE, Applies, Checked, Context, Guard, GuardName, WhileRunning, forget, pass, refuse,
};
use crate::model::{EntryKey, PolicyRef, ResourceKey};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::OneAtATime,
    refuses: "while another remediation of the same resource is open, whoever's it is; an interrupted one holds it until it is resolved",
    stages: ADMIT_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    DryRun,
    Free { resource: ResourceKey },
    Held { resource: ResourceKey, by: EntryKey, policy: PolicyRef },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run takes no lock"),
            Self::Free { resource } => write!(f, "{resource} is free"),
            Self::Held { resource, by: (namespace, name), policy } => {
                write!(f, "{resource} is held by {namespace}/{name} of policy {policy}")
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            // Remediations are numbered.
            Self::Held { by, .. } => forget(by),
            Self::DryRun | Self::Free { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let candidate = context.candidate;
    if candidate.is_dry_run() {
        return pass(Fact::DryRun);
    }
    let admission = context.admission()?;
    let own = context.own();
    let holder = admission
        .ledger
        .others(&own)
        .find(|(_, entry)| entry.open && entry.resource.same_as(&candidate.resource));
    let resource = candidate.resource.clone();
    match holder {
        None => pass(Fact::Free { resource }),
        Some((key, entry)) => refuse(Fact::Held { resource, by: key.clone(), policy: entry.policy.clone() }),
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
