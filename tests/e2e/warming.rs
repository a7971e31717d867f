//! A cache that has lost what it held is filled by its own application, which is asked for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::caching::Cached;
use crate::support::cached::{KEYS, with_cache};
use crate::support::{SOON, World, calm, eventually, outcome, run, slow};

/// How often each of the two paths is asked for, once a second: what is to stop it is noticed by this machine before it is over.
fn requests_per_path() -> usize {
    usize::try_from(lab::patience(Duration::from_secs(6)).as_secs()).expect("a small number")
}

/// A cold cache may be warmed by two requests a second, for some seconds.
fn with_warming(policy: &mut Value) {
    with_cache(policy);
    let within = format!("{}s", lab::patience(Duration::from_secs(10)).as_secs());
    let warm = json!({
        "serviceName": "orders-api", "port": "http", "paths": ["/api/v1/portfolios", "/api/v1/orders?page=1"],
        "requestsPerPath": requests_per_path(), "ratePerSecond": 2, "inFlight": 1, "within": within,
    });
    policy["spec"]["remediations"] = json!([{"name": "warm", "causes": ["ColdCache"], "action": {"type": "WarmCache", "warmCache": warm}}]);
}

/// A cache in use, known for what is usual, with an application that can be asked.
async fn known(namespace: &str) -> Cached {
    let mut world = World::new(namespace).await;
    world.serve().await;
    let cached = Cached::within(world).await;
    cached.world.policy(with_warming).await;
    cached.until_known().await;
    cached
}

impl Cached {
    async fn goes_cold(&self) {
        self.redis.execute(&["FLUSHALL"]).await.expect("flushed");
        self.world.exporter.set(slow());
    }

    async fn until_asked(&self, times: usize) {
        eventually("the target is asked", SOON, async || (self.world.asked().len() >= times).then_some(()))
            .await;
    }
}

#[test]
fn a_flushed_cache_is_warmed_and_the_api_is_well_again() {
    run(async {
        let cached = known("warmed").await;
        cached.goes_cold().await;
        cached.until_asked(1).await;
        // The application stores what it was asked for.
        cached.redis.fill(0, "key", KEYS, 100).await.expect("filled");
        cached.world.exporter.set(calm());
        let remediation = cached.world.until_phase("Completed").await;
        assert_eq!(outcome(&remediation), "Healed", "{:?}", remediation.status);
        cached.world.until_event("ObjectiveRecovered").await;
        let asked = cached.world.asked();
        let all = 2 * requests_per_path();
        assert!(asked.len() <= all, "{asked:?}");
        let paths: Vec<&str> = asked.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(paths[0], "/api/v1/portfolios");
        assert!(paths.iter().skip(1).step_by(2).all(|path| *path == "/api/v1/orders?page=1"), "{paths:?}");
        let started = cached.world.until_event("RemediationStarted").await;
        let said = format!("warm cache by {all} requests to Service orders-api, 2 a second");
        assert!(started.contains(&said), "{started}");
    });
}

#[test]
fn a_database_that_is_in_trouble_already_is_not_asked_for_more() {
    run(async {
        let cached = known("not-warmed").await;
        let world = &cached.world;
        let _report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        cached.goes_cold().await;
        let blocked = world.until_event("RemediationBlocked").await;
        assert!(blocked.contains("refused by DatabaseHealthy: RunawayQuery"), "{blocked}");
        world.until_looked(3).await;
        assert_eq!(world.asked(), []);
        assert_eq!(world.signals(), 0);
    });
}

#[test]
fn a_database_that_gets_into_trouble_stops_it() {
    run(async {
        let cached = known("warming-slower").await;
        cached.goes_cold().await;
        cached.until_asked(1).await;
        let _report = cached.world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let message = cached.until_said("it was stopped").await;
        assert!(message.contains("DatabaseHealthy: RunawayQuery"), "{message}");
        let asked = cached.world.asked().len();
        cached.world.until_looked(3).await;
        assert_eq!(cached.world.asked().len(), asked);
    });
}

