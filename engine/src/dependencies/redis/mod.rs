//! Redis: what one look shows, what happened to the server over some looks, and what is usual for it.

mod declared;
mod facts;
mod history;
mod memory;

pub use declared::{CacheUse, RedisDependency};
pub use facts::{
    CommandUse, RedisClients, RedisCounters, RedisFacts, RedisLook, RedisMemory, RedisRole, RedisServer,
    SlowCommand,
};
pub use history::{CacheLoss, LossKind, RedisHistory, SLOW_PING};
pub use memory::{COLD, CacheBaseline, CacheMemory, CacheTrend};

use std::time::Duration;

use jiff::Timestamp;

use super::{Kind, Learning, Place};
use crate::base::Target;

/// What a policy declares.
pub type Declared = RedisDependency;
/// What one look shows.
pub type Facts = RedisFacts;
/// What is remembered for one policy.
pub type Memory = CacheMemory;

/// See the module.
pub(crate) struct Redis;

impl Kind for Redis {
    type Declared = RedisDependency;
    type Facts = RedisFacts;
    type Memory = CacheMemory;
    const BEARS_LOAD: bool = false;

    fn place(declared: &RedisDependency) -> Place<'_> {
        Place::Store(&declared.secret)
    }

    fn workload(_: &RedisFacts) -> Option<&Target> {
        None
    }

    fn roles(_: &RedisDependency) -> &[String] {
        &[]
    }

    fn stands_before(_: &RedisDependency) -> Option<&str> {
        None
    }

    fn partial(_: &RedisFacts) -> Option<&str> {
        None
    }

    fn unreadable(facts: &RedisFacts) -> &[String] {
        &facts.unreadable
    }

    fn learn(memory: &mut CacheMemory, at: Timestamp, facts: &RedisFacts, learning: Learning) {
        memory.learn(at, facts, learning.window, learning.healthy);
    }

    /// How it does is the difference of two looks.
    fn compared_since(memory: &CacheMemory, facts: &RedisFacts, since: Timestamp, window: Duration) -> bool {
        memory.trend(facts, window).is_some_and(|trend| trend.to >= since)
    }

    /// Two looks within one window; and until its baseline is known, every evaluation adds to it.
    fn wants_within(memory: Option<&CacheMemory>, window: Duration, interval: Duration) -> Option<Duration> {
        let within = window / 2;
        let has_baseline = memory.is_some_and(CacheMemory::knows_what_is_usual);
        Some(if has_baseline { within } else { within.min(interval / 2) })
    }
}
