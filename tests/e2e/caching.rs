//! A Redis cache behind the target: what is usual for it is learned, and when it loses what it held that is the cause.

use std::time::Duration;

use lab::redis::Stop;
use lab::{Redis, RedisOptions};
use latency_operator::connections::redis::RIGHTS;
use serde_json::{Value, json};

use crate::support::{PASSWORD, SOON, World, eventually, kubectl, run, slow};

pub(crate) const KEYS: usize = 1000;

/// A world with a cache that is full and in use.
pub(crate) struct Cached {
    pub(crate) world: World,
    pub(crate) redis: Redis,
    _lookups: Lookups,
}

/// Ends when it is dropped.
struct Lookups(tokio::task::JoinHandle<()>);

impl Drop for Lookups {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cached {
    async fn new(namespace: &str) -> Self {
        Self::within(World::new(namespace).await).await
    }

    pub(crate) async fn within(mut world: World) -> Self {
        let user = format!("on >{PASSWORD} resetkeys -@all {RIGHTS}");
        let options = RedisOptions::default().password("of the application").user("latency-operator", user);
        let redis = Redis::start(&world.lab.session, options).await.expect("Redis");
        redis.fill(0, "key", KEYS, 100).await.expect("filled");
        let lookups = look_up(redis.port());
        secret(&world, redis.port(), PASSWORD).await;
        world.operate().await;
        Self { world, redis, _lookups: lookups }
    }

    /// How often the operator has looked, by the server's own count.
    async fn looks(&self) -> u64 {
        let text = self.redis.execute(&["INFO", "commandstats"]).await.ok();
        let text: String = text.and_then(|text| redis::from_redis_value(text).ok()).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_slowlog|get:calls="));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
    }

    /// Everything is calm, and the cache was looked at often enough that it is known what is usual for it.
    pub(crate) async fn until_known(&self) {
        self.world.until_calm().await;
        let before = self.looks().await;
        eventually("it is known what is usual", SOON, async || {
            (self.looks().await >= before + 5).then_some(())
        })
        .await;
    }

    /// Waits until the cause is told, and returns the Event.
    pub(crate) async fn until_cold(&self) -> String {
        let found = lab::until(SOON, async || {
            let events = self.world.events().await;
            events.into_iter().find(|event| event.starts_with("CauseFound") && event.contains("ColdCache"))
        });
        match found.await {
            Some(event) => event,
            None => panic!(
                "no cold cache; there are {:#?}\n{}",
                self.world.events().await,
                self.world.operator_log()
            ),
        }
    }
}

/// The application: some 200 lookups a second, 95 of 100 of keys that are there as long as nobody removes them. It connects
/// again where it is cut off.
fn look_up(port: u16) -> Lookups {
    let url = format!("redis://:of%20the%20application@127.0.0.1:{port}");
    Lookups(tokio::spawn(async move {
        let client = redis::Client::open(url).expect("a client");
        let mut turn = 0;
        loop {
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            loop {
                let mut pipeline = redis::pipe();
                for number in 0..19 {
                    pipeline.cmd("GET").arg(format!("key:{}", (turn * 19 + number) % KEYS)).ignore();
                }
                pipeline.cmd("GET").arg("nothing").ignore();
                if pipeline.query_async::<()>(&mut connection).await.is_err() {
                    break;
                }
                turn += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }))
}

async fn secret(world: &World, port: u16, password: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "orders-redis", "labels": {"latency-operator.dev/allowed": "true"}},
        "stringData": {"uri": format!("redis://latency-operator:{password}@127.0.0.1:{port}/0")},
    });
    world.apply(object).await;
}

/// Beside the database there is a cache, and nothing is done about it.
pub(crate) fn with_cache(policy: &mut Value) {
    let cache = json!({"name": "cache", "type": "Redis", "redis": {"secretRef": {"name": "orders-redis"}}});
    policy["spec"]["dependencies"].as_array_mut().expect("a list").push(cache);
}