#[test]
fn evictions_stop_it() {
    run(async {
        let cached = known("warming-evicts").await;
        cached.goes_cold().await;
        cached.until_asked(1).await;
        cached.redis.execute(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.expect("a policy");
        cached.redis.fill(0, "more", 5000, 1000).await.expect("filled");
        cached.redis.execute(&["CONFIG", "SET", "maxmemory", "4mb"]).await.expect("a limit");
        cached.redis.fill(0, "other", 100, 1000).await.expect("filled");
        let message = cached.until_said("it was stopped").await;
        assert!(message.contains("has begun to evict keys"), "{message}");
        let asked = cached.world.asked().len();
        cached.world.until_looked(3).await;
        assert_eq!(cached.world.asked().len(), asked);
    });
}

#[test]
fn a_pause_stops_it() {
    run(async {
        let cached = known("warming-paused").await;
        cached.goes_cold().await;
        cached.until_asked(1).await;
        cached.world.annotate("latencypolicy", "orders-api", Some("forever")).await;
        let message = cached.until_said("it was stopped").await;
        assert!(message.contains("Paused: "), "{message}");
    });
}

#[test]
fn an_interrupted_run_is_not_repeated() {
    run(async {
        let mut cached = known("warming-killed").await;
        cached.goes_cold().await;
        cached.until_asked(2).await;
        let operator = cached.world.operator.take().expect("an operator");
        operator.kill().await.expect("killed");
        let asked = cached.world.asked().len();
        cached.redis.fill(0, "key", KEYS, 100).await.expect("filled");
        cached.world.exporter.set(calm());
        cached.world.operate().await;
        let remediation = cached.world.until_phase("Completed").await;
        assert_eq!(outcome(&remediation), "RecoveredUnattributed", "{:?}", remediation.status);
        assert_eq!(cached.world.asked().len(), asked, "somebody went on with it");
    });
}

#[test]
fn a_frozen_operator_asks_for_nothing_more_after_its_lease() {
    run(async {
        let mut cached = known("warming-frozen").await;
        cached.goes_cold().await;
        cached.until_asked(2).await;
        let frozen = cached.world.operator.take().expect("an operator");
        frozen.pause();
        let asked = cached.world.asked().len();
        // A successor leads, and finds that it was interrupted.
        cached.world.operate().await;
        cached.until_said("it was interrupted").await;
        frozen.resume();
        frozen.ended(Duration::from_secs(30)).await.expect("whoever has lost the Lease ends");
        // One may have been under way.
        let after = cached.world.asked().len();
        assert!(after <= asked + 1, "{asked} before, {after} after");
    });
}

#[test]
fn other_peoples_pods_are_not_asked_and_no_redirect_is_followed() {
    run(async {
        let cached = known("warming-elsewhere").await;
        let world = &cached.world;
        world.lab.control_plane.deployment(&world.namespace, "other", 1).await.expect("a Deployment");
        world.service("other").await;
        cached.goes_cold().await;
        let message = cached.until_said("it did nothing").await;
        assert!(message.contains("0 succeeded") && message.contains("NotOfTarget"), "{message}");
        assert_eq!(world.asked(), []);
    });
    run(async {
        let cached = known("warming-redirected").await;
        cached.world.target.as_ref().expect("a target").answers(302);
        cached.goes_cold().await;
        let message = cached.until_said("it did nothing").await;
        assert!(message.contains("it answered 302, and no redirect is followed"), "{message}");
        assert_eq!(cached.world.asked().len(), 3, "three failures in a row are enough");
    });
}

impl Cached {
    /// Waits until the remediation's Events have said that, and returns the sentence.
    async fn until_said(&self, words: &str) -> String {
        let found = lab::until(SOON, async || {
            let all = self.world.remediations().list(&Default::default()).await.expect("remediations").items;
            let messages = all.into_iter().filter_map(|one| one.status?.message.map(|message| message.0));
            let told = self.world.events().await;
            messages.chain(told).chain(self.logged(words)).find(|message| message.contains(words))
        });
        match found.await {
            Some(message) => message,
            None => panic!("nobody said {words:?}:\n{}", self.world.operator_log()),
        }
    }

    /// A status lasts until the next one; the log has all of them.
    fn logged(&self, words: &str) -> Option<String> {
        self.world.operator_log().lines().find(|line| line.contains(words)).map(str::to_owned)
    }
}
