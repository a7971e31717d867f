//! Redis servers: how warm they are decides how many lookups find their key, and how fast those who look are served.

use std::time::Duration;

use engine::invariants::{Request, What};
use engine::model::{
    CommandUse, EntryKey, RedisClients, RedisCounters, RedisHistory, RedisLook, RedisMemory, RedisRole,
    RedisServer,
};
use jiff::Timestamp;

use super::{World, count, instant};
use crate::exec::{Micros, SECOND};

/// Lookups a second.
const LOOKUPS: f64 = 40.0;
/// The hit ratio of a cache that is as warm as it gets.
const WARM: f64 = 0.95;
/// Its keys.
const KEYS: f64 = 1000.0;
/// Below this who looks its keys up suffers.
const COLD: f64 = 0.5;
/// What one request adds to the warmth.
const ADDS: f64 = 0.15;

/// One Redis server.
#[derive(Debug)]
pub struct Cache {
    server: RedisServer,
    counters: RedisCounters,
    keys: u64,
    flushes: u64,
    started: Micros,
    settled: Micros,
    /// From 0, nothing, to 1, all that is asked for.
    warmth: f64,
    /// It cannot be reached before then.
    pub down_until: Micros,
    /// It drops keys for want of memory until then.
    pub evicting_until: Micros,
    /// Requests warm nothing until then.
    pub futile_until: Micros,
}

impl Cache {
    /// A warm cache that was started long ago.
    #[must_use]
    pub fn new(host: &str, peer: &str) -> Self {
        Self {
            server: RedisServer {
                host: host.to_owned(),
                port: 6379,
                database: 0,
                peer: peer.to_owned(),
                run_id: "1".into(),
            },
            counters: RedisCounters::default(),
            keys: 1000,
            flushes: 0,
            started: 0,
            settled: 0,
            warmth: 1.0,
            down_until: 0,
            evicting_until: 0,
            futile_until: 0,
        }
    }

    /// Lookups go on until now.
    pub fn settle(&mut self, now: Micros) {
        let span = now.saturating_sub(self.settled);
        #[allow(clippy::cast_precision_loss, reason = "a span of hours in microseconds")]
        let lookups = span as f64 / 1e6 * LOOKUPS;
        self.settled = now;
        let hits = whole(lookups * WARM * self.warmth);
        self.counters.hits += hits;
        self.counters.misses += whole(lookups).saturating_sub(hits);
        if now < self.evicting_until {
            self.counters.evicted += 1 + span / SECOND;
        }
    }

    /// It loses all that it held.
    pub fn flush(&mut self, now: Micros) {
        self.settle(now);
        (self.warmth, self.keys) = (0.0, 0);
        self.flushes += 1;
    }

    /// It is started anew, with nothing in it.
    pub fn restart(&mut self, now: Micros, life: u64) {
        self.settle(now);
        (self.warmth, self.keys, self.flushes, self.started) = (0.0, 0, 0, now);
        (self.counters, self.server.run_id) = (RedisCounters::default(), life.to_string());
    }

    /// It holds again what it used to hold.
    pub fn heal(&mut self, now: Micros) {
        self.settle(now);
        (self.warmth, self.keys) = (1.0, whole(KEYS));
    }

    /// The application has put something back.
    fn warm(&mut self, now: Micros) {
        self.settle(now);
        if now >= self.futile_until {
            self.warmth = (self.warmth + ADDS).min(1.0);
            self.keys = whole(KEYS * self.warmth);
        }
    }

    /// Whether those who use it suffer.
    #[must_use]
    pub fn hurts(&self) -> bool {
        self.warmth < COLD
    }

    /// What one look says.
    #[must_use]
    pub fn facts(&self, now: Micros) -> RedisLook {
        let flushes = CommandUse { name: "flushall".into(), calls: self.flushes, usec: self.flushes };
        RedisLook {
            server: self.server.clone(),
            version: "7.0.15".into(),
            clock: instant(now),
            uptime: Duration::from_micros(now.saturating_sub(self.started)),
            role: RedisRole::Primary,
            ping: Duration::from_millis(1),
            counters: self.counters,
            keys: self.keys,
            memory: RedisMemory { used: 10_000_000, max: Some(100_000_000), policy: "allkeys-lru".into() },
            clients: RedisClients { connected: 10, max: Some(10_000) },
            commands: vec![flushes],
            slow: Vec::new(),
            unreadable: Vec::new(),
            history: RedisHistory::default(),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number far below 2^52"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

impl World {
    /// A request to a workload arrives, for something that it keeps in its cache; whether it is answered with success.
    pub fn serve(&mut self, place: usize, path: &str, key: &EntryKey, sent: Timestamp) -> Result<(), String> {
        let now = self.now;
        let request = Request { path: path.to_owned(), sent: Some(sent), remediation: key.clone() };
        self.tell(What::Request(request));
        if self.warmed.insert(key.clone()) {
            self.acted(key);
        }
        count(&mut self.counts.events, "request that warms");
        let Some(target) = self.targets.get(place) else { return Err("no address".into()) };
        if target.hangs {
            return Err("no answer".into());
        }
        let cache = target.cache;
        if let Some(cache) = self.caches.get_mut(cache) {
            cache.warm(now);
        }
        self.refresh();
        Ok(())
    }
}
