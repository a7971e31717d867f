//! `Freshness`: nothing is done on yesterday's news.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
    unknown,
};
use crate::model::{Observed, duration::human, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Freshness,
    refuses: "when the snapshot, a reading of a broken objective or what was read of the database (for a workload or a cache: of it and of every declared database) is older than two intervals, when the Kubernetes API has not answered for long, or when this process has not yet watched for `breachFor`",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: true,
    while_running: WhileRunning::Holds,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Fresh {
        age: Duration,
    },
    /// There has been no look at the policy since the candidate was admitted.
    NoSnapshotFor {
        waited: Duration,
    },
    NotBreached,
    Old {
        what: What,
        age: Duration,
        limit: Duration,
    },
    NotRead {
        what: Read,
    },
    NoContact {
        silent: Duration,
        limit: Duration,
    },
    YoungLeader {
        led: Duration,
        needed: Duration,
    },
}

/// What may be too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum What {
    Snapshot,
    Reading,
    Read(Read),
}

/// What is read besides the objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Read {
    Target,
    Dependency(String),
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target => f.write_str("the target"),
            Self::Dependency(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot => f.write_str("the snapshot"),
            Self::Reading => f.write_str("the reading"),
            Self::Read(read) => write!(f, "what was read of {read}"),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh { age } => write!(f, "the reading is {} old", human(*age)),
            Self::NoSnapshotFor { waited } => {
                write!(f, "there has been no current snapshot of the policy for {}", human(*waited))
            }
            Self::NotBreached => f.write_str("there is no reading that says Breached"),
            Self::Old { what, age, limit } => {
                write!(f, "{what} is {} old, at most {} is fresh", human(*age), human(*limit))
            }
            Self::NotRead { what } => write!(f, "{what} has not been read"),
            Self::NoContact { silent, limit } => {
                let (silent, limit) = (human(*silent), human(*limit));
                write!(f, "the Kubernetes API has not answered for {silent}, at most {limit} is allowed")
            }
            Self::YoungLeader { led, needed } => {
                write!(f, "this operator has led for {}, {} are needed", human(*led), human(*needed))
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Fresh { age } | Self::NoSnapshotFor { waited: age } => forget(age),
            Self::Old { age, limit, .. }
            | Self::NoContact { silent: age, limit }
            | Self::YoungLeader { led: age, needed: limit } => {
                forget(age);
                forget(limit);
            }
            Self::NotBreached | Self::NotRead { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, situation) = context.view()?;
    let evaluation = &snapshot.policy.evaluation;
    let limit = evaluation.interval.saturating_mul(2);
    let fresh = |what: What, at| {
        let age = elapsed(context.now, at);
        if age <= limit { Ok(age) } else { unknown(Fact::Old { what, age, limit }) }
    };
    fresh(What::Snapshot, snapshot.now)?;
    let broken = situation.readings.iter().filter(|reading| reading.breach().is_some());
    let age = match broken.map(|reading| reading.at).max() {
        Some(newest) => fresh(What::Reading, newest)?,
        None => return refuse(Fact::NotBreached),
    };
    let read = |what: Read, at: Option<Timestamp>| match at {
        Some(at) => fresh(What::Read(what), at),
        None => unknown(Fact::NotRead { what }),
    };
    let observations = &snapshot.observations;
    let dependency = |name: &str| {
        read(Read::Dependency(name.to_owned()), observations.dependencies.get(name).and_then(Observed::at))
    };
    let declared = &snapshot.policy.dependencies;
    let bears_load = |name: &str| declared.get(name).is_some_and(|declared| declared.kind().bears_load());
    let subject = context.candidate.action.act().subject();
    match subject.dependency() {
        Some(name) => dependency(name)?,
        None => read(Read::Target, observations.target.at())?,
    };
    // What is done to anything else is felt by the databases behind it.
    if !subject.dependency().is_some_and(bears_load) {
        for (name, _) in snapshot.policy.by_kind().into_iter().filter(|(name, _)| bears_load(name)) {
            dependency(name)?;
        }
    }
    let silent = elapsed(context.now, snapshot.operator.api_contact_at);
    let limit = snapshot.operator.api_contact_within;
    if silent > limit {
        return unknown(Fact::NoContact { silent, limit });
    }
    let led = elapsed(context.now, snapshot.operator.leading_since);
    if led < evaluation.breach_for {
        return unknown(Fact::YoungLeader { led, needed: evaluation.breach_for });
    }
    pass(Fact::Fresh { age })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{NoDataReason, earlier, later};

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::acting();
        change(&mut setup);
        refused(&setup, GUARD.name, Stage::Gate)
    }

    #[test]
    fn everything_that_the_decision_stands_on_must_be_fresh() {
        let old = Duration::from_secs(3);
        assert_eq!(refusal(|_| ()), None);
        assert!(refusal(|setup| setup.now = later(setup.now, old)).is_some(), "snapshot");
        assert!(
            refusal(|setup| setup.situation.readings[0].at = earlier(setup.now, old)).is_some(),
            "reading"
        );
        assert!(refusal(|setup| setup.situation.readings.clear()).is_some(), "no reading");
        assert!(
            refusal(|setup| {
                let read = setup.snapshot.observations.dependencies.get_mut("db").unwrap();
                if let Observed::Known { at, .. } = read {
                    *at = earlier(setup.now, old);
                }
            })
            .is_some(),
            "database"
        );
        assert!(
            refusal(|setup| {
                let blind = Observed::missing(NoDataReason::Timeout, "no answer");
                setup.snapshot.observations.dependencies.insert("db".into(), blind);
            })
            .is_some(),
            "blind database"
        );
    }

    #[test]
    fn no_contact_with_the_api_server_and_a_young_leader_refuse() {
        let hour = Duration::from_secs(3600);
        assert!(refusal(|setup| setup.snapshot.operator.api_contact_at = earlier(setup.now, hour)).is_some());
        assert!(refusal(|setup| setup.snapshot.operator.leading_since = setup.now).is_some());
    }
}
