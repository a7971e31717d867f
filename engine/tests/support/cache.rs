//! A Redis cache as an application uses it: a hundred lookups a second, and as many of them find their key as it is warm.

use std::cell::RefCell;
use std::time::Duration;

use engine::model::{
    CommandUse, NoDataReason, Observed, RedisClients, RedisCounters, RedisFacts, RedisHistory, RedisLook,
    RedisMemory, RedisRole, RedisServer, elapsed,
};
use jiff::Timestamp;

use super::builders;

/// Lookups a second.
const LOOKUPS: f64 = 100.0;
/// The hit ratio of a cache that is as warm as it gets.
const WARM: f64 = 0.95;
/// Its keys.
const KEYS: f64 = 1000.0;

pub(crate) struct Cache {
    facts: RedisLook,
    /// The last look.
    seen: RefCell<Option<RedisFacts>>,
    /// From 0, nothing, to 1, all that is asked for.
    warmth: f64,
    settled_at: Timestamp,
    blind: Option<NoDataReason>,
    /// Whether the application answers when it is asked for something.
    pub(crate) answers: bool,
    /// What one answer adds to the warmth.
    adds: f64,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let facts = RedisLook {
            server: RedisServer {
                host: "orders-redis.shop.svc".into(),
                port: 6379,
                database: 0,
                peer: "10.0.0.9:6379".into(),
                run_id: "first".into(),
            },
            version: "7.0.15".into(),
            clock: builders::start(),
            uptime: Duration::from_secs(86_400),
            role: RedisRole::Primary,
            ping: Duration::from_millis(1),
            counters: RedisCounters::default(),
            keys: 1000,
            memory: RedisMemory { used: 10_000_000, max: Some(100_000_000), policy: "allkeys-lru".into() },
            clients: RedisClients { connected: 10, max: Some(10_000) },
            commands: Vec::new(),
            slow: Vec::new(),
            unreadable: Vec::new(),
            history: RedisHistory::default(),
        };
        let seen = RefCell::default();
        Self {
            facts,
            seen,
            warmth: 1.0,
            settled_at: builders::start(),
            blind: None,
            answers: true,
            adds: 0.5,
        }
    }

    /// Time passes: the application looks its keys up.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        let span = elapsed(now, self.settled_at);
        self.settled_at = now;
        let lookups = span.as_secs_f64() * LOOKUPS;
        let hits = whole(lookups * WARM * self.warmth);
        self.facts.counters.hits += hits;
        self.facts.counters.misses += whole(lookups) - hits;
        self.facts.uptime += span;
        self.facts.clock = now;
    }

    pub(crate) fn read(&self, now: Timestamp) -> Observed<RedisFacts> {
        match self.blind {
            Some(reason) => Observed::missing(reason, "the cache said so"),
            None => {
                let mut seen = self.seen.borrow_mut();
                let value = self.facts.clone().after(now, seen.as_deref());
                *seen = Some(value.clone());
                Observed::Known { at: now, value }
            }
        }
    }

    /// Whoever looks from now on has not looked before.
    pub(crate) fn forget(&mut self) {
        self.seen = RefCell::default();
    }

    /// The application is asked for something that it keeps here.
    pub(crate) fn warm(&mut self) -> Result<(), String> {
        if !self.answers {
            return Err("it answered 503".into());
        }
        self.warmth = (self.warmth + self.adds).min(1.0);
        self.facts.keys = whole(KEYS * self.warmth);
        Ok(())
    }

    /// Takes in an event; whether it is one of the cache's.
    pub(crate) fn event(&mut self, words: &[&str], now: Timestamp) -> Result<bool, String> {
        self.settle(now);
        match words {
            ["cache", "is", "flushed"] => {
                (self.warmth, self.facts.keys) = (0.0, 0);
                self.facts.commands = vec![CommandUse { name: "flushall".into(), calls: 1, usec: 10 }];
            }
            ["cache", "is", "restarted"] => {
                (self.warmth, self.facts.keys) = (0.0, 0);
                self.facts.server.run_id.push('2');
                self.facts.uptime = Duration::ZERO;
                self.facts.counters = RedisCounters::default();
            }
            // Other keys than those that are there are asked for.
            ["cache", "fades"] => self.warmth = 0.4,
            ["cache", "evicts", count] => {
                self.facts.counters.evicted += count.parse::<u64>().map_err(|_| "a number")?;
            }
            ["cache", "is", "full"] => self.facts.memory.used = 99_000_000,
            ["cache", "blind", reason] => self.blind = Some(super::world::reason_of(reason)?),
            ["cache", "back"] => self.blind = None,
            ["an", "answer", "warms", "nothing"] => self.adds = 0.0,
            ["requests", "fail"] => self.answers = false,
            _ => return Ok(false),
        }
        self.settle(now);
        Ok(true)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn whole(number: f64) -> u64 {
    number as u64
}
