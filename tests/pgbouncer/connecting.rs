//! What keeps us from reading a PgBouncer is told apart, and passes when it passes.

use std::time::Duration;

use engine::model::NoDataReason;
use latency_operator::connections::Credentials;
use tokio::net::TcpListener;

use crate::support::{ORDERS, SOON, WATCHER, World, connection, credentials_at, read, told, trouble};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_secret_is_told_apart() {
    let world = World::start().await;
    let right = world.credentials(WATCHER);
    let guess = Credentials { password: Some("a-bad-guess".to_owned()), ..right.clone() };
    let refused = NoDataReason::AuthenticationFailed;
    told(guess.clone(), refused, "correct user and password in the Secret").await;
    let no_data = trouble(&connection(guess)).await;
    assert!(!no_data.detail.contains("a-bad-guess"), "{no_data}");
    told(world.credentials("nobody"), refused, "refused user nobody").await;
    told(world.credentials(ORDERS), NoDataReason::PermissionDenied, "add the user to stats_users").await;
    read(&connection(right)).await.expect("facts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_in_place_of_a_pgbouncer_is_told() {
    let world = World::start().await;
    let port = world.database.port();
    let there = |user: &str| credentials_at(port, user, "pgbouncer");
    let other = "name PgBouncer's own host and port";
    told(there("latency_operator"), NoDataReason::BadAnswer, other).await;
    // Even one that has such a database.
    world.database.execute("postgres", "create database pgbouncer").await.expect("a database");
    let no_data = trouble(&connection(there("latency_operator"))).await;
    assert!(no_data.detail.contains("is no PgBouncer") && no_data.detail.contains(other), "{no_data}");
    assert_eq!(no_data.reason, NoDataReason::BadAnswer);
    // And what is no database at all.
    let database = credentials_at(world.pooler.port(), ORDERS, "orders");
    told(database, NoDataReason::BadAnswer, "is no PgBouncer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_is_unreachable_and_one_that_never_answers_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let there = credentials_at(port, WATCHER, "pgbouncer");
    // The kernel takes connections for a listener that never looks.
    told(there.clone(), NoDataReason::Timeout, "did not take a connection within").await;
    drop(listener);
    told(there.clone(), NoDataReason::Unreachable, &format!("127.0.0.1:{port} cannot be reached")).await;
    let nowhere = Credentials { host: "pool.shop.invalid".to_owned(), ..there };
    told(nowhere, NoDataReason::Unreachable, "cannot be reached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_takes_too_long_and_is_read_again_when_it_goes_on() {
    let world = World::start().await;
    let open = world.connection();
    read(&open).await.expect("facts");
    world.pooler.pause();
    let no_data = trouble(&open).await;
    assert_eq!(no_data.reason, NoDataReason::Timeout, "{no_data}");
    assert!(no_data.detail.contains("did not answer within 4 s"), "{no_data}");
    told(world.credentials(WATCHER), NoDataReason::Timeout, "did not take a connection within 4 s").await;
    world.pooler.resume();
    let again = lab::until(SOON, async || read(&open).await.ok());
    again.await.expect("facts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_costs_one_look_at_most() {
    let mut world = World::start().await;
    let open = world.connection();
    read(&open).await.expect("facts");
    world.pooler.stop().await.expect("stopped");
    for _ in 0..2 {
        assert_eq!(trouble(&open).await.reason, NoDataReason::Unreachable);
    }
    world.pooler.start_again().await.expect("started");
    let again = lab::until(SOON, async || read(&open).await.ok());
    again.await.expect("facts");
    world.pooler.restart().await.expect("restarted");
    // The one that it closed may still be found broken.
    let _ = read(&open).await;
    lab::within(Duration::from_secs(10), read(&open)).await.expect("in time").expect("facts");
}
