//! A server with two databases and the roles of a small shop, clients of it, and connections of the operator to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::actions::CancelQuery;
use engine::advance::EffectReport;
use engine::effects::{Effect, SessionTarget, SignalSession};
use engine::model::{Action, LockWait, NoData, NoDataReason, PostgresFacts, Session, UncommittedWrites};
use jiff::Timestamp;
use lab::PostgresOptions;
use lab::postgres::Auth;
use latency_operator::act::signal_session::signal_on;
use latency_operator::connections::{Credentials, Postgres, Registry, SslMode};
use latency_operator::observe::postgres::snapshot;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::task::JoinHandle;

pub(crate) const PASSWORD: &str = "lab-password";
/// Long enough for a busy machine; what a test waits for takes a fraction of it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The role that may read everything and signal everybody.
pub(crate) const OPERATOR: &str = "latency_operator";
/// It may read everything, and signal nobody but itself.
pub(crate) const WATCHER: &str = "watcher";
/// It may do nothing of that kind.
pub(crate) const BLIND: &str = "blind";

const ROLES: &str = "create role latency_operator login in role pg_monitor, pg_signal_backend; \
     create role watcher login in role pg_monitor; create role blind login; create role orders login; \
     create role reporting login; create role replicator login replication";
const TABLES: &str = "create table accounts (id int primary key, balance int); \
     insert into accounts select i, 100 from generate_series(1, 100) i; \
     create table copy_of_orders (id int); alter table accounts owner to orders; \
     alter table copy_of_orders owner to orders; grant all on accounts to reporting; \
     grant all on schema public to orders";

/// A server with the databases `orders` and `reports`.
pub(crate) struct World {
    pub(crate) server: lab::Postgres,
    session: lab::Session,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: PostgresOptions) -> Self {
        let session = lab::Session::start().await.expect("a session");
        let server = lab::Postgres::start(&session, options).await.expect("PostgreSQL");
        let world = Self { server, session };
        world.admin("postgres", "create database orders").await;
        world.admin("postgres", "create database reports").await;
        world.admin("postgres", ROLES).await;
        for role in [OPERATOR, WATCHER, BLIND, "orders", "reporting", "replicator"] {
            world.admin("postgres", &format!("alter role {role} password '{PASSWORD}'")).await;
        }
        world.admin("orders", TABLES).await;
        world
    }

    /// Other clients that keep the server busy, until it is dropped: `pgbench`, on tables of its own.
    pub(crate) async fn load(&self) -> lab::Process {
        let session = &self.session;
        let fill = self.server.client("pgbench").args(["--initialize", "--quiet", "postgres"]);
        let filled = session.run(fill, Duration::from_secs(60)).await.expect("pgbench runs");
        assert!(filled.status.success(), "{}", filled.stderr);
        let run = self.server.client("pgbench").args(["--client=4", "--rate=400", "--time=3600", "postgres"]);
        session.spawn(run).await.expect("pgbench")
    }

    /// Runs SQL as superuser.
    pub(crate) async fn admin(&self, database: &str, sql: &str) {
        self.server.execute(database, sql).await.expect("SQL of the superuser");
    }

    /// The first column of the first row, as text, as the superuser sees it.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let mut connection = self.server.superuser("orders").await.expect("a superuser");
        value(&mut connection, sql).await
    }

    /// How to log in to `orders`.
    pub(crate) fn credentials(&self, user: &str) -> Credentials {
        Credentials {
            host: "127.0.0.1".to_owned(),
            port: self.server.port(),
            database: "orders".to_owned(),
            user: user.to_owned(),
            password: Some(PASSWORD.to_owned()),
            ssl_mode: SslMode::Prefer,
            ca: None,
        }
    }

    /// A new connection of the operator's, with that role.
    pub(crate) fn connection(&self, user: &str) -> Postgres {
        connection(self.credentials(user))
    }

    /// A client's session in `orders`.
    pub(crate) async fn client(&self, role: &str) -> Client {
        self.client_of(role, "orders").await
    }

    pub(crate) async fn client_of(&self, role: &str, database: &str) -> Client {
        let connection = self.server.connect(role, PASSWORD, database).await.expect("a session");
        Client::of(connection).await
    }

    pub(crate) async fn superuser(&self) -> Client {
        Client::of(self.server.superuser("orders").await.expect("a superuser")).await
    }

    /// Waits until the superuser sees that many rows of `pg_stat_activity`.
    pub(crate) async fn until_seen(&self, count: usize, condition: &str) {
        let sql = format!("select count(*)::text from pg_stat_activity where {condition}");
        let mut connection = self.server.superuser("orders").await.expect("a superuser");
        let mut last = String::new();
        let found = lab::until(SOON, async || {
            last = value(&mut connection, &sql).await;
            (last == count.to_string()).then_some(())
        });
        let found = found.await;
        assert!(found.is_some(), "never {count} sessions where {condition}, but {last}");
    }
}

/// Whoever says who he is comes in: passwords take their time, and are not what most tests are about.
pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { auth: Auth::Trust, ..PostgresOptions::default() }
}

/// A connection of the operator's, used by nobody else.
pub(crate) fn connection(credentials: Credentials) -> Postgres {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Registry::default().connection(&Arc::new(credentials))
}

