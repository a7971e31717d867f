//! A Redis cache that is full and in use.

use std::time::Duration;

use lab::{Redis, RedisOptions};
use latency_operator::connections::redis::RIGHTS;
use serde_json::{Value, json};

use super::{PASSWORD, SOON, World};

pub(crate) const KEYS: usize = 1000;

/// The lookups of the application. They end when this is dropped.
pub(crate) struct Lookups(tokio::task::JoinHandle<()>);

impl Drop for Lookups {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The cache, with its Secret in the world's namespace, and those who use it.
pub(crate) async fn start(world: &World) -> (Redis, Lookups) {
    start_with(world, PASSWORD, "key").await
}

/// The same with another password, and other names of keys.
pub(crate) async fn start_with(world: &World, password: &str, prefix: &'static str) -> (Redis, Lookups) {
    let user = format!("on >{password} resetkeys -@all {RIGHTS}");
    let options = RedisOptions::default().password("of the application").user("latency-operator", user);
    let redis = Redis::start(&world.lab.session, options).await.expect("Redis");
    redis.fill(0, prefix, KEYS, 100).await.expect("filled");
    let lookups = look_up(redis.port(), prefix);
    secret(world, redis.port(), password).await;
    (redis, lookups)
}

/// The application: some 200 lookups a second, 95 of 100 of keys that are there as long as nobody removes them. It connects
/// again where it is cut off.
fn look_up(port: u16, prefix: &'static str) -> Lookups {
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
                    pipeline.cmd("GET").arg(format!("{prefix}:{}", (turn * 19 + number) % KEYS)).ignore();
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

pub(crate) async fn secret(world: &World, port: u16, password: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "orders-redis", "labels": {"latency-operator.dev/allowed": "true"}},
        "stringData": {"uri": format!("redis://latency-operator:{password}@127.0.0.1:{port}/0")},
    });
    world.apply(object).await;
}

/// Beside the database there is a cache, and nothing is done about it.
pub(crate) fn with_cache(policy: &mut Value) {
    let cache = json!({"name": "cache", "type": "Redis", "secretRef": {"name": "orders-redis"}, "redis": {}});
    policy["spec"]["dependencies"].as_array_mut().expect("a list").push(cache);
}

/// How often the operator has looked, by the server's own count.
pub(crate) async fn looks(redis: &Redis) -> u64 {
    let text = redis.execute(&["INFO", "commandstats"]).await.ok();
    let text: String = text.and_then(|text| redis::from_redis_value(text).ok()).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_slowlog|get:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// Waits until the operator knows what is usual for the cache. It learns that of three looks while all is well; the first look has
/// nothing to compare with, and of one that is under way it has not learned yet.
#[allow(dead_code, reason = "the sweep waits in another way")]
pub(crate) async fn until_known(world: &World, redis: &Redis) {
    let enough = looks(redis).await + 5;
    let known = lab::until(SOON, async || (looks(redis).await >= enough).then_some(()));
    if known.await.is_none() {
        let so_far = looks(redis).await;
        panic!("{so_far} looks at the cache, and not {enough}\n{}", world.operator_log());
    }
}

/// The application has put everything back.
#[allow(dead_code, reason = "only the sweep does so")]
pub(crate) async fn fill(port: u16) {
    let url = format!("redis://:of%20the%20application@127.0.0.1:{port}");
    let client = redis::Client::open(url).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut pipeline = redis::pipe();
    for number in 0..KEYS {
        pipeline.cmd("SET").arg(format!("key:{number}")).arg("x".repeat(100)).ignore();
    }
    pipeline.query_async::<()>(&mut connection).await.expect("filled");
}
