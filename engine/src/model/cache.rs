//! What is remembered of a cache. Redis counts since its start, so that only differences say how it does now, and only its
//! own past says what is usual for it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{RedisCounters, RedisFacts, earlier, elapsed};

/// Fewer lookups say nothing about a hit ratio.
const LEAST_LOOKUPS: u64 = 50;
/// So many looks are kept at most, of the window and of the healthy past each.
const MOST: usize = 60;
/// Fewer healthy looks are an accident, not a baseline.
const LEAST_LOOKS: usize = 3;
/// What is usual is learned from the healthy looks of so long.
const SPAN: Duration = Duration::from_secs(30 * 60);
/// A hit ratio below this share of the usual one is well below it.
pub const COLD: f64 = 0.8;
/// Of fewer keys than these half may go without anybody noticing.
const LEAST_KEYS: u64 = 10;
/// A PING that takes longer is slow: the server serves one command at a time, and something takes its time.
pub const SLOW_PING: Duration = Duration::from_millis(100);

/// One look, as far as later ones are compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Glance {
    read_at: Timestamp,
    counters: RedisCounters,
    keys: u64,
    flushes: u64,
}

/// How a cache lost what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LossKind {
    /// The server was started anew.
    Restart,
    /// Somebody flushed it.
    Flush,
    /// Keys were dropped for want of memory.
    Eviction,
    /// More than half of the keys went between two looks.
    KeyLoss,
}

/// That a cache lost what it held, or much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheLoss {
    /// How.
    pub kind: LossKind,
    /// Not before this.
    pub since: Timestamp,
    /// Not after this.
    pub seen_at: Timestamp,
    /// Keys before.
    pub before: u64,
    /// Keys when it was seen.
    pub after: u64,
}

impl CacheLoss {
    /// What happened, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { before, after, .. } = self;
        match self.kind {
            LossKind::Restart => {
                format!("it was started anew at {:.0} (keys: {before}, then {after})", self.since)
            }
            LossKind::Flush => format!("it was flushed (keys: {before}, then {after})"),
            LossKind::Eviction => format!("it dropped keys for want of memory ({before}, then {after})"),
            LossKind::KeyLoss => format!("it lost most of its keys ({before}, then {after})"),
        }
    }
}

/// What is usual for a cache while the objectives are kept: medians over the last 30 such minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CacheBaseline {
    /// The share of lookups that find their key.
    pub ratio: f64,
    /// Keys.
    pub keys: u64,
}

/// How a cache does: the difference between two looks about one window apart, or since it lost what it held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheTrend {
    /// The older look, for hits and misses.
    pub from: Timestamp,
    /// The newer look.
    pub to: Timestamp,
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Keys that were dropped for want of memory, in the whole window.
    pub evicted: u64,
    /// Connections that were refused, in the whole window.
    pub rejected: u64,
    /// What is usual, if it is known.
    pub baseline: Option<CacheBaseline>,
    /// The last loss, until the hit ratio is what it was.
    pub loss: Option<CacheLoss>,
    /// Since when keys have been dropped, or writes refused, in every look, for want of memory.
    pub pressed_since: Option<Timestamp>,
    /// So many looks in a row our own PING was slow.
    pub slow_pings: u32,
}

