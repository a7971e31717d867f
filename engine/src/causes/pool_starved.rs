//! `PoolStarved`: clients wait for a connection of a pool, and all that there may be are in use.
//!
//! That clients are connected (`cl_active`) is no load, and that they wait for a moment is what a pool is for. That the pool is
//! paused, or gets no connection to the database, looks the same to clients; it is said as advice, because the pool is innocent.

use std::time::Duration;

use jiff::Timestamp;

use super::case::{Case, Found, Hurts, Store};
use super::{Along, Cause};
use crate::dependencies::pgbouncer::{PgBouncer, Pool, Wait};
use crate::model::duration::human;
use crate::model::{Dependency, Evidence, PostgresFacts, SessionState};

/// Who waits in two looks in a row waits for more than a burst.
const TWICE: u32 = 2;

pub(super) const CAUSE: Cause = Cause {
    name: "PoolStarved",
    found_when: "clients of a PgBouncer pool have waited for at least 1 s while every server connection that `pool_size`, \
                 `max_db_connections` or `max_user_connections` allows was in use, in two polls in a row; Likely at most where \
                 neither `clientRoles` of the database nor `poolName` says that the pool is the target's. Only advice where the pool is paused, or is not full because PgBouncer cannot connect to the database",
    explains: &[("WorkersSaturated", Along::Target)],
    explained_by: &[
        ("BlockingQuery", Along::InFront),
        ("IdleInTransaction", Along::InFront),
        ("RunawayQuery", Along::InFront),
        ("ConnectionsExhausted", Along::InFront),
    ],
    blocks_load: true,
    diagnose,
    ..Cause::DEFAULT
};

/// A pool whose clients have waited in two looks.
struct Waiting<'a> {
    pool: &'a Pool,
    wait: Wait,
    since: Option<Timestamp>,
}

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    case.each::<PgBouncer>().filter_map(|pooler| held_up(case, &pooler)).collect()
}

/// The pool whose clients have waited longest; a starved one before one that only looks like it.
fn held_up(case: &Case<'_>, pooler: &Store<'_, PgBouncer>) -> Option<Found> {
    let (_, facts) = pooler.facts.ok()?;
    let memory = pooler.memory?;
    let waiting = |pool| {
        let wait = Pool::wait(pool)?;
        let held = memory.held(&pool.id, wait);
        (held.looks() >= TWICE).then_some(Waiting { pool, wait, since: held.since() })
    };
    let ours = facts.pools.iter().filter(|pool| pooler.declared.names(&pool.id));
    let worst = ours.filter_map(waiting).max_by_key(|waiting| {
        let starved = matches!(waiting.wait, Wait::Starved(_));
        (starved, waiting.pool.clients.longest_wait)
    })?;
    Some(found(case, pooler, &worst))
}

fn found(
    case: &Case<'_>,
    pooler: &Store<'_, PgBouncer>,
    Waiting { pool, wait, since }: &Waiting<'_>,
) -> Found {
    let (name, clients, servers) = (pooler.name, pool.clients, pool.servers);
    let (waiting, longest) = (clients.waiting, human(clients.longest_wait));
    let mut evidence = vec![
        Evidence::new("clients waiting", waiting.to_string()),
        Evidence::new("longest wait", longest.clone()),
        Evidence::new("server connections in use", format!("{} of {}", servers.active, pool.size)),
    ];
    let held_up = format!("in {name} {waiting} clients of {} wait, the first of them for {longest}", pool.id);
    let (hurts, sentence) = match (wait, pool.limit()) {
        (Wait::Starved(_), Some((limit, share))) => {
            evidence.push(Evidence::new("limit", format!("{limit} {}", share.most)));
            let holders = holders(case, pooler, pool);
            let held_by = holders.as_ref().map(|(database, holders)| holders.sentence(database));
            evidence.extend(holders.iter().flat_map(|(_, holders)| holders.evidence()));
            let hurts = if is_ours(case, pooler, pool) { Hurts::Target } else { Hurts::Perhaps };
            let full = format!(
                "{} of the {} server connections that {limit} allows are in use",
                share.used, share.most
            );
            (hurts, format!("{held_up}: {full}{}", held_by.unwrap_or_default()))
        }
        (Wait::Paused, _) => {
            let fix = "somebody has paused it, and RESUME lets them go on; the pool is not starved";
            (Hurts::Unknown, format!("{held_up}: {fix}"))
        }
        (Wait::NotConnected | Wait::Starved(_), _) => {
            let (open, login) = (servers.active + servers.idle, servers.login);
            evidence.push(Evidence::new("server connections logging in", login.to_string()));
            let what = format!(
                "the pool is not full ({open} of {} server connections are open, {login} are logging in); PgBouncer does not \
                 get a connection to the database, and its log says why",
                pool.size
            );
            (Hurts::Unknown, format!("{held_up}: {what}"))
        }
    };
    Found {
        subject: pooler.subject(),
        onset: *since,
        hurts,
        advice: hurts == Hurts::Unknown,
        evidence,
        sentence,
    }
}

/// Whether its clients are the target's: by the roles of the target where the database behind it names them, else by the name
/// of the pool.
fn is_ours(case: &Case<'_>, pooler: &Store<'_, PgBouncer>, pool: &Pool) -> bool {
    let database = pooler.declared.database.as_ref().and_then(|name| case.policy().dependencies.get(name));
    match database.and_then(Dependency::postgres).map(|database| &database.client_roles) {
        Some(roles) if !roles.is_empty() => roles.contains(&pool.role),
        _ => pooler.declared.pool_name.is_some(),
    }
}

/// What the sessions of a pool do in its database, as far as they are listed there: the oldest of each kind are.
#[derive(Default)]
struct Holders {
    idle: usize,
    idle_for: Duration,
    busy: usize,
    blocked: usize,
}

impl Holders {
    fn of(facts: &PostgresFacts, pool: &Pool) -> Self {
        let mut holders = Self::default();
        let own = facts.sessions.iter().filter(|s| s.role == pool.role && s.database == pool.database);
        for session in own {
            match session.state {
                SessionState::IdleInTransaction => {
                    holders.idle += 1;
                    holders.idle_for = holders.idle_for.max(facts.age(session.state_change));
                }
                SessionState::Active if session.waits_for_lock => holders.blocked += 1,
                SessionState::Active => holders.busy += 1,
                SessionState::Idle | SessionState::Other => {}
            }
        }
        holders
    }

    fn sentence(&self, database: &str) -> String {
        let Self { idle, idle_for, busy, blocked } = self;
        let since = if *idle > 0 { format!(" (up to {})", human(*idle_for)) } else { String::new() };
        format!(
            "; of its sessions in {database} {idle} are idle in a transaction{since}, {busy} run a query, {blocked} wait for a lock"
        )
    }

    fn evidence(&self) -> [Evidence; 3] {
        [
            Evidence::new("of its sessions idle in a transaction", self.idle.to_string()),
            Evidence::new("running a query", self.busy.to_string()),
            Evidence::new("waiting for a lock", self.blocked.to_string()),
        ]
    }
}

/// Who holds the connections, where the database behind the pool is declared and could be read.
fn holders<'a>(case: &Case<'a>, pooler: &Store<'a, PgBouncer>, pool: &Pool) -> Option<(&'a str, Holders)> {
    let database = pooler.declared.database.as_deref()?;
    let (_, facts) = case.snapshot.observations.postgres(database)?.ok()?;
    let holders = Holders::of(facts, pool);
    (holders.idle + holders.busy + holders.blocked > 0).then_some((database, holders))
}

#[cfg(test)]
#[path = "pool_starved_tests.rs"]
mod tests;
