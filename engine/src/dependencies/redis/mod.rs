//! Redis: what one look shows, what happened to the server over some looks, and what is usual for it.

mod facts;
mod history;
mod memory;

pub use facts::{
    CommandUse, RedisClients, RedisCounters, RedisFacts, RedisMemory, RedisRole, RedisServer, SlowCommand,
};
pub use history::{CacheLoss, LossKind, RedisHistory, SLOW_PING};
pub use memory::{COLD, CacheBaseline, CacheMemory, CacheTrend};
