//! What one look at the console of a PgBouncer shows.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Shared;

/// Who waits for less is not held up: a pool of transactions lets clients wait for each other all the time.
pub const LONG_WAIT: Duration = Duration::from_secs(1);

/// Which pool: there is one for each database and user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolId {
    /// The database as PgBouncer names it.
    pub name: String,
    /// The user as whom clients log in.
    pub user: String,
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {} of user {}", self.name, self.user)
    }
}

/// Connections of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClients {
    /// `cl_active`: linked with a server connection, or idle. It says nothing about load.
    pub active: u32,
    /// `cl_waiting`: they have sent a query and have no server connection yet.
    pub waiting: u32,
    /// `maxwait`: for how long the first of those has waited.
    pub longest_wait: Duration,
}

/// Connections to the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolServers {
    /// `sv_active`, with those that are just being cancelled: linked with a client, also while its transaction is idle.
    pub active: u32,
    /// `sv_idle`, `sv_used` and `sv_tested`: linked with nobody.
    pub idle: u32,
    /// `sv_login`: they are logging in.
    pub login: u32,
}

/// How much of what there may be is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// So many are there.
    pub used: u32,
    /// So many there may be.
    pub most: u32,
}

impl Share {
    fn is_full(self) -> bool {
        self.used >= self.most
    }
}

/// What keeps a pool from having another connection to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LimitKind {
    /// `pool_size` of the pool.
    PoolSize,
    /// `max_db_connections`, over all pools of the database.
    MaxDbConnections,
    /// `max_user_connections`, over all pools of the user.
    MaxUserConnections,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PoolSize => "pool_size",
            Self::MaxDbConnections => "max_db_connections",
            Self::MaxUserConnections => "max_user_connections",
        })
    }
}

/// Why clients of a pool wait for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wait {
    /// All connections that there may be are in use.
    Starved(LimitKind),
    /// There could be more connections, and PgBouncer does not get them.
    NotConnected,
    /// An administrator has paused it.
    Paused,
}

impl Wait {
    /// Whether both are the same trouble, whichever limit it is.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Which one.
    pub id: PoolId,
    /// The database as PostgreSQL names it.
    pub database: String,
    /// The role as which PgBouncer logs in to PostgreSQL.
    pub role: String,
    /// Its clients.
    pub clients: PoolClients,
    /// Its connections to the database.
    pub servers: PoolServers,
    /// `pool_size`.
    pub size: u32,
    /// `reserve_pool_size`: so many more once a client has waited for `reserve_pool_timeout`.
    pub reserve: u32,
    /// `max_db_connections` of the database, where it has one.
    pub database_limit: Option<Share>,
    /// `max_user_connections` of the user, where it is known. It is read only while clients wait.
    pub user_limit: Option<Share>,
    /// `PAUSE`: clients wait until `RESUME`.
    pub paused: bool,
    /// `DISABLE`: new clients are refused.
    pub disabled: bool,
}

impl Pool {
    /// Whether a client has waited for so long that somebody is held up.
    #[must_use]
    pub fn holds_up(&self) -> bool {
        self.clients.waiting > 0 && self.clients.longest_wait >= LONG_WAIT
    }

    /// Why clients wait for long; none where none does.
    #[must_use]
    pub fn wait(&self) -> Option<Wait> {
        if !self.holds_up() {
            return None;
        }
        Some(if self.paused {
            Wait::Paused
        } else {
            self.limit().map_or(Wait::NotConnected, |(kind, _)| Wait::Starved(kind))
        })
    }

    /// The limit that is reached, with what has reached it.
    #[must_use]
    pub fn limit(&self) -> Option<(LimitKind, Share)> {
        let own = Share { used: self.servers.active, most: self.size };
        if own.is_full() {
            return Some((LimitKind::PoolSize, own));
        }
        // While it logs in it has not even got what it may have: what it waits for is the database.
        let others = [
            (LimitKind::MaxDbConnections, self.database_limit),
            (LimitKind::MaxUserConnections, self.user_limit),
        ];
        let mut full = others.into_iter().filter_map(|(kind, share)| Some((kind, share?)));
        full.find(|(_, share)| self.servers.login == 0 && share.is_full())
    }
}

/// What one look says: kept once for all policies.
pub type PgBouncerFacts = Shared<PgBouncerLook>;

/// One look at the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgBouncerLook {
    /// Its version, such as `1.25.2`.
    pub version: String,
    /// All pools but the console's own.
    pub pools: Vec<Pool>,
    /// What could not be read, each with what would let it be read.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependencies::pgbouncer::tests::pool;

    fn wait(change: impl FnOnce(&mut Pool)) -> Option<Wait> {
        let mut pool = pool();
        change(&mut pool);
        pool.wait()
    }

    fn waits(pool: &mut Pool) {
        pool.clients = PoolClients { active: 2, waiting: 5, longest_wait: LONG_WAIT };
    }

    #[test]
    fn clients_that_are_connected_are_no_load_and_a_short_wait_is_none() {
        assert_eq!(wait(|pool| pool.clients.active = 1000), None);
        let short = PoolClients { active: 2, waiting: 5, longest_wait: Duration::from_millis(999) };
        assert_eq!(wait(|pool| (pool.clients, pool.servers.active) = (short, 2)), None);
    }

    #[test]
    fn the_limit_that_is_reached_is_named() {
        let full = Some(Share { used: 9, most: 9 });
        let starved = |limit, change: fn(&mut Pool)| {
            assert_eq!(
                wait(|pool| {
                    waits(pool);
                    change(pool);
                }),
                Some(Wait::Starved(limit))
            );
        };
        starved(LimitKind::PoolSize, |pool| pool.servers.active = 2);
        starved(LimitKind::MaxDbConnections, |pool| {
            pool.database_limit = Some(Share { used: 9, most: 9 });
        });
        starved(LimitKind::MaxUserConnections, |pool| pool.user_limit = Some(Share { used: 9, most: 9 }));
        let free = wait(|pool| {
            waits(pool);
            (pool.database_limit, pool.user_limit) = (Some(Share { used: 8, most: 9 }), None);
        });
        assert_eq!(free, Some(Wait::NotConnected));
        let logging_in = wait(|pool| {
            waits(pool);
            (pool.database_limit, pool.servers.login) = (full, 1);
        });
        assert_eq!(logging_in, Some(Wait::NotConnected), "the database does not let it in");
    }

    #[test]
    fn what_an_administrator_has_paused_is_not_starved() {
        let paused = wait(|pool| {
            waits(pool);
            (pool.servers.active, pool.paused) = (2, true);
        });
        assert_eq!(paused, Some(Wait::Paused));
    }
}
