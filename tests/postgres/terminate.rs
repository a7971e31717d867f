//! A session is ended only while it is idle in the very transaction that was decided about, or while the very statement
//! runs that was cancelled in vain.

use std::time::Duration;

use engine::actions::{TerminateIdle, TerminateQuery};
use engine::advance::EffectReport;
use engine::effects::{Inspection, SessionTarget};
use engine::model::{Action, PostgresFacts, SessionState, UncommittedWrites};
use latency_operator::act::signal_session::signal_on;
use latency_operator::connections::Postgres;
use latency_operator::observe::postgres::{look_at_session, look_at_statement};

use crate::support::{
    Client, OPERATOR, SOON, World, cancel_of, cancel_on, fence, session, signalled, until_facts,
};

const TICK: Duration = Duration::from_micros(1);
const UPDATE: &str = "update accounts set balance = balance + 1 where id = 1";

/// A change of one thing.
type Change = (&'static str, fn(&mut TerminateIdle));

const CHANGES: [Change; 9] = [
    ("it was idle before that", |idle| idle.idle_since += TICK),
    ("it became idle later", |idle| idle.idle_since -= TICK),
    ("another last statement", |idle| idle.target.session.query_start -= TICK),
    ("another session", |idle| idle.target.session.backend_start += TICK),
    ("another process", |idle| idle.target.session.pid += 1),
    ("another role", |idle| idle.target.role = "orders".to_owned()),
    ("another database", |idle| idle.target.server.database = "reports".to_owned()),
    ("another life of the server", |idle| idle.target.server.started_at += TICK),
    ("its work may not be lost", |idle| idle.target.writes = UncommittedWrites::Protect),
];

/// A session that has locked a row, has looked at something innocent since, and says nothing any more.
async fn idler(world: &World) -> Client {
    let mut idler = world.client("reporting").await;
    idler.execute("begin").await;
    idler.execute(UPDATE).await;
    idler.execute("select 1").await;
    idler
}

async fn idle(connection: &Postgres, pid: i32) -> PostgresFacts {
    let is_idle = |found: &engine::model::Session| found.state == SessionState::IdleInTransaction;
    until_facts(connection, |facts| facts.session(pid).is_some_and(is_idle)).await
}

fn terminate(facts: &PostgresFacts, pid: i32) -> TerminateIdle {
    TerminateIdle {
        target: SessionTarget { writes: UncommittedWrites::RollBack, ..cancel_of(facts, pid) },
        idle_since: session(facts, pid).state_change,
        min_idle: Duration::ZERO,
    }
}

async fn end(connection: &Postgres, idle: &TerminateIdle, facts: &PostgresFacts) -> EffectReport {
    signal_on(connection, &signalled(&Action::TerminateIdle(idle.clone())), &[], fence(facts)).await
}

async fn until_gone(connection: &Postgres, target: &SessionTarget) {
    let gone = lab::until(SOON, async || {
        (look_at_session(connection, &target.session).await == Inspection::Gone).then_some(())
    });
    gone.await.expect("the session is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_idle_in_a_transaction_is_ended_and_its_victims_go_on() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut idler = idler(&world).await;
    let victim = world.client("orders").await.start(UPDATE);
    world.until_seen(1, "wait_event_type = 'Lock'").await;
    let facts = idle(&connection, idler.pid).await;
    let right = terminate(&facts, idler.pid);
    assert_eq!(look_at_session(&connection, &right.target.session).await, Inspection::Running);

    // Cancelling would do nothing, and is not done.
    let report = cancel_on(&connection, &right.target, &[], fence(&facts)).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "{report:?}");
    assert_eq!(end(&connection, &right, &facts).await, EffectReport::Sent);
    until_gone(&connection, &right.target).await;
    let (_, ended) = victim.ended().await;
    ended.expect("the victim is not hurt");
    let error = idler.attempt("select 1").await.expect_err("its session is gone");
    assert!(error.contains("administrator command"), "{error}");
    // It is not there any more, and nobody else takes its place.
    let report = end(&connection, &right, &facts).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "{report:?}");
    assert_eq!(
        world.ask("select balance::text from accounts where id = 1").await,
        "101",
        "the victim's own update and nothing else"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_thing_is_enough_to_end_nothing() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut idler = idler(&world).await;
    let facts = idle(&connection, idler.pid).await;
    let right = terminate(&facts, idler.pid);
    for (what, change) in CHANGES {
        let mut changed = right.clone();
        change(&mut changed);
        let report = end(&connection, &changed, &facts).await;
        assert!(matches!(report, EffectReport::NotMatched(_)), "{what}: {report:?}");
    }
    let action = signalled(&Action::TerminateIdle(right.clone()));
    let report = signal_on(&connection, &action, &[], facts.clock).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "too late: {report:?}");
    let report = signal_on(&connection, &action, &["reporting".to_owned()], fence(&facts)).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "a protected role: {report:?}");
    // It was not asleep after all.
    idler.execute("select 2").await;
    let report = end(&connection, &right, &facts).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "it has done something: {report:?}");
    idler.execute("commit").await;
    let report = end(&connection, &right, &facts).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "it has committed: {report:?}");
    assert_eq!(world.ask("select balance::text from accounts where id = 1").await, "101", "its work is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_in_a_transaction_is_left_alone_while_it_is_idle() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut idler = world.client("reporting").await;
    idler.execute("begin").await;
    // Also where its last statement is innocent: a migration that computes something between two changes.
    for statement in ["create temporary table mine (id int)", "select 1"] {
        idler.execute(statement).await;
        let facts = idle(&connection, idler.pid).await;
        assert!(session(&facts, idler.pid).maintenance, "{statement}");
        let report = end(&connection, &terminate(&facts, idler.pid), &facts).await;
        assert!(matches!(report, EffectReport::NotMatched(_)), "{statement}: {report:?}");
    }
    idler.execute("rollback").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_ignores_its_cancellation_ends_with_its_session() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let stubborn = "create function stubborn() returns void language plpgsql as $$ begin loop begin \
         perform pg_sleep(600); exception when query_canceled then null; end; end loop; end $$";
    world.admin("orders", stubborn).await;
    let running = world.client("orders").await.start("select stubborn()");
    let active = |found: &engine::model::Session| found.state == SessionState::Active;
    let facts = until_facts(&connection, |facts| facts.session(running.pid).is_some_and(active)).await;
    let target = cancel_of(&facts, running.pid);
    assert_eq!(cancel_on(&connection, &target, &[], fence(&facts)).await, EffectReport::Sent);
    // The next look comes after the signal: PostgreSQL has begun the sleep anew.
    world.until_seen(1, &format!("pid = {} and wait_event = 'PgSleep'", running.pid)).await;
    assert_eq!(look_at_statement(&connection, &target.session).await, Inspection::Running);

    let mut other = target.clone();
    other.session.query_start += TICK;
    let report = signal_on(
        &connection,
        &signalled(&Action::TerminateQuery(TerminateQuery(other))),
        &[],
        fence(&facts),
    )
    .await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "{report:?}");
    assert!(running.runs());
    let report = signal_on(
        &connection,
        &signalled(&Action::TerminateQuery(TerminateQuery(target.clone()))),
        &[],
        fence(&facts),
    )
    .await;
    assert_eq!(report, EffectReport::Sent);
    until_gone(&connection, &target).await;
    assert!(running.ended().await.1.expect_err("ended").contains("administrator command"));
}
