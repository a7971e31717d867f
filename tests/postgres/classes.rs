//! Which sessions are left alone, how statements are told apart, and that their text stays where it is.

use engine::model::{PostgresFacts, SessionState};
use latency_operator::observe::postgres::snapshot;

use crate::support::{OPERATOR, PASSWORD, SOON, World, options, session, until_facts};

/// Statements that would wait for the table `held`, and whether they are maintenance.
const STATEMENTS: [(&str, bool); 41] = [
    ("vacuum held", true),
    ("VACUUM (ANALYZE) held", true),
    ("vacuum(analyze) held", true),
    ("  \n\tvacuum held", true),
    ("/* x */ vacuum held", true),
    ("/* a */ /* ** b **/\n-- c\n  vacuum held", true),
    ("-- x\nvacuum held", true),
    ("-- x\rvacuum held", true),
    ("/* a /* nested */ comment */ vacuum held", true),
    ("; vacuum held", true),
    ("analyze held", true),
    ("create index on held (id)", true),
    ("create index concurrently on held (id)", true),
    ("copy held to stdout", true),
    ("copy (select * from held) to stdout", true),
    ("alter table held add column x int", true),
    ("drop table held", true),
    ("reindex table held", true),
    ("cluster held using held_id", true),
    ("refresh materialized view view_of_held", true),
    ("truncate held", true),
    ("lock table held", true),
    ("comment on table held is 'x'", true),
    ("call procedure_on_held()", true),
    ("do $$ begin perform 1 from held; end $$", true),
    ("begin; create index on held (id); commit", true),
    ("set lock_timeout = 0; alter table held add column y int", true),
    ("select 'vacuum' from held", false),
    ("select 1 /* vacuum */ from held", false),
    ("/* vacuum */ select 1 from held", false),
    ("-- vacuum\nselect 1 from held", false),
    ("select copy_of_held.id from copy_of_held, held", false),
    ("select * from copy_of_held where exists (select from held)", false),
    ("select id as create from held", false),
    ("(select 1 from held)", false),
    ("with x as (select 1 from held) select * from x", false),
    ("update held set id = id", false),
    ("delete from held", false),
    ("insert into held values (1)", false),
    ("explain analyze select 1 from held", false),
    ("begin; select 1 from held", false),
];

