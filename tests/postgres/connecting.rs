//! What keeps us from reading a database is told apart, and passes when it passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::model::NoDataReason;
use lab::PostgresOptions;
use lab::postgres::Stop;
use latency_operator::connections::postgres::Failure;
use latency_operator::connections::{Credentials, SslMode};
use latency_operator::observe::postgres::snapshot;
use tokio::net::TcpListener;

use crate::support::{
    BLIND, OPERATOR, PASSWORD, SOON, WATCHER, World, connection, options, reason, session, trouble,
    until_facts,
};

fn nobody_at(port: u16) -> Credentials {
    Credentials {
        host: "127.0.0.1".to_owned(),
        port,
        database: "orders".to_owned(),
        user: OPERATOR.to_owned(),
        password: Some(PASSWORD.to_owned()),
        ssl_mode: SslMode::Prefer,
        ca: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_secret_is_told_apart() {
    let world = World::with(PostgresOptions::default()).await;
    let right = world.credentials(OPERATOR);
    let guess = Credentials { password: Some("a-bad-guess".to_owned()), ..right.clone() };
    let nobody = Credentials { user: "nobody".to_owned(), ..right.clone() };
    let elsewhere = Credentials { database: "order".to_owned(), ..right.clone() };
    for (credentials, wanted, named) in [
        (guess, NoDataReason::AuthenticationFailed, OPERATOR),
        (Credentials { password: None, ..right }, NoDataReason::AuthenticationFailed, OPERATOR),
        (nobody, NoDataReason::AuthenticationFailed, "nobody"),
        (elsewhere, NoDataReason::SecretInvalid, "\"order\" does not exist"),
    ] {
        let no_data = trouble(&connection(credentials)).await;
        assert_eq!(no_data.reason, wanted, "{no_data:?}");
        assert!(no_data.detail.contains(named), "{no_data:?}");
        assert!(no_data.detail.contains("in the Secret"), "no fix in {no_data:?}");
        assert!(!no_data.detail.contains("a-bad-guess") && !no_data.detail.contains(PASSWORD), "{no_data:?}");
    }
    world.admin("postgres", "revoke connect on database orders from public").await;
    let no_data = trouble(&world.connection(BLIND)).await;
    assert_eq!(no_data.reason, NoDataReason::PermissionDenied, "{no_data:?}");
    // That we have too many says nothing about the server.
    world.admin("postgres", "alter role watcher connection limit 0").await;
    let no_data = trouble(&world.connection(WATCHER)).await;
    assert_ne!(no_data.reason, NoDataReason::ConnectionsExhausted, "{no_data:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unreachable_and_one_that_never_answers_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    });
    // It is given up within the limit of `trouble`.
    let no_data = trouble(&connection(nobody_at(port))).await;
    assert_eq!(no_data.reason, NoDataReason::Timeout, "{no_data:?}");
    silent.abort();
    let _ = silent.await;
    let no_data = trouble(&connection(nobody_at(port))).await;
    assert_eq!(no_data.reason, NoDataReason::Unreachable, "{no_data:?}");
    assert!(no_data.detail.contains(&format!("127.0.0.1:{port}")), "{no_data:?}");
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
        tokio::spawn(async move { reason(&connection).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.expect("no panic"), Some(NoDataReason::Unreachable));
    }
    // One; a second on a machine so slow that a second has passed.
    let tries = tries.load(Ordering::SeqCst);
    assert!((1..=2).contains(&tries), "{tries}");
    closing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_run_after_the_failed_one_reconnects() {
    let mut world = World::start().await;
    let connection = world.connection(OPERATOR);
    let before = snapshot(&connection).await.expect("facts").server.clone();
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        world.server.stop(how).await.expect("stopped");
        world.server.start_again().await.expect("started");
        let failed = connection.run(sqlx::query("select 1")).await.expect_err("it was cut off");
        assert!(matches!(&failed, Failure::Lost(no_data) if no_data.reason == NoDataReason::Unreachable));
        let after = snapshot(&connection).await.expect("it reconnects").server.clone();
        assert_eq!(after.system_identifier, before.system_identifier);
        assert!(after.started_at > before.started_at, "{how:?}: another life of the same server");
    }

    // Stopped for good: what was open breaks, then nothing is there.
    world.server.stop(Stop::Fast).await.expect("stopped");
    let lost = connection.run(sqlx::query("select 1")).await.expect_err("it was cut off");
    assert!(
        matches!(&lost, Failure::Lost(no_data) if no_data.reason == NoDataReason::Unreachable),
        "{lost:?}"
    );
    let refused = connection.run(sqlx::query("select 1")).await.expect_err("nobody is there");
    assert!(matches!(&refused, Failure::NotSent(no_data) if no_data.reason == NoDataReason::Unreachable));
    assert_eq!(reason(&connection).await, Some(NoDataReason::Unreachable));
    world.server.start_again().await.expect("started");
    until_facts(&connection, |_| true).await;

    // The same if only our session is ended.
    world
        .admin(
            "orders",
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'latency_operator'",
        )
        .await;
    world.until_seen(0, "usename = 'latency_operator'").await;
    assert_eq!(reason(&connection).await, Some(NoDataReason::Unreachable));
    snapshot(&connection).await.expect("it reconnects");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_open_goes_on_when_all_slots_are_taken() {
    let world = World::with(PostgresOptions { max_connections: 10, ..options() }).await;
    let open = world.connection(OPERATOR);
    until_facts(&open, |facts| facts.slots.used == 1).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(world.client("orders").await);
    }
    assert!(world.server.connect("orders", PASSWORD, "orders").await.is_err(), "a slot is left");
    let late = world.connection(OPERATOR);
    let no_data = trouble(&late).await;
    assert_eq!(no_data.reason, NoDataReason::ConnectionsExhausted, "{no_data:?}");
    assert!(no_data.detail.contains("slots are reserved"), "not the server's words: {no_data:?}");

    // Who is connected already can go on looking, and sees it.
    let facts = until_facts(&open, |facts| facts.slots.used == 7).await;
    assert_eq!(facts.slots.usable, 7);
    let running = clients.pop().expect("a client").start("select pg_sleep(60)");
    let facts = until_facts(&open, |facts| facts.session(running.pid).is_some()).await;
    assert_eq!(session(&facts, running.pid).role, "orders");
    clients.pop().expect("a client").leave().await;
    let free = lab::until(SOON, async || snapshot(&late).await.ok());
    assert!(free.await.is_some(), "a slot is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_that_is_asked_for_and_not_to_be_had_is_told() {
    let world = World::start().await;
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let no_data =
            trouble(&connection(Credentials { ssl_mode: mode, ..world.credentials(OPERATOR) })).await;
        assert_eq!(no_data.reason, NoDataReason::TlsFailed, "{no_data:?}");
        assert!(no_data.detail.contains("sslmode"), "{no_data:?}");
    }
    for mode in [SslMode::Disable, SslMode::Prefer] {
        let able = connection(Credentials { ssl_mode: mode, ..world.credentials(OPERATOR) });
        snapshot(&able).await.expect("facts");
    }
}
