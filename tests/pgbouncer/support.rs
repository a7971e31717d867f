//! A PgBouncer in front of a PostgreSQL, clients of it, and connections of the operator to both.

use std::sync::Arc;
use std::time::Duration;

use engine::dependencies::pgbouncer::{PgBouncerLook, Pool};
use engine::model::{NoData, NoDataReason};
use lab::{PgBouncerOptions, PostgresOptions};
use latency_operator::connections::{Credentials, PgBouncer, Postgres, Registry, SslMode};
use latency_operator::observe::pgbouncer::look;
use sqlx::{Executor, PgConnection};
use tokio::task::JoinHandle;

pub(crate) const PASSWORD: &str = "lab-password";
/// Long enough for a busy machine; what a test waits for takes a fraction of it.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The user who may read statistics in the console.
pub(crate) const WATCHER: &str = "watcher";
/// The user of the application.
pub(crate) const ORDERS: &str = "orders";
/// The size of each pool.
pub(crate) const SIZE: u32 = 2;

const ROLES: &str = "create role orders login; create role reporting login; \
     create role latency_operator login in role pg_monitor";

/// Both servers, with one database `orders`.
pub(crate) struct World {
    pub(crate) pooler: lab::PgBouncer,
    pub(crate) database: lab::Postgres,
    _session: lab::Session,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|options| options).await
    }

    pub(crate) async fn with(change: impl FnOnce(PgBouncerOptions) -> PgBouncerOptions) -> Self {
        let session = lab::Session::start().await.expect("a session");
        let database = lab::Postgres::start(&session, PostgresOptions::default()).await.expect("PostgreSQL");
        let admin = async |sql: &str| database.execute("postgres", sql).await.expect("SQL of the superuser");
        admin("create database orders").await;
        admin(ROLES).await;
        for role in [ORDERS, "reporting", "latency_operator"] {
            admin(&format!("alter role {role} password '{PASSWORD}'")).await;
        }
        let options = PgBouncerOptions::default()
            .database("orders", database.port())
            .user(ORDERS, PASSWORD)
            .user("reporting", PASSWORD)
            .stats_user(WATCHER, PASSWORD)
            .setting("default_pool_size", SIZE.to_string());
        let pooler = lab::PgBouncer::start(&session, change(options)).await.expect("PgBouncer");
        Self { pooler, database, _session: session }
    }

    /// How to log in to the console.
    pub(crate) fn credentials(&self, user: &str) -> Credentials {
        credentials_at(self.pooler.port(), user, "pgbouncer")
    }

    /// A new connection of the operator's to the console.
    pub(crate) fn connection(&self) -> PgBouncer {
        connection(self.credentials(WATCHER))
    }

    /// A new connection of the operator's to the database, past the pooler.
    pub(crate) fn behind(&self) -> Postgres {
        let credentials = credentials_at(self.database.port(), "latency_operator", "orders");
        Registry::default().connection(&Arc::new(credentials))
    }

    /// A client of the application.
    pub(crate) async fn client(&self) -> PgConnection {
        self.client_as(ORDERS).await
    }

    pub(crate) async fn client_as(&self, user: &str) -> PgConnection {
        self.pooler.connect(user, PASSWORD, "orders").await.expect("a client")
    }

    /// A client that has begun a transaction and does nothing more.
    pub(crate) async fn holder(&self) -> PgConnection {
        let mut client = self.client().await;
        client.execute(sqlx::raw_sql("begin; select 1")).await.expect("a transaction");
        client
    }

    /// So many clients that ask something at once.
    pub(crate) async fn askers(&self, count: usize) -> Vec<JoinHandle<()>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            let mut client = self.client().await;
            askers.push(tokio::spawn(async move {
                let _ = client.execute(sqlx::raw_sql("select 1")).await;
            }));
        }
        askers
    }
}

pub(crate) fn credentials_at(port: u16, user: &str, database: &str) -> Credentials {
    Credentials {
        host: "127.0.0.1".to_owned(),
        port,
        database: database.to_owned(),
        user: user.to_owned(),
        password: Some(PASSWORD.to_owned()),
        ssl_mode: SslMode::Prefer,
        ca: None,
    }
}

/// A connection of the operator's, used by nobody else.
pub(crate) fn connection(credentials: Credentials) -> PgBouncer {
    Registry::default().connection(&Arc::new(credentials))
}

/// One look.
pub(crate) async fn read(connection: &PgBouncer) -> Result<PgBouncerLook, NoData> {
    look(connection).await
}

/// The pool of that user.
pub(crate) fn pool<'a>(look: &'a PgBouncerLook, user: &str) -> &'a Pool {
    let found = look.pools.iter().find(|pool| pool.id.name == "orders" && pool.id.user == user);
    found.unwrap_or_else(|| panic!("no pool of {user} in {look:#?}"))
}

/// Reads until `wanted` says so of the application's pool.
pub(crate) async fn until_pool(connection: &PgBouncer, wanted: impl Fn(&Pool) -> bool) -> PgBouncerLook {
    let mut last = None;
    let found = lab::until(SOON, async || {
        let read = read(connection).await;
        last = Some(read.clone());
        read.ok().filter(|look| look.pools.iter().any(|pool| pool.id.user == ORDERS && wanted(pool)))
    });
    let found = found.await;
    found.unwrap_or_else(|| panic!("it never came; the last look is {last:#?}"))
}

/// What stands in the way of a look. Whatever it is, it does not quote the password.
pub(crate) async fn trouble(connection: &PgBouncer) -> NoData {
    let read = lab::within(Duration::from_secs(10), read(connection)).await;
    let no_data = read.expect("an answer within the limit").expect_err("no facts");
    assert!(!no_data.to_string().contains(PASSWORD), "{no_data}");
    no_data
}

/// That exactly this stands in the way, and that it is said how to fix it.
pub(crate) async fn told(credentials: Credentials, reason: NoDataReason, words: &str) {
    let no_data = trouble(&connection(credentials)).await;
    assert_eq!(no_data.reason, reason, "{no_data}");
    assert!(no_data.detail.contains(words), "{words:?} is not in {no_data}");
}
