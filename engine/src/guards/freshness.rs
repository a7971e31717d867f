//! `Freshness`: nothing is done on yesterday's news.

use super::{Context, Guard, PROPOSE_AND_GATE, always};
use crate::model::{Observed, duration::human, elapsed};

pub(super) const GUARD: Guard = Guard {
    name: "Freshness",
    refuses: "when the snapshot, a reading of a broken objective or what was read of the database (for a workload or a cache: of it and of every declared database) is older than two intervals, when the Kubernetes API has not answered for long, or when this process has not yet watched for `breachFor`",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, situation) = context.view()?;
    let evaluation = &snapshot.policy.evaluation;
    let limit = evaluation.interval.saturating_mul(2);
    let fresh = |what: &str, at| {
        let age = elapsed(context.now, at);
        if age <= limit {
            return Ok(age);
        }
        Err(format!("{what} is {} old, at most {} is fresh", human(age), human(limit)))
    };
    fresh("the snapshot", snapshot.now)?;
    let broken = situation.readings.iter().filter(|reading| reading.breach().is_some());
    let newest = broken.map(|reading| reading.at).max();
    let age = match newest {
        Some(at) => fresh("the reading", at)?,
        None => return Err("there is no reading that says Breached".to_owned()),
    };
    let read = |name: &str, at: Option<jiff::Timestamp>| match at {
        Some(at) => fresh(&format!("what was read of {name}"), at),
        None => Err(format!("{name} has not been read")),
    };
    let of_database = |name: &str| read(name, snapshot.databases.get(name).and_then(Observed::at));
    match context.candidate.action.subject().dependency() {
        // What is done to a cache is felt by the databases behind it.
        Some(name) if snapshot.policy.caches().any(|(cache, _)| cache == name) => {
            read(name, snapshot.caches.get(name).and_then(Observed::at))?;
            for (name, _) in snapshot.policy.databases() {
                of_database(name)?;
            }
        }
        Some(name) => {
            of_database(name)?;
        }
        None => {
            read("the target", snapshot.target.at())?;
            for (name, _) in snapshot.policy.databases() {
                of_database(name)?;
            }
        }
    }
    let contact = elapsed(context.now, snapshot.operator.api_contact_at);
    if contact > snapshot.operator.api_contact_within {
        let within = human(snapshot.operator.api_contact_within);
        return Err(format!(
            "the Kubernetes API has not answered for {}, at most {within} is allowed",
            human(contact)
        ));
    }
    let watched = elapsed(context.now, snapshot.operator.leading_since);
    if watched < evaluation.breach_for {
        let needed = human(evaluation.breach_for);
        return Err(format!("this operator has led for {}, {needed} are needed", human(watched)));
    }
    Ok(format!("the reading is {} old", human(age)))
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
                let read = setup.snapshot.databases.get_mut("db").unwrap();
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
                setup.snapshot.databases.insert("db".into(), blind);
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
