//! `DatabaseCapacity`: more pods open more connections, and a database that refuses connections is down for everybody.

use super::{Context, Guard, PROPOSE_AND_GATE, adds_load};
use crate::model::{Action, Observed, RungAction};
use crate::remediations::scale::workload;

pub(super) const GUARD: Guard = Guard {
    name: "DatabaseCapacity",
    refuses: "replicas whose connections (`connectionsPerPod` for each that is not ready yet), or requests whose connections (`inFlight`), would take a declared database above 90% of its usable connection slots",
    stages: PROPOSE_AND_GATE,
    applies: adds_load,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    if snapshot.policy.databases().next().is_none() {
        return Ok("no database is declared".to_owned());
    }
    let (added, by) = added(context)?;
    let mut told = Vec::new();
    for (name, _) in snapshot.policy.databases() {
        let facts = match snapshot.databases.get(name) {
            Some(Observed::Known { value, .. }) => value,
            Some(Observed::Missing(no_data)) => return Err(format!("{name} cannot be read: {no_data}")),
            None => return Err(format!("{name} has not been read")),
        };
        let after = u64::from(facts.slots.used) + added;
        let usable = u64::from(facts.slots.usable);
        let numbers =
            format!("{name} has {} of {usable} connection slots in use; {by} make {after}", facts.slots.used);
        if after * 10 > usable * 9 {
            return Err(format!("{numbers}, more than 90%"));
        }
        told.push(numbers);
    }
    Ok(told.join("; "))
}

/// The connections that the action adds at most, and by what.
fn added(context: &Context<'_>) -> Result<(u64, String), String> {
    let (snapshot, _) = context.view()?;
    let scale = match &context.candidate.action {
        Action::Scale(scale) => scale,
        // Each request takes one for as long as it lasts, at most.
        Action::WarmCache(warm) => {
            let requests = warm.settings.in_flight;
            return Ok((u64::from(requests), format!("{requests} requests at a time")));
        }
        Action::CancelQuery(_) | Action::TerminateQuery(_) | Action::TerminateIdle(_) => {
            return Err("what it adds cannot be counted".to_owned());
        }
    };
    let rung = snapshot.policy.rung(&context.candidate.rung);
    let per_pod = rung.and_then(|rung| match &rung.action {
        RungAction::Scale(settings) => settings.connections_per_pod,
        RungAction::CancelQueries { .. } | RungAction::TerminateIdle { .. } | RungAction::WarmCache(_) => {
            None
        }
    });
    let Some(per_pod) = per_pod else {
        return Err("how many connections a pod opens is not declared (scale.connectionsPerPod)".to_owned());
    };
    let (_, workload) = workload(snapshot)?;
    // Those that are not ready yet have opened none that could be counted on.
    let pods = scale.to.saturating_sub(workload.ready.min(scale.from));
    let added = u64::from(pods) * u64::from(per_pod);
    Ok((added, format!("{pods} more pods with {per_pod} connections each")))
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::Slots;

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::scaling();
        change(&mut setup);
        refused(&setup, GUARD.name, Stage::Gate)
    }

    fn slots(setup: &mut Setup, used: u32, usable: u32) {
        if let Some(Observed::Known { value, .. }) = setup.snapshot.databases.get_mut("db") {
            value.slots = Slots { usable, used };
        }
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
            if let RungAction::Scale(settings) = &mut setup.snapshot.policy.rungs[0].action {
                settings.connections_per_pod = None;
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
