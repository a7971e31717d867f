//! What one look shows of pools in which nothing is wrong, or something that is not the pool's fault.

use std::time::Duration;

use engine::dependencies::pgbouncer::{LimitKind, Share, Wait};
use sqlx::Executor;

use crate::support::{ORDERS, SIZE, World, pool, read, until_pool};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_pool_has_clients_and_nobody_waits() {
    let world = World::start().await;
    let connection = world.connection();
    let empty = read(&connection).await.expect("facts");
    assert_eq!(empty.pools, [], "the console's own pool is none");
    assert!(
        world.pooler.version().contains(&empty.version),
        "{} in {}",
        empty.version,
        world.pooler.version()
    );

    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = world.client().await;
        client.execute(sqlx::raw_sql("select 1")).await.expect("an answer");
        clients.push(client);
    }
    let look = until_pool(&connection, |pool| pool.clients.active == 10).await;
    let pool = pool(&look, ORDERS);
    assert_eq!((pool.clients.waiting, pool.clients.longest_wait), (0, Duration::ZERO));
    assert_eq!((pool.servers.active, pool.servers.login, pool.size), (0, 0, SIZE));
    assert!((1..=SIZE).contains(&pool.servers.idle), "{pool:#?}");
    assert_eq!((&*pool.database, &*pool.role), ("orders", ORDERS));
    assert!(!pool.paused && !pool.disabled && pool.wait().is_none());
    assert_eq!(look.unreadable, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_have_just_come_wait_and_are_not_held_up() {
    let world = World::start().await;
    let connection = world.connection();
    let holders = (world.holder().await, world.holder().await);
    let askers = world.askers(3).await;
    // Whenever it is read: as long as the first of them has waited for less than a second it is a moment.
    let look = until_pool(&connection, |pool| pool.clients.waiting == 3).await;
    let pool = pool(&look, ORDERS);
    assert_eq!((pool.servers.active, pool.limit()), (SIZE, Some((LimitKind::PoolSize, full(SIZE)))));
    assert_eq!(pool.wait().is_some(), pool.clients.longest_wait >= Duration::from_secs(1), "{pool:#?}");
    drop(holders);
    for asker in askers {
        asker.await.expect("an answer");
    }
    until_pool(&connection, |pool| pool.clients.waiting == 0 && pool.wait().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_database_is_paused_and_not_starved() {
    let world = World::start().await;
    let connection = world.connection();
    world.askers(1).await.pop().expect("an asker").await.expect("an answer");
    world.pooler.execute("PAUSE orders").await.expect("paused");
    let askers = world.askers(2).await;
    let look = until_pool(&connection, |pool| pool.holds_up()).await;
    assert_eq!(pool(&look, ORDERS).wait(), Some(Wait::Paused));
    world.pooler.execute("RESUME orders").await.expect("resumed");
    for asker in askers {
        asker.await.expect("an answer");
    }
    until_pool(&connection, |pool| !pool.paused && pool.wait().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lets_nobody_in_does_not_starve_the_pool() {
    let world = World::start().await;
    let connection = world.connection();
    // It has one connection, and does not get another: the kernel takes it, and no session starts.
    let holder = world.holder().await;
    world.database.process().pause();
    let askers = world.askers(2).await;
    let look = until_pool(&connection, |pool| pool.holds_up() && pool.servers.login > 0).await;
    let pool = pool(&look, ORDERS);
    assert_eq!((pool.wait(), pool.servers.active), (Some(Wait::NotConnected), 1), "{pool:#?}");
    world.database.process().resume();
    drop(holder);
    for asker in askers {
        asker.await.expect("an answer");
    }
    until_pool(&connection, |pool| pool.wait().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_database_and_user_are_named() {
    for (setting, limit) in [
        ("max_db_connections", LimitKind::MaxDbConnections),
        ("max_user_connections", LimitKind::MaxUserConnections),
    ] {
        let world = World::with(|options| {
            options.setting(setting, "1").setting("default_pool_size", "5").setting("reserve_pool_size", "1")
        });
        let world = world.await;
        let connection = world.connection();
        let holder = world.holder().await;
        let _askers = world.askers(2).await;
        let look = until_pool(&connection, |pool| pool.holds_up()).await;
        let pool = pool(&look, ORDERS);
        assert_eq!((pool.size, pool.reserve), (5, 1));
        assert_eq!(pool.limit(), Some((limit, full(1))), "{pool:#?}");
        assert_eq!(pool.wait(), Some(Wait::Starved(limit)));
        drop(holder);
    }
}

fn full(most: u32) -> Share {
    Share { used: most, most }
}
