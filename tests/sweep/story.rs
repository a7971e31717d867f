//! The incidents that are played: each a whole one, from the breach to the last trace of what was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::task::JoinHandle;

use crate::support::{PASSWORD, Suffering, World, saturate, slow};

/// What breaks, and what mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// A runaway query is cancelled; its session goes on with innocent statements at once.
    Cancel,
    /// A runaway query ignores its cancellation, and its session is ended.
    Terminate,
    /// All workers are busy: replicas are added, and taken back afterwards.
    Scale,
}

pub(crate) const STORIES: [Story; 3] = [Story::Cancel, Story::Terminate, Story::Scale];

const RUNAWAY: &str = "application_name = 'report' and state = 'active' and query ~ 'pg_sleep.600|stubborn'";
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
            Self::Scale => "scale",
        }
    }

    pub(crate) fn policy(self, policy: &mut Value) {
        policy["spec"]["verification"]["within"] = json!("20s");
        // An attempt whose gate's answer is lost is used up.
        policy["spec"]["guards"]["maxAttemptsPerIncident"] = json!(6);
        match self {
            Self::Cancel => {}
            Self::Terminate => {
                policy["spec"]["remediations"][0]["action"]["cancelQueries"]["terminateAfter"] = json!("2s");
            }
            Self::Scale => {
                policy["spec"]["diagnosis"]["workersPerPod"] = json!(2);
                policy["spec"]["remediations"] = json!([{
                    "name": "grow", "causes": ["WorkersSaturated"],
                    "action": {"type": "Scale", "scale": {"step": "100%", "max": 4, "connectionsPerPod": 2}},
                }]);
            }
        }
    }

    pub(crate) async fn prepare(self, world: &World) {
        if self == Self::Terminate {
            world.postgres.execute("orders", STUBBORN).await.expect("a function");
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
                trouble.session(world, "report", Some("select pg_sleep(600)")).await;
                trouble.session(world, "bystander", None).await;
            }
            Self::Terminate => {
                trouble._suffering = Some(world.suffer_while(RUNAWAY, slow()));
                trouble.session(world, "report", Some("select stubborn()")).await;
                trouble.session(world, "bystander", None).await;
            }
            Self::Scale => trouble.tasks.push(saturated(world)),
        }
        trouble
    }
}

impl Trouble {
    /// A session that runs `first`, whose end is what is hoped for, and then innocent statements one after the other.
    async fn session(&mut self, world: &World, name: &str, first: Option<&'static str>) {
        let mut connection =
            world.postgres.connect("reporting", PASSWORD, "orders").await.expect("a session");
        let named = format!("set application_name = '{name}'");
        connection.execute(sqlx::AssertSqlSafe(named)).await.expect("a name");
        let (stop, wrongs, innocents) = (self.stop.clone(), self.wrongs.clone(), self.innocents.clone());
        self.tasks.push(tokio::spawn(async move {
            if let Some(first) = first
                && let Err(error) = connection.execute(first).await
                && error.to_string().contains("administrator command")
            {
                return;
            }
            while !stop.load(Ordering::Relaxed) {
                match connection.execute("select pg_sleep(0.02)").await {
                    Ok(_) => innocents.fetch_add(1, Ordering::Relaxed),
                    Err(_) => wrongs.fetch_add(1, Ordering::Relaxed),
                };
            }
        }));
    }
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
