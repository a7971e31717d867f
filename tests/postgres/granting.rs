//! The statements of docs/grants.md, run as they stand there: each gives what the document says, and no more.

use engine::advance::EffectReport;
use engine::model::Coverage;
use latency_operator::observe::postgres::snapshot;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::{OPERATOR, PASSWORD, World, cancel_of, cancel_on, fence, session, until_facts};

/// The one block of SQL below a heading.
fn sql(heading: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grants.md");
    let text = std::fs::read_to_string(path).expect("docs/grants.md");
    let (_, below) = text.split_once(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = below.split("\n#").next().expect("a section");
    let blocks: Vec<&str> = section.split("```sql\n").skip(1).collect();
    let [block] = blocks.as_slice() else { panic!("{heading} has {} blocks of SQL", blocks.len()) };
    block.split("```").next().expect("its end").to_owned()
}

/// Runs a block as that role, which is no superuser unless it is `postgres`'s own.
async fn run(world: &World, role: Option<&str>, heading: &str) {
    let Some(role) = role else { return world.admin("orders", &sql(heading)).await };
    let mut connection = world.server.connect(role, PASSWORD, "orders").await.expect("a session");
    let done = connection.execute(AssertSqlSafe(sql(heading))).await;
    done.unwrap_or_else(|error| panic!("{heading}, as {role}: {error}"));
    connection.close().await.expect("closed");
}

async fn each_gives_what_it_says(role: Option<&str>) {
    let world = World::start().await;
    world.admin("orders", "drop role latency_operator; create role migrations login").await;
    let managed = "create role master login createrole; grant migrations to master with admin option; \
                   grant pg_monitor, pg_signal_backend to master with admin option";
    world.admin("orders", managed).await;
    let first = world.client("reporting").await.start("select pg_sleep(60)");
    let migration = world.client("migrations").await.start("select pg_sleep(60)");

    run(&world, role, "To diagnose").await;
    let connection = world.connection(OPERATOR);
    let facts = until_facts(&connection, |facts| facts.sessions.len() == 2).await;
    assert_eq!((&facts.coverage, facts.may_signal), (&Coverage::Full, false));
    let refused = cancel_on(&connection, &cancel_of(&facts, first.pid), &[], fence(&facts)).await;
    assert!(matches!(refused, EffectReport::Refused(_)), "{refused:?}");
    let rows = connection.run(sqlx::query("select * from public.accounts")).await;
    assert!(rows.is_err(), "it reads a table");
    assert!(first.runs());

    run(&world, role, "To cancel and to end sessions").await;
    let facts = snapshot(&connection).await.expect("facts");
    assert!(facts.may_signal && !session(&facts, migration.pid).protected);
    let sent = cancel_on(&connection, &cancel_of(&facts, first.pid), &[], fence(&facts)).await;
    assert_eq!(sent, EffectReport::Sent);
    first.ended().await.1.expect_err("it was cancelled");

    run(&world, role, "To protect").await;
    let facts = snapshot(&connection).await.expect("facts");
    assert!(session(&facts, migration.pid).protected);
    let passed = cancel_on(&connection, &cancel_of(&facts, migration.pid), &[], fence(&facts)).await;
    assert!(matches!(passed, EffectReport::NotMatched(_)), "{passed:?}");
    assert!(migration.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_of_the_document_gives_what_it_says() {
    each_gives_what_it_says(None).await;
}

/// As on a managed server, whose administrator is none.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_create_roles_and_hand_on_the_predefined_ones_can_give_them() {
    each_gives_what_it_says(Some("master")).await;
}