impl CacheTrend {
    /// The share of lookups that found their key (0 to 1); none where there were fewer than 50.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share for comparing; lookups within a window are far below 2^52"
    )]
    pub fn ratio(&self) -> Option<f64> {
        let lookups = self.hits.saturating_add(self.misses);
        (lookups >= LEAST_LOOKUPS).then(|| self.hits as f64 / lookups as f64)
    }

    /// Whether the hit ratio lies well below the usual one: below four fifths of it. Unknown without either of them.
    #[must_use]
    pub fn is_cold(&self) -> Option<bool> {
        Some(self.ratio()? < self.baseline?.ratio * COLD)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct HealthyLook {
    at: Timestamp,
    ratio: f64,
    keys: u64,
}

/// Of which server something is remembered. A restart changes none of this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Whose {
    host: String,
    port: u16,
    database: u32,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheMemory {
    whose: Option<Whose>,
    run_id: String,
    recent: Vec<Glance>,
    healthy: Vec<HealthyLook>,
    loss: Option<CacheLoss>,
    pressed_since: Option<Timestamp>,
    slow_pings: u32,
    /// Ticks in a row in which it could not be read.
    pub missing: u32,
}

impl CacheMemory {
    /// Takes in a look. `healthy`: the objectives are kept and there is no incident, so that what is seen is usual. The same
    /// look taken in twice is one look.
    pub fn learn(&mut self, at: Timestamp, facts: &RedisFacts, window: Duration, healthy: bool) {
        let server = &facts.server;
        let whose = Whose { host: server.host.clone(), port: server.port, database: server.database };
        if self.whose.as_ref() != Some(&whose) {
            *self = Self { whose: Some(whose), ..Self::default() };
        }
        if self.recent.last().is_some_and(|last| last.read_at >= at) {
            return;
        }
        let glance =
            Glance { read_at: at, counters: facts.counters, keys: facts.keys, flushes: flushes(facts) };
        self.notice_loss(&glance, facts);
        self.notice_pressure(&glance, facts);
        self.slow_pings = if facts.ping >= SLOW_PING { self.slow_pings.saturating_add(1) } else { 0 };
        self.run_id.clone_from(&server.run_id);
        self.recent.push(glance);
        self.prune(earlier(at, window));
        if healthy {
            self.learn_usual(at, facts.keys);
        }
    }

    /// Sees whether the server lost what it held since the last look, and forgets what its counters no longer go on from.
    fn notice_loss(&mut self, glance: &Glance, facts: &RedisFacts) {
        let Some(last) = self.recent.last().cloned() else { return };
        let (before, after) = (last.keys, glance.keys);
        let mut loss = CacheLoss {
            kind: LossKind::KeyLoss,
            since: last.read_at,
            seen_at: glance.read_at,
            before,
            after,
        };
        if facts.server.run_id != self.run_id {
            let started_at = earlier(glance.read_at, facts.uptime).max(last.read_at);
            loss = CacheLoss { kind: LossKind::Restart, since: started_at, seen_at: started_at, ..loss };
            // It counts from nothing since then.
            self.recent =
                vec![Glance { read_at: started_at, counters: RedisCounters::default(), keys: 0, flushes: 0 }];
            self.loss = Some(loss);
            return;
        }
        let evicted = glance.counters.evicted.saturating_sub(last.counters.evicted);
        if glance.counters.hits < last.counters.hits || glance.counters.misses < last.counters.misses {
            self.recent.clear();
        }
        if before < LEAST_KEYS {
            return;
        }
        if evicted.saturating_mul(10) >= before {
            loss.kind = LossKind::Eviction;
        } else if after > before / 2 {
            return;
        } else if glance.flushes > last.flushes {
            loss.kind = LossKind::Flush;
        }
        self.loss = Some(loss);
    }

    fn notice_pressure(&mut self, glance: &Glance, facts: &RedisFacts) {
        let evicts = self.recent.last().is_some_and(|last| glance.counters.evicted > last.counters.evicted);
        let since = self.recent.last().map_or(glance.read_at, |last| last.read_at);
        self.pressed_since =
            if evicts || facts.memory.refuses_writes() { self.pressed_since.or(Some(since)) } else { None };
    }

    /// Keeps the looks since `oldest` and one older, at most [`MOST`], the newest and the oldest among them.
    fn prune(&mut self, oldest: Timestamp) {
        let before = self.recent.iter().take_while(|glance| glance.read_at <= oldest).count();
        self.recent.drain(..before.saturating_sub(1));
        if self.recent.len() > MOST {
            let last = self.recent.len() - 1;
            let mut place = 0;
            self.recent.retain(|_| {
                place += 1;
                (place - 1) % 2 == 0 || place - 1 == last
            });
        }
    }

    fn learn_usual(&mut self, at: Timestamp, keys: u64) {
        let Some(trend) = self.trend() else { return };
        let lost = self.loss.filter(|loss| elapsed(at, loss.since) < SPAN);
        if lost.is_some() && trend.is_cold() == Some(true) {
            // Nobody suffers from it yet; it is not usual all the same.
            return;
        }
        let Some(ratio) = trend.ratio() else { return };
        self.loss = None;
        self.healthy.retain(|known| known.at >= earlier(at, SPAN));
        if self.healthy.len() >= MOST {
            let mut keep = false;
            self.healthy.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.healthy.push(HealthyLook { at, ratio, keys });
    }

    /// Whether it has been seen often enough while all was well.
    #[must_use]
    pub fn knows_what_is_usual(&self) -> bool {
        self.healthy.len() >= LEAST_LOOKS
    }

    fn baseline(&self) -> Option<CacheBaseline> {
        if !self.knows_what_is_usual() {
            return None;
        }
        let mut ratios: Vec<f64> = self.healthy.iter().map(|known| known.ratio).collect();
        let mut keys: Vec<u64> = self.healthy.iter().map(|known| known.keys).collect();
        ratios.sort_by(f64::total_cmp);
        keys.sort_unstable();
        Some(CacheBaseline { ratio: *ratios.get(ratios.len() / 2)?, keys: *keys.get(keys.len() / 2)? })
    }

    /// How it does now. None before the second look at one life of the server.
    #[must_use]
    pub fn trend(&self) -> Option<CacheTrend> {
        let newest = self.recent.last()?;
        // What was before the loss says nothing about how it does since.
        let after_loss = |glance: &&Glance| self.loss.is_none_or(|loss| glance.read_at >= loss.seen_at);
        let oldest = self.recent.iter().find(after_loss).unwrap_or(newest);
        let first = self.recent.first().filter(|first| first.read_at < newest.read_at)?;
        let (then, now) = (oldest.counters, newest.counters);
        Some(CacheTrend {
            from: oldest.read_at,
            to: newest.read_at,
            hits: now.hits.saturating_sub(then.hits),
            misses: now.misses.saturating_sub(then.misses),
            evicted: now.evicted.saturating_sub(first.counters.evicted),
            rejected: now.rejected.saturating_sub(first.counters.rejected),
            baseline: self.baseline(),
            loss: self.loss,
            pressed_since: self.pressed_since,
            slow_pings: self.slow_pings,
        })
    }

    /// Since when every look has shown that it drops keys or refuses writes for want of memory.
    #[must_use]
    pub fn pressed_since(&self) -> Option<Timestamp> {
        self.pressed_since
    }

    /// When it was last read.
    #[must_use]
    pub fn read_at(&self) -> Option<Timestamp> {
        self.recent.last().map(|glance| glance.read_at)
    }
}

fn flushes(facts: &RedisFacts) -> u64 {
    let flushes = facts.commands.iter().filter(|command| matches!(&*command.name, "flushall" | "flushdb"));
    flushes.map(|command| command.calls).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::redis_facts;
    use crate::model::{CommandUse, later};

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(10);

    struct Server {
        now: Timestamp,
        facts: RedisFacts,
        memory: CacheMemory,
    }

    impl Server {
        /// Seen for ten healthy seconds: 1,000 keys, 95 of 100 lookups a second are hits.
        fn warm() -> Self {
            let now = "2026-01-01T03:00:00Z".parse().unwrap();
            let mut server = Self { now, facts: redis_facts(), memory: CacheMemory::default() };
            server.facts.keys = 1000;
            for _ in 0..10 {
                server.second(95, 5, true);
            }
            server
        }

        fn second(&mut self, hits: u64, misses: u64, healthy: bool) {
            self.now = later(self.now, SECOND);
            self.facts.uptime += SECOND;
            self.facts.counters.hits += hits;
            self.facts.counters.misses += misses;
            self.memory.learn(self.now, &self.facts, WINDOW, healthy);
        }

        fn trend(&self) -> CacheTrend {
            self.memory.trend().unwrap()
        }
    }

    #[test]
    fn what_is_usual_is_learned_while_all_is_well_and_only_then() {
        let mut server = Server::warm();
        assert_eq!(server.trend().baseline.map(|usual| (usual.ratio, usual.keys)), Some((0.95, 1000)));
        for _ in 0..100 {
            server.second(5, 95, false);
        }
        assert_eq!(server.trend().baseline.map(|usual| usual.ratio), Some(0.95));
        assert_eq!(server.trend().is_cold(), Some(true));
        assert_eq!(server.trend().loss, None, "it fell and nobody knows why");
    }

    #[test]
    fn a_flush_is_seen_at_once_and_only_what_came_after_it_counts() {
        let mut server = Server::warm();
        server.facts.keys = 3;
        server.facts.commands.push(CommandUse { name: "flushall".into(), calls: 1, usec: 1 });
        server.second(50, 50, true);
        let before = earlier(server.now, SECOND);
        server.second(0, 100, true);
        let trend = server.trend();
        let loss = trend.loss.unwrap();
        assert_eq!((loss.kind, loss.before, loss.after, loss.since), (LossKind::Flush, 1000, 3, before));
        assert_eq!((trend.hits, trend.misses), (0, 100));
        // Although the objectives are still kept, that is not learned as usual.
        for _ in 0..50 {
            server.second(0, 100, true);
        }
        assert_eq!(server.trend().baseline.map(|usual| usual.ratio), Some(0.95));
        for _ in 0..20 {
            server.second(95, 5, true);
        }
        assert_eq!(server.trend().loss, None, "it is what it was");
    }

    #[test]
    fn a_restart_is_a_loss_and_no_other_server() {
        let mut server = Server::warm();
        server.facts.server.run_id = "another".into();
        server.facts.server.peer = "127.0.0.2:6379".into();
        (server.facts.keys, server.facts.uptime, server.facts.counters) =
            (0, Duration::ZERO, RedisCounters::default());
        server.second(10, 90, false);
        let trend = server.trend();
        assert_eq!(trend.loss.map(|loss| loss.kind), Some(LossKind::Restart));
        assert_eq!((trend.hits, trend.misses), (10, 90));
        assert_eq!(trend.baseline.map(|usual| usual.ratio), Some(0.95));
        server.facts.server.host = "elsewhere".into();
        server.second(10, 90, false);
        assert_eq!(server.memory.trend(), None, "another server has a past of its own");
    }

    #[test]
    fn counters_that_go_back_in_one_life_begin_anew() {
        let mut server = Server::warm();
        server.facts.counters = RedisCounters::default();
        server.second(1, 0, true);
        assert_eq!(server.memory.trend(), None);
        server.second(90, 10, true);
        let trend = server.trend();
        assert_eq!((trend.hits, trend.misses, trend.loss), (90, 10, None));
    }

    #[test]
    fn many_evictions_are_a_loss_and_few_lookups_no_ratio() {
        let mut server = Server::warm();
        server.facts.counters.evicted += 100;
        server.second(5, 5, false);
        assert_eq!(server.trend().pressed_since, Some(earlier(server.now, SECOND)));
        server.second(5, 5, false);
        let trend = server.trend();
        assert_eq!(trend.loss.map(|loss| loss.kind), Some(LossKind::Eviction));
        assert_eq!((trend.ratio(), trend.is_cold(), trend.pressed_since), (None, None, None));
    }

    #[test]
    fn memory_is_bounded() {
        let mut server = Server::warm();
        for _ in 0..2000 {
            server.now = later(server.now, Duration::from_millis(50));
            server.facts.counters.hits += 100;
            server.memory.learn(server.now, &server.facts, WINDOW, true);
        }
        assert!(server.memory.recent.len() <= MOST && server.memory.healthy.len() <= MOST);
        let trend = server.trend();
        assert!(elapsed(trend.to, trend.from) >= WINDOW - SECOND, "{trend:?}");
    }
}
