//! `DatabaseCapacity`: more pods open more connections, and a database that refuses connections is down for everybody.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass,
    refuse_if_known,
};
use crate::actions::replicas::{NoWorkload, changed};
use crate::effects::Effect;
use crate::model::{NoData, PostgresDependency, Snapshot};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::DatabaseCapacity,
    refuses: "replicas whose connections (the database's `connectionsPerPod` for each that is not ready yet), or requests whose connections (`inFlight`), would take a declared database above 90% of its usable connection slots",
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
    NoneDeclared,
    Room(Vec<Use>),
    Full(Use),
    Unreadable { database: String, why: NoData },
    NotRead { database: String },
    NoConnectionsPerPod { database: String },
    NotCountable,
    NoWorkload(NoWorkload),
}

/// The connection slots of a database, and what the action would make of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Use {
    database: String,
    used: u32,
    usable: u64,
    by: Added,
    after: u64,
}

/// What opens connections, at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Added {
    Requests(u32),
    Pods { more: u32, each: u32 },
}

impl Added {
    fn connections(self) -> u64 {
        match self {
            Self::Requests(requests) => u64::from(requests),
            Self::Pods { more, each } => u64::from(more) * u64::from(each),
        }
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(requests) => write!(f, "{requests} requests at a time"),
            Self::Pods { more, each } => write!(f, "{more} more pods with {each} connections each"),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, used, usable, by, after } = self;
        write!(f, "{database} has {used} of {usable} connection slots in use; {by} make {after}")
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneDeclared => f.write_str("no database is declared"),
            Self::Room(all) => f.write_str(&all.iter().map(Use::to_string).collect::<Vec<_>>().join("; ")),
            Self::Full(one) => write!(f, "{one}, more than 90%"),
            Self::Unreadable { database, why } => write!(f, "{database} cannot be read: {why}"),
            Self::NotRead { database } => write!(f, "{database} has not been read"),
            Self::NoConnectionsPerPod { database } => write!(
                f,
                "how many connections a pod opens is not declared (dependencies[{database}].postgresql.connectionsPerPod)"
            ),
            Self::NotCountable => f.write_str("what it adds cannot be counted"),
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Use {
    fn forget_numbers(&mut self) {
        forget(&mut self.used);
        forget(&mut self.usable);
        forget(&mut self.after);
        match &mut self.by {
            Added::Requests(requests) => forget(requests),
            Added::Pods { more, each } => {
                forget(more);
                forget(each);
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Room(all) => all.iter_mut().for_each(Use::forget_numbers),
            Self::Full(one) => one.forget_numbers(),
            Self::Unreadable { why, .. } => why.forget_numbers(),
            Self::NoWorkload(why) => why.forget_numbers(),
            Self::NoneDeclared
            | Self::NotRead { .. }
            | Self::NoConnectionsPerPod { .. }
            | Self::NotCountable => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    if snapshot.policy.databases().next().is_none() {
        return pass(Fact::NoneDeclared);
    }
    match uses(context, snapshot) {
        Ok(uses) => pass(Fact::Room(uses)),
        Err(fact) => refuse_if_known(snapshot.sees_all_databases(), *fact),
    }
}

/// What the action makes of each database, or the first one for which that is too much or cannot be told.
fn uses(context: &Context<'_>, snapshot: &Snapshot) -> Result<Vec<Use>, Box<Fact>> {
    let mut uses = Vec::new();
    for (name, declared) in snapshot.policy.databases() {
        let by = added(context, snapshot, name, declared)?;
        let database = name.clone();
        let facts = match snapshot.observations.postgres(name) {
            Some(Ok((_, facts))) => facts,
            Some(Err(why)) => {
                return Err(Box::new(Fact::Unreadable { database, why: why.clone() }));
            }
            None => return Err(Box::new(Fact::NotRead { database })),
        };
        let (used, usable) = (facts.slots.used, u64::from(facts.slots.usable));
        let after = u64::from(used) + by.connections();
        let one = Use { database, used, usable, by, after };
        if after * 10 > usable * 9 {
            return Err(Box::new(Fact::Full(one)));
        }
        uses.push(one);
    }
    Ok(uses)
}

/// What opens connections to a database, at most.
fn added(
    context: &Context<'_>,
    snapshot: &Snapshot,
    name: &str,
    declared: &PostgresDependency,
) -> Result<Added, Box<Fact>> {
    let set = match context.candidate.action.act().effect() {
        Effect::SetReplicas(set) => set,
        // Each request takes one for as long as it lasts, at most.
        Effect::SendRequests(send) => return Ok(Added::Requests(send.requests.in_flight)),
        Effect::SignalSession(_) => return Err(Box::new(Fact::NotCountable)),
    };
    let Some(each) = declared.connections_per_pod else {
        return Err(Box::new(Fact::NoConnectionsPerPod { database: name.to_owned() }));
    };
    let (_, workload) =
        changed(snapshot, context.candidate).map_err(|why| Box::new(Fact::NoWorkload(why)))?;
    // Those that are not ready yet have opened none that could be counted on.
    let more = set.to.saturating_sub(workload.ready.min(set.from));
    Ok(Added::Pods { more, each })
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{Dependency, Slots};

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::scaling();
        change(&mut setup);
        refused(&setup, GUARD.name, Stage::Gate)
    }

    fn slots(setup: &mut Setup, used: u32, usable: u32) {
        setup.postgres().slots = Slots { usable, used };
    }

    #[test]
    fn nine_tenths_of_the_slots_may_be_taken_and_not_one_more() {
        // From 4 to 6 replicas with 5 connections each.
        assert_eq!(refusal(|setup| slots(setup, 80, 100)), None);
        let refused = refusal(|setup| slots(setup, 81, 100)).unwrap();
        assert!(refused.contains("81 of 100") && refused.contains("make 91"), "{refused}");
    }

    #[test]
    fn pods_that_are_not_ready_yet_will_open_connections_too() {
        let unready = refusal(|setup| {
            slots(setup, 80, 100);
            setup.workload().ready = 3;
        });
        assert!(unready.is_some());
    }

    #[test]
    fn what_a_pod_opens_must_be_declared_where_there_is_a_database() {
        let undeclared = |setup: &mut Setup| {
            if let Some(Dependency::Postgres(database)) = setup.snapshot.policy.dependencies.get_mut("db") {
                database.connections_per_pod = None;
            }
        };
        assert!(refusal(undeclared).unwrap().contains("connectionsPerPod"));
        let without_database = |setup: &mut Setup| {
            undeclared(setup);
            setup.snapshot.policy.dependencies.clear();
        };
        assert_eq!(refusal(without_database), None);
    }
}
