//! A statement is only cancelled if everything is as it was decided: one test for each thing that may differ.

use std::time::Duration;

use engine::advance::EffectReport;
use engine::effects::SessionTarget;
use engine::model::{SessionState, UncommittedWrites};
use latency_operator::connections::Postgres;
use latency_operator::observe::postgres::snapshot;
use sqlx::Row;

use crate::support::{OPERATOR, PASSWORD, Running, World, cancel_of, cancel_on, fence, session, until_facts};

const SLEEP: &str = "select pg_sleep(600)";
const TICK: Duration = Duration::from_micros(1);

/// One changed thing.
type Change = (&'static str, fn(&mut SessionTarget));

const CHANGES: [Change; 11] = [
    ("a later statement", |cancel| cancel.session.query_start += TICK),
    ("an earlier statement", |cancel| cancel.session.query_start -= TICK),
    ("a later session", |cancel| cancel.session.backend_start += TICK),
    ("an earlier session", |cancel| cancel.session.backend_start -= TICK),
    ("another process", |cancel| cancel.session.pid += 1),
    ("another role", |cancel| cancel.role = "reporting".to_owned()),
    ("a role in other letters", |cancel| cancel.role = "Orders".to_owned()),
    ("another database", |cancel| cancel.server.database = "reports".to_owned()),
    ("another life of the server", |cancel| cancel.server.started_at += TICK),
    ("another server", |cancel| cancel.server.system_identifier = "7000000000000000000".to_owned()),
    ("no server at all", |cancel| cancel.server.system_identifier = String::new()),
];

/// How often the server says that it has cancelled something at somebody's request.
fn signals(world: &World) -> usize {
    let log = std::fs::read_to_string(world.server.log()).expect("the server's log");
    log.matches("canceling statement due to user request").count()
}

fn is_refused(report: &EffectReport) -> bool {
    matches!(report, EffectReport::NotMatched(_))
}

/// Asks for the statement of that process to be cancelled, with all that is known about it.
async fn cancel(connection: &Postgres, pid: i32, writes: UncommittedWrites) -> EffectReport {
    let facts = until_facts(connection, |facts| facts.session(pid).is_some()).await;
    let cancel = SessionTarget { writes, ..cancel_of(&facts, pid) };
    cancel_on(connection, &cancel, &[], fence(&facts)).await
}

/// The statement is cancelled after all: nothing but what was changed stood in the way.
async fn is_cancelled(connection: &Postgres, running: Running, cancel: &SessionTarget) {
    let facts = snapshot(connection).await.expect("facts");
    assert_eq!(cancel_on(connection, cancel, &[], fence(&facts)).await, EffectReport::Sent);
    let (mut client, ended) = running.ended().await;
    assert!(ended.expect_err("cancelled").contains("user request"));
    client.execute("select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_thing_is_enough_to_do_nothing() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let running = world.client("orders").await.start(SLEEP);
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    let right = cancel_of(&facts, running.pid);
    for (what, change) in CHANGES {
        let mut changed = right.clone();
        change(&mut changed);
        let report = cancel_on(&connection, &changed, &[], fence(&facts)).await;
        assert!(is_refused(&report), "{what}: {report:?}");
    }
    for fence in [facts.clock, facts.clock - Duration::from_secs(3600)] {
        let report = cancel_on(&connection, &right, &[], fence).await;
        assert!(is_refused(&report), "too late at {fence}: {report:?}");
    }
    let roles = ["reporting".to_owned(), "orders".to_owned()];
    let report = cancel_on(&connection, &right, &roles, fence(&facts)).await;
    assert!(is_refused(&report), "a protected role: {report:?}");
    assert!(running.runs());
    assert_eq!(signals(&world), 0);
    let report = cancel_on(&connection, &right, &roles[..1], fence(&facts)).await;
    assert_eq!(report, EffectReport::Sent, "another role is protected");
    let (client, _) = running.ended().await;
    let running = client.start(SLEEP);
    let facts = until_facts(&connection, |facts| {
        let identity = facts.session(running.pid).map(|session| &session.identity);
        identity.is_some_and(|identity| identity.query_start > right.session.query_start)
    });
    let facts = facts.await;
    is_cancelled(&connection, running, &cancel_of(&facts, session(&facts, right.session.pid).identity.pid))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_database_is_left_alone() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let running = world.client_of("orders", "reports").await.start(SLEEP);
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    // Neither as if it were in ours, nor from ours as if we were in its.
    for database in ["orders", "reports"] {
        let mut cancel = cancel_of(&facts, running.pid);
        cancel.server.database = database.to_owned();
        let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
        assert!(is_refused(&report), "{database}: {report:?}");
    }
    assert!(running.runs() && signals(&world) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_protected_and_busy_sessions_are_left_alone() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    world
        .admin("orders", "create role latency_protected; create role nightly in role latency_protected")
        .await;
    world.admin("orders", &format!("create role batch login password '{PASSWORD}' in role nightly")).await;
    let mut holder = world.client("orders").await;
    holder.execute("begin; lock table copy_of_orders").await;
    let mut dump = world.client("orders").await;
    dump.execute("set application_name = 'pg_dump'").await;
    let mut running = vec![
        ("a superuser", world.superuser().await.start(SLEEP)),
        ("a role that may replicate", world.client("replicator").await.start(SLEEP)),
        ("a member of a member of latency_protected", world.client("batch").await.start(SLEEP)),
        ("a backup", dump.start(SLEEP)),
    ];
    for statement in [
        "vacuum copy_of_orders",
        "/* x */ vacuum copy_of_orders",
        "-- x\nvacuum copy_of_orders",
        "create index on copy_of_orders (id)",
        "copy copy_of_orders to stdout",
    ] {
        running.push((statement, world.client("orders").await.start(statement)));
    }
    for (what, one) in &running {
        // The holder of the lock has to keep it.
        let report = cancel(&connection, one.pid, UncommittedWrites::RollBack).await;
        assert!(is_refused(&report), "{what}: {report:?}");
        assert!(one.runs(), "{what}");
    }
    let report = cancel(&connection, holder.pid, UncommittedWrites::RollBack).await;
    assert!(is_refused(&report), "idle in a transaction: {report:?}");
    assert_eq!(signals(&world), 0);

    // An innocent statement in the same place is not.
    let innocent = world.client("orders").await.start("select 'vacuum' from copy_of_orders");
    assert_eq!(cancel(&connection, innocent.pid, UncommittedWrites::Protect).await, EffectReport::Sent);
    innocent.ended().await.1.expect_err("cancelled");
    assert_eq!(signals(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_written_is_only_cancelled_where_that_is_allowed() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    for (id, write) in [
        "begin; update accounts set balance = 1 where id = 1",
        "begin; select * from accounts where id = 2 for update",
        "begin; savepoint s; delete from accounts where id = 3; release savepoint s",
    ]
    .iter()
    .enumerate()
    {
        let mut client = world.client("orders").await;
        client.execute(write).await;
        let running = client.start(SLEEP);
        let facts = until_facts(&connection, |facts| {
            facts.session(running.pid).is_some_and(|session| session.state == SessionState::Active)
        });
        let facts = facts.await;
        assert!(session(&facts, running.pid).wrote);
        let right = cancel_of(&facts, running.pid);
        let report = cancel_on(&connection, &right, &[], fence(&facts)).await;
        assert!(is_refused(&report), "{write}: {report:?}");
        assert!(running.runs() && signals(&world) == id);
        let allowed = SessionTarget { writes: UncommittedWrites::RollBack, ..right };
        assert_eq!(cancel_on(&connection, &allowed, &[], fence(&facts)).await, EffectReport::Sent);
        running.ended().await.1.expect_err("cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_sessions_are_left_alone() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mine = "select pg_backend_pid(), (extract(epoch from backend_start) * 1000000)::bigint, \
                (extract(epoch from query_start) * 1000000)::bigint from pg_stat_activity where pid = pg_backend_pid()";
    let row = &connection.run(sqlx::query(mine)).await.expect("our own session").rows[0];
    let (pid, start): (i32, i64) = (row.try_get(0).expect("a pid"), row.try_get(1).expect("a start"));
    let other = world.connection(OPERATOR);
    let sleeping = tokio::spawn(async move { other.run(sqlx::query("select pg_sleep(2)")).await });
    let ours = |session: &&engine::model::Session| session.role == OPERATOR;
    let facts = until_facts(&connection, |facts| facts.sessions.iter().any(|session| ours(&session))).await;
    let other = facts.sessions.iter().find(ours).expect("the other one").identity.pid;
    let report = cancel_on(&connection, &cancel_of(&facts, other), &[], fence(&facts)).await;
    assert!(is_refused(&report), "another connection of ours: {report:?}");
    let mut cancel = cancel_of(&facts, other);
    cancel.session.pid = pid;
    cancel.session.backend_start = jiff::Timestamp::from_microsecond(start).expect("an instant");
    let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
    assert!(is_refused(&report), "the very connection: {report:?}");
    sleeping.await.expect("no panic").expect("it slept to the end");
    assert_eq!(signals(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_on_a_standby() {
    let mut world = World::start().await;
    // A server that waits for another's log, which never comes.
    let data = world.ask("show data_directory").await;
    std::fs::write(format!("{data}/standby.signal"), "").expect("a file in the data folder");
    world.server.restart().await.expect("restarted");
    let connection = world.connection(OPERATOR);
    let running = world.client("orders").await.start(SLEEP);
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some()).await;
    assert!(facts.standby);
    let right = cancel_of(&facts, running.pid);
    let report = cancel_on(&connection, &right, &[], fence(&facts)).await;
    assert!(is_refused(&report), "{report:?}");
    assert!(running.runs() && signals(&world) == 0);
    world.admin("orders", "select pg_promote()").await;
    let facts = until_facts(&connection, |facts| !facts.standby).await;
    assert_eq!(facts.server, right.server);
    is_cancelled(&connection, running, &right).await;
}