const HELD: &str = "create table held (id int); create index held_id on held (id); create table copy_of_held (id int); \
     create materialized view view_of_held as select * from held; \
     create procedure procedure_on_held() language plpgsql as $$ begin perform 1 from held; end $$; \
     alter table held owner to orders; alter table copy_of_held owner to orders; \
     alter materialized view view_of_held owner to orders";

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_told_from_what_merely_looks_like_it() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    world.admin("orders", HELD).await;
    let mut holder = world.client("orders").await;
    holder.execute("begin; lock table held").await;
    let mut running = Vec::new();
    for (statement, _) in STATEMENTS {
        let mut client = world.client("orders").await;
        if statement.starts_with("lock") {
            client.execute("begin").await;
        }
        running.push(client.start(statement));
    }
    let waits = |facts: &PostgresFacts, pid| facts.session(pid).is_some_and(|session| session.waits_for_lock);
    for (one, (statement, _)) in running.iter().zip(STATEMENTS) {
        let waiting = lab::until(SOON, async || {
            snapshot(&connection).await.is_ok_and(|facts| waits(&facts, one.pid)).then_some(())
        });
        assert!(waiting.await.is_some(), "{statement:?} does not wait");
    }
    let facts = snapshot(&connection).await.expect("facts");
    let wrong: Vec<_> = STATEMENTS
        .iter()
        .zip(&running)
        .filter(|((_, maintenance), one)| session(&facts, one.pid).maintenance != *maintenance)
        .map(|(statement, _)| statement)
        .collect();
    assert!(wrong.is_empty(), "not so: {wrong:#?}");
    assert!(running.iter().all(|one| one.runs()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_is_maintenance() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    // What is deferred runs within the COMMIT.
    world
        .admin(
            "orders",
            "create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return null; \
             end $$; create constraint trigger dawdle after update on accounts deferrable initially deferred \
             for each row execute function dawdle()",
        )
        .await;
    let mut running = Vec::new();
    for (id, end) in [(1, "commit"), (2, "/* bye */ END"), (3, "commit and no chain")] {
        let mut client = world.client("orders").await;
        client.execute(&format!("begin; update accounts set balance = 0 where id = {id}")).await;
        running.push(client.start(end));
    }
    let facts = until_facts(&connection, |facts| {
        let active = |pid| facts.session(pid).is_some_and(|session| session.state == SessionState::Active);
        running.iter().all(|one| active(one.pid))
    });
    let facts = facts.await;
    assert!(running.iter().all(|one| session(&facts, one.pid).maintenance), "{facts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_that_is_longer_than_what_the_server_keeps_hides_no_maintenance() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let mut holder = world.client("orders").await;
    holder.execute("begin; lock table copy_of_orders").await;
    let padding = "x".repeat(2_000);
    let mut running = Vec::new();
    for statement in
        [format!("/* {padding} */ vacuum copy_of_orders"), format!("-- {padding}\nvacuum copy_of_orders")]
    {
        running.push(world.client("orders").await.start(&statement));
    }
    let facts = until_facts(&connection, |facts| facts.lock_waits.len() == running.len()).await;
    assert!(running.iter().all(|one| session(&facts, one.pid).maintenance), "{facts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_and_those_who_may_replicate_are_privileged() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let sessions = [
        (world.superuser().await.start("select pg_sleep(60)"), true),
        (world.client("replicator").await.start("select pg_sleep(60)"), true),
        (world.client("orders").await.start("select pg_sleep(60)"), false),
    ];
    let facts = until_facts(&connection, |facts| facts.sessions.len() == sessions.len()).await;
    for (running, privileged) in &sessions {
        assert_eq!(session(&facts, running.pid).privileged, *privileged, "{facts:#?}");
    }
    // Nobody knows what a role was that is not there any more.
    world.admin("orders", "create role leaving login").await;
    world.admin("orders", &format!("alter role leaving password '{}'", PASSWORD)).await;
    let orphan = world.client("leaving").await.start("select pg_sleep(60)");
    until_facts(&connection, |facts| facts.session(orphan.pid).is_some_and(|one| !one.privileged)).await;
    world.admin("orders", "drop role leaving; create role latency_protected").await;
    let facts = snapshot(&connection).await.expect("facts");
    assert!(session(&facts, orphan.pid).privileged);
    assert_eq!(session(&facts, orphan.pid).role, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_members_of_the_protected_role_are_protected() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let applications = [
        ("pg_dump", true),
        ("PG_DUMP", true),
        ("pg_dumpall", true),
        ("pgbackrest [backup]", true),
        ("latency-operator", true),
        ("orders", false),
        ("after pg_dump", false),
    ];
    let mut running = Vec::new();
    for (application, wanted) in applications {
        let mut client = world.client("orders").await;
        client.execute(&format!("set application_name = '{application}'")).await;
        running.push((client.start("select pg_sleep(60)"), wanted));
    }
    let all = |facts: &PostgresFacts| {
        running.iter().all(|(one, _)| facts.session(one.pid).is_some_and(|s| s.state == SessionState::Active))
    };
    let facts = until_facts(&connection, all).await;
    for ((one, wanted), (application, _)) in running.iter().zip(applications) {
        assert_eq!(session(&facts, one.pid).protected, *wanted, "{application}");
        assert_eq!(session(&facts, one.pid).application, application);
    }

    let member = world.client("reporting").await.start("select pg_sleep(60)");
    let facts = until_facts(&connection, |facts| facts.session(member.pid).is_some()).await;
    assert!(!session(&facts, member.pid).protected, "there is no such role yet");
    // Directly, through another role, and without inheriting its rights.
    for grant in [
        "create role latency_protected; grant latency_protected to reporting",
        "revoke latency_protected from reporting; create role nightly; grant latency_protected to nightly; \
         grant nightly to reporting",
        "alter role reporting noinherit",
    ] {
        world.admin("orders", grant).await;
        let facts = snapshot(&connection).await.expect("facts");
        assert!(session(&facts, member.pid).protected, "{grant}");
        assert!(!session(&facts, running[5].0.pid).protected, "{grant}: another role's session");
    }
    world.admin("orders", "revoke nightly from reporting").await;
    let facts = snapshot(&connection).await.expect("facts");
    assert!(!session(&facts, member.pid).protected);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_told_apart_by_the_servers_id_or_by_a_hash() {
    for (setting, by_id) in [("on", true), ("off", false)] {
        let world = World::with(options().setting("compute_query_id", setting)).await;
        let connection = world.connection(OPERATOR);
        let mut running = Vec::new();
        for statement in ["select pg_sleep(61)", "select pg_sleep(62)", "select 1, pg_sleep(63)"] {
            running.push(world.client("orders").await.start(statement));
        }
        let facts = until_facts(&connection, |facts| {
            running.iter().all(|one| facts.session(one.pid).is_some_and(|s| !s.fingerprint.is_empty()))
        });
        let facts = facts.await;
        let prints: Vec<_> =
            running.iter().map(|one| session(&facts, one.pid).fingerprint.as_str()).collect();
        if by_id {
            assert!(prints.iter().all(|print| print.parse::<i64>().is_ok()), "{prints:?}");
            assert!(prints[0] == prints[1] && prints[1] != prints[2], "{prints:?}");
        } else {
            let hash = world.ask("select 'md5:' || left(md5('select pg_sleep(61)'), 12)").await;
            assert_eq!(prints[0], hash);
            assert!(prints[0] != prints[1] && prints[1] != prints[2], "{prints:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_a_statement_leaves_the_server() {
    const CANARY: &str = "card-4929-1234-5678";
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let sleeping = world.client("orders").await.start(&format!("select pg_sleep(60), '{CANARY}'"));
    let mut idle = world.client("orders").await;
    idle.execute("begin").await;
    idle.execute(&format!("update accounts set balance = length('{CANARY}') where id = 1")).await;
    let waiting = world
        .client("orders")
        .await
        .start(&format!("update accounts set balance = length('{CANARY}') where id = 1"));
    let facts = until_facts(&connection, |facts| {
        facts.session(sleeping.pid).is_some()
            && facts.session(idle.pid).is_some()
            && facts.session(waiting.pid).is_some_and(|session| session.waits_for_lock)
    });
    let facts = facts.await;
    world.until_seen(3, &format!("query like '%{CANARY}%' and pid <> pg_backend_pid()")).await;
    let written = format!("{facts:?} {}", serde_json::to_string(&facts).expect("JSON"));
    for word in [CANARY, "4929", "pg_sleep", "balance"] {
        assert!(!written.contains(word), "{word} in {written}");
    }
}
