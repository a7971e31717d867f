//! The statement is cancelled, its session lives, and what is reported is what happened.

use std::time::Duration;

use engine::advance::EffectReport;
use engine::effects::Inspection;
use engine::model::{NoDataReason, PostgresFacts, SessionState};
use lab::postgres::Stop;
use latency_operator::connections::{Credentials, Postgres};
use latency_operator::observe::postgres::look_at_statement;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{
    OPERATOR, Running, SOON, WATCHER, World, cancel_of, cancel_on, connection, fence, session, until_facts,
};

const SLEEP: &str = "select pg_sleep(600)";

async fn seen(connection: &Postgres, running: &Running) -> PostgresFacts {
    let active = |session: &engine::model::Session| session.state == SessionState::Active;
    until_facts(connection, |facts| facts.session(running.pid).is_some_and(active)).await
}

async fn until_gone(connection: &Postgres, facts: &PostgresFacts, pid: i32) {
    let identity = &session(facts, pid).identity;
    let gone = lab::until(SOON, async || {
        (look_at_statement(connection, identity).await == Inspection::Gone).then_some(())
    });
    assert!(gone.await.is_some(), "{:?}", look_at_statement(connection, identity).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_ends_and_the_session_lives_on() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut client = world.client("orders").await;
    client.execute("create temporary table mine (id int)").await;
    let running = client.start(SLEEP);
    let bystander = world.client("orders").await.start(SLEEP);
    let facts = seen(&connection, &running).await;
    let before = seen(&connection, &bystander).await;
    let identity = session(&facts, running.pid).identity.clone();
    assert_eq!(look_at_statement(&connection, &identity).await, Inspection::Running);

    let cancel = cancel_of(&facts, running.pid);
    assert_eq!(cancel_on(&connection, &cancel, &[], fence(&facts)).await, EffectReport::Sent);
    let (mut client, ended) = running.ended().await;
    assert!(ended.expect_err("cancelled").contains("canceling statement due to user request"));
    until_gone(&connection, &facts, client.pid).await;
    client.execute("insert into mine values (1)").await;
    assert_eq!(client.ask("select count(*)::text from mine").await, "1", "not the same session");
    // The session's next statement is not the one that was meant.
    let next = client.start("select pg_sleep(0.2)");
    let _ = seen(&connection, &next).await;
    assert_eq!(look_at_statement(&connection, &identity).await, Inspection::Gone);
    let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "{report:?}");
    let (client, ended) = next.ended().await;
    ended.expect("it is not hurt");
    client.leave().await;
    assert_eq!(look_at_statement(&connection, &identity).await, Inspection::Gone);
    assert_eq!(
        look_at_statement(&connection, &session(&before, bystander.pid).identity).await,
        Inspection::Running
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_parameters_and_a_parallel_one_can_be_cancelled() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    world.admin("orders", "create table big as select i from generate_series(1, 20000) i; analyze big").await;
    world.admin("orders", "alter table big set (parallel_workers = 2); grant select on big to orders").await;
    let mut client = world.client("orders").await;
    client.execute("set parallel_setup_cost = 0; set parallel_tuple_cost = 0").await;
    let parallel = client.start("select count(pg_sleep(0.01)) from big");
    world.until_seen(2, &format!("leader_pid = {}", parallel.pid)).await;
    let mut prepared = world.client("orders").await;
    prepared.execute("prepare sleepy(int) as select pg_sleep($1)").await;
    let prepared = prepared.start("execute sleepy(600)");
    for running in [parallel, prepared] {
        let facts = seen(&connection, &running).await;
        let cancel = cancel_of(&facts, running.pid);
        assert_eq!(cancel_on(&connection, &cancel, &[], fence(&facts)).await, EffectReport::Sent);
        let (client, ended) = running.ended().await;
        assert!(ended.expect_err("cancelled").contains("user request"));
        world.until_seen(0, &format!("leader_pid = {}", client.pid)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_signal_it_is_refused_in_the_servers_words() {
    let world = World::start().await;
    let connection = world.connection(WATCHER);
    let running = world.client("orders").await.start(SLEEP);
    let facts = seen(&connection, &running).await;
    let cancel = cancel_of(&facts, running.pid);
    let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
    let EffectReport::Refused(why) = &report else { panic!("{report:?}") };
    let words = if facts.version < 160_000 {
        "must be a member of the role whose query is being canceled"
    } else {
        "permission denied to cancel query"
    };
    assert!(why.contains(words) && why.contains("PermissionDenied"), "{why}");
    assert_eq!(look_at_statement(&connection, &cancel.session).await, Inspection::Running);
    assert!(running.runs());

    // One's own role needs no further right.
    let own = world.client(WATCHER).await.start(SLEEP);
    let facts = seen(&connection, &own).await;
    let cancel = cancel_of(&facts, own.pid);
    assert_eq!(cancel_on(&connection, &cancel, &[], fence(&facts)).await, EffectReport::Sent);
    own.ended().await.1.expect_err("cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_and_a_broken_connection_is_a_lost_answer() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let running = world.client("orders").await.start(SLEEP);
    let facts = seen(&connection, &running).await;
    let cancel = cancel_of(&facts, running.pid);
    world.server.stop(Stop::Kill).await.expect("killed");
    let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
    assert!(matches!(report, EffectReport::Lost(_)), "the connection was open: {report:?}");
    let report = cancel_on(&connection, &cancel, &[], fence(&facts)).await;
    assert!(matches!(report, EffectReport::Refused(_)), "there was no connection: {report:?}");
    let seen = look_at_statement(&connection, &cancel.session).await;
    let Inspection::Unreadable(no_data) = &seen else { panic!("{seen:?}") };
    assert_eq!(no_data.reason, NoDataReason::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_lost_although_the_statement_was_cancelled() {
    let world = World::start().await;
    let (answers, port) = proxy(world.server.port()).await;
    let connection = connection(Credentials { port, ..world.credentials(OPERATOR) });
    let running = world.client("orders").await.start(SLEEP);
    let facts = seen(&connection, &running).await;
    let cancel = cancel_of(&facts, running.pid);
    // The first time is a question of its own: what the parameters are.
    let report = cancel_on(&connection, &cancel, &[], facts.clock).await;
    assert!(matches!(report, EffectReport::NotMatched(_)), "too late: {report:?}");
    answers.send_replace(false);
    let report = lab::within(Duration::from_secs(8), cancel_on(&connection, &cancel, &[], fence(&facts)))
        .await
        .expect("it is given up within the limit");
    let EffectReport::Lost(why) = &report else { panic!("{report:?}") };
    assert!(why.contains("Timeout"), "{why}");
    running.ended().await.1.expect_err("it was cancelled all the same");
    // What was thrown away does not answer the next question.
    answers.send_replace(true);
    until_gone(&connection, &facts, cancel.session.pid).await;
}

/// Passes on what is said to that port; what it answers only while the sender says so.
async fn proxy(server: u16) -> (watch::Sender<bool>, u16) {
    let (answers, passing) = watch::channel(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
            let (mut asks, mut hears) = client.into_split();
            let (mut says, mut listens) = server.into_split();
            let mut passing = passing.clone();
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut listens).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                while let Ok(read @ 1..) = says.read(&mut buffer).await {
                    if passing.wait_for(|passing| *passing).await.is_err()
                        || hears.write_all(&buffer[..read]).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    (answers, port)
}
