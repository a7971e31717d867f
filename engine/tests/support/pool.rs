//! A PgBouncer in front of the database: a pool of five connections, and clients that wait for one.

use engine::dependencies::pgbouncer::{
    PgBouncerDependency, PgBouncerFacts, PgBouncerLook, Pool as Facts, PoolClients, PoolId, PoolServers,
};
use engine::model::{NoDataReason, Observed, elapsed};
use jiff::Timestamp;

use super::stage::reason_of;

const SIZE: u32 = 5;

/// The line `pool` of a policy.
pub(crate) fn declared() -> PgBouncerDependency {
    PgBouncerDependency {
        secret: "orders-pgbouncer".into(),
        pool_name: Some("orders".into()),
        database: Some("db".into()),
    }
}

#[derive(Default)]
pub(crate) struct Pool {
    /// So many clients have waited since then.
    waiting: Option<(u32, Timestamp)>,
    paused: bool,
    blind: Option<NoDataReason>,
}

impl Pool {
    /// What the console answers.
    pub(crate) fn read(&self, now: Timestamp) -> Observed<PgBouncerFacts> {
        if let Some(reason) = self.blind {
            return Observed::missing(reason, "the pooler said so");
        }
        let clients = self.waiting.map_or_else(PoolClients::default, |(waiting, since)| PoolClients {
            active: SIZE,
            waiting,
            longest_wait: elapsed(now, since),
        });
        let active = if self.waiting.is_some() { SIZE } else { 1 };
        let pool = Facts {
            id: PoolId { name: "orders".into(), user: "orders".into() },
            database: "orders".into(),
            role: "orders".into(),
            clients,
            servers: PoolServers { active, idle: SIZE - active, login: 0 },
            size: SIZE,
            reserve: 0,
            database_limit: None,
            user_limit: None,
            paused: self.paused,
            disabled: false,
        };
        let look = PgBouncerLook { version: "1.25.2".into(), pools: vec![pool], unreadable: vec![] };
        Observed::Known { at: now, value: look.into() }
    }

    /// Takes in what happens; whether it was understood.
    pub(crate) fn event(&mut self, words: &[&str], now: Timestamp) -> Result<bool, String> {
        match words {
            ["pool", "starves", count] => {
                let count = count.parse().map_err(|_| format!("{count} is not a number"))?;
                self.waiting = Some((count, now));
            }
            ["pool", "recovers"] => self.waiting = None,
            ["pool", "is", "paused"] => self.paused = true,
            ["pool", "blind", reason] => self.blind = Some(reason_of(reason)?),
            ["pool", "back"] => self.blind = None,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