/// Reads until `wanted` says so.
pub(crate) async fn until_facts(
    connection: &Postgres,
    wanted: impl Fn(&PostgresFacts) -> bool,
) -> PostgresFacts {
    let mut last = None;
    let found = lab::until(SOON, async || {
        let read = snapshot(connection).await;
        last = Some(read.clone());
        read.ok().filter(|facts| wanted(facts))
    });
    let found = found.await;
    found.unwrap_or_else(|| panic!("it never came; the last snapshot is {last:#?}"))
}

/// What stands in the way of a snapshot.
pub(crate) async fn trouble(connection: &Postgres) -> NoData {
    let read = lab::within(Duration::from_secs(8), snapshot(connection)).await;
    read.expect("an answer within the limit").expect_err("no snapshot")
}

pub(crate) async fn reason(connection: &Postgres) -> Option<NoDataReason> {
    snapshot(connection).await.err().map(|no_data| no_data.reason)
}

/// A session of somebody.
pub(crate) struct Client {
    pub(crate) pid: i32,
    connection: PgConnection,
}

impl Client {
    async fn of(mut connection: PgConnection) -> Self {
        let pid = value(&mut connection, "select pg_backend_pid()::text").await;
        Self { pid: pid.parse().expect("a process id"), connection }
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        self.attempt(sql).await.expect(sql);
    }

    pub(crate) async fn attempt(&mut self, sql: &str) -> Result<(), String> {
        let done = self.connection.execute(AssertSqlSafe(sql.to_owned())).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) async fn ask(&mut self, sql: &str) -> String {
        value(&mut self.connection, sql).await
    }

    /// Lets it run a statement that takes long.
    pub(crate) fn start(mut self, sql: &str) -> Running {
        let (pid, sql) = (self.pid, sql.to_owned());
        let task = tokio::spawn(async move {
            let ended = self.attempt(&sql).await;
            (self, ended)
        });
        Running { pid, task }
    }

    pub(crate) async fn leave(self) {
        self.connection.close().await.expect("closed");
    }
}

/// A session whose statement runs.
pub(crate) struct Running {
    pub(crate) pid: i32,
    task: JoinHandle<(Client, Result<(), String>)>,
}

impl Running {
    /// The session, and how its statement ended.
    pub(crate) async fn ended(self) -> (Client, Result<(), String>) {
        lab::within(SOON, self.task).await.expect("it ends").expect("it does not panic")
    }

    pub(crate) fn runs(&self) -> bool {
        !self.task.is_finished()
    }
}

async fn value(connection: &mut PgConnection, sql: &str) -> String {
    let row = connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.expect(sql);
    row.try_get::<Option<String>, _>(0).expect("text").unwrap_or_default()
}

/// SQL that shows an instant to the microsecond, in another way than the operator reads it.
pub(crate) fn shown(column: &str) -> String {
    format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
}

/// Reads what [`shown`] shows.
pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// The session of that process id.
pub(crate) fn session(facts: &PostgresFacts, pid: i32) -> &Session {
    facts.session(pid).unwrap_or_else(|| panic!("no session {pid} in {facts:#?}"))
}

/// Who waits for whom.
pub(crate) fn edges(facts: &PostgresFacts) -> BTreeSet<(i32, i32)> {
    facts.lock_waits.iter().map(|LockWait { waiter, blocker }| (*waiter, *blocker)).collect()
}

/// Those who block and wait for nobody, with all who wait for them, directly or through others.
pub(crate) fn roots(facts: &PostgresFacts) -> BTreeMap<i32, BTreeSet<i32>> {
    let edges = edges(facts);
    let waiters: BTreeSet<i32> = edges.iter().map(|(waiter, _)| *waiter).collect();
    let blockers: BTreeSet<i32> = edges.iter().map(|(_, blocker)| *blocker).collect();
    let reached = |root: i32| {
        let mut reached = BTreeSet::from([root]);
        while let Some((next, _)) =
            edges.iter().find(|(waiter, blocker)| reached.contains(blocker) && !reached.contains(waiter))
        {
            reached.insert(*next);
        }
        reached.remove(&root);
        reached
    };
    blockers.difference(&waiters).map(|root| (*root, reached(*root))).collect()
}

/// What would be done about the statement of that process id.
pub(crate) fn cancel_of(facts: &PostgresFacts, pid: i32) -> SessionTarget {
    let victim = session(facts, pid);
    SessionTarget {
        dependency: "db".to_owned(),
        secret: "orders-db".into(),
        server: facts.server.clone(),
        session: victim.identity.clone(),
        role: victim.role.clone(),
        fingerprint: victim.fingerprint.clone(),
        writes: UncommittedWrites::Protect,
    }
}

/// Asks for the statement to be cancelled.
pub(crate) async fn cancel_on(
    connection: &Postgres,
    target: &SessionTarget,
    protected_roles: &[String],
    fence: Timestamp,
) -> EffectReport {
    let signal = signalled(&Action::CancelQuery(CancelQuery(target.clone())));
    signal_on(connection, &signal, protected_roles, fence).await
}

/// The signal that an action comes to.
pub(crate) fn signalled(action: &Action) -> SignalSession {
    match action.act().effect() {
        Effect::SignalSession(signal) => signal,
        other @ (Effect::SetReplicas(_) | Effect::SendRequests(_)) => panic!("{other:?}"),
    }
}

/// Long after everything that a test does.
pub(crate) fn fence(facts: &PostgresFacts) -> Timestamp {
    facts.clock + Duration::from_secs(3600)
}
