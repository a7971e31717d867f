//! `DatabaseHealthy`: a database that is in trouble, or that cannot be seen, gets no more load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
    refuse_if_known,
};
use crate::causes::{DatabaseTrouble, database_trouble};
use crate::model::Databases;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::DatabaseHealthy,
    refuses: "what adds load unless every declared database was read in full and nothing is found in it at Likely or above; also where no database is declared, unless the policy says that there is none (`target.databases: None`)",
    stages: PROPOSE_AND_GATE,
    applies: Applies::AddsLoad,
    transient: false,
    while_running: WhileRunning::HoldsIfUnknown,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Well {
        databases: usize,
    },
    Trouble(DatabaseTrouble),
    /// None is declared, and the author says that there is none.
    None,
    NoneDeclared,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well { databases } => write!(f, "{databases} declared databases are well"),
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::None => f.write_str("the target uses no database (target.databases)"),
            Self::NoneDeclared => f.write_str(
                "no database is declared, so none is known to be well; declare it, or set target.databases: None",
            ),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Well { databases } => forget(databases),
            Self::Trouble(trouble) => trouble.forget_numbers(),
            Self::None | Self::NoneDeclared => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, situation) = context.view()?;
    if let Some(trouble) = database_trouble(snapshot, &situation.findings, &context.candidate.cause) {
        return refuse_if_known(snapshot.sees_all_databases(), Fact::Trouble(trouble));
    }
    let databases = snapshot.policy.databases().count();
    if databases > 0 {
        return pass(Fact::Well { databases });
    }
    match snapshot.policy.databases {
        Databases::None => pass(Fact::None),
        Databases::Declared => refuse(Fact::NoneDeclared),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, finding, refused};
    use super::*;
    use crate::model::{Confidence, Coverage, NoDataReason, Observed};

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::scaling();
        change(&mut setup);
        refused(&setup, GUARD.name, Stage::Gate)
    }

    #[test]
    fn a_database_that_is_blocked_blind_or_half_seen_gets_no_more_load() {
        assert_eq!(refusal(|_| ()), None);
        let blocked = refusal(|setup| {
            setup.situation.findings.push(finding("BlockingQuery", Confidence::Likely));
        });
        assert!(blocked.unwrap().contains("BlockingQuery (Likely)"));
        assert_eq!(
            refusal(|setup| setup.situation.findings.push(finding("BlockingQuery", Confidence::Possible))),
            None
        );
        assert!(
            refusal(|setup| setup
                .situation
                .findings
                .push(finding("ConnectionsExhausted", Confidence::Possible)))
            .is_some()
        );
        let blind = refusal(|setup| {
            setup
                .snapshot
                .observations
                .dependencies
                .insert("db".into(), Observed::missing(NoDataReason::Timeout, "no answer"));
        });
        assert!(blind.unwrap().contains("no answer"));
        let partial = refusal(|setup| {
            setup.postgres().coverage = Coverage::Partial { grant: "GRANT x".into() };
        });
        assert!(partial.unwrap().contains("GRANT x"));
        assert!(refusal(|setup| setup.snapshot.observations.dependencies.clear()).is_some());
    }

    #[test]
    fn none_declared_is_not_healthy_unless_the_author_says_that_there_is_none() {
        let says = |databases: Databases| {
            refusal(|setup| {
                setup.snapshot.policy.dependencies.clear();
                setup.snapshot.policy.databases = databases;
            })
        };
        assert!(says(Databases::Declared).unwrap().contains("target.databases: None"));
        assert_eq!(says(Databases::None), None);
    }
}
