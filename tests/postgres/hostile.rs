//! Names and statements that a client chooses to do harm with: they are read as what they are, nobody but the session that
//! was meant is signalled, and what is told of them is short and plain.

use engine::advance::EffectReport;
use lab::PostgresOptions;
use latency_operator::observe::postgres::snapshot;

use crate::support::{OPERATOR, Running, World, cancel_of, cancel_on, fence, options, session, until_facts};

/// Names of roles, of databases and of applications, and parts of statements.
const NAMES: [&str; 10] = [
    "plain",
    "it's",
    "a\"b",
    "x'; drop table accounts; --",
    "*/ select pg_terminate_backend(pid) from pg_stat_activity /*",
    "$1",
    "röle 🦀 ٣",
    "\u{1b}[31mred",
    "two\nlines",
    "\\'; select 1; --",
];

/// Statements that take long, after texts that are hard to look through: as long as the server keeps them.
fn statements() -> Vec<String> {
    let long = 60_000;
    let sleep = "select pg_sleep(600)";
    let before = ["", "((((", ";;;;", "/* */", "/*/* */*/", "-- x\n", "\t\n ", "/***/", "/* - ; ( */"];
    let mut statements: Vec<String> = before
        .iter()
        .map(|part| part.repeat(long / part.len().max(1)))
        .map(|skipped| {
            if skipped.starts_with('(') {
                "(".repeat(200) + sleep + &")".repeat(200)
            } else {
                skipped + sleep
            }
        })
        .collect();
    statements.push(format!("{sleep} /* {} */", "vacuum ;".repeat(long / 8)));
    statements
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// It runs on: nobody has signalled it.
fn all_run(clients: &[Running]) {
    for client in clients {
        assert!(client.runs(), "pid {} was hit", client.pid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_select_nobody_else() {
    let world = World::start().await;
    let mut clients = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        world.admin("orders", &format!("create role {} login", quoted(name))).await;
        world.admin("orders", &format!("create database {}", quoted(&format!("db {index} {name}")))).await;
        let mut elsewhere = world.client_of(name, &format!("db {index} {name}")).await;
        let application = name.replace('\'', "''").replace('\\', "\\\\");
        let naming = format!("set application_name = E'{application}'");
        elsewhere.execute(&naming).await;
        clients.push((index, false, elsewhere.start("select pg_sleep(600)")));
        let mut here = world.client(name).await;
        here.execute(&naming).await;
        clients.push((index, true, here.start("select pg_sleep(600)")));
    }
    let connection = world.connection(OPERATOR);
    let facts = until_facts(&connection, |facts| {
        clients.iter().all(|(_, _, client)| facts.session(client.pid).is_some())
    })
    .await;
    let mut rest: Vec<Running> = Vec::new();
    let mut hit = 0;
    for (index, here, client) in clients {
        let known = session(&facts, client.pid);
        let plain: String = NAMES[index].chars().filter(|c| !c.is_control()).collect();
        assert_eq!(known.role, plain);
        for told in [&known.role, &known.database, &known.application, &known.fingerprint] {
            assert!(told.chars().count() <= 64 && !told.contains(char::is_control), "{told:?}");
        }
        let done = cancel_on(&connection, &cancel_of(&facts, client.pid), &[], fence(&facts)).await;
        // Of another database, or with a name that cannot be told as it is: nobody is sure who is meant.
        if here && plain == NAMES[index] {
            assert_eq!(done, EffectReport::Sent, "{plain}");
            assert!(client.ended().await.1.is_err());
            hit += 1;
        } else {
            assert!(matches!(done, EffectReport::NotMatched(_)), "{plain}: {done:?}");
            rest.push(client);
        }
        all_run(&rest);
    }
    assert_eq!((hit, rest.len()), (8, 12));
    assert_eq!(world.ask("select count(*)::text from accounts").await, "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_statements_do_not_blind_the_diagnosis() {
    let options = PostgresOptions {
        settings: vec![("track_activity_query_size".to_owned(), "64kB".to_owned())],
        ..options()
    };
    let world = World::with(options).await;
    let mut clients = Vec::new();
    for statement in statements() {
        clients.push(world.client("reporting").await.start(&statement));
    }
    let connection = world.connection(OPERATOR);
    let facts = until_facts(&connection, |facts| {
        clients.iter().all(|client| {
            facts.session(client.pid).is_some_and(|known| known.state == engine::model::SessionState::Active)
        })
    })
    .await;
    let spared: Vec<bool> = clients.iter().map(|client| session(&facts, client.pid).maintenance).collect();
    while let Some(client) = clients.pop() {
        let done = cancel_on(&connection, &cancel_of(&facts, client.pid), &[], fence(&facts)).await;
        if spared[clients.len()] {
            assert!(matches!(done, EffectReport::NotMatched(_)), "{done:?}");
            assert!(client.runs());
        } else {
            assert_eq!(done, EffectReport::Sent);
            assert!(client.ended().await.1.is_err());
        }
        all_run(&clients);
    }
    // Comments in comments, and what looks like maintenance behind a semicolon: in doubt it is spared.
    let in_doubt: Vec<usize> = (0..spared.len()).filter(|index| spared[*index]).collect();
    assert_eq!(in_doubt, [4, 9]);
    assert!(snapshot(&connection).await.is_ok());
}