#[test]
fn a_flushed_cache_is_found_to_be_the_cause() {
    run(async {
        let cached = Cached::new("cold-cache").await;
        let world = &cached.world;
        world.policy(with_cache).await;
        cached.until_known().await;
        cached.redis.execute(&["FLUSHALL"]).await.expect("flushed");
        world.exporter.set(slow());

        let event = cached.until_cold().await;
        assert!(event.contains("it was flushed (keys: 1000, then 0)"), "{event}");
        for what in [["lp", "orders-api"], ["li", ""]] {
            let args = ["get", what[0], "-n", &world.namespace, "-o", "wide"];
            let shown = kubectl(&world.lab.control_plane, &args, "").await;
            assert!(shown.contains("ColdCache"), "{shown}");
        }
        let incidents = world.incidents().list(&Default::default()).await.expect("incidents").items;
        let written = serde_json::to_string(&incidents).expect("JSON");
        assert!(written.contains("ColdCache (Likely): ") && !written.contains(PASSWORD), "{written}");
        assert!(!world.operator_log().contains(PASSWORD));
        assert_eq!(world.signals(), 0);
    });
}

#[test]
fn a_cache_that_is_away_is_told_and_one_that_was_started_anew_is_cold() {
    run(async {
        let mut cached = Cached::new("cache-away").await;
        cached.world.policy(with_cache).await;
        cached.until_known().await;
        cached.redis.stop(Stop::Forgetting).await.expect("stopped");
        let told = cached.world.until_condition("DataAvailable", "False/Unreachable").await;
        assert!(told.contains("cache: 127.0.0.1:"), "{told}");
        // Everything else goes on.
        cached.world.until_condition("Ready", "True").await;
        cached.world.until_condition("WithinObjective", "True").await;
        cached.world.until_looked(3).await;

        cached.redis.start_again().await.expect("started");
        cached.world.until_condition("DataAvailable", "True").await;
        cached.world.exporter.set(slow());
        let event = cached.until_cold().await;
        assert!(event.contains("it was started anew at") && event.contains("95% are usual"), "{event}");
    });
}

#[test]
fn a_wrong_password_of_a_cache_is_told_and_a_new_one_is_used_without_a_restart() {
    run(async {
        let cached = Cached::new("cache-password").await;
        let (world, port) = (&cached.world, cached.redis.port());
        secret(world, port, "a-bad-guess").await;
        world.policy(with_cache).await;
        let told = world.until_condition("Ready", "False/AuthenticationFailed").await;
        assert!(told.contains("spec.dependencies[cache]") && told.contains("in the Secret"), "{told}");
        assert!(!told.contains("a-bad-guess") && !world.operator_log().contains("a-bad-guess"), "{told}");
        secret(world, port, PASSWORD).await;
        world.until_condition("Ready", "True").await;
        world.until_calm().await;

        // What it may not read any more is told, and the rest is read.
        cached.redis.execute(&["ACL", "SETUSER", "latency-operator", "-slowlog|get"]).await.expect("revoked");
        eventually("the right is named", SOON, async || {
            let ready = world.condition("Ready").await;
            ready.contains("run: ACL SETUSER latency-operator +slowlog|get").then_some(())
        })
        .await;
        world.until_calm().await;
    });
}

#[test]
fn ten_policies_with_one_cache_share_its_looks() {
    run(async {
        let cached = Cached::new("cache-shared").await;
        for number in 0..10 {
            let own = |policy: &mut Value| {
                with_cache(policy);
                policy["metadata"]["name"] = format!("orders-{number}").into();
                policy["spec"]["mode"] = "Observe".into();
            };
            cached.world.policy(own).await;
        }
        for number in 0..10 {
            let name = format!("orders-{number}");
            cached.world.until_condition_of(&name, "DataAvailable", "True").await;
        }
        let before = cached.looks().await;
        cached.world.until_looked(100).await;
        let looks = cached.looks().await - before;
        assert!((1..=10).contains(&looks), "{looks} looks in a hundred evaluations");
    });
}
