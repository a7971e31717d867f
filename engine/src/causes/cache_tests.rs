//! The causes that are looked for in a Redis server, on one that is well and then is not.

use std::time::Duration;

use jiff::Timestamp;

use super::diagnose;
use crate::guards::testing::{Setup, redis_facts};
use crate::model::{
    CacheUse, CommandUse, Confidence, Dependency, Facts, Finding, Learning, Memory, NoDataReason, Observed,
    RedisDependency, RedisFacts, RedisLook, SlowCommand, earlier, later,
};

const SECOND: Duration = Duration::from_secs(1);

struct Server {
    setup: Setup,
    state: Memory,
    facts: RedisLook,
    seen: Option<RedisFacts>,
    now: Timestamp,
    first_breached_at: Timestamp,
}

impl Server {
    /// Seen for twenty healthy seconds, 95 of 100 lookups a second found; the breach begins now.
    fn warm(usage: CacheUse) -> Self {
        let mut setup = Setup::acting();
        let declared = RedisDependency { secret: "orders-redis".into(), usage };
        setup.snapshot.policy.dependencies.insert("cache".into(), Dependency::Redis(declared));
        let now = setup.now;
        let mut server = Self {
            setup,
            state: Memory::default(),
            facts: redis_facts(),
            seen: None,
            now,
            first_breached_at: now,
        };
        for _ in 0..20 {
            server.second(95, 5, true);
        }
        server.first_breached_at = server.now;
        server
    }

    fn second(&mut self, hits: u64, misses: u64, healthy: bool) {
        self.now = later(self.now, SECOND);
        self.facts.clock = self.now;
        self.facts.counters.hits += hits;
        self.facts.counters.misses += misses;
        let window = self.setup.snapshot.policy.evaluation.window;
        let look = self.facts.clone().after(self.now, self.seen.as_deref());
        let facts = Facts::Redis(look.clone());
        let memory = self.state.dependencies.entry("cache".into()).or_default();
        memory.learn(self.now, Some((self.now, &facts)), Learning { window, healthy });
        self.seen = Some(look);
    }

    fn found(&mut self, cause: &str) -> Option<Finding> {
        let history = self.seen.as_ref().map(|look| look.history.clone()).unwrap_or_default();
        let facts = RedisFacts::from(RedisLook { history, ..self.facts.clone() });
        let read = Observed::Known { at: self.now, value: facts.into() };
        self.setup.snapshot.observations.dependencies.insert("cache".into(), read);
        let findings = diagnose(&self.setup.snapshot, &self.state, self.first_breached_at);
        findings.into_iter().find(|finding| finding.cause == cause)
    }

    fn flush(&mut self) {
        self.facts.keys = 0;
        self.facts.commands.push(CommandUse { name: "flushall".into(), calls: 1, usec: 10 });
        self.second(0, 100, false);
        self.second(0, 100, false);
    }
}

#[test]
fn a_flush_at_the_beginning_of_the_breach_is_a_cold_cache() {
    let mut server = Server::warm(CacheUse::Cache);
    assert_eq!(server.found("ColdCache"), None);
    server.flush();
    let found = server.found("ColdCache").unwrap();
    assert_eq!((found.confidence, found.advice), (Confidence::Likely, false));
    assert!(
        found.sentence.contains("0% of the lookups") && found.sentence.contains("flushed"),
        "{}",
        found.sentence
    );
    server.first_breached_at = later(server.now, Duration::from_secs(300));
    assert_eq!(
        server.found("ColdCache").unwrap().confidence,
        Confidence::Possible,
        "it was cold long before"
    );
}

#[test]
fn what_hands_tasks_to_workers_is_no_cache() {
    let mut server = Server::warm(CacheUse::Broker);
    server.flush();
    assert_eq!(server.found("ColdCache"), None);
}

#[test]
fn a_ratio_that_fell_without_a_loss_is_possible_and_one_that_is_merely_low_is_advice() {
    let mut server = Server::warm(CacheUse::Cache);
    for _ in 0..15 {
        server.second(50, 50, false);
    }
    let fell = server.found("ColdCache").unwrap();
    assert_eq!((fell.confidence, fell.advice), (Confidence::Possible, false));
    // Nothing is known of what is usual.
    (server.state, server.seen) = (Memory::default(), None);
    server.second(50, 50, false);
    assert_eq!(server.found("ColdCache"), None);
    server.second(50, 50, false);
    let low = server.found("ColdCache").unwrap();
    assert_eq!((low.confidence, low.advice), (Confidence::Possible, true));
    let thresholds = &mut server.setup.snapshot.policy.thresholds;
    thresholds.entry("ColdCache".into()).or_default().below = Some(0.4);
    assert_eq!(server.found("ColdCache"), None);
}

#[test]
fn a_full_cache_evicts_or_refuses() {
    let mut server = Server::warm(CacheUse::Cache);
    assert_eq!(server.found("CacheEvicting"), None);
    server.facts.counters.evicted += 7;
    server.second(95, 5, false);
    let evicting = server.found("CacheEvicting").unwrap();
    assert!(evicting.sentence.contains("dropped 7 keys"), "{}", evicting.sentence);
    assert_eq!(evicting.confidence, Confidence::Likely);
    server.second(95, 5, false);
    assert_eq!(server.found("CacheEvicting"), None, "it has stopped");
    server.facts.memory.used = 100_000_000;
    server.facts.memory.policy = "noeviction".into();
    server.second(95, 5, false);
    assert!(server.found("CacheEvicting").unwrap().sentence.contains("every write to it fails"));
}

#[test]
fn slow_commands_and_two_slow_pings_make_a_slow_server() {
    let mut server = Server::warm(CacheUse::Broker);
    let slow = |id, at| SlowCommand { id, name: "keys".into(), took: Duration::from_millis(600), at };
    server.facts.slow = vec![slow(1, earlier(server.now, 60 * SECOND)), slow(2, server.now)];
    assert_eq!(server.found("SlowRedis"), None, "600 ms of 10 s, the other one is long ago");
    server.facts.slow.push(slow(3, server.now));
    let found = server.found("SlowRedis").unwrap();
    assert!(found.sentence.contains("2 of them keys"), "{}", found.sentence);
    assert_eq!(found.confidence, Confidence::Likely);
    server.facts.slow.clear();
    server.facts.ping = Duration::from_millis(300);
    server.second(95, 5, false);
    assert_eq!(server.found("SlowRedis"), None, "once is an accident");
    server.second(95, 5, false);
    assert!(server.found("SlowRedis").unwrap().sentence.contains("300ms"));
}

#[test]
fn clients_near_the_limit_and_refused_ones_are_told() {
    let mut server = Server::warm(CacheUse::Cache);
    server.facts.clients.connected = 9_000;
    assert_eq!(server.found("RedisClientsExhausted").unwrap().confidence, Confidence::Possible);
    server.facts.clients.connected = 10;
    server.facts.counters.rejected += 1;
    server.second(95, 5, false);
    assert_eq!(server.found("RedisClientsExhausted").unwrap().confidence, Confidence::Likely);
    let refused = Observed::missing(NoDataReason::ConnectionsExhausted, "max number of clients reached");
    server.setup.snapshot.observations.dependencies.insert("cache".into(), refused);
    let findings = diagnose(&server.setup.snapshot, &server.state, server.first_breached_at);
    assert!(findings.iter().any(|finding| finding.cause == "RedisClientsExhausted"));
}
