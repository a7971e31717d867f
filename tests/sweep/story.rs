//! The incidents that are played: each a whole one, from the breach to the last trace of what was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use lab::Postgres;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tokio::task::JoinHandle;

use crate::support::{PASSWORD, Suffering, World, cached, calm, saturate, slow};

/// What breaks, and what mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// A runaway query is cancelled; its session goes on with innocent statements at once.
    Cancel,
    /// A runaway query ignores its cancellation, and its session is ended.
    Terminate,
    /// A client forgets its transaction, for whose locks others wait: its session is ended. It comes back at once, under the
    /// same name, and goes on with innocent statements.
    Idle,
    /// All workers are busy: replicas are added, and taken back afterwards.
    Scale,
    /// A cache is flushed: the target is asked for what it keeps there. It has filled again after half a minute, whoever asks.
    Warm,
}

pub(crate) const STORIES: [Story; 5] =
    [Story::Cancel, Story::Terminate, Story::Idle, Story::Scale, Story::Warm];

/// The requests of a run of warming: each of two paths twice.
pub(crate) const REQUESTS: usize = 4;

const RUNAWAY: &str = "application_name = 'report' and state = 'active' and query ~ 'pg_sleep.600|stubborn'";
const FORGOTTEN: &str = "application_name = 'report' and state = 'idle in transaction'";
/// All rows: whoever waits, waits for it and for nobody else.
const FORGETS: &str = "begin; update accounts set balance = balance + 1";
const WAITS: [&str; 3] = [
    "update accounts set balance = 0 where id = 1",
    "update accounts set balance = 0 where id = 2",
    "update accounts set balance = 0 where id = 3",
];
const STUBBORN: &str = "create function stubborn() returns void language plpgsql as $$ begin loop begin perform \
     pg_sleep(600); exception when query_canceled then null; end; end loop; end $$";

/// What goes on in the world until it is dropped.
pub(crate) struct Trouble {
    _suffering: Option<Suffering>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Innocent statements that were cancelled or ended.
    pub(crate) wrongs: Arc<AtomicUsize>,
    /// Innocent statements that were run.
    pub(crate) innocents: Arc<AtomicUsize>,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Story {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Idle => "idle",
            Self::Scale => "scale",
            Self::Warm => "warm",
        }
    }

    pub(crate) fn policy(self, policy: &mut Value) {
        policy["spec"]["verification"]["within"] = json!("20s");
        // An attempt whose gate's answer is lost is used up.
        policy["spec"]["guards"]["maxAttemptsPerIncident"] = json!(6);
        match self {
            Self::Cancel => {}
            Self::Terminate => {
                policy["spec"]["remediations"][0]["action"]["cancelQuery"]["terminateAfter"] = json!("2s");
            }
            Self::Idle => {
                policy["spec"]["remediations"] = json!([{
                    "name": "idle", "causes": ["IdleInTransaction"],
                    "action": {"type": "TerminateIdle", "terminateIdle": {"minIdle": "2s", "uncommittedWrites": "RollBack"}},
                }]);
            }
            Self::Scale => {
                policy["spec"]["target"]["concurrencyPerPod"] = json!(2);
                policy["spec"]["remediations"] = json!([{
                    "name": "grow", "causes": ["WorkersSaturated"],
                    "action": {"type": "Scale", "scale": {"step": "100%", "maxReplicas": 4}},
                }]);
            }
            Self::Warm => {
                cached::with_cache(policy);
                let warm = json!({
                    "serviceName": "orders-api", "port": "http", "paths": ["/a", "/b"], "requestsPerPath": 2,
                    "ratePerSecond": 1, "inFlight": 1, "within": "6s",
                });
                policy["spec"]["remediations"] = json!([{
                    "name": "warm", "causes": ["ColdCache"], "action": {"type": "WarmCache", "warmCache": warm},
                }]);
            }
        }
    }

    pub(crate) async fn prepare(self, world: &mut World) {
        match self {
            Self::Cancel | Self::Idle | Self::Scale => {}
            Self::Terminate => {
                world.postgres.execute("orders", STUBBORN).await.expect("a function");
            }
            Self::Warm => {
                world.serve().await;
                world.cache = Some(cached::start(world).await);
            }
        }
    }

    /// What has to be seen before it may begin.
    pub(crate) async fn is_ready(self, world: &World) -> bool {
        match &world.cache {
            Some((redis, _)) => cached::looks(redis).await >= LOOKS,
            None => true,
        }
    }

    /// Breaks the API; from now on it is slow until the cause is gone.
    pub(crate) async fn begin(self, world: &World) -> Trouble {
        let stop = Arc::new(AtomicBool::new(false));
        let (wrongs, innocents) = (Arc::default(), Arc::default());
        let mut trouble = Trouble { _suffering: None, tasks: Vec::new(), stop, wrongs, innocents };
        match self {
            Self::Cancel => {
                trouble._suffering = Some(world.suffer_while(RUNAWAY, slow()));
                trouble.session(world, "reporting", "report", Some("select pg_sleep(600)")).await;
                trouble.session(world, "reporting", "bystander", None).await;
            }
            Self::Terminate => {
                trouble._suffering = Some(world.suffer_while(RUNAWAY, slow()));
                trouble.session(world, "reporting", "report", Some("select stubborn()")).await;
                trouble.session(world, "reporting", "bystander", None).await;
            }
            Self::Idle => {
                trouble._suffering = Some(world.suffer_while(FORGOTTEN, slow()));
                trouble.forgetful(world).await;
                for waits in WAITS {
                    trouble.session(world, "orders", "api", Some(waits)).await;
                }
                // In a transaction too, but nobody waits for it.
                trouble.session(world, "reporting", "bystander", Some("begin")).await;
            }
            Self::Scale => trouble.tasks.push(saturated(world)),
            Self::Warm => trouble.tasks.push(flushed(world).await),
        }
        trouble
    }
}

