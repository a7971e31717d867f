//! What happened to a Redis server over the last looks. It is the same for everybody who looks at the server, whatever
//! window they judge by.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{RedisCounters, RedisLook};
use crate::base::earlier;
use crate::stats::{Counters, Counting, Held, grown};

/// Minimum number of keys of which the loss of half is noticed.
const LEAST_KEYS: u64 = 10;
/// How long a PING takes at least that is slow: the server serves one command at a time, and something takes its time.
pub const SLOW_PING: Duration = Duration::from_millis(100);

impl Counters for RedisCounters {
    fn since(&self, then: &Self) -> Option<Self> {
        Some(Self {
            hits: grown(self.hits, then.hits)?,
            misses: grown(self.misses, then.misses)?,
            evicted: grown(self.evicted, then.evicted)?,
            expired: grown(self.expired, then.expired)?,
            rejected: grown(self.rejected, then.rejected)?,
            commands: grown(self.commands, then.commands)?,
        })
    }
}

/// How a cache lost what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LossKind {
    /// The server was restarted.
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
                format!("it was restarted at {:.0} (keys: {before}, then {after})", self.since)
            }
            LossKind::Flush => format!("it was flushed (keys: {before}, then {after})"),
            LossKind::Eviction => format!("it dropped keys for want of memory ({before}, then {after})"),
            LossKind::KeyLoss => format!("it lost most of its keys ({before}, then {after})"),
        }
    }
}

/// What is compared besides the counters: levels, and how often the server was flushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Levels {
    run_id: String,
    evicted: u64,
    keys: u64,
    flushes: u64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisHistory {
    counting: Counting<RedisCounters>,
    last: Option<(Timestamp, Levels)>,
    loss: Option<CacheLoss>,
    pressed: Held,
    slow_pings: Held,
}

impl RedisHistory {
    /// Takes in a look at the same server, and keeps the counters of the last `span`. The same look taken in twice is one look.
    pub fn note(&mut self, at: Timestamp, facts: &RedisLook, span: Duration) {
        if self.last.as_ref().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        let now = Levels {
            run_id: facts.server.run_id.clone(),
            evicted: facts.counters.evicted,
            keys: facts.keys,
            flushes: flushes(facts),
        };
        let (since, evicted) = match self.last.take() {
            Some((then, before)) => self.compare((then, &before), (at, &now), facts.uptime),
            None => (at, 0),
        };
        self.pressed.note(evicted > 0 || facts.memory.refuses_writes(), since);
        self.slow_pings.note(facts.ping >= SLOW_PING, at);
        self.counting.note(at, facts.counters, span);
        self.last = Some((at, now));
    }

    /// Sees whether the server lost what it held since the last look. Yields the keys that it dropped for want of memory, and since
    /// when it did.
    fn compare(
        &mut self,
        (then, before): (Timestamp, &Levels),
        (at, now): (Timestamp, &Levels),
        uptime: Duration,
    ) -> (Timestamp, u64) {
        let loss = CacheLoss {
            kind: LossKind::KeyLoss,
            since: then,
            seen_at: at,
            before: before.keys,
            after: now.keys,
        };
        if now.run_id != before.run_id {
            let started_at = earlier(at, uptime).max(then);
            self.loss =
                Some(CacheLoss { kind: LossKind::Restart, since: started_at, seen_at: started_at, ..loss });
            self.counting.restart(started_at, RedisCounters::default());
            return (started_at, now.evicted);
        }
        let evicted = grown(now.evicted, before.evicted).unwrap_or_default();
        let half_is_gone = now.keys <= before.keys / 2;
        let kind = if evicted.saturating_mul(10) >= before.keys {
            Some(LossKind::Eviction)
        } else if half_is_gone && now.flushes > before.flushes {
            Some(LossKind::Flush)
        } else if half_is_gone {
            Some(LossKind::KeyLoss)
        } else {
            None
        };
        if let Some(kind) = kind.filter(|_| before.keys >= LEAST_KEYS) {
            self.loss = Some(CacheLoss { kind, ..loss });
        }
        (then, evicted)
    }

    /// The last loss.
    #[must_use]
    pub fn loss(&self) -> Option<CacheLoss> {
        self.loss
    }

    /// Every look has shown that it drops keys, or refuses writes, for want of memory.
    #[must_use]
    pub fn pressed(&self) -> Held {
        self.pressed
    }

    /// Every look has found its own PING to be slow.
    #[must_use]
    pub fn slow_pings(&self) -> Held {
        self.slow_pings
    }

    /// The counters of the looks in one life of the server.
    #[must_use]
    pub fn counting(&self) -> &Counting<RedisCounters> {
        &self.counting
    }

    /// When the server was last looked at.
    #[must_use]
    pub fn read_at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|(at, _)| *at)
    }
}

fn flushes(facts: &RedisLook) -> u64 {
    let flushes = facts.commands.iter().filter(|command| matches!(&*command.name, "flushall" | "flushdb"));
    flushes.map(|command| command.calls).fold(0, u64::saturating_add)
}
