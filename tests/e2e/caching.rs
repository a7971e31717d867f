//! A Redis cache behind the target: what is usual for it is learned, and when it loses what it held that is the cause.

use lab::Redis;
use lab::redis::Stop;
use serde_json::Value;

use crate::support::cached::{self, secret, with_cache};
use crate::support::{PASSWORD, SOON, World, eventually, kubectl, run, slow};

/// A world with a cache that is full and in use.
pub(crate) struct Cached {
    pub(crate) world: World,
    pub(crate) redis: Redis,
    _lookups: cached::Lookups,
}

impl Cached {
    async fn new(namespace: &str) -> Self {
        Self::within(World::new(namespace).await).await
    }

    pub(crate) async fn within(mut world: World) -> Self {
        let (redis, lookups) = cached::start(&world).await;
        world.operate().await;
        Self { world, redis, _lookups: lookups }
    }

    /// Everything is calm, and the cache was looked at often enough that it is known what is usual for it.
    pub(crate) async fn until_known(&self) {
        self.world.until_calm().await;
        cached::until_known(&self.world, &self.redis).await;
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
        assert!(event.contains("it was restarted at") && event.contains("95% are usual"), "{event}");
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
        let before = cached::looks(&cached.redis).await;
        cached.world.until_looked(100).await;
        let looks = cached::looks(&cached.redis).await - before;
        assert!((1..=10).contains(&looks), "{looks} looks in a hundred evaluations");
    });
}
