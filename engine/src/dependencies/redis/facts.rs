//! What one look at a Redis server says. Redis counts since its start; what happened lately is the difference of two looks.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RedisHistory;
use crate::base::Shared;

/// Which server and which of its databases, and which life of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RedisServer {
    /// The host as the Secret names it, qualified with the namespace.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// The address and port that we connected to.
    pub peer: String,
    /// `run_id`: another one is another life of the server, and no other server.
    pub run_id: String,
}

impl RedisServer {
    /// Whether both are the same server and database. A restart makes no other one of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.host, self.port, self.database) == (&other.host, other.port, other.database)
    }
}

/// Whose copy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RedisRole {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica {
        /// Whether it hears from it (`master_link_status:up`).
        link_up: bool,
    },
}

impl fmt::Display for RedisRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "a primary",
            Self::Replica { link_up: true } => "a replica",
            Self::Replica { link_up: false } => "a replica that does not hear from its primary",
        })
    }
}

/// What it has counted since its start, or since `CONFIG RESETSTAT`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisCounters {
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Keys that were dropped for want of memory.
    pub evicted: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Connections that were refused because of `maxclients`.
    pub rejected: u64,
    /// All commands.
    pub commands: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisMemory {
    /// `used_memory`.
    pub used: u64,
    /// `maxmemory`; `None`: no limit.
    pub max: Option<u64>,
    /// `maxmemory_policy`, such as `noeviction` or `allkeys-lru`.
    pub policy: String,
}

impl RedisMemory {
    /// The used share of what there may be, where there is a limit.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share for comparing with a threshold; bytes beyond 2^53 do not occur"
    )]
    pub fn share(&self) -> Option<f64> {
        self.max.map(|max| self.used as f64 / max as f64)
    }

    /// It is full and drops nothing: writes fail. At 99% already: a write is refused while what clients are sending counts too,
    /// and a moment later, when we look, it does not any more.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        let is_full = |max: u64| self.used >= max - max / 100;
        self.policy == "noeviction" && self.max.is_some_and(is_full)
    }
}

/// Connections of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisClients {
    /// `connected_clients`, ours included.
    pub connected: u32,
    /// `maxclients`, where the server tells it.
    pub max: Option<u32>,
}

/// How often a command was called and how long all its calls took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandUse {
    /// Its name in lower case, such as `keys` or `config|get`. Never its arguments.
    pub name: String,
    /// Calls.
    pub calls: u64,
    /// Microseconds of the server's time, all calls together.
    pub usec: u64,
}

/// An entry of the slow log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowCommand {
    /// Counts up within one life of the server.
    pub id: u64,
    /// The command's name in lower case. Never its arguments: they hold other people's data.
    pub name: String,
    /// How long it kept the server busy.
    pub took: Duration,
    /// When, by the server's clock, to the second.
    pub at: Timestamp,
}

/// What one look at a server says: kept once for all policies on it.
pub type RedisFacts = Shared<RedisLook>;

/// One look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RedisLook {
    /// Which server.
    pub server: RedisServer,
    /// `redis_version`.
    pub version: String,
    /// The server's clock (`INFO server`, `server_time_usec`), or the operator's where the server does not tell it.
    pub clock: Timestamp,
    /// Since its start, to the second.
    pub uptime: Duration,
    /// Whose copy it is.
    pub role: RedisRole,
    /// How long our own PING took.
    pub ping: Duration,
    /// What it has counted.
    pub counters: RedisCounters,
    /// Keys in our database.
    pub keys: u64,
    /// Memory.
    pub memory: RedisMemory,
    /// Clients.
    pub clients: RedisClients,
    /// What commands cost (`INFO commandstats`); empty where it may not be read.
    pub commands: Vec<CommandUse>,
    /// The newest entries of the slow log, newest first, at most 32; empty where it may not be read.
    pub slow: Vec<SlowCommand>,
    /// What our user may not read, each with the ACL rule to give (`ACL SETUSER .. +slowlog|get`). It makes the facts poorer, not wrong.
    pub unreadable: Vec<String>,
    /// What happened to the server over the looks before this one, and at this one.
    #[serde(default)]
    pub history: RedisHistory,
}

impl RedisLook {
    /// How long back looks are compared.
    const SPAN: Duration = Duration::from_secs(30 * 60);

    /// This look, made at `at`, with what has happened to the server since the looks before it. The reader of a
    /// server passes the last look that succeeded. Differences are then computed once, for all policies.
    #[must_use]
    pub fn after(mut self, at: Timestamp, previous: Option<&Self>) -> RedisFacts {
        let previous = previous.filter(|known| known.server.is_same(&self.server));
        let mut history = previous.map(|known| known.history.clone()).unwrap_or_default();
        history.note(at, &self, Self::SPAN);
        self.history = history;
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_refuses_writes_unless_it_drops_something() {
        let memory = |used, max, policy: &str| RedisMemory { used, max, policy: policy.into() };
        assert!(memory(990, Some(1000), "noeviction").refuses_writes());
        assert!(!memory(989, Some(1000), "noeviction").refuses_writes());
        assert!(!memory(1000, Some(1000), "allkeys-lru").refuses_writes());
        assert!(!memory(1000, None, "noeviction").refuses_writes());
    }
}
