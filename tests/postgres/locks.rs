//! Who waits for whom.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::SessionState;

use crate::support::{OPERATOR, Running, World, edges, instant, options, roots, session, shown, until_facts};

const FIRST: &str = "update accounts set balance = balance + 1 where id = 1";
const SECOND: &str = "update accounts set balance = balance + 1 where id = 2";

/// A server that no deadlock detector disturbs.
async fn world() -> World {
    World::with(options().setting("deadlock_timeout", "10min")).await
}

/// Sessions that run the same statement.
async fn crowd(world: &World, size: usize, sql: &str) -> (Vec<Running>, BTreeSet<i32>) {
    let mut crowd = Vec::new();
    for _ in 0..size {
        crowd.push(world.client("orders").await.start(sql));
    }
    let pids = crowd.iter().map(|one| one.pid).collect();
    (crowd, pids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_has_one_root_and_all_others_are_its_victims() {
    let world = world().await;
    let connection = world.connection(OPERATOR);
    let mut root = world.client("reporting").await;
    root.execute("begin").await;
    root.execute(FIRST).await;
    let mut middle = world.client("orders").await;
    middle.execute("begin").await;
    middle.execute(SECOND).await;
    let middle = middle.start(FIRST);
    world.until_seen(1, "wait_event_type = 'Lock'").await;
    let last = world.client("orders").await.start(SECOND);
    let facts = until_facts(&connection, |facts| facts.lock_waits.len() == 2).await;
    assert_eq!(edges(&facts), BTreeSet::from([(middle.pid, root.pid), (last.pid, middle.pid)]));
    assert_eq!(roots(&facts), BTreeMap::from([(root.pid, BTreeSet::from([middle.pid, last.pid]))]));
    for pid in [middle.pid, last.pid] {
        let waiter = session(&facts, pid);
        assert!(waiter.waits_for_lock);
        assert_eq!(waiter.state, SessionState::Active);
        let sql =
            format!("select {} from pg_locks where pid = {pid} and not granted", shown("min(waitstart)"));
        assert_eq!(waiter.wait_start, Some(instant(&world.ask(&sql).await)));
    }
    assert!(session(&facts, middle.pid).wrote && !session(&facts, last.pid).privileged);
    let seen = session(&facts, root.pid);
    assert_eq!((seen.state, seen.wrote), (SessionState::IdleInTransaction, true));
    assert!(!seen.waits_for_lock && seen.wait_start.is_none());
    assert!(!facts.truncated);

    // A root may just as well be at work.
    let root = root.start("select pg_sleep(60)");
    let active = |session: &engine::model::Session| session.state == SessionState::Active;
    let facts = until_facts(&connection, |facts| facts.session(root.pid).is_some_and(active)).await;
    assert_eq!(roots(&facts), BTreeMap::from([(root.pid, BTreeSet::from([middle.pid, last.pid]))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_waiters_on_one_row_have_one_root() {
    let world = world().await;
    let connection = world.connection(OPERATOR);
    let mut root = world.client("orders").await;
    root.execute("begin").await;
    root.execute(FIRST).await;
    let (_crowd, pids) = crowd(&world, 30, FIRST).await;
    world.until_seen(30, "wait_event_type = 'Lock'").await;
    let facts = until_facts(&connection, |facts| edges(facts).len() >= 30).await;
    assert_eq!(roots(&facts), BTreeMap::from([(root.pid, pids)]));
    assert!(!facts.truncated);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_very_long_queue_is_never_lost() {
    let world = world().await;
    let connection = world.connection(OPERATOR);
    let mut root = world.client("orders").await;
    root.execute("begin").await;
    root.execute(FIRST).await;
    let (_crowd, pids) = crowd(&world, 80, FIRST).await;
    world.until_seen(80, "wait_event_type = 'Lock'").await;
    // Which edges are left out must not depend on the order in which they are found.
    for _ in 0..5 {
        let facts = until_facts(&connection, |facts| !facts.lock_waits.is_empty()).await;
        let roots = roots(&facts);
        let victims = roots.get(&root.pid).unwrap_or_else(|| panic!("no root among {roots:?}"));
        assert!(victims.is_subset(&pids));
        assert!(victims.len() >= 63, "{} victims, {} edges", victims.len(), facts.lock_waits.len());
        assert!(facts.truncated, "80 wait, and not all of them are shown");
        assert!(facts.lock_waits.len() <= 1024 && facts.sessions.len() <= 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_has_no_root() {
    let world = world().await;
    let connection = world.connection(OPERATOR);
    let mut left = world.client("orders").await;
    let mut right = world.client("orders").await;
    left.execute("begin").await;
    left.execute(FIRST).await;
    right.execute("begin").await;
    right.execute(SECOND).await;
    let (left, right) = (left.start(SECOND), right.start(FIRST));
    let facts = until_facts(&connection, |facts| facts.lock_waits.len() == 2).await;
    assert_eq!(edges(&facts), BTreeSet::from([(left.pid, right.pid), (right.pid, left.pid)]));
    assert_eq!(roots(&facts), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_table_or_an_advisory_lock_is_waiting_all_the_same() {
    let world = world().await;
    let connection = world.connection(OPERATOR);
    let mut holder = world.client("orders").await;
    holder.execute("begin; lock table copy_of_orders; select pg_advisory_lock(42)").await;
    let table = world.client("orders").await.start("select * from copy_of_orders");
    let advisory = world.client("orders").await.start("select pg_advisory_lock(42)");
    let facts = until_facts(&connection, |facts| facts.lock_waits.len() == 2).await;
    let victims = BTreeSet::from([table.pid, advisory.pid]);
    assert_eq!(roots(&facts), BTreeMap::from([(holder.pid, victims)]));
    assert!(facts.sessions.iter().filter(|session| session.waits_for_lock).count() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_blocks_as_number_zero() {
    let world = World::with(options().setting("max_prepared_transactions", "2")).await;
    let connection = world.connection(OPERATOR);
    let mut gone = world.client("orders").await;
    gone.execute("begin").await;
    gone.execute(FIRST).await;
    gone.execute("prepare transaction 'forgotten'").await;
    gone.leave().await;
    let waiter = world.client("orders").await.start(FIRST);
    let facts = until_facts(&connection, |facts| !facts.lock_waits.is_empty()).await;
    assert_eq!(edges(&facts), BTreeSet::from([(waiter.pid, 0)]));
    assert!(session(&facts, waiter.pid).waits_for_lock && facts.session(0).is_none());
}