impl Trouble {
    /// A session that runs `first`, whose end is what is hoped for, and then innocent statements one after the other.
    async fn session(&mut self, world: &World, role: &str, name: &str, first: Option<&'static str>) {
        let mut connection = session(&world.postgres, role, name).await;
        let innocent = self.innocent();
        self.tasks.push(tokio::spawn(async move {
            if let Some(first) = first
                && let Err(error) = connection.execute(first).await
                && error.to_string().contains("administrator command")
            {
                return;
            }
            innocent.go_on(connection).await;
        }));
    }

    /// A session that leaves its transaction open. It does not ask what has become of it: that would be a statement. Once it has
    /// been ended, its client goes on with another one.
    async fn forgetful(&mut self, world: &World) {
        let mut connection = session(&world.postgres, "reporting", "report").await;
        connection.execute(FORGETS).await.expect("a transaction");
        let pid: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.expect("a pid");
        let mut superuser = world.postgres.superuser("orders").await.expect("a connection");
        let mut again = session(&world.postgres, "reporting", "spare").await;
        let innocent = self.innocent();
        self.tasks.push(tokio::spawn(async move {
            let _held = connection;
            let lives =
                "select count(*) from pg_stat_activity where pid = $1 and application_name = 'report'";
            while sqlx::query_scalar::<_, i64>(lives)
                .bind(pid)
                .fetch_one(&mut superuser)
                .await
                .is_ok_and(|n| n > 0)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if again.execute("set application_name = 'report'").await.is_ok() {
                innocent.go_on(again).await;
            }
        }));
    }

    fn innocent(&self) -> Innocent {
        Innocent { stop: self.stop.clone(), wrongs: self.wrongs.clone(), innocents: self.innocents.clone() }
    }
}

/// A session by that name.
async fn session(postgres: &Postgres, role: &str, name: &str) -> PgConnection {
    let mut connection = postgres.connect(role, PASSWORD, "orders").await.expect("a session");
    let named = format!("set application_name = '{name}'");
    connection.execute(sqlx::AssertSqlSafe(named)).await.expect("a name");
    connection
}

/// Statements of which none may be cancelled or ended.
struct Innocent {
    stop: Arc<AtomicBool>,
    wrongs: Arc<AtomicUsize>,
    innocents: Arc<AtomicUsize>,
}

impl Innocent {
    async fn go_on(self, mut connection: PgConnection) {
        while !self.stop.load(Ordering::Relaxed) {
            match connection.execute("select pg_sleep(0.02)").await {
                Ok(_) => self.innocents.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.wrongs.fetch_add(1, Ordering::Relaxed),
            };
        }
    }
}

/// So many looks at a cache are enough to know what is usual for it.
const LOOKS: u64 = 8;

/// The cache is empty and the API slow, until it was asked for enough, or for half a minute.
async fn flushed(world: &World) -> JoinHandle<()> {
    let (redis, _) = world.cache.as_ref().expect("a cache");
    redis.execute(&["FLUSHALL"]).await.expect("flushed");
    world.exporter.set(slow());
    let (exporter, port) = (world.exporter.clone(), redis.port());
    let target = world.target.as_ref().expect("a target").clone();
    tokio::spawn(async move {
        let begun = std::time::Instant::now();
        let patience = lab::patience(Duration::from_secs(30));
        while target.asked().len() < REQUESTS - 1 && begun.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cached::fill(port).await;
        exporter.set(calm());
    })
}

/// Every worker is busy until there were four ready Pods once: that was a peak, and it is over then.
fn saturated(world: &World) -> JoinHandle<()> {
    let (exporter, namespace) = (world.exporter.clone(), world.namespace.clone());
    let targets: Api<Deployment> = Api::namespaced(world.client.clone(), &namespace);
    saturate(&exporter, true);
    tokio::spawn(async move {
        loop {
            let target = targets.get("orders-api").await.ok();
            let ready = target.and_then(|target| target.status?.ready_replicas).unwrap_or_default();
            if ready >= 4 {
                return saturate(&exporter, false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
