//! What keeps us from reading a server is told apart, and passes when it passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::model::NoDataReason;
use lab::RedisOptions;
use lab::redis::Stop;
use latency_operator::connections::{Redis, RedisCredentials, Registry};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    BLIND, MUTE, PASSWORD, SOON, WATCHER, World, connection, nobody_at, options, read, told, trouble,
    until_facts,
};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_secret_is_told_apart() {
    let world = World::with(options().password("another-password")).await;
    let right = world.credentials(WATCHER);
    let guess = RedisCredentials { password: Some("a-bad-guess".to_owned()), ..right.clone() };
    let none = RedisCredentials { user: None, password: None, ..right.clone() };
    let nobody = RedisCredentials { user: Some("nobody".to_owned()), ..right.clone() };
    let by_default = RedisCredentials { user: None, ..right.clone() };
    for (credentials, words) in [
        (guess.clone(), "refused user watcher; mend user and password in the Secret"),
        (none, "asks for a password; mend user and password in the Secret"),
        (nobody, "refused user nobody"),
        (by_default, "refused user default"),
    ] {
        told(credentials, NoDataReason::AuthenticationFailed, words).await;
    }
    let no_data = trouble(&connection(guess)).await;
    assert!(!no_data.detail.contains("a-bad-guess"), "{no_data}");

    let (denied, invalid) = (NoDataReason::PermissionDenied, NoDataReason::SecretInvalid);
    let rights = "run: ACL SETUSER mute +ping +info +slowlog|get";
    told(world.credentials(MUTE), denied, rights).await;
    told(world.credentials(BLIND), denied, "may not run INFO; run: ACL SETUSER blind +ping").await;
    let elsewhere = RedisCredentials { database: 3, ..right };
    told(elsewhere, denied, "run: ACL SETUSER watcher +select").await;
    let root = RedisCredentials { user: None, password: Some("another-password".to_owned()), ..nobody_at(0) };
    let root = |database| RedisCredentials { port: world.server.port(), database, ..root.clone() };
    told(root(16), invalid, "has no database 16; mend db in the Secret").await;
    read(&connection(root(15))).await.expect("facts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_for_a_server_without_one_is_told() {
    let world = World::with(RedisOptions::default()).await;
    let credentials = nobody_at(world.server.port());
    told(credentials.clone(), NoDataReason::AuthenticationFailed, "wants no password").await;
    let facts = read(&connection(RedisCredentials { password: None, ..credentials })).await;
    assert_eq!(facts.expect("facts").server.port, world.server.port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unreachable_and_one_that_never_answers_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // The kernel takes connections for a listener that never looks.
    told(nobody_at(port), NoDataReason::Timeout, "did not take a connection within").await;
    let no_password = RedisCredentials { password: None, ..nobody_at(port) };
    told(no_password, NoDataReason::Timeout, "did not answer within").await;
    drop(listener);
    told(nobody_at(port), NoDataReason::Unreachable, &format!("127.0.0.1:{port} cannot be reached")).await;
    let nowhere = RedisCredentials { host: "cache.shop.invalid".to_owned(), ..nobody_at(port) };
    told(nowhere, NoDataReason::Unreachable, "cannot be resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_not_tried_again_by_everybody_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let closing = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let connection = connection(nobody_at(port));
    let all = (0..50).map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move { trouble(&connection).await.reason })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.expect("no panic"), NoDataReason::Unreachable);
    }
    // One; a second on a machine so slow that a second has passed.
    let tries = tries.load(Ordering::SeqCst);
    assert!((1..=2).contains(&tries), "{tries}");
    closing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_have_the_same_credentials_share_one_connection() {
    let world = World::start().await;
    let registry = Registry::default();
    let connections = (0..20).map(|_| registry.connection::<Redis>(&Arc::new(world.credentials(WATCHER))));
    let looks = connections.map(|connection| tokio::spawn(async move { read(&connection).await }));
    for look in looks.collect::<Vec<_>>() {
        look.await.expect("no panic").expect("facts");
    }
    let clients = world.ask(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.matches("user=watcher").count(), 1, "{clients}");
    // Other credentials are another connection, and another database is as well.
    let other = RedisCredentials { user: None, password: None, ..world.credentials(WATCHER) };
    read(&registry.connection::<Redis>(&Arc::new(other.clone()))).await.expect("facts");
    read(&registry.connection::<Redis>(&Arc::new(RedisCredentials { database: 1, ..other })))
        .await
        .expect("facts");
    let clients = world.ask(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.matches("user=default").count(), 2, "{clients}");
    // What nobody holds is closed.
    drop(registry);
    let gone = lab::until(SOON, async || {
        let clients = world.ask(&["CLIENT", "LIST"]).await;
        (!clients.contains("user=watcher") && !clients.contains("user=default")).then_some(())
    });
    gone.await.expect("they are closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_the_same_one_in_another_life() {
    let mut world = World::start().await;
    let connection = world.connection(WATCHER);
    let mut before = read(&connection).await.expect("facts").server;
    for how in [Stop::Saving, Stop::Forgetting, Stop::Kill] {
        world.server.restart(how).await.expect("restarted");
        let after = until_facts(&connection, |_| true).await.server;
        assert_ne!(after.run_id, before.run_id, "{how:?}: another life");
        assert_eq!((&after.host, after.port, after.database), (&before.host, before.port, before.database));
        before = after;
    }
    world.server.stop(Stop::Forgetting).await.expect("stopped");
    for _ in 0..2 {
        assert_eq!(trouble(&connection).await.reason, NoDataReason::Unreachable);
    }
    world.server.start_again().await.expect("started");
    until_facts(&connection, |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closes_while_idle_is_opened_again_without_a_word() {
    let world = World::start().await;
    let connection = world.connection(WATCHER);
    read(&connection).await.expect("facts");
    let mut unnoticed = 0;
    for _ in 0..5 {
        world.admin(&["CLIENT", "KILL", "USER", WATCHER]).await;
        let gone = lab::until(SOON, async || {
            (!world.ask(&["CLIENT", "LIST"]).await.contains("user=watcher")).then_some(())
        });
        gone.await.expect("it is closed");
        // Who looks in the very instant may still find it broken.
        unnoticed += usize::from(read(&connection).await.is_ok());
        read(&connection).await.expect("facts");
    }
    assert!(unnoticed > 0, "each of them cost a look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loads_its_data_says_so_and_is_read_when_it_has() {
    let slowly =
        options().setting("key-load-delay", "2000").setting("loading-process-events-interval-bytes", "1024");
    let mut world = World::with(slowly).await;
    world.server.fill(0, "key", 3000, 100).await.expect("filled");
    let connection = world.connection(WATCHER);
    assert_eq!(read(&connection).await.expect("facts").keys, 3000);
    world.server.restart(Stop::Saving).await.expect("restarted");
    let mut seen = Vec::new();
    let facts = lab::until(SOON, async || match read(&connection).await {
        Ok(facts) => Some(facts),
        Err(no_data) => {
            seen.push(no_data);
            None
        }
    });
    assert_eq!(facts.await.expect("it is loaded").keys, 3000);
    let loading = seen.iter().find(|no_data| no_data.reason == NoDataReason::Loading);
    assert!(loading.is_some_and(|no_data| no_data.detail.contains("is loading its data")), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_for_want_of_a_client_says_so_and_who_is_connected_goes_on() {
    let world = World::with(options().setting("maxclients", "8")).await;
    let open = world.connection(WATCHER);
    read(&open).await.expect("facts");
    let mut clients = Vec::new();
    for _ in 0..7 {
        clients.push(TcpStream::connect(("127.0.0.1", world.server.port())).await.expect("a client"));
    }
    let facts = until_facts(&open, |facts| facts.clients.connected == 8).await;
    assert_eq!(facts.clients.max, Some(8));
    // With something to say at once, and without.
    let silent = RedisCredentials { user: None, password: None, ..world.credentials(WATCHER) };
    for credentials in [world.credentials(WATCHER), silent] {
        told(credentials, NoDataReason::ConnectionsExhausted, "as many clients as it may have").await;
    }
    let facts = until_facts(&open, |facts| facts.counters.rejected >= 2).await;
    assert_eq!(facts.clients.connected, 8);
    clients.clear();
    until_facts(&world.connection(WATCHER), |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_takes_too_long_and_delays_nobody_else() {
    let (frozen, well) = (World::start().await, World::start().await);
    let [open, other] = [&frozen, &well].map(|world| world.connection(WATCHER));
    read(&open).await.expect("facts");
    frozen.server.pause();
    let (stuck, fine) = tokio::join!(trouble(&open), async {
        for _ in 0..5 {
            read(&other).await.expect("facts");
        }
    });
    assert_eq!((stuck.reason, fine), (NoDataReason::Timeout, ()), "{stuck}");
    // A new connection is taken by the kernel, and not answered either.
    assert_eq!(trouble(&frozen.connection(WATCHER)).await.reason, NoDataReason::Timeout);
    frozen.server.resume();
    until_facts(&open, |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_holds_up_everybody_is_no_answer_in_time() {
    let world = World::with(options().setting("lua-time-limit", "50")).await;
    let open = world.connection(WATCHER);
    read(&open).await.expect("facts");
    let mut client = world.server.admin().await.expect("a client");
    let mut endless = redis::cmd("EVAL");
    endless.arg("while true do end").arg(0);
    let script = tokio::spawn(async move { endless.query_async::<redis::Value>(&mut client).await });
    let mut last = None;
    let told = lab::until(SOON, async || {
        let read = read(&open).await;
        last = Some(read.clone());
        read.err().filter(|no_data| no_data.reason == NoDataReason::Timeout)
    });
    let told = told.await.unwrap_or_else(|| panic!("never held up: {last:#?}"));
    assert!(!told.to_string().contains("while true") && !told.to_string().contains(PASSWORD), "{told}");
    // An administrator logs in and ends it: only SCRIPT KILL is answered.
    let killed = lab::until(SOON, async || world.server.execute(&["SCRIPT", "KILL"]).await.ok());
    killed.await.expect("it is ended");
    script.await.expect("no panic").expect_err("it was ended");
    until_facts(&open, |_| true).await;
}
