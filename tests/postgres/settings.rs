//! One connection, bounded by the server itself, on which nobody else's functions are called.

use engine::model::NoDataReason;
use latency_operator::connections::Postgres;
use latency_operator::connections::postgres::Failure;
use latency_operator::observe::postgres::snapshot;
use sqlx::Row;
use std::time::Duration;

use crate::support::{OPERATOR, World, options, session, until_facts};

async fn text(connection: &Postgres, sql: &'static str) -> String {
    let answer = connection.run(sqlx::query(sql)).await.expect(sql);
    answer.rows[0].try_get(0).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn our_settings_are_in_force_whatever_the_role_or_the_database_says() {
    let world = World::start().await;
    for of in ["role latency_operator", "database orders", "role latency_operator in database orders"] {
        for setting in [
            "statement_timeout = 0",
            "lock_timeout = 0",
            "idle_in_transaction_session_timeout = 0",
            "search_path = public",
            "default_transaction_read_only = off",
            "application_name = 'somebody'",
        ] {
            world.admin("orders", &format!("alter {of} set {setting}")).await;
        }
    }
    let connection = world.connection(OPERATOR);
    for (show, wanted) in [
        ("show statement_timeout", "3s"),
        ("show lock_timeout", "500ms"),
        ("show idle_in_transaction_session_timeout", "10s"),
        ("show search_path", "pg_catalog"),
        ("show default_transaction_read_only", "on"),
        ("show application_name", "latency-operator"),
    ] {
        assert_eq!(text(&connection, show).await, wanted, "{show}");
    }
    world.until_seen(1, "application_name = 'latency-operator'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_for_the_next_look_is_not_ended() {
    let world = World::start().await;
    // Not for the whole database: who looks at it from here waits between two looks as well.
    for role in [OPERATOR, "orders"] {
        world.admin("orders", &format!("alter role {role} set idle_session_timeout = '200ms'")).await;
    }
    let connection = world.connection(OPERATOR);
    let own = text(&connection, "select pg_backend_pid()::text").await;
    // When another one has been ended that came later, ours has waited for long enough.
    let other = world.client("orders").await;
    world.until_seen(0, &format!("pid = {}", other.pid)).await;
    assert_eq!(text(&connection, "select pg_backend_pid()::text").await, own);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_what_our_statements_mean() {
    let world = World::start().await;
    // Backslashes would no longer be what they are in a pattern.
    world.admin("orders", "alter database orders set standard_conforming_strings = off").await;
    world.admin("orders", "alter database orders set escape_string_warning = off").await;
    let connection = world.connection(OPERATOR);
    let mut holder = world.client("reporting").await;
    holder.execute("begin; lock table accounts").await;
    let running = world.client("orders").await.start("  vacuum accounts");
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    assert!(session(&facts, running.pid).maintenance, "{facts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_gives_up_what_takes_too_long_and_the_connection_stays() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let own = text(&connection, "select pg_backend_pid()::text").await;
    let late = connection.run(sqlx::query("select pg_sleep(60)")).await.expect_err("too long");
    assert!(matches!(&late, Failure::Lost(no_data) if no_data.reason == NoDataReason::Timeout), "{late:?}");

    world.admin("orders", "grant select, update on accounts to latency_operator").await;
    let mut holder = world.client("orders").await;
    holder.execute("begin; lock table accounts").await;
    let blocked =
        connection.run(sqlx::query("select * from public.accounts")).await.expect_err("it is locked");
    let Failure::Refused(no_data) = &blocked else { panic!("{blocked:?}") };
    assert!(no_data.detail.contains("lock timeout"), "{no_data:?}");
    holder.execute("rollback").await;

    let written = connection.run(sqlx::query("update public.accounts set balance = 0")).await;
    let Err(Failure::Refused(no_data)) = &written else { panic!("{written:?}") };
    assert!(no_data.detail.contains("read-only"), "{no_data:?}");
    assert_eq!(text(&connection, "select pg_backend_pid()::text").await, own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_breaks_nothing() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let own = text(&connection, "select pg_backend_pid()::text").await;
    let sleeping = connection.run(sqlx::query("select pg_sleep(0.3)"));
    assert!(tokio::time::timeout(Duration::from_millis(50), sleeping).await.is_err());
    assert_eq!(text(&connection, "select pg_backend_pid()::text").await, own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_function_is_not_called() {
    // These fit the arguments of the snapshot better than those of the catalogue.
    const PLANTED: [&str; 2] = [
        "create function public.pg_has_role(name, text, text) returns boolean language plpgsql as $$ begin raise exception \
         'the planted function was called'; end $$",
        "create function public.planted(json, json) returns json language plpgsql as $$ begin raise exception \
         'the planted function was called'; end $$",
    ];
    let world = World::start().await;
    for function in PLANTED {
        world.admin("orders", function).await;
    }
    world
        .admin("orders", "create aggregate public.json_agg(json) (sfunc = public.planted, stype = json)")
        .await;
    let mut client = world.client("orders").await;
    for trap in
        ["select pg_has_role(current_user, 'orders', 'USAGE')", "select json_agg(json_build_array(1, 2))"]
    {
        let sprung = client.attempt(trap).await.expect_err("whoever looks into schema public walks into it");
        assert!(sprung.contains("the planted function was called"), "{sprung}");
    }
    world.admin("orders", "alter role latency_operator set search_path = public, pg_catalog").await;
    let connection = world.connection(OPERATOR);
    let running = client.start("select pg_sleep(60)");
    until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    snapshot(&connection).await.expect("facts");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_connection_however_many_ask() {
    let world = World::with(options().setting("log_connections", "on")).await;
    let connection = world.connection(OPERATOR);
    let all = (0..60).map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move { snapshot(&connection).await.map(|facts| facts.slots.used) })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.expect("no panic").expect("facts");
    }
    world.until_seen(1, "application_name = 'latency-operator'").await;
    let log = std::fs::read_to_string(world.server.log()).expect("the server's log");
    let logins = log.matches("connection authorized: user=latency_operator").count();
    assert_eq!(logins, 1, "{log}");
}
