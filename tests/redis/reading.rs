//! What one look says, against what the server itself says.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::model::{RedisRole, SecretKeys};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use lab::RedisOptions;
use latency_operator::connections::RedisCredentials;

use crate::support::{PASSWORD, SHORT_SIGHTED, WATCHER, World, connection, options, read, until_facts};

#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_what_the_server_says_with_the_documented_rights_alone() {
    let world =
        World::with(options().setting("maxmemory", "64mb").setting("maxmemory-policy", "allkeys-lru")).await;
    world.server.fill(0, "key", 20, 10).await.expect("filled");
    world.server.fill(3, "other", 7, 10).await.expect("filled");
    for key in ["key:1", "key:2", "key:3", "nothing"] {
        world.admin(&["GET", key]).await;
    }
    let before = Timestamp::now();
    let connection = world.connection(WATCHER);
    let facts = read(&connection).await.expect("facts");
    assert_eq!((facts.keys, facts.counters.hits, facts.counters.misses), (20, 3, 1));
    assert!(facts.counters.commands >= 31, "{facts:#?}");
    assert_eq!((facts.memory.max, &*facts.memory.policy), (Some(64 * 1024 * 1024), "allkeys-lru"));
    assert!(facts.memory.used > 0 && facts.memory.share().is_some_and(|share| share < 0.5));
    assert_eq!((facts.role, facts.clients.max), (RedisRole::Primary, Some(10_000)));
    assert!(world.server.version().contains(&facts.version), "{}", world.server.version());
    assert_eq!(facts.server.peer, format!("127.0.0.1:{}", world.server.port()));
    assert!(facts.clock.duration_since(before).abs().as_secs() < 60, "{}", facts.clock);
    assert!(facts.ping > Duration::ZERO && facts.uptime < Duration::from_secs(60));
    let used = |name: &str| facts.commands.iter().find(|command| command.name == name).map(|used| used.calls);
    assert_eq!((used("get"), used("flushall")), (Some(4), None));
    assert_eq!(facts.unreadable, Vec::<String>::new());

    // Nothing was tried that is not allowed, and nothing was changed or read that is somebody's.
    let refused: Vec<redis::Value> =
        redis::from_redis_value(world.admin(&["ACL", "LOG"]).await).expect("a list");
    assert!(refused.is_empty(), "{refused:?}");
    let sent = world.ask(&["CLIENT", "LIST"]).await;
    let ours = sent.lines().find(|line| line.contains("user=watcher")).expect("we are connected");
    assert!(ours.contains(" db=0 ") && ours.contains("cmd=slowlog"), "{ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_those_of_the_database_that_the_secret_names() {
    let world = World::start().await;
    world.server.fill(3, "other", 7, 10).await.expect("filled");
    let rights = ["ACL", "SETUSER", WATCHER, "+select"];
    world.admin(&rights).await;
    for (database, keys) in [(0, 0), (3, 7), (15, 0)] {
        let credentials = RedisCredentials { database, ..world.credentials(WATCHER) };
        let facts = read(&connection(credentials)).await.expect("facts");
        assert_eq!((facts.keys, facts.server.database), (keys, database));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_slow_log_the_facts_are_poorer_and_the_right_is_named() {
    let world = World::start().await;
    let connection = world.connection(SHORT_SIGHTED);
    let facts = read(&connection).await.expect("facts");
    assert!(facts.slow.is_empty() && !facts.commands.is_empty());
    assert_eq!(facts.unreadable, [format!("SLOWLOG GET; run: ACL SETUSER {SHORT_SIGHTED} +slowlog|get")]);
    world.admin(&["ACL", "SETUSER", SHORT_SIGHTED, "+slowlog|get"]).await;
    let facts = until_facts(&connection, |facts| facts.unreadable.is_empty()).await;
    assert!(!facts.slow.is_empty());
    // A server on which the command has another name is read all the same.
    let renamed = World::with(options().setting("rename-command", "SLOWLOG \"\"")).await;
    let facts = read(&renamed.connection(WATCHER)).await.expect("facts");
    assert!(facts.unreadable.len() == 1 && facts.unreadable[0].contains("SLOWLOG GET: "), "{facts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_slow_commands_only_the_names_are_kept() {
    let world = World::start().await;
    world.admin(&["SET", "customer:4711", "a-private-value"]).await;
    world.admin(&["KEYS", "customer:*"]).await;
    world.admin(&["EVAL", "return 'a-private-script'", "0"]).await;
    let facts = read(&world.connection(WATCHER)).await.expect("facts");
    let names: Vec<&str> = facts.slow.iter().map(|slow| &*slow.name).collect();
    for name in ["set", "keys", "eval"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let ids: Vec<u64> = facts.slow.iter().map(|slow| slow.id).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    assert!(facts.slow.iter().all(|slow| slow.at.duration_since(facts.clock).abs().as_secs() < 60));
    let shown = format!("{facts:?}");
    assert!(
        !shown.contains("customer") && !shown.contains("private") && !shown.contains(PASSWORD),
        "{shown}"
    );
    for _ in 0..10 {
        world.server.fill(0, "key", 20, 10).await.expect("filled");
    }
    assert_eq!(read(&world.connection(WATCHER)).await.expect("facts").slow.len(), 32, "no more than that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_escapes_in_a_uri_opens_the_door() {
    let world = World::with(RedisOptions::default().password("p@ss/w:rd% #?")).await;
    let uri = format!("redis://:p%40ss%2Fw%3Ard%25%20%23%3F@127.0.0.1:{}/2", world.server.port());
    let data = BTreeMap::from([("uri".to_owned(), ByteString(uri.into_bytes()))]);
    let credentials =
        RedisCredentials::read("shop", "orders-redis", &SecretKeys::default(), &data).expect("credentials");
    let facts = read(&connection(credentials)).await.expect("facts");
    assert_eq!((facts.server.database, &*facts.server.host), (2, "127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_a_full_server_are_facts_and_no_errors() {
    let world = World::with(options().setting("maxmemory-policy", "noeviction")).await;
    let connection = world.connection(WATCHER);
    world.server.fill(0, "key", 20, 10_000).await.expect("filled");
    assert!(!read(&connection).await.expect("facts").memory.refuses_writes());
    world.admin(&["CONFIG", "SET", "maxmemory", "100kb"]).await;
    world.server.fill(0, "key", 1, 10).await.expect_err("it is full");
    assert!(read(&connection).await.expect("facts").memory.refuses_writes());

    // Its copy hears from it, or not; either way it is read, also where it serves nobody then.
    let copies = options().setting("replica-serve-stale-data", "no");
    let copy = RedisOptions { replica_of: Some(world.server.port()), ..copies };
    let copy = lab::Redis::start(&world.session, copy).await.expect("a replica");
    let copied = World { server: copy, session: world.session.clone() };
    let connection = copied.connection(WATCHER);
    until_facts(&connection, |facts| facts.role == RedisRole::Replica { link_up: true }).await;
    let World { server, .. } = world;
    server.stop(lab::redis::Stop::Kill).await.expect("killed");
    until_facts(&connection, |facts| facts.role == RedisRole::Replica { link_up: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_save_is_read() {
    let world = World::with(options().setting("save", "3600 1").setting("dbfilename", "dump.rdb")).await;
    // Where it would write there is a folder, from now on.
    let folder = world.server.log().parent().expect("a folder").join("redis-1/dump.rdb");
    std::fs::create_dir(&folder).expect("a folder in its way");
    world.admin(&["SET", "key", "value"]).await;
    let connection = world.connection(WATCHER);
    let refuses = lab::until(crate::support::SOON, async || {
        let _ = world.server.execute(&["BGSAVE"]).await;
        world.server.execute(&["SET", "key", "value"]).await.err()
    });
    let refused = refuses.await.expect("it refuses writes").to_string();
    assert!(refused.contains("MISCONF"), "{refused}");
    assert_eq!(read(&connection).await.expect("facts").keys, 1);
}
