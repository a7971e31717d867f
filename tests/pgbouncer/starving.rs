//! A pool that real clients starve, through everything that decides: the policy, the look, the memory and the diagnosis.

use std::time::Duration;

use engine::model::{
    Confidence, Finding, Memory, NoDataReason, Observations, Observed, OperatorHealth, Policy, Snapshot,
};
use engine::{State, investigate, tick};
use jiff::Timestamp;
use latency_operator::api::LatencyPolicy;
use latency_operator::api::convert;
use latency_operator::connections::{PgBouncer, Postgres};
use latency_operator::observe::postgres::snapshot;
use sqlx::{Connection, Executor};

use crate::support::{SOON, World, read, until_pool};

/// A policy whose target connects through the pool.
fn policy() -> Policy {
    let object: LatencyPolicy = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "orders-api", "namespace": "shop"},
        "spec": {
            "targetRef": {"name": "orders-api"},
            "dependencies": [
                {"name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {"clientRoles": ["orders"]}},
                {"name": "pool", "type": "PgBouncer", "secretRef": {"name": "orders-pgbouncer"}, "pgbouncer": {
                    "poolName": "orders", "databaseDependencyName": "db",
                }},
            ],
        },
    }))
    .expect("an object");
    convert::policy(&object).expect("a policy")
}

/// What the operator sees and remembers of both.
struct Watched {
    pool: PgBouncer,
    database: Postgres,
    state: State,
    since: Timestamp,
}

impl Watched {
    /// The breach begins now.
    fn new(world: &World) -> Self {
        let since = Timestamp::now();
        Self { pool: world.connection(), database: world.behind(), state: State::default(), since }
    }

    /// One evaluation.
    async fn evaluate(&mut self) -> Vec<Finding> {
        let pool = read(&self.pool).await.expect("facts of the pool");
        let database = snapshot(&self.database).await.expect("facts of the database");
        let now = Timestamp::now();
        let mut observations = Observations::new(Observed::missing(NoDataReason::NotYetRead, ""));
        let known = |value| Observed::Known { at: now, value };
        observations
            .dependencies
            .insert("pool".to_owned(), known(engine::dependencies::pgbouncer::Facts::from(pool).into()));
        observations.dependencies.insert("db".to_owned(), known(database.into()));
        let operator = OperatorHealth {
            leading_since: self.since,
            api_contact_at: now,
            api_contact_within: Duration::from_secs(10),
            enabled_actions: Vec::new().into(),
            protected_roles: Vec::new().into(),
        };
        let snapshot = Snapshot::new(now, policy(), observations, operator);
        self.state = tick(&snapshot, &self.state).state;
        found(&snapshot, &self.state.memory, self.since)
    }
}

fn found(snapshot: &Snapshot, memory: &Memory, since: Timestamp) -> Vec<Finding> {
    let found = investigate(snapshot, memory, since);
    found.findings.into_iter().chain(found.advice).collect()
}

fn starved(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| finding.cause == "PoolStarved")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hold_transactions_starve_the_pool_and_the_second_look_says_so() {
    let world = World::start().await;
    let mut watched = Watched::new(&world);
    assert_eq!(watched.evaluate().await, []);
    let mut holders = vec![world.holder().await, world.holder().await];
    let askers = world.askers(3).await;
    until_pool(&watched.pool, |pool| pool.clients.waiting == 3 && pool.holds_up()).await;
    assert_eq!(starved(&watched.evaluate().await), None, "the first look");
    let findings = watched.evaluate().await;
    let finding = starved(&findings).expect("it is found");
    assert_eq!((finding.confidence, finding.advice), (Confidence::Certain, false), "{finding:#?}");
    assert_eq!(finding.explained_by, None);
    for words in [
        "in pool 3 clients of pool orders of user orders wait",
        "2 of the 2 server connections that pool_size allows are in use",
        "2 are idle in a transaction",
        "0 run a query",
    ] {
        assert!(finding.sentence.contains(words), "{words:?} is not in {}", finding.sentence);
    }
    for holder in &mut holders {
        holder.execute(sqlx::raw_sql("commit")).await.expect("committed");
    }
    for asker in askers {
        asker.await.expect("an answer");
    }
    assert_eq!(starved(&watched.evaluate().await), None, "it has passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_blocked_database_the_starved_pool_is_a_symptom() {
    let world = World::start().await;
    let sql =
        "create table accounts (id int); insert into accounts values (1); grant all on accounts to orders";
    world.database.execute("orders", sql).await.expect("a table");
    let mut watched = Watched::new(&world);
    // A migration that has its lock and goes on working.
    let mut blocker = world.database.superuser("orders").await.expect("a session");
    let blocking = tokio::spawn(async move {
        let _ = blocker.execute(sqlx::raw_sql("begin; lock table accounts; select pg_sleep(3600)")).await;
        blocker.close().await
    });
    let held = lab::until(SOON, async || {
        let mut probe = world.database.superuser("orders").await.ok()?;
        let sql = "select 1 from pg_locks where granted and mode = 'AccessExclusiveLock'";
        let rows = sqlx::raw_sql(sql).fetch_all(&mut probe).await.ok()?;
        (!rows.is_empty()).then_some(())
    });
    held.await.expect("the lock is held");
    let mut blocked = Vec::new();
    for _ in 0..5 {
        let mut client = world.client().await;
        blocked.push(tokio::spawn(async move {
            let _ = client.execute(sqlx::raw_sql("select * from accounts")).await;
        }));
    }
    until_pool(&watched.pool, |pool| pool.clients.waiting == 3 && pool.holds_up()).await;
    watched.evaluate().await;
    let findings = watched.evaluate().await;
    let finding = starved(&findings).expect("it is found");
    assert_eq!(finding.explained_by.as_deref(), Some("BlockingQuery"), "{findings:#?}");
    assert!(finding.sentence.contains("2 wait for a lock"), "{}", finding.sentence);
    blocked.iter().for_each(tokio::task::JoinHandle::abort);
    blocking.abort();
}
