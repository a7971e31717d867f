//! What is remembered of a cache for one policy: what is usual for it, learned while the policy's objectives are kept.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CacheLoss, RedisCounters, RedisHistory, RedisLook, RedisServer};
use crate::base::elapsed;
use crate::stats::{Counters, Samples, median};

/// Minimum number of lookups of which a share says something.
const LEAST_LOOKUPS: u64 = 50;
/// A hit ratio below this share of the usual one is well below it.
pub const COLD: f64 = 0.8;

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

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheMemory {
    /// Of which server it is, and when it was last looked at.
    last: Option<(RedisServer, Timestamp)>,
    healthy: Samples<CacheBaseline>,
    /// The last loss that the hit ratio has recovered from.
    recovered: Option<CacheLoss>,
}

impl CacheMemory {
    /// Takes in a look. `healthy`: the objectives are kept and there is no incident, so that what is seen is usual. The same
    /// look taken in twice is one look.
    pub fn learn(&mut self, at: Timestamp, look: &RedisLook, window: Duration, healthy: bool) {
        match &self.last {
            Some((server, last)) if server.is_same(&look.server) => {
                if *last >= at {
                    return;
                }
            }
            Some(_) | None => *self = Self::default(),
        }
        if self.last.as_ref().is_none_or(|(server, _)| *server != look.server) {
            self.last = Some((look.server.clone(), at));
        } else if let Some((_, last)) = &mut self.last {
            *last = at;
        }
        if healthy {
            self.learn_usual(at, look, window);
        }
    }

    fn learn_usual(&mut self, at: Timestamp, look: &RedisLook, window: Duration) {
        let Some(trend) = self.trend(look, window) else { return };
        let lost = trend.loss.filter(|loss| elapsed(at, loss.since) < Samples::<CacheBaseline>::SPAN);
        if lost.is_some() && trend.is_cold() == Some(true) {
            // Nobody suffers from it yet; it is not usual all the same.
            return;
        }
        let Some(ratio) = trend.ratio() else { return };
        self.recovered = look.history.loss();
        self.healthy.learn(at, CacheBaseline { ratio, keys: look.keys });
    }

    /// The last loss, until the hit ratio is what it was.
    fn loss(&self, history: &RedisHistory) -> Option<CacheLoss> {
        history.loss().filter(|loss| self.recovered.as_ref() != Some(loss))
    }

    /// Whether it has been seen often enough while all was well.
    #[must_use]
    pub fn knows_what_is_usual(&self) -> bool {
        self.healthy.suffice()
    }

    fn baseline(&self) -> Option<CacheBaseline> {
        let all = self.healthy.all()?;
        let ratio = median(all.clone().map(|usual| usual.ratio), f64::total_cmp)?;
        Some(CacheBaseline { ratio, keys: median(all.map(|usual| usual.keys), u64::cmp)? })
    }

    /// How it does at a look, judged by `window`. None before the second look at one life of the server.
    #[must_use]
    pub fn trend(&self, look: &RedisLook, window: Duration) -> Option<CacheTrend> {
        let history = &look.history;
        let counting = history.counting();
        let (to, now) = counting.newest()?;
        let (_, first) = counting.first_of(window).filter(|(first, _)| first < to)?;
        // What was before the loss says nothing about how it does since.
        let loss = self.loss(history);
        let (from, then) = counting.first_since(window, loss.map(|loss| loss.seen_at))?;
        let (lately, in_window): (RedisCounters, RedisCounters) = (now.since(then)?, now.since(first)?);
        Some(CacheTrend {
            from: *from,
            to: *to,
            hits: lately.hits,
            misses: lately.misses,
            evicted: in_window.evicted,
            rejected: in_window.rejected,
            baseline: self.baseline(),
            loss,
            pressed_since: history.pressed().since(),
            slow_pings: history.slow_pings().looks(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{earlier, later};
    use crate::dependencies::redis::{CommandUse, LossKind, RedisFacts};
    use crate::guards::testing::redis_facts;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(10);

    struct Server {
        now: Timestamp,
        facts: RedisLook,
        seen: Option<RedisFacts>,
        memory: CacheMemory,
    }

    impl Server {
        /// Seen for ten healthy seconds: 1,000 keys, 95 of 100 lookups a second are hits.
        fn warm() -> Self {
            let now = "2026-01-01T03:00:00Z".parse().unwrap();
            let mut server = Self { now, facts: redis_facts(), seen: None, memory: CacheMemory::default() };
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
            self.look(healthy);
        }

        fn look(&mut self, healthy: bool) {
            let look = self.facts.clone().after(self.now, self.seen.as_deref());
            self.memory.learn(self.now, &look, WINDOW, healthy);
            self.seen = Some(look);
        }

        fn maybe_trend(&self) -> Option<CacheTrend> {
            self.memory.trend(self.seen.as_ref()?, WINDOW)
        }

        fn trend(&self) -> CacheTrend {
            self.maybe_trend().unwrap()
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
        assert_eq!(server.maybe_trend(), None, "another server has a past of its own");
    }

    #[test]
    fn counters_that_go_back_in_one_life_begin_anew() {
        let mut server = Server::warm();
        server.facts.counters = RedisCounters::default();
        server.second(1, 0, true);
        assert_eq!(server.maybe_trend(), None);
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
            server.look(true);
        }
        let looks = server.seen.as_ref().unwrap().history.counting().len();
        assert!(looks <= 128 && server.memory.healthy.len() <= 60, "{looks}");
        let trend = server.trend();
        assert!(elapsed(trend.to, trend.from) >= WINDOW - SECOND, "{trend:?}");
    }
}
