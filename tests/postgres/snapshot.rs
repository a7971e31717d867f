//! Who is there and what they are doing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::model::{Coverage, SessionState};
use lab::PostgresOptions;
use latency_operator::observe::postgres::snapshot;
use sqlx::Row;

use crate::support::{OPERATOR, World, instant, options, session, shown, until_facts};

const CLIENTS: &str = "backend_type = 'client backend'";

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_is_identified_and_shows_nobody() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let clock = format!("select {}", shown("clock_timestamp()"));
    // Whoever set the server up has left when only we hold a slot.
    until_facts(&connection, |facts| facts.slots.used == 1).await;
    let before = instant(&world.ask(&clock).await);
    let facts = until_facts(&connection, |facts| facts.slots.used == 1).await;
    let after = instant(&world.ask(&clock).await);

    let identifier = world.ask("select system_identifier::text from pg_control_system()").await;
    assert_eq!(facts.server.system_identifier, identifier);
    assert_eq!(facts.server.database, "orders");
    assert_eq!(facts.server.peer, format!("127.0.0.1:{}", world.server.port()));
    let started = world.ask(&format!("select {}", shown("pg_postmaster_start_time()"))).await;
    assert_eq!(facts.server.started_at, instant(&started));
    assert_eq!(facts.version.to_string(), world.ask("show server_version_num").await);
    assert!(before <= facts.clock && facts.clock <= after, "{before} {} {after}", facts.clock);
    assert!(!facts.standby);
    assert_eq!(facts.connected_as, OPERATOR);
    assert_eq!(facts.coverage, Coverage::Full);
    assert!(facts.may_signal);
    assert_eq!(facts.slots.usable, 97, "100 less what is reserved for superusers");
    assert_eq!(facts.sessions, []);
    assert_eq!(facts.lock_waits, []);
    assert!(facts.active_seconds.abs() < f64::EPSILON, "{}", facts.active_seconds);
    assert_eq!((facts.active, facts.active_by_role.len()), (0, 0));
    assert!(!facts.truncated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_shows_those_who_work_and_counts_all_who_are_connected() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let first = world.client("orders").await.start("select pg_sleep(60)");
    let second = world.client("reporting").await.start("select pg_sleep(60)");
    let elsewhere = world.client_of("reporting", "reports").await.start("select pg_sleep(60)");
    let mut dozing = world.client("orders").await;
    dozing.execute("begin").await;
    let idle = world.client("orders").await;
    let row = &connection.run(sqlx::query("select pg_backend_pid()")).await.expect("our own pid").rows[0];
    let own: i32 = row.try_get(0).expect("a pid");

    let facts = until_facts(&connection, |facts| facts.sessions.len() == 4 && facts.slots.used == 6).await;
    let pids: BTreeSet<i32> = facts.sessions.iter().map(|session| session.identity.pid).collect();
    assert_eq!(pids, BTreeSet::from([first.pid, second.pid, elsewhere.pid, dozing.pid]));
    // Over all databases; an idle transaction is not active.
    assert_eq!(facts.active, 3);
    assert_eq!(facts.active_by_role, BTreeMap::from([("orders".to_owned(), 1), ("reporting".to_owned(), 2)]));
    assert_eq!(facts.active_of(&["reporting".to_owned(), "nobody".to_owned()]), 2);
    assert!(!pids.contains(&own) && !pids.contains(&idle.pid));
    assert_eq!(session(&facts, first.pid).role, "orders");
    assert_eq!(session(&facts, first.pid).application, "lab");
    assert_eq!(session(&facts, second.pid).role, "reporting");
    assert_eq!(session(&facts, second.pid).database, "orders");
    assert_eq!(session(&facts, elsewhere.pid).database, "reports");
    let seen = snapshot(&connection).await.expect("facts").slots.used.to_string();
    idle.leave().await;
    let facts = until_facts(&connection, |facts| facts.slots.used == 5).await;
    // The superuser who asks is one more.
    let counted = world.ask(&format!("select count(*)::text from pg_stat_activity where {CLIENTS}")).await;
    assert_eq!((seen, facts.slots.used.to_string(), counted), ("6".into(), "5".into(), "6".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_statement_is_identified_to_the_microsecond() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut client = world.client("orders").await;
    client.execute("begin").await;
    let running = client.start("select pg_sleep(60)");
    let active = |state: SessionState| state == SessionState::Active;
    let facts =
        until_facts(&connection, |facts| facts.session(running.pid).is_some_and(|s| active(s.state))).await;
    let columns = ["backend_start", "query_start", "xact_start", "state_change"].map(shown).join(", ");
    let sql = format!("select concat_ws(' ', {columns}) from pg_stat_activity where pid = {}", running.pid);
    let truth = world.ask(&sql).await;
    let truth: Vec<_> = truth.split(' ').map(instant).collect();
    let seen = session(&facts, running.pid);
    let read = [seen.identity.backend_start, seen.identity.query_start, seen.state_change];
    assert_eq!(read, [truth[0], truth[1], truth[3]]);
    assert_eq!(seen.xact_start, Some(truth[2]));
    assert!(facts.age(seen.identity.query_start) > Duration::ZERO);
    assert!(facts.age(seen.identity.backend_start) > facts.age(seen.identity.query_start));
    assert!(!seen.waits_for_lock && seen.wait_start.is_none() && !seen.wrote);
    assert!(!seen.privileged && !seen.maintenance && !seen.protected);

    // The same statement once more is another one.
    drop(running);
    let again = world.client("orders").await.start("select pg_sleep(60)");
    let facts = until_facts(&connection, |facts| facts.session(again.pid).is_some()).await;
    assert_ne!(session(&facts, again.pid).identity.query_start, truth[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn active_time_is_that_of_all_databases_without_those_who_wait_for_a_lock() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut holder = world.client("orders").await;
    holder.execute("begin; update accounts set balance = 1 where id = 1").await;
    let waiter = world.client("reporting").await.start("update accounts set balance = 2 where id = 1");
    let here = world.client("orders").await.start("select pg_sleep(60)");
    let there = world.client_of("reporting", "reports").await.start("select pg_sleep(60)");
    // Old enough that each of them would show in the sum.
    let old = |facts: &engine::model::PostgresFacts| {
        [waiter.pid, here.pid, there.pid].iter().all(|pid| {
            facts.session(*pid).is_some_and(|s| facts.age(s.identity.query_start) > Duration::from_secs(1))
        })
    };
    let facts = until_facts(&connection, old).await;
    let age = |pid| facts.age(session(&facts, pid).identity.query_start).as_secs_f64();
    let wanted = age(here.pid) + age(there.pid);
    assert!(session(&facts, waiter.pid).waits_for_lock);
    assert!((facts.active_seconds - wanted).abs() < 0.5, "{} is not {wanted}", facts.active_seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parallel_query_is_one_session_and_takes_one_slot() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    world
        .admin(
            "orders",
            "create table big as select i from generate_series(1, 20000) i; analyze big; \
             alter table big set (parallel_workers = 2); grant select on big to orders",
        )
        .await;
    let mut client = world.client("orders").await;
    client
        .execute("set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set max_parallel_workers_per_gather = 2")
        .await;
    let running = client.start("select count(pg_sleep(0.01)) from big");
    world.until_seen(2, &format!("leader_pid = {}", running.pid)).await;
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    let pids: Vec<i32> = facts.sessions.iter().map(|session| session.identity.pid).collect();
    assert_eq!(pids, [running.pid]);
    let age = facts.age(session(&facts, running.pid).identity.query_start).as_secs_f64();
    assert!((facts.active_seconds - age).abs() < 0.5, "{} is not {age}", facts.active_seconds);
    // Workers take none of `max_connections`.
    let facts = until_facts(&connection, |facts| facts.slots.used <= 2).await;
    assert!(running.runs(), "the query ended before it was counted");
    assert_eq!(facts.slots.used, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_shows_since_when_and_whether_it_has_written() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut clients = Vec::new();
    for statements in [
        "begin; select 1",
        "begin; update accounts set balance = 1 where id = 1",
        "begin; select * from accounts where id = 2 for update",
    ] {
        let mut client = world.client("orders").await;
        client.execute(statements).await;
        clients.push(client);
    }
    let mut failed = world.client("orders").await;
    failed.execute("begin").await;
    failed.attempt("select 1 / 0").await.expect_err("a division by zero");
    clients.push(failed);
    let facts = until_facts(&connection, |facts| {
        let idle =
            |pid| facts.session(pid).is_some_and(|session| session.state == SessionState::IdleInTransaction);
        clients.iter().all(|client| idle(client.pid))
    });
    let facts = facts.await;
    let wrote: Vec<bool> = clients.iter().map(|client| session(&facts, client.pid).wrote).collect();
    assert_eq!(wrote, [false, true, true, false]);
    for client in &clients {
        let sql = format!(
            "select concat_ws(' ', {}, {}) from pg_stat_activity where pid = {}",
            shown("state_change"),
            shown("xact_start"),
            client.pid
        );
        let truth = world.ask(&sql).await;
        let truth: Vec<_> = truth.split(' ').map(instant).collect();
        let seen = session(&facts, client.pid);
        // A transaction that has failed has no start any more.
        assert_eq!((seen.state_change, seen.xact_start), (truth[0], truth.get(1).copied()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_held_back_shows_its_age_in_transactions() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut holder = world.client("orders").await;
    holder.execute("begin isolation level repeatable read; select 1 from accounts").await;
    let mut harmless = world.client("orders").await;
    harmless.execute("begin; select 1 from accounts").await;
    let both = |facts: &engine::model::PostgresFacts| {
        [holder.pid, harmless.pid].iter().all(|pid| {
            facts.session(*pid).is_some_and(|session| session.state == SessionState::IdleInTransaction)
        })
    };
    let before = until_facts(&connection, both).await;
    let before = session(&before, holder.pid).xmin_age.expect("it holds a snapshot");
    for _ in 0..5 {
        world.admin("orders", "update accounts set balance = balance + 1 where id = 1").await;
    }
    let after = snapshot(&connection).await.expect("facts");
    let age = session(&after, holder.pid).xmin_age.expect("it holds a snapshot");
    // Autovacuum may take transactions of its own.
    assert!((5..100).contains(&(age - before)), "{before} {age}");
    assert_eq!(session(&after, harmless.pid).xmin_age, None, "it holds none between its statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_are_reserved_cannot_be_used() {
    let options = PostgresOptions { max_connections: 20, ..options() };
    let mut world = World::with(options.setting("superuser_reserved_connections", "5")).await;
    let facts = snapshot(&world.connection(OPERATOR)).await.expect("facts");
    assert_eq!(facts.slots.usable, 15);
    // Newer servers reserve for other roles, too.
    if facts.version >= 160_000 {
        world.admin("orders", "alter system set reserved_connections = 4").await;
        world.server.restart().await.expect("restarted");
        let facts = snapshot(&world.connection(OPERATOR)).await.expect("facts");
        assert_eq!(facts.slots.usable, 11);
    }
}
