//! `BackgroundLoad`: background workers hold most of what a database does.
//!
//! Workers that are busy are what they are for: only those that came with the breach have caused it. Sessions that wait for a lock are no
//! load, and few sessions are none either.

use super::case::{Case, Found, Hurts, Store};
use super::{Along, Cause};
use crate::dependencies::postgres::Postgres;
use crate::dependencies::workers::Workers;
use crate::model::{Coverage, Evidence};

/// One busy look is a burst.
const TWICE: u32 = 2;

pub(super) const CAUSE: Cause = Cause {
    name: "BackgroundLoad",
    found_when: "a role of declared background workers has had more than half of the active sessions of a database (of at least \
                 4; those that wait for a lock do not count), in two polls in a row. Not looked for where not all sessions can be \
                 read",
    explains: &[("WorkersSaturated", Along::Target)],
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    let of = |workers: Store<'_, Workers>| {
        case.each::<Postgres>().filter_map(|database| busy(&workers, &database)).max_by_key(|(own, _)| *own)
    };
    case.each::<Workers>().filter_map(of).map(|(_, found)| found).collect()
}

/// How many active sessions the workers have in a database, if these are most of them.
fn busy(workers: &Store<'_, Workers>, database: &Store<'_, Postgres>) -> Option<(u32, Found)> {
    let (_, look) = database.facts.ok()?;
    if look.coverage != Coverage::Full {
        return None;
    }
    let roles = &workers.declared.client_roles;
    let held = database.memory?.busiest_of(roles).filter(|held| held.looks() >= TWICE)?;
    let (own, all) = (look.active_of(roles), look.active);
    let replicas = workers.facts.ok().and_then(|(_, target)| target.workload.as_ref());
    let mut evidence = vec![
        Evidence::new("active sessions", all.to_string()),
        Evidence::new("of the workers", own.to_string()),
    ];
    evidence.extend(replicas.map(|workload| Evidence::new("replicas", workload.desired.to_string())));
    let (target, of) = (&workers.declared.target, roles.join(" and "));
    let sentence = format!(
        "{own} of {all} active sessions of {} are those of background workers ({target}, role {of})",
        database.name
    );
    let found = Found {
        subject: workers.subject(),
        onset: held.since(),
        hurts: Hurts::Target,
        advice: false,
        evidence,
        sentence,
    };
    Some((own, found))
}

#[cfg(test)]
#[path = "background_load_tests.rs"]
mod tests;
