//! A role that may not read everything sees its own, and says what is missing.

use engine::effects::Inspection;
use engine::model::{Coverage, NoDataReason, SessionState};
use latency_operator::observe::postgres::{look_at_statement, snapshot};

use crate::support::{BLIND, OPERATOR, PASSWORD, WATCHER, World, edges, session, until_facts};

fn grant(coverage: &Coverage) -> &str {
    match coverage {
        Coverage::Partial { grant } => grant,
        Coverage::Full => panic!("everything is readable"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_all_only_ones_own_sessions_are_seen_and_the_grant_is_named() {
    let world = World::start().await;
    let connection = world.connection(BLIND);
    let foreign = world.client("orders").await.start("select pg_sleep(60)");
    let own = world.client(BLIND).await.start("select pg_sleep(60)");
    let active = |session: &engine::model::Session| session.state == SessionState::Active;
    let facts = until_facts(&connection, |facts| facts.session(own.pid).is_some_and(active)).await;
    world.until_seen(1, &format!("pid = {} and state = 'active'", foreign.pid)).await;
    assert_eq!(grant(&facts.coverage), "GRANT pg_read_all_stats TO blind");
    assert!(!facts.may_signal);
    assert_eq!(facts.connected_as, BLIND);
    assert_eq!(facts.sessions.len(), 1);
    let seen = session(&facts, own.pid);
    assert_eq!((seen.role.as_str(), seen.database.as_str()), (BLIND, "orders"));
    assert!(facts.age(seen.identity.query_start).as_secs_f64() > 0.0);
    assert!((facts.active_seconds - facts.age(seen.identity.query_start).as_secs_f64()).abs() < 0.5);
    // How many are connected can be counted without seeing them.
    until_facts(&connection, |facts| facts.slots.used == 3).await;

    // The statement is what it takes.
    world.admin("orders", grant(&facts.coverage)).await;
    let facts = snapshot(&connection).await.expect("facts");
    assert_eq!(facts.coverage, Coverage::Full);
    assert_eq!(facts.sessions.len(), 2);
    assert!(facts.session(foreign.pid).is_some_and(active));
    drop(own);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invisible_blocker_is_a_number_without_a_session() {
    let world = World::start().await;
    let connection = world.connection(BLIND);
    world.admin("orders", "grant all on accounts to blind").await;
    let mut holder = world.client("orders").await;
    holder.execute("begin; update accounts set balance = 1 where id = 1").await;
    let waiter = world.client(BLIND).await.start("update accounts set balance = 2 where id = 1");
    let facts = until_facts(&connection, |facts| !facts.lock_waits.is_empty()).await;
    assert!(edges(&facts).contains(&(waiter.pid, holder.pid)));
    assert!(session(&facts, waiter.pid).waits_for_lock);
    assert_eq!(facts.session(holder.pid), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grant_can_be_run_whatever_the_role_is_called() {
    let world = World::start().await;
    for (role, quoted) in [
        ("odd_role", "odd_role"),
        ("Odd Role", "\"Odd Role\""),
        ("odd\"; drop role orders; --", "\"odd\"\"; drop role orders; --\""),
        ("select", "\"select\""),
        ("1st", "\"1st\""),
        ("ärger", "\"ärger\""),
    ] {
        let name = quoted_name(role);
        world.admin("orders", &format!("create role {name} login password '{PASSWORD}'")).await;
        let connection = world.connection(role);
        let facts = snapshot(&connection).await.expect("facts");
        assert_eq!(facts.connected_as, role);
        assert_eq!(grant(&facts.coverage), format!("GRANT pg_read_all_stats TO {quoted}"));
        world.admin("orders", grant(&facts.coverage)).await;
        assert_eq!(snapshot(&connection).await.expect("facts").coverage, Coverage::Full, "{role}");
    }
}

fn quoted_name(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_all_need_not_be_allowed_to_signal() {
    let world = World::start().await;
    let facts = snapshot(&world.connection(WATCHER)).await.expect("facts");
    assert_eq!((&facts.coverage, facts.may_signal), (&Coverage::Full, false));
    world.admin("orders", "grant pg_signal_backend to watcher").await;
    assert!(snapshot(&world.connection(WATCHER)).await.expect("facts").may_signal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_cannot_be_seen_has_not_gone() {
    let world = World::start().await;
    let running = world.client("orders").await.start("select pg_sleep(60)");
    let connection = world.connection(OPERATOR);
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    let identity = session(&facts, running.pid).identity.clone();
    assert_eq!(look_at_statement(&connection, &identity).await, Inspection::Running);
    world.admin("orders", "revoke pg_monitor from latency_operator").await;
    let seen = look_at_statement(&connection, &identity).await;
    let Inspection::Unreadable(no_data) = seen else { panic!("{seen:?}, but it runs") };
    assert_eq!(no_data.reason, NoDataReason::PermissionDenied);
    assert!(running.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tracks_no_activity_is_not_taken_for_an_idle_one() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    world.admin("orders", "alter system set track_activities = off").await;
    world.admin("orders", "select pg_reload_conf()").await;
    let running = world.client("orders").await.start("select pg_sleep(60)");
    world.until_seen(1, &format!("pid = {} and state = 'disabled'", running.pid)).await;
    let read = snapshot(&connection).await;
    assert!(!matches!(&read, Ok(facts) if facts.coverage == Coverage::Full), "{read:#?}");
}
