//! What is made of several looks: losses, evictions, restarts, of a real server.

use std::time::Duration;

use engine::model::{CacheMemory, CacheTrend, LossKind, RedisFacts, RedisLook};
use jiff::Timestamp;
use lab::redis::Stop;
use latency_operator::connections::Redis;

use crate::support::{WATCHER, World, options, read, until_facts};

/// A window is longer than everything that a test does.
const WINDOW: Duration = Duration::from_secs(600);

struct Watched {
    world: World,
    connection: Redis,
    memory: CacheMemory,
    seen: Option<RedisFacts>,
    now: Timestamp,
}

impl Watched {
    /// A server with a thousand keys that was seen five times with a hit ratio of 95%, a second apart by our clock.
    async fn warm(options: lab::RedisOptions) -> Self {
        let world = World::with(options).await;
        let connection = world.connection(WATCHER);
        let mut watched =
            Self { world, connection, memory: CacheMemory::default(), seen: None, now: Timestamp::now() };
        watched.world.server.fill(0, "key", 1000, 100).await.expect("filled");
        watched.look().await;
        for _ in 0..5 {
            watched.ask(95, 5).await;
            watched.look().await;
        }
        let usual = watched.trend().baseline.expect("it is known what is usual");
        assert!((usual.ratio - 0.95).abs() < 0.001 && usual.keys == 1000, "{usual:?}");
        watched
    }

    /// So many lookups that find their key while it is warm, and so many that never do.
    async fn ask(&self, hits: usize, misses: usize) {
        let mut client = self.world.server.admin().await.expect("a client");
        let mut pipeline = redis::pipe();
        for number in 0..hits {
            pipeline.cmd("GET").arg(format!("key:{number}")).ignore();
        }
        for number in 0..misses {
            pipeline.cmd("GET").arg(format!("nothing:{number}")).ignore();
        }
        pipeline.query_async::<()>(&mut client).await.expect("answers");
    }

    async fn look(&mut self) -> RedisLook {
        let look = read(&self.connection).await.expect("facts");
        self.remember(look.clone());
        look
    }

    fn remember(&mut self, look: RedisLook) {
        self.now = self.now.checked_add(Duration::from_secs(1)).expect("a time");
        let facts = look.after(self.now, self.seen.as_deref());
        self.memory.learn(self.now, &facts, WINDOW, true);
        self.seen = Some(facts);
    }

    fn trend(&self) -> CacheTrend {
        let seen = self.seen.as_ref().expect("a look");
        self.memory.trend(seen, WINDOW).expect("a trend")
    }

    /// How it lost what it held, after two more looks at a server that finds nothing.
    async fn loss(&mut self) -> (LossKind, u64, u64) {
        self.look().await;
        self.ask(95, 5).await;
        self.look().await;
        let trend = self.trend();
        assert_eq!(trend.is_cold(), Some(true), "{trend:#?}");
        let loss = trend.loss.expect("it lost what it held");
        assert!(trend.baseline.is_some_and(|usual| usual.ratio > 0.94), "what is usual is still known");
        (loss.kind, loss.before, loss.after)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_seen() {
    for command in ["FLUSHALL", "FLUSHDB"] {
        let mut watched = Watched::warm(options()).await;
        watched.world.admin(&[command]).await;
        assert_eq!(watched.loss().await, (LossKind::Flush, 1000, 0), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_seen_as_one_and_what_is_usual_stays_known() {
    for how in [Stop::Forgetting, Stop::Kill] {
        let mut watched = Watched::warm(options()).await;
        watched.world.server.restart(how).await.expect("restarted");
        let facts = until_facts(&watched.connection, |_| true).await;
        watched.remember(facts);
        assert_eq!(watched.loss().await, (LossKind::Restart, 1000, 0), "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_are_seen_and_press_the_server() {
    let options = options().setting("maxmemory", "3mb").setting("maxmemory-policy", "allkeys-lru");
    let mut watched = Watched::warm(options).await;
    // In several steps, each of which drops what was there.
    for round in 0..2 {
        watched.world.server.fill(0, &format!("other:{round}"), 400, 10_000).await.expect("filled");
        let facts = watched.look().await;
        assert!(facts.counters.evicted > 100, "{facts:#?}");
    }
    let trend = watched.trend();
    assert_eq!(trend.loss.map(|loss| loss.kind), Some(LossKind::Eviction));
    assert!(trend.evicted > 100 && trend.pressed_since.is_some(), "{trend:#?}");
}
